"""Films of strangers, decoded by ffmpeg in a process of its own.

The film is handed to ffmpeg as an open file. It may open no other one, so that a playlist named like a film leads
nowhere, and no name is taken for a protocol or a pattern.
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


def read_film(path: Path) -> Iterator[np.ndarray]:
    """Every picture of a film, none twice and none left out, whatever their times of showing are: uint8 `h w 3`.

    Raises:
        UntrustedFileError: ffmpeg finds something wrong with it, or it has not one video stream of one size. It
            may come after the last picture: until then a film is not known to be sound.
    """
    from moviepy.config import FFMPEG_BINARY  # MoviePy's own reader goes by the clock

    with open_regular(path) as film, Child([str(FFMPEG_BINARY), *READ, *WRITE], path, film) as ffmpeg:
        size = None
        while ffmpeg.line():  # the lines of a PPM: its kind, its width and height, its greatest value
            size = _size(path, ffmpeg.line(), ffmpeg.line())
            yield ffmpeg.array((*size, 3))
        failure = ffmpeg.failure()  # waits for its end
        _check_log(path, ffmpeg.log(), size)
        if ffmpeg.process.returncode or size is None:
            raise failure


def _size(path: Path, size: bytes, greatest: bytes) -> tuple[int, int]:
    if not re.fullmatch(rb"\d{1,9} \d{1,9}", size) or greatest != b"255":
        raise UntrustedFileError(f"{path}: damaged, or no film: its decoder gave no picture that can be read")
    width, height = map(int, size.split())
    check_frame(path, (height, width, 3))
    return height, width


def _check_log(path: Path, log: str, size: tuple[int, int] | None) -> None:
    """What ffmpeg conceals when it can, is refused here."""
    if problems := PROBLEM.findall(log):
        raise UntrustedFileError(f"{path}: damaged, or no film: {'; '.join(dict.fromkeys(problems[:3]))}")
    if (streams := len(STREAM.findall(log.split("Stream mapping:")[0]))) > 1:
        raise UntrustedFileError(f"{path}: expected one video stream, got {streams}; keep one of them")
    later = {(int(height), int(width)) for width, height in CHANGE.findall(log)}
    if size is not None and later - {size}:
        raise UntrustedFileError(
            f"{path}: its pictures change from (height, width) {size} to {sorted(later - {size})[0]} midway; "
            "cut it there, or write it anew in one size"
        )
