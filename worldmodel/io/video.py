"""Frames for people: mp4, GIF and PNG files, text on frames, contact sheets, and videos in TensorBoard.

All functions take frames as uint8 arrays or tensors `t h w 3`. Files are for viewing: metrics use arrays. Nothing here
imports PyTorch, so commands that need none start at once.
"""

import io
import itertools
import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from worldmodel.io.folders import make_folder

if TYPE_CHECKING:
    from torch import Tensor

    Frames = UInt8[np.ndarray, "t h w 3"] | UInt8[Tensor, "t h w 3"]
else:
    Frames = Any  # checked by `_array`
ImageArray = UInt8[np.ndarray, "h w 3"]

FONT_SIZE = 12  # pixels
LINE = 16  # pixels from one line of text to the next
GAP = 2  # pixels between the images of a contact sheet
QUALITY = 18  # x264's constant rate factor: differences are hardly visible
SHEET_WIDTH, SMALLEST = 1600, 56  # pixels of the widest contact sheet; of the narrowest frame on it, by enlarging
INK, PAPER, MARK = (235, 235, 235), (20, 20, 20), (245, 170, 60)


def write_video(
    path: str | Path, frames: Frames | Iterable[ImageArray], fps: float = 15.0, quality: int = QUALITY
) -> Path:
    """Write an H.264 mp4 that every browser plays; odd heights and widths get a copied row or column.

    Frames are written one by one and not kept, so an iterator may yield any number of them. quality: x264's constant
    rate factor; each 6 more halve the file.

    Raises:
        ValueError: no frames, a path that does not end in .mp4, or fps that is not positive.
    """
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter  # slow to import, and only this function needs it

    path = Path(path)
    images: Any = iter(_array(frames) if hasattr(frames, "shape") else frames)
    if path.suffix != ".mp4":
        raise ValueError(f"expected a path that ends in .mp4, got {path}")
    _check_fps(fps)
    if (first := next(images, None)) is None:
        raise ValueError("expected at least one frame, got none")
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}.tmp.mp4")
    height, width = _even(first).shape[:2]
    options = ["-crf", str(quality), "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    try:
        with FFMPEG_VideoWriter(str(temporary), (width, height), fps, threads=1, ffmpeg_params=options) as writer:
            for image in itertools.chain([first], images):
                writer.write_frame(_even(image))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def video_bytes(frames: Frames, fps: float = 15.0, quality: int = QUALITY) -> bytes:
    """The frames as the bytes of an mp4, see `write_video`."""
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / "video.mp4", frames, fps, quality).read_bytes()


def _even(image: ImageArray) -> UInt8[np.ndarray, "H W 3"]:
    """The frame with even height and width, which the color format of H.264 requires."""
    return np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")


def write_gif(path: str | Path, frames: Frames, fps: float = 15.0, max_bytes: int | None = None) -> Path:
    """Write a GIF that loops. While it exceeds `max_bytes`, it gets fewer colors, then half the frames, and so on.

    Raises:
        ValueError: not even one frame fits.
    """
    path, video = Path(path), _array(frames)
    _check_fps(fps)
    strides = [2**i for i in range(len(video).bit_length())]
    for stride, colors in itertools.product(strides, (256, 64, 32)):
        data = gif_bytes(video[::stride], fps / stride, colors)
        if max_bytes is None or len(data) <= max_bytes:
            make_folder(path.parent)
            path.write_bytes(data)
            return path
    raise ValueError(f"{path}: not even one frame fits into max_bytes={max_bytes}; allow more, or use smaller frames")


def gif_bytes(frames: Frames, fps: float = 15.0, colors: int = 256) -> bytes:
    """A looping GIF, each frame with its own palette."""
    images = [Image.fromarray(frame).quantize(colors, dither=Image.Dither.NONE) for frame in _array(frames)]
    duration = max(20, round(1000 / fps))  # ms; browsers slow down GIFs of more than 50 frames per second
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return buffer.getvalue()


def write_png(path: str | Path, image: ImageArray) -> Path:
    """Write one image as a PNG file."""
    path = Path(path)
    make_folder(path.parent)
    path.write_bytes(png_bytes(image))
    return path


