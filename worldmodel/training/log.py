"""Averages of training metrics since the last line of the log, and TensorBoard."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class MetricAverages:
    """Metrics of the steps since it was opened, kept on the device, and where the time of these steps went."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps, self.waited, self.start = 0, 0.0, time.perf_counter()

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Take in what one step measured, without waiting for the device."""
        self.steps += 1
        for name, value in metrics.items():
            value = torch.as_tensor(value).detach().float()  # detached, or every graph would stay in memory
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time that is spent on waiting for data."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - start

    def means(self) -> dict[str, float]:
        """The mean of each metric over the steps."""
        return {name: float(total) / self.steps for name, total in self.sums.items()}

    def speed(self) -> dict[str, float]:
        """Steps per second, and the share of time that went into waiting for data."""
        seconds = time.perf_counter() - self.start
        return {"perf/steps_per_s": self.steps / seconds, "perf/data_wait": self.waited / seconds}


class NullWriter(SummaryWriter):
    """A writer that writes nothing, for all ranks but the first."""

    def __init__(self) -> None:
        pass

    def close(self) -> None:
        """Nothing was opened."""


def open_writer(folder: Path, step: int, enabled: bool) -> SummaryWriter:
    """TensorBoard's writer of a run that has done `step` steps; later entries of an earlier attempt are hidden."""
    return SummaryWriter(str(folder / "logs"), purge_step=step + 1) if enabled else NullWriter()
