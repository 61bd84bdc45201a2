"""Reads video files from anyone, decoded by ffmpeg in a process of its own.

ffmpeg gets the video as an open file and may not open any other file. So a playlist that is named like a video
cannot read other files, and ffmpeg never interprets a file's name as a protocol or a pattern.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from worldmodel.io.sandbox import Child
from worldmodel.io.untrusted import FRAME_BYTES, UntrustedFileError, check_frame, open_regular

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
CONTAINERS = "mov,matroska,avi"  # the demuxers of ffmpeg that read files of these suffixes
READ = [
    *("-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-xerror"),
    *("-threads", "2", "-max_pixels", str(FRAME_BYTES // 3)),
    *("-protocol_whitelist", "fd,pipe", "-format_whitelist", CONTAINERS, "-an", "-sn", "-dn", "-i", "fd:"),
]
WRITE = ["-map", "0:V:0", "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]

PROBLEM = re.compile(r"^(?:\[[^]]* @ [^]]*\] )*\[(?:error|fatal|panic)\] (.*)", re.MULTILINE)
STREAM = re.compile(r"^\[info\] +Stream #0:\d+[^\n]*: Video: (?![^\n]*\(attached pic\))", re.MULTILINE)
CHANGE = re.compile(r"parameters changed to [^\n]*?, (\d+)x(\d+)")


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Every frame of a video exactly once, regardless of timestamps: uint8 `h w 3`.

    Raises:
        UntrustedFileError: ffmpeg reports a fault, or the file does not have exactly one video stream of one size.
            It may be raised after the last frame, because ffmpeg reports some faults only then.
    """
    from moviepy.config import FFMPEG_BINARY  # MoviePy's own reader repeats and drops frames by timestamps

    with open_regular(path) as video, Child([str(FFMPEG_BINARY), *READ, *WRITE], path, video) as ffmpeg:
        size = None
        while ffmpeg.line():  # the header lines of a PPM: format, width and height, maximum value
            size = _size(path, ffmpeg.line(), ffmpeg.line())
            yield ffmpeg.array((*size, 3))
        failure = ffmpeg.failure()  # waits for the process to end
        _check_log(path, ffmpeg.log(), size)
        if ffmpeg.process.returncode or size is None:
            raise failure


def _size(path: Path, size: bytes, greatest: bytes) -> tuple[int, int]:
    if not re.fullmatch(rb"\d{1,9} \d{1,9}", size) or greatest != b"255":
        raise UntrustedFileError(f"{path}: damaged, or not a video: the decoder returned no readable frame")
    width, height = map(int, size.split())
    check_frame(path, (height, width, 3))
    return height, width


def _check_log(path: Path, log: str, size: tuple[int, int] | None) -> None:
    """Refuse faults that ffmpeg logs but conceals in the frames."""
    if problems := PROBLEM.findall(log):
        raise UntrustedFileError(f"{path}: damaged, or not a video: {'; '.join(dict.fromkeys(problems[:3]))}")
    if (streams := len(STREAM.findall(log.split("Stream mapping:")[0]))) > 1:
        raise UntrustedFileError(f"{path}: expected one video stream, got {streams}; keep one of them")
    later = {(int(height), int(width)) for width, height in CHANGE.findall(log)}
    if size is not None and later - {size}:
        raise UntrustedFileError(
            f"{path}: its frames change from (height, width) {size} to {sorted(later - {size})[0]} midway; "
            "cut the video there, or encode it again in one size"
        )
