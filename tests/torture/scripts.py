"""Every script on a disk that fills up: one line and status 2, and the same command goes on once there is room."""

import contextlib
import json
import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.test_scripts import TINY
from tests.torture import Row
from tests.torture.collection import may_mount, tmpfs
from tests.torture.processes import finished, script, start

PAGE = 4096
ENV = ["env=maze", "env.height=16", "env.width=24", "env.max_steps=24"]
ENOUGH = 2**28  # bytes
TIGHT = (1, 8)  # pages that are free when a script starts


def commands(run: Path) -> list[tuple[str, list[str]]]:
    """The scripts in the order of a run, on `run` and its neighbours."""
    tiny = {name: [f"run={run}", *settings] for name, settings in TINY.items()}
    loop = {name: TINY[name] for name in ("train_tokenizer", "train_prior", "train_agent")}
    loop["collect"] = [*ENV, *TINY["collect"]]
    improve = [f"overrides.{name}={json.dumps(settings)}" for name, settings in loop.items()]
    return [
        ("collect", [*tiny["collect"], *ENV, "workers=0"]),
        ("train_tokenizer", tiny["train_tokenizer"]),
        ("train_prior", tiny["train_prior"]),
        ("bundle", [f"run={run}", f"to={run}-bundle", "commands=[]"]),
        ("data", ["command=info", f"run={run}"]),
        ("data", ["command=export", f"run={run}", "format=frames", f"to={run}-frames"]),
        ("data", ["command=export", f"run={run}", "format=npz", f"to={run}-npz"]),
        ("data", ["command=export", f"run={run}", "format=minari", f"to={run}-minari-v0"]),
        ("data", ["command=import", f"run={run}-back", f"from={run}-frames"]),
        ("data", ["command=merge", f"run={run}-merged", f"from=[{run},{run}-back]"]),
        ("rollout", tiny["rollout"]),
        ("train_agent", tiny["train_agent"]),
        ("evaluate_agent", tiny["evaluate_agent"]),
        ("evaluate", tiny["evaluate"]),
        ("improve", [f"run={run}-loop", *TINY["improve"], "rounds=1", *improve]),
    ]


def full_disks(tried: int, folder: Path) -> Row:
    """The first `tried` scripts, each on a disk that is nearly full, and then once more with room."""
    chance, failed, stops, real = random.Random(tried), 0, 0, may_mount(folder)
    with disk(folder / "disk", real) as tight:
        for name, settings in commands(folder / "disk" / "run")[:tried]:
            log, free = folder / f"{name}.log", PAGE * chance.randint(*TIGHT)
            with tight(free):
                status = leaves(log, name, settings, 0 if real else free)
            printed = log.read_text()
            stops += status == 2
            if status:  # else it got by with what was free
                failed += not (status == 2 and one_line(printed) and leaves(log, name, settings, 0) == 0)
    note = f"{stops} stopped by it, {'a tmpfs' if real else 'RLIMIT_FSIZE'}; each completed by the same command"
    return Row("full disk in every script", min(tried, len(commands(folder))), failed, note)


def one_line(log: str) -> bool:
    """Whether a script said what is wrong in one line, beside its bars and warnings, and without a traceback."""
    errors = [line for line in log.splitlines() if line.startswith("error: ")]
    return len(errors) == 1 and "room" in errors[0] and "Traceback" not in log and "Exception ignored" not in log


def leaves(log: Path, name: str, settings: list[str], limit: int) -> int:
    """The exit status of a script; its files may have so many bytes, unless that is 0."""
    log.unlink(missing_ok=True)
    process = start(limited, limit, log, name, settings)
    finished(process)
    return process.exitcode


def limited(limit: int, log: Path, name: str, settings: list[str]) -> None:
    """Runs in a process."""
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    script(log, name, *settings)


@contextlib.contextmanager
def disk(folder: Path, real: bool) -> Iterator[Callable[[int], contextlib.AbstractContextManager[None]]]:
    """A disk, and what leaves so many bytes free on it for a while."""
    folder.mkdir()
    if not real:
        yield lambda free: contextlib.nullcontext()
        return
    with tmpfs(folder, ENOUGH) as resize:

        @contextlib.contextmanager
        def tight(free: int) -> Iterator[None]:
            left = os.statvfs(folder)
            used = (left.f_blocks - left.f_bfree) * left.f_bsize
            resize(used + free)
            yield
            resize(ENOUGH)

        yield tight
