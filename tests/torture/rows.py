"""All rows, in the order of the table: what is done, how often in the tests, and how often by `make torture`."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.torture import Row
from tests.torture.collection import collection_kills, collectors_racing, engine_faults, full_disk, lock_kills
from tests.torture.files import (
    agents,
    bombs,
    checkpoints,
    descriptions,
    episodes,
    hostile,
    special_files,
    structures,
    tokens,
    worlds,
)
from tests.torture.foreign import decoders
from tests.torture.ranks import ranks
from tests.torture.scripts import full_disks
from tests.torture.soak import soak
from tests.torture.training import prior_kills, tokenizer_kills

ROWS: tuple[tuple[Callable[[int, Path], Row], int, int], ...] = (
    (collection_kills, 3, 150),
    (collectors_racing, 4, 200),
    (lock_kills, 1, 60),
    (engine_faults, 3, 20),
    (full_disk, 3, 40),
    (full_disks, 4, 15),
    (tokenizer_kills, 2, 30),
    (prior_kills, 2, 30),
    (episodes, 600, 10_000),
    (worlds, 150, 2_000),
    (tokens, 200, 2_500),
    (checkpoints, 120, 1_500),
    (agents, 50, 500),
    (descriptions, 120, 1_500),
    (structures, 150, 5_000),
    (hostile, 1, 1),  # as many as there are
    (decoders, 40, 2_000),
    (special_files, 1, 1),  # all readers, all kinds
    (bombs, 1, 1),  # as many as there are
    (ranks, 10, 30),
    (soak, 150, 100_000),
)


def at_length(row: Callable[[int, Path], Row], often: int) -> tuple[Row, float]:
    """One row, and the seconds that it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        return row(often, Path(folder)), time.monotonic() - began
