"""Fit anything that has `loss(batch)`: one loop for one device or many, that can be stopped at any time.

Step n uses batch n and random numbers seeded by (seed, n). So on the CPU, a run that was stopped and resumed
equals an uninterrupted one to the last bit. Under `torchrun` every rank calls `fit`. N ranks with one batch per
step, and one rank with N batches per step (`accumulate`), use the same batches and random numbers. They differ by
rounding alone if the loss of all batches together is the mean of their losses.
"""

import atexit
import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.lock import writer_lock
from worldmodel.io.progress import progress
from worldmodel.kernels.threads import threads
from worldmodel.training.interrupt import Interrupted, SignalGuard, end_readers, leave_signals_to_parent
from worldmodel.training.log import MetricAverages, open_writer
from worldmodel.training.optim import Ema, FitConfig, adamw, learning_rate
from worldmodel.training.prefetch import Prefetcher
from worldmodel.training.run_signature import (
    Course,
    conditions,
    continued,
    digest,
    other_schedule,
    refuse_other_run,
    run_signature_of,
)
from worldmodel.training.run_state import Checkpoint, latest, load_optimizer_tensors, optimizer_tensors, save

M = TypeVar("M", bound=nn.Module)
Evaluate = Callable[[M, int, SummaryWriter], Mapping[str, float]]

_ours: ContextVar[frozenset[str]] = ContextVar("folders that this training has locked", default=frozenset())
NEVER = torch.iinfo(torch.int64).max  # a step that no run reaches
FEWEST_STEPS = 20  # that a training of so many minutes takes
FOR_STEPS = 0.9  # share of the time; the rest is for evaluations and checkpoints
TRIAL_STEPS, TRIAL = (4, 20), 5.0  # steps to measure the speed, at least and at most, and seconds


@dataclass
class FitResult(Generic[M]):
    """A fitted model with averaged weights, in evaluation mode, and what its last evaluation found.

    course: the conditions of the training (`steps`, threads, ranks, device), each with the step from which it held.
    """

    model: M
    step: int
    metrics: dict[str, float]
    course: Course = field(default_factory=list)


def fit(
    model: M,
    batches: Dataset,
    config: FitConfig,
    folder: str | Path,
    *,
    evaluate: Evaluate[M] | None = None,
    signature: Mapping[str, Any] | None = None,
    minutes: float | None = None,
) -> FitResult[M]:
    """Train `model` until `config.steps`, continuing from the newest checkpoint in `folder` if there is one.

    With `minutes`, the number of steps is measured before the first one (`steps_within`) and stays in the checkpoints;
    the run equals one of that many steps.

    `model.loss(batch)` returns a scalar loss and a dict of scalar metrics. `batches[step]` is a pure function of
    the step and has `.to(device)`; with n devices, device r takes batches[step * n + r]. With `accumulate` the
    gradients of that many batches (microbatches) make one step. Modules that also learn outside the gradients
    (`LearnsPerStep`) get the index of each microbatch and their number before it is processed.
    `evaluate(model, step, writer)` gets the averaged weights and a TensorBoard writer, and returns what to log.
    `signature` (JSON-able) describes the model and the data; a checkpoint with another signature is refused.
    A run that is finished already returns at once. The folder gets checkpoints/, logs/ and metrics.json.

    A run may be resumed with other `steps`, on another device, or with another number of threads or ranks: then its
    course is recorded in its checkpoints, in metrics.json and in the result. A resumed run takes the number of
    torch's threads that it had before, unless OMP_NUM_THREADS or MKL_NUM_THREADS is set.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the run is saved, and the same call goes on from there.
        FloatingPointError: a loss or gradient is not finite; the last good checkpoint stays.
        ValueError: the folder holds another run than this one.
        FolderInUse: another process trains on this folder; a ValueError that says which.
    """
    with sole_training(folder):
        if minutes is not None:
            config = replace(config, steps=steps_within(minutes, model, batches, config, Path(folder)))
        run = _Run(model, config, Path(folder), dict(signature or {}))
        run.resume()
        with threads(run.course[-1]["threads"] if run.course else None):
            if run.step < config.steps:
                run.train(batches, evaluate)
            return FitResult(run.ema.model, run.step, run.final_metrics(evaluate), run.course)


