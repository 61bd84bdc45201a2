"""Images and videos of others: the right pixels, or a refusal that names the file. Content counts, not the name."""

import io
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from moviepy.config import FFMPEG_BINARY
from PIL import Image

from tests.test_convert import GREYS, foreign, grey_video, write_pictures, write_table
from worldmodel.data.convert.convert import import_episodes
from worldmodel.data.convert.formats.png import read_png
from worldmodel.data.convert.formats.video import read_video
from worldmodel.io.untrusted import UntrustedFileError
from worldmodel.io.video import write_video

PICTURE = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)


def content(picture: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def read(tmp_path: Path, data: bytes) -> np.ndarray:
    (tmp_path / "0.png").write_bytes(data)
    return read_png(tmp_path / "0.png")


@pytest.mark.parametrize("format", ["BMP", "GIF", "TIFF", "JPEG", "PPM", "TGA", "WEBP", "ICO", "EPS", "JPEG2000"])
def test_other_formats_named_png_are_refused(tmp_path, format):
    data = content(Image.fromarray(PICTURE), format)
    with pytest.raises(UntrustedFileError, match=r"0\.png: expected a PNG image"):
        read(tmp_path, data)


@pytest.mark.parametrize("start", [b"8BPS\0\1", b"SIMPLE  =", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"", b"\x89PNG\r\n\x1a\n"])
def test_starts_of_other_formats_and_cut_ones_are_refused(tmp_path, start):
    with pytest.raises(UntrustedFileError, match=r"0\.png: expected a PNG image"):
        read(tmp_path, start)


def test_every_damaged_byte_of_a_png_is_refused_or_changes_nothing(tmp_path):
    data = content(Image.fromarray(PICTURE))
    outcomes = set()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        try:
            np.testing.assert_array_equal(read(tmp_path, bytes(damaged)), PICTURE)
            outcomes.add("same")
        except UntrustedFileError as error:
            assert str(error).startswith(str(tmp_path))
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_png_of_8_bits_and_less_come_in_with_the_right_colours(tmp_path, mode):
    image = Image.fromarray(PICTURE).convert(mode)
    found = read(tmp_path, content(image))
    expected = np.asarray(image.convert("RGB") if mode in ("1", "P") else image)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("depth", "row", "greys"), [(2, 0b00011011, [0, 85, 170, 255]), (4, 0x0F, [0, 255])])
def test_grey_levels_of_2_and_4_bits_are_spread_over_0_to_255(tmp_path, depth, row, greys):
    np.testing.assert_array_equal(read(tmp_path, png(len(greys), 1, depth, 0, bytes([0, row]))), [greys])


def test_interlaced_png_and_bytes_behind_the_end_change_nothing(tmp_path):
    data = png(1, 1, 8, 2, bytes([0, 7, 8, 9]), interlaced=1)
    assert read(tmp_path, data).tolist() == [[[7, 8, 9]]]
    assert read(tmp_path, data + b"more").tolist() == [[[7, 8, 9]]]


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_16_bits_a_channel_are_refused(tmp_path, colour):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    with pytest.raises(UntrustedFileError, match=r"expected uint8 images, got uint16 .*0\.png"):
        read(tmp_path, png(1, 1, 16, colour, bytes(1 + 2 * channels)))


