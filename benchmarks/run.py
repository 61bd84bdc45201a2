"""Measure what docs/results/speed.md says: prints a table, and writes results.json and results.md to benchmarks/."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from beside import beside
from collection import collection
from measure import Row, copy_speed, gemm_flops, row, write
from playing import playing
from sampling import dreaming, endurance, imagining, launches, sampling
from starting import starting
from training import quantizer, training

from worldmodel.data.episodes.store import EpisodeStore


def rows() -> Iterator[Row]:
    """All figures, one after the other: nothing else should run beside them."""
    yield row("machine: float32 GEMM", gemm_flops() / 1e9, "GFLOP/s")
    yield row("machine: memory copy", copy_speed() / 1e9, "GB/s")
    yield from starting()
    yield from sampling()
    yield from imagining()
    yield from launches()
    yield from dreaming()
    yield from endurance()
    yield from quantizer()
    with tempfile.TemporaryDirectory() as folder:
        yield from collection(Path(folder))
        yield from training(EpisodeStore.open(Path(folder) / "by_2"))
        yield from playing(Path(folder))
    yield from beside()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the results")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    start, found = time.perf_counter(), []
    for each in rows():
        found.append(each)
        shown = {None: "", True: f"({each.target})", False: f"({each.target}: NOT REACHED)"}[each.ok]
        print(f"{each.name}: {each.value:.4g} {each.unit} {shown} {each.note}", file=sys.stderr, flush=True)
    found.append(row("time of this benchmark", (time.perf_counter() - start) / 60, "minutes", most=10))
    print(write(found, out))


if __name__ == "__main__":
    main()
