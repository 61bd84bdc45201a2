"""Files damaged at random, and files made to harm: what is read from them is right, or refused by a ValueError.

Each row reads its files in a process of its own, with little memory and a time limit, so that a crash of native code,
a flood and a hang count as failures like a wrong result does.
"""

import os
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from tests.torture import Row

ROOT = Path(__file__).parents[2]
MEMORY = 1 << 30  # bytes that a reader may take beyond what it began with
SECONDS = 10  # for one file


def mutated(content: bytes, other: bytes, pieces: list[tuple[int, int]], chance: random.Random) -> bytes:
    """The file with one kind of damage; `other` is a file like it, `pieces` (start, size) what may change places."""
    data = bytearray(content)
    at = chance.randrange(len(data))
    size = min(int(2 ** chance.uniform(0, 12)), len(data) - at)
    kind = chance.choice(["flip", "cut", "lose", "splice", "swap", "zero", "append", "repeat"])
    if kind == "flip":
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "lose":
        del data[at : at + size]
    elif kind == "splice":
        data[at : at + size] = other[at : at + size]
    elif kind == "swap":
        _swap(data, pieces, chance)
    elif kind == "zero":
        data[at : at + size] = bytes(size)
    elif kind == "append":
        data += chance.randbytes(size)
    else:
        data[at:at] = data[at : at + size]
    return bytes(data)


def _swap(data: bytearray, pieces: list[tuple[int, int]], chance: random.Random) -> None:
    (a, size), (b, _) = chance.sample(pieces, 2) if len(pieces) > 1 else ((0, 16), (len(data) // 2, 16))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def episodes(tried: int, folder: Path) -> Row:
    """Episode files, read whole and in slices."""
    from tests.test_episode_store import make_episode
    from tests.torture.readers import info
    from worldmodel.data.episodes.store import EpisodeStore

    store = EpisodeStore.create(folder, info())
    for index in range(2):
        store.write(make_episode(index, 90))
    return judged("episodes", tried, folder)


def worlds(tried: int, folder: Path) -> Row:
    """Folders of worlds: weights and config."""
    from tests.helpers_models import small_world

    small_world().save(folder / "world")
    small_world(actions=3).save(folder / "other")
    return judged("worlds", tried, folder)


def tokens(tried: int, folder: Path) -> Row:
    """Token files, and what they share."""
    from worldmodel.data.clips.token_store import TokenStore

    made = TokenStore.create(folder, key="k", codes=19, grid=(2, 3), time_stride=1)
    for index in range(2):
        made.write(index, np.random.default_rng(index).integers(0, 19, (50, 2, 3)))
    return judged("tokens", tried, folder)


def checkpoints(tried: int, folder: Path) -> Row:
    """Checkpoints of a training run."""
    import torch

    from worldmodel.training import run_state as checkpoint

    for step in (1, 2):
        groups = {name: {"x": torch.full((9, 7), float(step)), "n": torch.arange(5)} for name in ("model", "ema")}
        checkpoint.save(folder, checkpoint.Checkpoint(step, groups, {"fit": {"seed": 3}}))
    return judged("checkpoints", tried, folder)


def hostile(tried: int, folder: Path) -> Row:
    """Files whose makers knew what they did; there are as many as `tests.torture.hostile.CASES`, whatever is asked."""
    from tests.torture.hostile import CASES

    return judged("hostile", len(CASES), folder, "files made to harm")


def agents(tried: int, folder: Path) -> Row:
    """Folders of agents: weights and config."""
    from tests.torture.readers import small_agent

    for seed, name in enumerate(("agent", "other")):
        small_agent(seed).save(folder / name)
    return judged("agents", tried, folder)


def descriptions(tried: int, folder: Path) -> Row:
    """Sealed JSON: dataset.json and report.json."""
    from tests.torture.readers import REPORT, info
    from worldmodel.io.json_files import write_checked_json

    for name, seed in (("right", 5), ("other", 6)):
        (folder / name).mkdir()
        write_checked_json(folder / name / "dataset.json", {**info().to_json(), "seed": seed})
        write_checked_json(folder / name / "report.json", {**REPORT, "seed": seed})
    return judged("descriptions", tried, folder)


def structures(tried: int, folder: Path) -> Row:
    """Episode files whose HDF5 structures or headers were changed, with right checksums; see `structures`."""
    import numpy as np

    from tests.test_episode_store import make_episode
    from worldmodel.data.episodes import hdf5

    for index, (steps, infos) in enumerate(((90, 1), (40, 12), (9, 0))):
        names = {f"x{i}": np.arange(steps + 1) for i in range(infos)}
        (folder / f"{index}.h5").write_bytes(hdf5.to_bytes(make_episode(index, steps, infos=names)))
    return judged("structures", tried, folder, "episodes, resealed")


def special_files(tried: int, folder: Path) -> Row:
    """Every reader and every kind of what is no regular file, whatever is asked."""
    from tests.torture.doors import KINDS, READERS

    return judged("special_files", len(READERS) * len(KINDS), folder, "special files")


def bombs(tried: int, folder: Path) -> Row:
    """Files that claim much; there are as many as `tests.torture.bombs.CASES`, whatever is asked."""
    from tests.torture.bombs import CASES

    return judged("bombs", len(CASES), folder, "bombs")


def outcomes_of(kind: str, tried: int, folder: Path) -> list[str]:
    """Let a reader try all files of a kind; a new one goes on where one died."""
    outcomes: list[str] = []
    while len(outcomes) < tried:
        command = [sys.executable, "-m", "tests.torture.readers", kind, str(folder), str(len(outcomes)), str(tried)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        outcomes += done.stdout.splitlines()
        if done.returncode:
            outcomes.append(f"died ({done.returncode}): {done.stderr[-300:]}")
    return outcomes


def judged(kind: str, tried: int, folder: Path, title: str = "") -> Row:
    """What a reader of a kind made of its files."""
    outcomes = outcomes_of(kind, tried, folder)
    counts = Counter(outcome if outcome in ("refused", "same") else "failed" for outcome in outcomes)
    wrong = [f"{i}: {outcome}" for i, outcome in enumerate(outcomes) if outcome not in ("refused", "same")]
    note = f"{counts['refused']} refused, {counts['same']} read as they were; {'; '.join(wrong[:3])}".rstrip("; ")
    return Row(title or f"{kind}, damaged", tried, len(wrong), note)


def try_all(attempts: Iterable[Callable[[], str]]) -> None:
    """Runs in the reader: one line for each file, within limits."""
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY, virtual + MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang ends the reader, and counts
    for attempt in attempts:
        signal.alarm(SECONDS)
        print(_outcome(attempt), flush=True)
    signal.alarm(0)


def _outcome(attempt: Callable[[], str]) -> str:
    try:
        return attempt()
    except ValueError as error:
        return "refused" if str(error) else "refused without a word"
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")


def attempts(
    paths: list[Path], other: Callable[[Path], bytes], read: Callable[[], str], numbers: range,
    pieces: list[tuple[int, int]],
) -> Iterable[Callable[[], str]]:  # fmt: skip
    """Attempt i damages one of the files, reads, and puts the file right again: a function of i alone."""
    right = {path: path.read_bytes() for path in paths}

    def attempt(number: int) -> str:
        chance = random.Random(number)
        path = chance.choice(paths)
        try:
            path.write_bytes(mutated(right[path], other(path), pieces, chance))
            return read()
        finally:
            path.write_bytes(right[path])

    return (partial(attempt, number) for number in numbers)
