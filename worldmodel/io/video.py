"""Frames for people: mp4, GIF and PNG files, text on frames, contact sheets, and videos in TensorBoard.

Everything takes frames as uint8 arrays or tensors `t h w 3`. Files are for the eye: numbers come from arrays.
"""

import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from worldmodel.io.folders import make_folder

Frames = UInt8[np.ndarray, "t h w 3"] | UInt8[Tensor, "t h w 3"]
Picture = UInt8[np.ndarray, "h w 3"]

FONT_SIZE = 12  # pixels
LINE = 16  # pixels from one line of text to the next
GAP = 2  # pixels between the pictures of a contact sheet
QUALITY = 18  # x264's constant rate factor: differences are hardly visible
INK, PAPER = (235, 235, 235), (20, 20, 20)


def write_video(path: str | Path, frames: Frames | Iterable[Picture], fps: float = 15.0) -> Path:
    """Write an H.264 mp4 that every browser plays; odd heights and widths gain a copied row or column.

    Frames are taken one by one and not kept, so an iterator may give any number of them.

    Raises:
        ValueError: no frames, a path that is no .mp4, or fps that is not positive.
    """
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter  # slow to import, and only this function needs it

    path = Path(path)
    pictures: Iterator[Picture] = iter(_array(frames) if isinstance(frames, np.ndarray | Tensor) else frames)
    if path.suffix != ".mp4":
        raise ValueError(f"expected a path that ends in .mp4, got {path}")
    _check_fps(fps)
    if (first := next(pictures, None)) is None:
        raise ValueError("expected at least one frame, got none")
    make_folder(path.parent)
    aside = path.with_name(f".{path.stem}.tmp.mp4")
    height, width = _even(first).shape[:2]
    options = ["-crf", str(QUALITY), "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    try:
        with FFMPEG_VideoWriter(str(aside), (width, height), fps, threads=1, ffmpeg_params=options) as writer:
            for picture in itertools.chain([first], pictures):
                writer.write_frame(_even(picture))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _even(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """With even sides, as H.264's colours need them."""
    return np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")


def write_gif(path: str | Path, frames: Frames, fps: float = 15.0, max_bytes: int | None = None) -> Path:
    """Write a GIF that loops; over `max_bytes` it loses colours first, then every other frame, again and again.

    Raises:
        ValueError: not even a single frame fits.
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
    """A looping GIF, each frame with the palette that suits it."""
    images = [Image.fromarray(frame).quantize(colors, dither=Image.Dither.NONE) for frame in _array(frames)]
    duration = max(20, round(1000 / fps))  # ms; browsers slow down what claims to be faster than 50 per second
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return buffer.getvalue()


def write_png(path: str | Path, image: Picture) -> Path:
    """Write one picture without loss."""
    path = Path(path)
    make_folder(path.parent)
    path.write_bytes(png_bytes(image))
    return path


def png_bytes(image: Picture) -> bytes:
    """One picture as a PNG file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def annotate(frames: Frames, texts: Sequence[str], scale: int = 4) -> UInt8[np.ndarray, "t H W 3"]:
    """Frames enlarged by a whole factor, every pixel a square, each above its own text (of one line or more).

    Text that is too wide is cut at the right edge.

    Raises:
        ValueError: there is not one text per frame, or the factor is below 1.
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
    rows: Sequence[Frames], labels: Sequence[str], columns: int = 10, titles: Sequence[str] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """One picture of several videos of one shape: a labelled row each, the same moments below each other.

    The moments are spread evenly from the first frame to the last. `titles`, one per frame of a row, stand above
    the columns; without them, the numbers of the frames.

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
    t, h, w, _ = videos[0].shape
    moments: list[int] = np.unique(np.linspace(0, t - 1, columns).round().astype(int)).tolist()
    margin = max(_text_width(label) for label in labels) + 3 * GAP
    over = [str(m) if titles is None else titles[m] for m in moments]
    header = [text_image("", margin, LINE), *(text_image(title, w + GAP, LINE) for title in over)]
    body = [
        np.concatenate([text_image(label, margin, h + GAP), *(_framed(video[m]) for m in moments)], axis=1)
        for label, video in zip(labels, videos, strict=True)
    ]
    return np.concatenate([np.concatenate(header, axis=1), *body], axis=0)


def text_image(text: str, width: int, height: int) -> Picture:
    """A strip of this size with text from its upper left corner on."""
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(text.split("\n")):
        draw.text((GAP, i * LINE), line, fill=INK, font=_font())
    return np.asarray(image)


def log_video(writer: SummaryWriter, tag: str, frames: Frames, step: int, fps: float = 15.0) -> None:
    """Show a video in TensorBoard, as the GIF that its images tab plays.

    Torch's `add_video` would do the same, but looks for MoviePy 1.
    """
    video = _array(frames)
    _, height, width, channels = video.shape
    image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=gif_bytes(video, fps))
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    writer._get_file_writer().add_summary(summary, step)


def _framed(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    framed = np.empty((frame.shape[0] + GAP, frame.shape[1] + GAP, 3), np.uint8)
    framed[:] = PAPER
    framed[: frame.shape[0], : frame.shape[1]] = frame
    return framed


def _array(frames: Frames) -> UInt8[np.ndarray, "t h w 3"]:
    array = frames.cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
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