def steps_within(minutes: float, model: nn.Module, batches: Dataset, config: FitConfig, folder: Path) -> int:
    """The steps of the run in `folder`, or as many as take `minutes` by the speed of a few steps of a copy.

    On a machine that becomes slower later the training takes longer than `minutes`.

    Raises: ValueError if `minutes` is not positive.
    """
    if not 0 < minutes < math.inf:
        raise ValueError(f"minutes: expected more than 0, got {minutes}")
    found = latest(folder)
    if found is not None and (course := found.progress.get("course")):
        return course[-1]["steps"]
    start = time.perf_counter()
    trial = _Run(copy.deepcopy(model), config, folder, {})
    seconds = trial.seconds_a_step(batches)
    left = minutes * 60 - (time.perf_counter() - start)
    steps = trial.fabric.broadcast(max(FEWEST_STEPS, int(left * FOR_STEPS / seconds)))
    if trial.fabric.is_global_zero:
        tqdm.write(f"{folder.name}: {steps:,} steps take about {minutes:g} minutes; fit.steps={steps} trains the same")
    return steps


@contextmanager
def sole_training(folder: str | Path) -> Iterator[None]:
    """Be the only training on a folder until the block ends; rank 0 holds the lock for all ranks.

    `fit` does this by itself. A script that writes more than `fit` does puts all of its work into such a block.

    Raises:
        FolderInUse: another process trains there; a ValueError that says which, and since when.
    """
    key, ours = os.path.realpath(folder), _ours.get()
    if key in ours or int(os.environ.get("RANK", "0")):
        yield
        return
    with writer_lock(folder, "training"):
        token = _ours.set(ours | {key})
        try:
            yield
        finally:
            _ours.reset(token)


def on_rank_zero(work: Callable[[], Any], config: FitConfig) -> None:
    """Call `work` on the first rank only; the other ranks wait (30 minutes at most)."""
    fabric = _fabric(config)
    if fabric.is_global_zero:
        work()
    fabric.barrier()


@runtime_checkable
class LearnsPerStep(Protocol):
    """A module whose buffers are updated once per step, from all microbatches of the step."""

    def set_microbatch(self, index: int, count: int) -> None:
        """The next batch is number `index` of the `count` that make one step."""
        ...


class _Objective(nn.Module):
    """Calls the model's loss through `forward`, the call that DDP and mixed precision wrap."""

    model: Any  # a module with `loss`

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Callable[[], Any]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model.loss(batch())  # a function: Fabric would take a batch apart, which fails if it is frozen