@pytest.mark.parametrize("rows", [bytes(1 + 12), bytes(2 * 13 + 5), b""])
def test_a_png_with_too_few_rows_is_refused_though_its_checksums_are_right(tmp_path, rows):
    with pytest.raises(UntrustedFileError, match=r"0\.png: damaged"):
        read(tmp_path, png(4, 4, 8, 2, rows))


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(frame) for frame in grey_video(3)]
    with pytest.raises(UntrustedFileError, match=r"0\.png.*animation"):
        read(tmp_path, content(frames[0], save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("size", [30_000, 2**31 - 1])
def test_a_small_file_that_claims_a_large_picture_is_refused_by_its_header(tmp_path, size):
    with pytest.raises(UntrustedFileError, match=r"0\.png.*takes [\d,]+ bytes; at most"):
        read(tmp_path, png(size, size, 8, 2, bytes(1000)))


def test_pictures_of_several_sizes_need_a_size_within_an_episode_and_between(tmp_path):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    Image.fromarray(grey_video(1, 8, 12)[0]).save(theirs / "one/2.png")
    message = r"one, frame 2: expected \(height, width\) \(16, 24\) as in .*one, got \(8, 12\); size=\[height,width\]"
    with pytest.raises(ValueError, match=message):
        import_episodes(theirs, tmp_path / "mine")
    assert import_episodes(theirs, tmp_path / "sized", size=(8, 12)).info.frame_shape == (8, 12, 3)
    (tmp_path / "npz").mkdir()
    for name, height in (("a", 16), ("b", 20)):
        np.savez(tmp_path / f"npz/{name}.npz", video=grey_video(3, height), actions=np.zeros(2, int))
    with pytest.raises(ValueError, match=r"b\.npz, frame 0: expected .*\(16, 24\) as in .*a\.npz, got \(20, 24\)"):
        import_episodes(tmp_path / "npz", tmp_path / "mine")
    for name, height in (("a", 16), ("b", 32)):
        write_video(tmp_path / f"videos/{name}.mp4", grey_video(3, height))
    write_table(tmp_path / "videos", ["episode", "action"], [["a", 0], ["a", 0], ["b", 0], ["b", 0]])
    with pytest.raises(ValueError, match=r"b\.mp4, frame 0: expected .*\(16, 24\) as in .*a\.mp4, got \(32, 24\)"):
        import_episodes(tmp_path / "videos", tmp_path / "mine")
    assert import_episodes(tmp_path / "videos", tmp_path / "mine", size=(16, 24)).indices == (0, 1)


@pytest.mark.parametrize("size", [(0, 8), (-1, 8), (100_000, 100_000)])
def test_a_size_that_no_frame_can_have_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match="size"):
        import_episodes(foreign(tmp_path / "theirs", [0]), tmp_path / "mine", size=size)


@pytest.mark.parametrize("shape", [(4, 16, 24, 12), (4, 12, 16, 24), (4, 4, 16, 24), (4, 16, 24, 5), (4, 16)])
def test_frames_that_are_no_pictures_are_refused_by_name(tmp_path, shape):
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz/a.npz", video=np.zeros(shape, np.uint8), actions=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"a\.npz, frame 0: expected"):
        import_episodes(tmp_path / "npz", tmp_path / "mine")


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_may_come_first(tmp_path, channels):
    (tmp_path / "npz").mkdir()
    video = np.random.default_rng(1).integers(0, 256, (4, channels, 16, 24), np.uint8)
    np.savez(tmp_path / "npz/a.npz", video=video, actions=np.zeros(3, int))
    frames = import_episodes(tmp_path / "npz", tmp_path / "mine").read(0).frames
    np.testing.assert_array_equal(frames, np.broadcast_to(video.transpose(0, 2, 3, 1), frames.shape))


# Videos.

COLOURS = np.array([[230, 30, 30], [30, 200, 40], [40, 50, 220], [128, 128, 128]], np.uint8)


def ffmpeg(*arguments: object, given: bytes | None = None) -> None:
    command = [str(FFMPEG_BINARY), "-nostdin" if given is None else "-v", *([] if given is None else ["error"]), "-y"]
    subprocess.run([*command, *map(str, arguments)], input=given, check=True, capture_output=True)


def encode(path: Path, *options: object, size: tuple[int, int] = (48, 64)) -> Path:
    """A video with one colour per frame."""
    frames = np.broadcast_to(COLOURS[:, None, None], (len(COLOURS), *size, 3))
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[1]}x{size[0]}", "-r", 10, "-i", "-"]
    ffmpeg(*raw, *options, path, given=frames.tobytes())
    return path


