"""What is done to collection: kills of workers and parent, engines that crash, hang and raise, and full disks."""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium

from tests.helpers_env import FAULTS, CounterEnv, FaultyEnv, counter_info
from tests.torture import Row
from tests.torture.processes import KILLED, all_end, contents, ended, finished, start
from worldmodel.data.collect.collect import CollectReport, collect, run_episode
from worldmodel.data.episodes.repair import find_damaged
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.lock import FolderInUse, writer_lock

SETTINGS: dict[str, Any] = {"seed": 5, "policy": "sticky", "hold": 4.0, "info_keys": ("now",)}
INFO = counter_info(**SETTINGS)
EPISODES = 12
STEP = 0.002  # seconds of a step, so that a kill finds an episode in progress: these last 40 to 120 ms
BETWEEN = 0.5  # seconds between two kills at most
PARENTS = 0.2  # of the kills hit the parent
PATIENT = 0.8  # of the calls are left alone until their first episode: the others are killed while they start, too
MISSING = 3  # exit code: kills have used up the tries of an episode
REFUSED = 4  # exit code: another process collects there, or has collected there with other settings
RACED = 3  # episodes of a set that two processes want to collect
LEAST = 2**13  # bytes of the smallest disk: the dataset's description fits


def gather(folder: Path, make_env: Callable[[], gymnasium.Env] = CounterEnv, **safety: Any) -> CollectReport:
    """Collects the set, or what is missing of it."""
    store = EpisodeStore.create(folder, INFO)
    return collect(make_env, store, EPISODES, progress=False, **safety, **SETTINGS)


def undisturbed(folder: Path) -> dict[str, bytes]:
    """The files of the set as they should be."""
    gather(folder)
    return contents(folder)


class SlowEnv(CounterEnv):
    """Takes its time, and leaves the id of its process in a folder."""

    def __init__(self, folder: Path):
        super().__init__()
        (folder / str(os.getpid())).touch()

    def step(self, action):
        time.sleep(STEP)
        return super().step(action)


def gather_slowly(folder: Path, pids: Path) -> None:
    """Runs in a process that is to be killed, or whose workers are."""
    sys.exit(MISSING if gather(folder, partial(SlowEnv, pids), workers=2).failures else 0)


def collection_kills(tried: int, folder: Path) -> Row:
    """Kills workers and parents in no order at random moments; then the same call again, until the set is whole."""
    chance, expected = random.Random(tried), undisturbed(folder / "undisturbed")
    kills, failed, sets, parents = 0, 0, 0, 0
    while kills < tried:
        data, sets = folder / f"set_{sets}", sets + 1
        data.mkdir()
        whole = False
        while not whole:
            pids = folder / "pids"
            pids.mkdir()
            parent = start(gather_slowly, data, pids)
            victims = kill_now_and_then(parent, pids, chance, tried - kills)
            kills, parents = kills + len(victims), parents + victims.count(parent.pid)
            again = {MISSING, KILLED} if parent.pid in victims else {MISSING}
            whole = finished(parent) or parent.exitcode not in again  # any other end leaves a set that differs
            failed += not all_end([int(name) for name in os.listdir(pids)])
            failed += bool(find_damaged(EpisodeStore(data, INFO)))
            shutil.rmtree(pids)
        failed += contents(data) != expected
        shutil.rmtree(data)
    note = f"{parents} of parents, {kills - parents} of workers; {sets} sets of {EPISODES} episodes, all bytes compared"
    return Row("kill -9 while collecting", kills, failed, note)


def kill_now_and_then(parent: Any, pids: Path, chance: random.Random, most: int) -> list[int]:
    """Kills a worker every now and then until the parent is killed or done; returns who was killed."""
    victims: list[int] = []
    patient = chance.random() < PATIENT
    while patient and parent.exitcode is None and not os.listdir(pids):
        time.sleep(0.01)
    while len(victims) < most:
        parent.join(chance.uniform(0, BETWEEN))
        if parent.exitcode is not None:
            break
        workers = [int(name) for name in os.listdir(pids) if not ended(int(name))]
        chosen = [parent.pid] if chance.random() < PARENTS else workers
        with contextlib.suppress(IndexError, ProcessLookupError):  # no worker yet, or not any more
            victim = chance.choice(chosen)
            os.kill(victim, signal.SIGKILL)
            victims.append(victim)
    return victims


def collectors_racing(tried: int, folder: Path) -> Row:
    """Two collections of one empty folder start together, with different seeds or with one: never a mixed set."""
    chance, failed, together = random.Random(tried), 0, 0
    for number in range(tried):
        data, seeds = folder / f"set_{number}", (0, number % 2)
        racing = [start(race, data, seed, chance.uniform(0, 0.05)) for seed in seeds]
        [process.join() for process in racing]
        codes = sorted(process.exitcode for process in racing)
        allowed = [[0, REFUSED]] if seeds[1] else [[0, REFUSED], [0, 0]]
        together += codes == [0, REFUSED]
        failed += codes not in allowed or not of_one_kind(data) or bool(list(folder.glob(".*")))
        shutil.rmtree(data)
    note = f"every second time with different seeds; one of the two was refused {together} times"
    return Row("two collections of one folder", tried, failed, note)