class _Run(Generic[M]):
    """One training run: its models, its optimizer, its folder and its current step."""

    def __init__(self, model: M, config: FitConfig, folder: Path, signature: dict[str, Any]):
        self.config, self.folder, self.step = config, folder, 0
        self.course: Course = []
        self.fabric = _fabric(config)
        self.run_signature = run_signature_of(config, signature, self.fabric.world_size)
        self.model = model.to(self.fabric.device).train()
        self.learners = [module for module in self.model.modules() if isinstance(module, LearnsPerStep)]
        self.ema: Ema[M] = Ema(model, config.ema_decay)
        self.adamw = adamw(model, config)
        self.objective, self.optimizer = self.fabric.setup(_Objective(model), self.adamw)
        self.first_nonfinite_step = torch.full((), NEVER, device=self.fabric.device)
        self.saved = -1  # the step of the last checkpoint

    def resume(self) -> None:
        """Take the state of the newest checkpoint, if there is one."""
        if (found := latest(self.folder)) is None:
            return
        refuse_other_run(found, self.run_signature, self.config.steps, self.folder)
        self.model.load_state_dict(found.tensors["model"])
        self.ema.model.load_state_dict(found.tensors["ema"])
        load_optimizer_tensors(self.adamw, found.tensors["optimizer"])
        self.step = self.saved = found.step
        self.course = found.progress.get("course", [])

    def train(self, batches: Dataset, evaluate: Evaluate[M] | None) -> None:
        """Run the remaining steps."""
        config = self.config
        self._record_conditions()
        with SignalGuard() as guard, self._writer() as writer, self._bar() as bar, self._stream(batches) as stream:
            window = MetricAverages()
            while self.step < config.steps:
                batches_of_step = [self._next(stream, guard, window) for _ in range(config.accumulate)]
                window.add(self._update(batches_of_step))
                bar.update()
                if self._due(config.log_every):
                    self._log(window, writer, bar)
                    window = MetricAverages()
                if self._due(config.checkpoint_every):
                    self.save()
                if config.eval_every and self._due(config.eval_every) and self.step < config.steps:
                    self.evaluate(evaluate, writer)
                    window = MetricAverages()  # evaluation is no part of the speed of training
                if self._stopped(guard):
                    self._stop(guard)

    def seconds_a_step(self, batches: Dataset) -> float:
        """The median time of a step after the first ones, reading its batches included if no worker does that."""
        taken: list[float] = []
        begin = time.perf_counter()
        while len(taken) < TRIAL_STEPS[0] or (len(taken) < TRIAL_STEPS[1] and time.perf_counter() - begin < TRIAL):
            number = (self.step * self.fabric.world_size + self.fabric.global_rank) * self.config.accumulate
            before = time.perf_counter()
            read = [batches[number + index] for index in range(self.config.accumulate)]
            start = time.perf_counter() if self.config.workers else before
            loss = self._update(read)["loss"]
            float(loss)  # waits for the device
            taken.append(time.perf_counter() - start)
        return sorted(taken[1:])[len(taken[1:]) // 2]

    def save(self) -> None:
        """Write a checkpoint, unless it is written already or would hold numbers that are not finite."""
        self._refuse_nonfinite()
        if self.saved != self.step and self.fabric.is_global_zero:
            tensors = {
                "model": self.model.state_dict(),
                "ema": self.ema.model.state_dict(),
                "optimizer": optimizer_tensors(self.adamw),
            }
            save(self.folder, Checkpoint(self.step, tensors, {**self.run_signature, "course": self.course}))
        self.saved = self.step
        self.fabric.barrier()

    def evaluate(self, evaluate: Evaluate[M] | None, writer: SummaryWriter) -> dict[str, float]:
        """Evaluate the averaged weights and log the metrics, which depend on weights, seed and step alone."""
        metrics: dict[str, float] = {}
        if evaluate is not None and self.fabric.is_global_zero:
            torch.manual_seed(_seed(self.config.seed, self.step, rank=2**31))  # a rank that no trainer has
            with torch.no_grad(), self.fabric.autocast():
                metrics = {k: float(v) for k, v in evaluate(self.ema.model.eval(), self.step, writer).items()}
            for name, value in metrics.items():
                writer.add_scalar(name, value, self.step)
        return self.fabric.broadcast(metrics)

    def final_metrics(self, evaluate: Evaluate[M] | None) -> dict[str, float]:
        """The metrics of the finished run, from metrics.json if they are there; else evaluated and written."""
        path = self.folder / "metrics.json"
        if evaluate is None:
            return {}
        run = digest(self.ema.model, self.run_signature)
        known = self.fabric.broadcast(_measured(path, run) if self.fabric.is_global_zero else None)
        if known is not None:
            return known
        with self._writer() as writer:
            metrics = self.evaluate(evaluate, writer)
        if self.fabric.is_global_zero:
            values = _as_json(metrics)
            write_checked_json(path, {"step": self.step, "run": run, "course": self.course, "metrics": values})
        return metrics

    def _record_conditions(self) -> None:
        """Add the conditions of this call to the course of the run; print a line if they change the result."""
        if self.fabric.is_global_zero and (warning := other_schedule(self.course, self.config)):
            tqdm.write(f"at step {self.step}: {warning}")
        now = conditions(self.config, self.fabric.device, self.fabric.world_size)
        self.course = continued(self.course, self.step, now)

    def _update(self, microbatches: list[Any]) -> dict[str, Tensor]:
        """One step of the optimizer; returns its metrics, still on the device."""
        rate = learning_rate(self.step, self.config)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        measured = [self._gradients(batch, index) for index, batch in enumerate(microbatches)]
        self._set_microbatch(0, 1)  # outside of `fit` a batch is a whole one
        loss, metrics = measured[0] if len(measured) == 1 else _mean(measured)
        norm = self.fabric.clip_gradients(
            self.objective, self.optimizer, max_norm=self.config.clip_norm or 1e30, error_if_nonfinite=False
        )
        assert norm is not None
        finite = torch.isfinite(loss.detach() + norm)
        earliest = self.first_nonfinite_step.clamp(max=self.step)
        self.first_nonfinite_step = torch.where(finite, self.first_nonfinite_step, earliest)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.model, self.step)
        self.step += 1
        return {"loss": loss, "gradient_norm": norm, **metrics}

    def _gradients(self, batch: Any, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of one microbatch; returns its loss and metrics."""
        count, ranks = self.config.accumulate, self.fabric.world_size
        self._set_microbatch(index, count)
        torch.manual_seed(_seed(self.config.seed, self.step, index * ranks + self.fabric.global_rank))
        batch = batch.to(self.fabric.device)
        with self.fabric.no_backward_sync(self.objective, enabled=index + 1 < count):
            loss, metrics = self.objective(lambda: batch)
            self.fabric.backward(loss / count)
        return loss.detach(), metrics

    def _set_microbatch(self, index: int, count: int) -> None:
        for module in self.learners:
            module.set_microbatch(index, count)

    def _refuse_nonfinite(self) -> None:
        """Raise if a step was not finite. Reading that number waits for the device, so not every step does it."""
        if (step := int(self.first_nonfinite_step)) != NEVER:
            raise FloatingPointError(
                f"loss or gradient is not finite at step {step}; the last good checkpoint in {self.folder} stays. "
                "Try a lower learning_rate, a smaller clip_norm, or precision: 32-true"
            )

    def _next(self, stream: Iterator[Any], guard: SignalGuard, window: MetricAverages) -> Any:
        alone = self.fabric.world_size == 1  # ranks must take the same number of steps, so none stops here
        try:
            with window.waiting(), guard.interruptible() if alone else nullcontext():
                return next(stream)
        except KeyboardInterrupt:
            return self._stop(guard)

    def _stopped(self, guard: SignalGuard) -> bool:
        if self.fabric.world_size == 1:
            return bool(guard.signum)
        flag = torch.tensor(float(bool(guard.signum)), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="max"))  # torchrun may signal one rank before another

    def _stop(self, guard: SignalGuard) -> None:
        self.save()
        if self.fabric.is_global_zero:
            tqdm.write(f"stopped and saved at step {self.step} of {self.config.steps}; the same command continues")
        raise Interrupted(self.step, guard.signum or 15)

    @contextmanager
    def _stream(self, batches: Dataset) -> Iterator[Iterator[Any]]:
        world, rank, workers = self.fabric.world_size, self.fabric.global_rank, self.config.workers
        first, last = (step * self.config.accumulate * world for step in (self.step, self.config.steps))
        loaded = iter(
            DataLoader(
                batches,
                batch_size=None,
                sampler=range(first + rank, last, world),
                num_workers=workers,
                worker_init_fn=leave_signals_to_parent if workers else None,
                pin_memory=self.fabric.device.type == "cuda",
            )
        )
        if not workers:
            yield loaded
            return
        readers: list[BaseProcess] = list(getattr(loaded, "_workers", ()))
        prefetcher = Prefetcher(loaded)
        del loaded  # the thread alone holds it, so its end releases the readers
        try:
            with prefetcher as stream:
                yield stream
        finally:
            end_readers(readers)

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def _log(self, window: MetricAverages, writer: SummaryWriter, bar: tqdm) -> None:
        self._refuse_nonfinite()
        means = window.means()
        bar.set_postfix({name: f"{value:.3g}" for name, value in means.items()}, refresh=False)
        train = {"learning_rate": learning_rate(self.step - 1, self.config), **means}
        if self.fabric.is_global_zero:
            for name, value in (*((f"train/{k}", v) for k, v in train.items()), *window.speed().items()):
                writer.add_scalar(name, value, self.step)

    def _writer(self) -> SummaryWriter:
        return open_writer(self.folder, self.step, self.fabric.is_global_zero)

    def _bar(self) -> tqdm:
        hidden = not self.fabric.is_global_zero
        steps, name = self.config.steps, self.folder.name
        return progress(name=name, total=steps, done=self.step, unit="step", shown=not hidden)


def _fabric(config: FitConfig) -> Fabric:
    """One device, or what torchrun says."""
    local, world = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    cuda = config.accelerator == "cuda" or (config.accelerator == "auto" and torch.cuda.is_available())
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",  # not Apple's: sampling needs float64
        devices=local,
        num_nodes=world // local,
        precision=config.precision,
        strategy="ddp" if world > 1 else "auto",
    )
    fabric.launch()
    if world > 1:
        atexit.register(_leave_group)
    return fabric


def _leave_group() -> None:
    """At exit: Gloo's threads, left running, abort now and then as Python ends (pytorch/pytorch, pull request 179291).

    Fabric leaves NCCL's group by itself, and only that.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _measured(path: Path, run: str) -> dict[str, float] | None:
    """The metrics in a file if they are of this run; None where they are of another, damaged or missing."""
    try:
        found = read_checked_json(path)
    except ValueError:
        return None
    match found:
        case {"run": known, "metrics": dict(metrics)} if known == run:
            return {name: math.nan if value is None else value for name, value in metrics.items()}
    return None


def _as_json(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics with null for those that are not finite, which JSON cannot hold; a line says which these are."""
    if lost := [name for name, value in metrics.items() if not math.isfinite(value)]:
        tqdm.write(f"not finite, so metrics.json has null for it: {', '.join(lost)}")
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _mean(measured: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and metrics over the batches of a step."""
    losses, metrics = zip(*measured, strict=True)
    means = {
        name: torch.stack([torch.as_tensor(each[name]).detach() for each in metrics]).mean() for name in metrics[0]
    }
    return torch.stack(losses).mean(), means


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0])