CODECS = {
    "x264 of 8 bits": ("a.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "x264 of 10 bits": ("a.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "x264 of 4:4:4": ("a.mp4", "-c:v", "libx264", "-pix_fmt", "yuv444p10le"),
    "HEVC Main10": ("a.mp4", "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none"),
    "ProRes": ("a.mov", "-c:v", "prores_ks"),
    "ProRes 4444": ("a.mov", "-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"),
    "VP9": ("a.webm", "-c:v", "libvpx-vp9"),
    "MJPEG": ("a.avi", "-c:v", "mjpeg", "-q:v", 2),
    "FFV1 of 16 bits": ("a.mkv", "-c:v", "ffv1", "-pix_fmt", "rgb48le"),
    "PNG in MOV": ("a.mov", "-c:v", "png", "-pix_fmt", "rgba"),
    "upper case": ("A.MP4", "-c:v", "libx264"),
}


@pytest.mark.parametrize("name", CODECS)
def test_videos_of_any_codec_and_depth_have_the_colours_that_went_in(tmp_path, name):
    file, *options = CODECS[name]
    frames = np.stack(list(read_video(encode(tmp_path / file, *options))))
    assert frames.shape == (4, 48, 64, 3)
    assert np.abs(frames.astype(int) - COLOURS[:, None, None]).max() <= 8  # chroma of a limited range


@pytest.mark.parametrize("kind", ["gray", "gray10le", "gray16le"])
def test_grey_videos_have_the_greys_that_went_in(tmp_path, kind):
    frames = np.stack(list(read_video(encode(tmp_path / "a.mkv", "-c:v", "ffv1", "-pix_fmt", kind))))
    luma = COLOURS @ [0.299, 0.587, 0.114]
    assert np.abs(frames - luma[:, None, None, None]).max() <= 3


NAMES = ["run:1", "-leading", "frame%03d", "concat:a|b", "file:x", "http:x", "a b (1)", "é", "data:,", "pipe:0"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_videos_are_names_and_nothing_else(tmp_path, name):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "a.mp4", grey_video(4)).rename(tmp_path / f"videos/{name}.mp4")
    write_table(tmp_path / "videos", ["episode", "action"], [[name, 0]] * 3)
    frames = import_episodes(tmp_path / "videos", tmp_path / "mine").read(0).frames
    assert np.abs(frames.mean((1, 2, 3)) - GREYS[:4]).max() < 3


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile {secret}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD><Period><BaseURL>{secret}</BaseURL></Period></MPD>',
        "",
    ],
)
def test_a_playlist_named_like_a_video_reads_no_other_file(tmp_path, text):
    secret = write_video(tmp_path / "secret.mp4", grey_video(4))
    for suffix in (".mp4", ".mkv", ".avi"):
        path = tmp_path / f"a{suffix}"
        path.write_text(text.format(secret=secret))
        with pytest.raises(UntrustedFileError, match=rf"a\{suffix}: damaged, or not a video"):
            list(read_video(path))


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP"])
def test_a_picture_named_like_a_video_is_no_video(tmp_path, format):
    (tmp_path / "a.mp4").write_bytes(content(Image.fromarray(PICTURE), format))
    with pytest.raises(UntrustedFileError, match=r"a\.mp4: damaged, or not a video"):
        list(read_video(tmp_path / "a.mp4"))


def test_sound_and_a_cover_picture_are_left_aside_and_two_videos_in_one_are_refused(tmp_path):
    one, other = (encode(tmp_path / f"{size[0]}.mp4", size=size) for size in ((48, 64), (80, 32)))
    (tmp_path / "cover.png").write_bytes(content(Image.fromarray(PICTURE)))
    sound = ["-f", "lavfi", "-i", "sine=duration=0.4"]
    ffmpeg("-i", one, *sound, "-c:v", "copy", "-c:a", "aac", tmp_path / "sound.mp4")
    cover = ["-i", tmp_path / "cover.png", "-map", 1, "-map", 0, "-c", "copy", "-disposition:v:0", "attached_pic"]
    ffmpeg("-i", one, *cover, tmp_path / "cover.mp4")
    for name in ("sound.mp4", "cover.mp4"):
        assert [frame.shape for frame in read_video(tmp_path / name)] == [(48, 64, 3)] * 4
    ffmpeg("-i", one, "-i", other, "-map", 0, "-map", 1, "-c", "copy", tmp_path / "two.mkv")
    with pytest.raises(UntrustedFileError, match=r"two\.mkv: expected one video stream, got 2"):
        list(read_video(tmp_path / "two.mkv"))
    ffmpeg(*sound, tmp_path / "deaf.mkv")
    with pytest.raises(UntrustedFileError, match=r"deaf\.mkv: damaged, or not a video"):
        list(read_video(tmp_path / "deaf.mkv"))