def png_bytes(image: ImageArray) -> bytes:
    """One image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def annotate(frames: Frames, texts: Sequence[str], scale: int = 4) -> UInt8[np.ndarray, "t H W 3"]:
    """Frames enlarged by an integer factor, each above its own text of one or more lines.

    Text that is too wide is cut off at the right edge.

    Raises:
        ValueError: the number of texts is not that of the frames, or the factor is below 1.
    """
    video = _array(frames)
    if len(texts) != len(video):
        raise ValueError(f"expected one text per frame ({len(video)}), got {len(texts)}")
    if scale < 1:
        raise ValueError(f"expected scale of at least 1, got {scale}")
    big = video.repeat(scale, axis=1).repeat(scale, axis=2)
    height = LINE * max(text.count("\n") + 1 for text in texts)
    strips = [text_image(text, big.shape[2], height) for text in texts]
    return np.concatenate([big, np.stack(strips)], axis=1)


def contact_sheet(
    rows: Sequence[Frames],
    labels: Sequence[str],
    columns: int = 10,
    titles: Sequence[str] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
    marked: Collection[int] = (),
) -> UInt8[np.ndarray, "H W 3"]:
    """One image of several videos of one shape, at most 1,600 pixels wide: a labeled row for each, the same times in
    each column. Small frames are enlarged.

    The times are spread evenly from the first frame to the last. Columns that do not fit go on below. `titles`, one per
    frame, head the columns; without them, the frame numbers do. notes: lines of text below the rows, by label, one text
    per frame. marked: frames with a colored edge, such as the given ones.

    Raises:
        ValueError: no rows, rows of different shapes, or not one label per row.
    """
    videos = [_array(row) for row in rows]
    if len({video.shape for video in videos}) != 1:
        raise ValueError(f"expected rows of one shape `t h w 3`, got {[video.shape for video in videos]}")
    if len(labels) != len(videos):
        raise ValueError(f"expected one label per row ({len(videos)}), got {len(labels)}")
    if columns < 1:
        raise ValueError(f"expected at least 1 column, got {columns}")
    t, notes = len(videos[0]), notes or {}
    moments: list[int] = np.unique(np.linspace(0, t - 1, columns).round().astype(int)).tolist()
    margin = max(_text_width(label) for label in (*labels, *notes)) + 3 * GAP
    shrink = -(-videos[0].shape[2] // (SHEET_WIDTH - margin - GAP))  # frames wider than a whole sheet
    times = -(-SMALLEST // videos[0].shape[2])  # frames too small to see
    videos = [video[:, ::shrink, ::shrink].repeat(times, axis=1).repeat(times, axis=2) for video in videos]
    width = _column_width(videos[0].shape[2], [lines[m] for lines in notes.values() for m in moments])
    over = [str(m) for m in range(t)] if titles is None else titles
    fit = max(1, (SHEET_WIDTH - margin) // (width + GAP))
    bands = []
    for chosen in (moments[i : i + fit] for i in range(0, len(moments), fit)):
        lines = [_text_row("", [over[m] for m in chosen], margin, width)]
        for label, video in zip(labels, videos, strict=True):
            frames = (_framed(video[m], width, m in marked) for m in chosen)
            lines.append(np.concatenate([text_image(label, margin, video.shape[1] + GAP), *frames], axis=1))
        lines += [_text_row(name, [texts[m] for m in chosen], margin, width) for name, texts in notes.items()]
        bands.append(np.concatenate(lines, axis=0))
    return np.concatenate([_widened(band, bands[0].shape[1]) for band in bands], axis=0)


def _column_width(frame: int, texts: Sequence[str]) -> int:
    """Pixels of a column: those of a frame, or of the widest text below one, but not far more than the frame."""
    return max(frame, min(max((_text_width(text) + 2 * GAP for text in texts), default=0), frame + 4 * LINE))


def _text_row(label: str, texts: Sequence[str], margin: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    """A line of a contact sheet: its label, then a text for each column."""
    return np.concatenate(
        [text_image(label, margin, LINE), *(text_image(text, width + GAP, LINE) for text in texts)], axis=1
    )


def text_image(text: str, width: int, height: int) -> ImageArray:
    """An image of this size with text that starts at its upper left corner."""
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(text.split("\n")):
        draw.text((GAP, i * LINE), line, fill=INK, font=_font())
    return np.asarray(image)


def log_video(writer: Any, tag: str, frames: Frames, step: int, fps: float = 15.0) -> None:
    """Show a video in TensorBoard, as a GIF in its images tab; `writer` is a `SummaryWriter`.

    Torch's `add_video` does the same, but needs MoviePy 1.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    video = _array(frames)
    _, height, width, channels = video.shape
    image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=gif_bytes(video, fps))
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    writer._get_file_writer().add_summary(summary, step)


def _framed(frame: UInt8[np.ndarray, "h w 3"], width: int, marked: bool) -> UInt8[np.ndarray, "H W 3"]:
    """The frame at the left of `width` pixels, with a gap below and at its right; a marked one has a colored edge."""
    framed = _widened(np.pad(frame, ((0, GAP), (0, GAP), (0, 0))), width + GAP)
    framed[frame.shape[0] :] = framed[:, frame.shape[1] :] = PAPER
    if marked:
        edge = np.ones(frame.shape[:2], bool)
        edge[GAP:-GAP, GAP:-GAP] = False
        framed[: frame.shape[0], : frame.shape[1]][edge] = MARK
    return framed


def _widened(image: ImageArray, width: int) -> UInt8[np.ndarray, "H W 3"]:
    """The image with empty paper at its right, up to this width."""
    paper = np.full((image.shape[0], max(width, image.shape[1]), 3), PAPER, np.uint8)
    paper[:, : image.shape[1]] = image
    return paper


def _array(frames: Any) -> UInt8[np.ndarray, "t h w 3"]:
    array = np.asarray(frames if isinstance(frames, np.ndarray | list) else frames.cpu())
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(f"expected frames uint8 `t h w 3`, none of them 0, got {array.dtype} {array.shape}")
    return array


def _check_fps(fps: float) -> None:
    if not fps > 0:
        raise ValueError(f"expected fps above 0, got {fps}")


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)


def _text_width(text: str) -> int:
    return max(int(np.ceil(_font().getlength(line))) for line in text.split("\n"))
