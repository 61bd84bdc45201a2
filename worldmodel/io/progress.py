"""Progress bars: a moving bar at a terminal, a line every ten seconds in a log file."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm

LINE_EVERY = 10.0  # seconds
SLOW = 5.0  # seconds, for `delay`: work that may be fast needs no bar until then


class _Lines(tqdm):
    """A tqdm that prints complete lines instead of overwriting the last one."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        def print_status(line: str) -> None:
            if line.strip():
                file.write(line.rstrip() + "\n")
                file.flush()

        return print_status


def progress(
    of: Iterable[Any] | None = None,
    name: str = "",
    *,
    total: int,
    unit: str,
    done: int = 0,
    shown: bool = True,
    delay: float = 0.0,
) -> tqdm:
    """A bar with speed and remaining time, over `of` or updated by hand; as a context manager it closes itself.

    With a `delay` it appears after so many seconds, so what takes less shows nothing.
    """
    common = {"desc": name, "total": total, "initial": done, "unit": unit, "disable": not shown, "delay": delay}
    if sys.stderr.isatty():
        return tqdm(of, **common, dynamic_ncols=True, mininterval=0.5)
    return _Lines(of, **common, ascii=True, ncols=140, mininterval=LINE_EVERY, maxinterval=LINE_EVERY, miniters=1)
