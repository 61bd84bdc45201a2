"""How much slower training gets beside busy processes, compared with the cores that they leave free.

Run as a program, it trains: the prior of the demo on random tokens, with threads as in the scripts.
Each line of its input is a number of seconds: it trains for that long and prints its steps per second.
"""

from typing import TypeVar

from worldmodel.kernels.threads import set_threads, usable_cores, wait_asleep

if __name__ == "__main__":
    wait_asleep()  # before torch is imported

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

from measure import Row, preset, row
from presets import prior_of, random_batch

from worldmodel.io.config import from_mapping
from worldmodel.training.fit import FitConfig
from worldmodel.training.optim import adamw

T = TypeVar("T")
BUSY = (1, 4)  # processes beside the training
SECONDS, ROUNDS = 3.0, 5  # of each measurement; rounds, in which alone and beside take turns


def beside() -> Iterator[Row]:
    """The slowdown beside each number of busy processes ÷ the share of the cores that they leave to training."""
    cores = usable_cores()
    with trainer() as speed:
        rounds = [{busy: beside_busy(busy, lambda: speed(SECONDS)) for busy in (0, *BUSY)} for _ in range(ROUNDS)]
    for busy in BUSY:
        slowdown = median(found[busy] / found[0] for found in rounds)
        alone, beside = (median(found[each] for found in rounds) for each in (0, busy))
        free = share(cores, busy)
        note = f"{beside:.2f} against {alone:.2f} steps/s alone; share {cores} ÷ ({cores} + {busy}) = {free:.2f}"
        name = f"training beside {busy} busy process{'es' * (busy > 1)} ÷ the share of the cores that was free"
        yield row(name, slowdown / free, "", least=0.7, note=note)


def share(cores: int, busy: int) -> float:
    """The share that a fair scheduler gives to a program with a thread on each core, beside `busy` busy processes."""
    return cores / (cores + busy)


def beside_busy(count: int, measure: Callable[[], T]) -> T:
    """The result of a measurement beside `count` processes that always compute; they end with the measurement."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        return measure()


@contextlib.contextmanager
def trainer() -> Iterator[Callable[[float], float]]:
    """A process that trains, as a function: from seconds to the steps per second of training in this time."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout

    def speed(seconds: float) -> float:
        assert process.stdin and process.stdout
        print(seconds, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    try:
        speed(0)  # started and warm
        yield speed
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    set_threads()
    settings = preset("train_prior")
    model = prior_of("demo").train()
    fit: FitConfig = from_mapping(FitConfig, settings["fit"])
    optimizer, batch = adamw(model, fit), random_batch(model, fit.batch_size, settings["clip_latents"])
    for line in sys.stdin:
        steps, until, start = 0, float(line), time.perf_counter()
        while steps == 0 or time.perf_counter() - start < until:
            model.loss(batch)[0].backward()  # pyright: ignore
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
        print(steps / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