def race(folder: Path, seed: int, wait: float) -> None:
    """Runs in a process: collects the set of this seed, unless that is refused."""
    time.sleep(wait)
    settings = {**SETTINGS, "seed": seed}
    try:
        store = EpisodeStore.create(folder, counter_info(**settings))
        collect(CounterEnv, store, RACED, progress=False, **settings)
    except ValueError:
        sys.exit(REFUSED)


def of_one_kind(folder: Path) -> bool:
    """Whether a set is whole, and every episode of it is the one that its settings make."""
    store = EpisodeStore.open(folder)
    made = [run_episode(CounterEnv(), store.info, index) for index in range(RACED)]
    same = [store.header(each.index).seed == each.seed for each in made if each.index in store.indices]
    return len(same) == RACED and all(same) and not find_damaged(store)


def lock_kills(tried: int, folder: Path) -> Row:
    """kill -9 of a process that collects with workers: its lock was held until then, and is free at once."""
    chance, stale, unheld, orphans = random.Random(tried), 0, 0, 0
    for number in range(tried):
        data, pids = folder / f"set_{number}", folder / f"pids_{number}"
        pids.mkdir()
        parent = start(gather_slowly, data, pids)
        while parent.exitcode is None and not os.listdir(pids):
            time.sleep(0.01)
        unheld += not in_use(data)
        time.sleep(chance.uniform(0, 0.1))
        parent.kill()
        parent.join()
        stale += in_use(data)
        orphans += not all_end([int(name) for name in os.listdir(pids)]) or in_use(data)
    note = f"{unheld} not held before, {stale} stale after, {orphans} kept by an orphan"
    return Row("locks under kill -9", tried, stale + unheld + orphans, note)


def in_use(folder: Path) -> bool:
    """Whether another process writes to a folder."""
    try:
        with writer_lock(folder, "torture"):
            return False
    except FolderInUse:
        return True


def engine_faults(tried: int, folder: Path) -> Row:
    """An engine that crashes, hangs or raises in some episodes: those are missing and named, the others as ever."""
    chance, expected = random.Random(tried), undisturbed(folder / "undisturbed")
    store, failed, faulty = EpisodeStore.open(folder / "undisturbed"), 0, 0
    for number in range(tried):
        data, fault = folder / f"set_{number}", [*FAULTS][number % len(FAULTS)]
        bad = sorted(chance.sample(range(EPISODES), chance.randint(1, 2)))
        faulty += len(bad)
        make_env = partial(FaultyEnv, fault, [store.header(index).seed for index in bad])
        report = gather(data, make_env, workers=chance.randint(1, 2), retries=chance.randint(0, 1), timeout=2.0)
        named = sorted(each.index for each in report.failures) == bad
        others = {name: value for name, value in expected.items() if name not in {store.path(i).name for i in bad}}
        kept = contents(data) == others
        gather(data)
        failed += not (named and kept and contents(data) == expected)
        shutil.rmtree(data)
    note = f"{', '.join(FAULTS)} in turns, in {faulty} of {tried * EPISODES} episodes; completed by sound ones after"
    return Row("engines that crash, hang or raise while collecting", tried, failed, note)


def full_disk(tried: int, folder: Path) -> Row:
    """A disk that fills up at a random byte: a clear stop, whole episodes, and the same set once there is room."""
    chance, expected = random.Random(tried), undisturbed(folder / "undisturbed")
    size, failed, real = sum(map(len, expected.values())), 0, may_mount(folder)
    for number in range(tried):
        disk = folder / f"disk_{number}"
        disk.mkdir()
        with (tmpfs if real else pretended)(disk, chance.randint(LEAST, size)) as make_room:
            stopped = stops_in_time(disk / "set", workers=number % 2 if real else 0)
            make_room()
            gather(disk / "set")
            failed += not (stopped and contents(disk / "set") == expected)
    note = "a tmpfs" if real else "os.fsync made to refuse, for want of the right to mount a small disk"
    return Row("full disk while collecting", tried, failed, f"{note}; filled up at a random byte; completed after")


def stops_in_time(folder: Path, workers: int) -> bool:
    """Whether collecting says that the disk is full, and leaves whole episodes and nothing else."""
    try:
        gather(folder, workers=workers)
    except OSError as error:
        halves = [name for name in os.listdir(folder) if name.startswith(".")]
        return "disk full" in str(error) and not halves and not find_damaged(EpisodeStore(folder, INFO))
    return False


def may_mount(folder: Path) -> bool:
    """Whether this user may make a small disk."""
    try:
        with tmpfs(folder, LEAST):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[Callable[..., None]]:
    """A disk of so many bytes in the folder, and what makes room on it, or gives it another size; needs root."""

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)

    mount(f"size={size}")
    try:
        yield lambda size=2**26: mount(f"remount,size={size}")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def pretended(folder: Path, size: int) -> Iterator[Callable[[], None]]:
    """The same for this process alone: it cannot flush a file while the folder holds more bytes than that."""
    fsync, room = os.fsync, [size]

    def refuse(handle: int) -> None:
        if sum(map(len, contents(folder).values())) > room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with mock.patch.object(os, "fsync", refuse):
        yield lambda: room.append(room.pop() + 2**26)
