"""All rows, in the order of the table: what is done, how often in the tests, and how often by `make torture`."""

from collections.abc import Callable
from pathlib import Path

from tests.torture import Row
from tests.torture.collection import collection_kills, engine_faults, full_disk
from tests.torture.soak import soak
from tests.torture.training import prior_kills, tokenizer_kills

ROWS: tuple[tuple[Callable[[int, Path], Row], int, int], ...] = (
    (collection_kills, 3, 300),
    (engine_faults, 3, 40),
    (full_disk, 3, 60),
    (tokenizer_kills, 2, 80),
    (prior_kills, 2, 80),
    (soak, 300, 100_000),
)