def test_a_video_that_changes_its_size_midway_is_refused_with_both_sizes(tmp_path):
    parts = []
    for size in ((48, 64), (80, 32)):
        ffmpeg("-i", encode(tmp_path / "a.mp4", size=size), "-c", "copy", "-f", "mpegts", tmp_path / "part.ts")
        parts.append((tmp_path / "part.ts").read_bytes())
    (tmp_path / "all.ts").write_bytes(b"".join(parts))
    ffmpeg("-fflags", "+genpts", "-i", tmp_path / "all.ts", "-c", "copy", tmp_path / "all.mkv")
    with pytest.raises(UntrustedFileError, match=r"change from \(height, width\) \(48, 64\) to \(80, 32\) midway"):
        list(read_video(tmp_path / "all.mkv"))


def test_a_video_that_says_how_it_is_turned_is_shown_as_a_player_shows_it(tmp_path):
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, :32] = 200  # bright on the left
    write_video(tmp_path / "a.mp4", np.stack([frame] * 3))
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
    turned = next(read_video(tmp_path / "turned.mp4"))
    assert np.abs(turned.astype(int) - np.rot90(frame)).mean() < 8


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_video_cut_short_is_refused(tmp_path, keep):
    for suffix in (".mp4", ".mkv", ".avi"):
        path = encode(tmp_path / f"a{suffix}", "-q:v", 2)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        write_table(tmp_path, ["episode", "action"], [["a", 0]] * 3)
        with pytest.raises(ValueError, match=rf"a\{suffix}"):
            import_episodes(tmp_path, tmp_path / "mine")
        path.unlink()


def test_a_video_of_frames_that_are_too_large_is_refused(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "color=size=6000x6000", "-frames:v", 1, "-c:v", "mpeg4", tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").stat().st_size < 1e6
    with pytest.raises(UntrustedFileError, match=r"a\.mp4"):
        list(read_video(tmp_path / "a.mp4"))


def test_folders_of_pictures_and_videos_of_one_name_are_refused(tmp_path):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    write_video(theirs / "one.mp4", grey_video(3))
    with pytest.raises(ValueError, match="two clips of one name"):
        import_episodes(theirs, tmp_path / "mine")


def test_a_picture_that_is_a_folder_is_refused(tmp_path):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    (theirs / "one/1.png").unlink()
    write_pictures(theirs / "one/1.png", grey_video(1))
    with pytest.raises(ValueError, match=r"1\.png: expected .*got a folder"):
        import_episodes(theirs, tmp_path / "mine")


def jpeg_instead(theirs: Path) -> None:
    for path in (theirs / "one").iterdir():
        path.rename(path.with_suffix(".jpg"))


def no_clip(theirs: Path) -> None:
    (theirs / "one").rename(theirs / "two")
    write_table(theirs, ["episode", "action"], [["one", 0], ["two", 0], ["two", 1]])


def no_rows(theirs: Path) -> None:
    write_pictures(theirs / "a", grey_video(3))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (jpeg_instead, "one has no PNG images in the folder one"),
        (no_clip, r"one has no clip \(one\.mp4 or one/\)"),
        (no_rows, "a has no rows in a table"),
    ],
)
def test_the_error_for_an_episode_without_a_clip_or_rows_says_what_is_missing(tmp_path, change, expected):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    change(theirs)
    with pytest.raises(ValueError, match=expected):
        import_episodes(theirs, tmp_path / "mine")
