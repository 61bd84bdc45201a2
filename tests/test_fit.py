"""Fitting: stopping costs nothing, not even the last bit, and what goes wrong is named and leaves no trace."""

import importlib
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import Dataset

from worldmodel.io.json_files import read_json
from worldmodel.io.lock import FolderInUse
from worldmodel.kernels.threads import COUNTS, threads
from worldmodel.training import FitConfig, FitResult, Interrupted, fit
from worldmodel.training.fit import sole_training
from worldmodel.training.interrupt import SignalGuard
from worldmodel.training.optim import Ema, adamw, learning_rate
from worldmodel.training.run_signature import refuse_other_run, run_signature_of
from worldmodel.training.run_state import Checkpoint, latest

fitting: Any = importlib.import_module("worldmodel.training.fit")  # the package has a function of that name
CONFIG = FitConfig(
    steps=20, learning_rate=0.01, warmup_steps=3, accelerator="cpu", workers=0, log_every=3, checkpoint_every=7
)


@dataclass(frozen=True)
class Pairs:
    x: Tensor
    y: Tensor

    def to(self, device) -> "Pairs":
        return Pairs(self.x.to(device), self.y.to(device))


class Batches(Dataset):
    """Batch `step` is a function of `step`; `accident` happens when step `at` is asked for."""

    def __init__(self, at: int = -1, accident=None):
        self.at, self.accident = at, accident

    def __getitem__(self, step: int) -> Pairs:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        if step == self.at and self.accident is not None:
            return self.accident(Pairs(x, x.sum(1, keepdim=True)))
        return Pairs(x, x.sum(1, keepdim=True))


class Slow(Batches):
    def __getitem__(self, step: int) -> Pairs:
        time.sleep(0.02)
        return super().__getitem__(step)


class Stuck(Batches):
    def __getitem__(self, step: int) -> Pairs:
        time.sleep(600 if step == 9 else 0)
        return super().__getitem__(step)


class Net(nn.Module):
    """Has what makes resuming hard: dropout, a buffer that training changes, an integer buffer."""

    seen: Tensor
    mean: Tensor

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 1))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(3))

    def loss(self, batch: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.training
        self.seen += 1
        self.mean.lerp_(batch.x.mean(0), 0.1)
        loss = (self.layers(batch.x - self.mean) - batch.y).square().mean()
        return loss, {"root": loss.sqrt()}


def fall(model: nn.Module, step: int, writer) -> dict[str, float]:
    assert not model.training and not torch.is_grad_enabled()
    return {"validation/step": float(step), "validation/noise": float(torch.rand(()))}


def interrupt(_: Pairs) -> Pairs:
    raise KeyboardInterrupt


def poison(batch: Pairs) -> Pairs:
    return Pairs(batch.x * float("inf"), batch.y)


def same(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True))


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(name) for name in os.listdir(folder / "checkpoints"))


@pytest.mark.parametrize("at", [0, 1, 7, 10, 19])
def test_an_interrupted_run_ends_bit_equal_to_an_uninterrupted_one(tmp_path, at):
    nets = Net(), Net(), Net()
    whole = fit(nets[0], Batches(), CONFIG, tmp_path / "whole", evaluate=fall)
    with pytest.raises(Interrupted) as stop:
        fit(nets[1], Batches(at, interrupt), CONFIG, tmp_path / "cut")
    assert stop.value.step == at and stop.value.code == 130
    resumed = fit(nets[2], Batches(), CONFIG, tmp_path / "cut", evaluate=fall)
    assert same(whole.model, resumed.model) and same(nets[0], nets[2]) and whole.metrics == resumed.metrics
    assert not same(nets[1], nets[2])


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_step_is_computed_stops_after_it(tmp_path, signum, code):
    class Struck(Net):
        def loss(self, batch):
            if int(self.seen) == 4:
                os.kill(os.getpid(), signum)
            return super().loss(batch)

    with pytest.raises(Interrupted) as stop:
        fit(Struck(), Batches(), CONFIG, tmp_path)
    assert (stop.value.step, stop.value.code, checkpoints(tmp_path)) == (5, code, [5])


def training_in_a_group(folder: Path, batches: str, steps: int) -> subprocess.Popen[str]:
    """A training with one reader, in a group of processes of its own, after its first checkpoint; what it prints."""
    config = f"t.replace(t.CONFIG, workers=1, steps={steps})"
    program = f"import test_fit as t; t.fit(t.Net(), t.{batches}(), {config}, 'run')"
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, env={**os.environ, "PYTHONPATH": path},
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not (folder / "run" / "checkpoints").exists():
        assert child.poll() is None
        time.sleep(0.05)
    return child


def test_a_signal_to_the_whole_group_stops_the_parent_and_not_its_readers_first(tmp_path):
    child = training_in_a_group(tmp_path, "Slow", steps=999)
    os.killpg(child.pid, signal.SIGTERM)
    assert "the same command continues" in child.communicate(timeout=60)[0] and child.returncode == 143


@pytest.mark.slow
def test_a_reader_that_hangs_does_not_keep_a_stopped_training_from_ending(tmp_path):
    child = training_in_a_group(tmp_path, "Stuck", steps=99)
    try:
        os.killpg(child.pid, signal.SIGTERM)
        output = child.communicate(timeout=60)[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    assert "the same command continues" in output and "Traceback" not in output and child.returncode == 143


def test_handlers_of_signals_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with SignalGuard():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_does_not_wait_for_the_step_to_end():
    with SignalGuard() as guard, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        assert guard.signum == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)


def test_batches_read_by_other_processes_are_the_same(tmp_path):
    nets = Net(), Net()
    for workers, net in enumerate(nets):
        fit(net, Batches(), replace(CONFIG, steps=5, workers=workers), tmp_path / str(workers))
    assert same(*nets)


def test_a_finished_run_returns_at_once(tmp_path):
    first = fit(Net(), Batches(), CONFIG, tmp_path, evaluate=fall)
    again = fit(Net(), Batches(0, interrupt), CONFIG, tmp_path, evaluate=None)
    known = fit(Net(), Batches(), CONFIG, tmp_path, evaluate=lambda *_: pytest.fail("evaluated twice"))
    assert same(first.model, again.model) and again.step == 20
    assert known.metrics == first.metrics and first.metrics["validation/step"] == 20


def test_an_evaluation_that_failed_is_made_again_with_the_same_result_and_without_training(tmp_path):
    whole = fit(Net(), Batches(), CONFIG, tmp_path / "whole", evaluate=fall)
    with pytest.raises(ZeroDivisionError):
        fit(Net(), Batches(), CONFIG, tmp_path / "cut", evaluate=lambda *_: {"x": 1 / 0})
    assert fit(Net(), Batches(0, interrupt), CONFIG, tmp_path / "cut", evaluate=fall).metrics == whole.metrics


def test_evaluating_leaves_no_trace_in_training(tmp_path):
    nets = Net(), Net()
    fit(nets[0], Batches(), CONFIG, tmp_path / "a")
    fit(nets[1], Batches(), replace(CONFIG, eval_every=2), tmp_path / "b", evaluate=fall)
    assert same(*nets)


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="not finite at step 12;"):
        fit(Net(), Batches(12, poison), replace(CONFIG, log_every=100), tmp_path)
    assert checkpoints(tmp_path) == [7]
    assert fit(Net(), Batches(), CONFIG, tmp_path).step == 20


def test_a_run_of_other_settings_or_another_identity_is_refused_by_name(tmp_path):
    fit(Net(), Batches(), replace(CONFIG, steps=3), tmp_path, signature={"codes": (1, 2)})
    with pytest.raises(ValueError, match=r"fit\.learning_rate: 0\.01 there, 0\.5 here.*run name"):
        fit(Net(), Batches(), replace(CONFIG, learning_rate=0.5), tmp_path, signature={"codes": (1, 2)})
    with pytest.raises(ValueError, match=r"identity\.codes: \[1, 2\] there, \[3\] here"):
        fit(Net(), Batches(), CONFIG, tmp_path, signature={"codes": (3,)})
    with pytest.raises(ValueError, match="at step 3, beyond steps=2"):
        fit(Net(), Batches(), replace(CONFIG, steps=2), tmp_path, signature={"codes": (1, 2)})


def test_a_finished_run_can_be_made_longer_and_logged_differently(tmp_path):
    fit(Net(), Batches(), replace(CONFIG, steps=3), tmp_path, evaluate=fall)
    longer = fit(Net(), Batches(), replace(CONFIG, steps=5, log_every=1), tmp_path, evaluate=fall)
    assert longer.step == 5 and longer.metrics["validation/step"] == 5


def test_a_model_without_parameters_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to fit"):
        fit(nn.Identity(), Batches(), CONFIG, tmp_path)


def test_tensorboard_gets_losses_speeds_and_evaluations(tmp_path):
    fit(Net(), Batches(), replace(CONFIG, eval_every=10), tmp_path, evaluate=fall)
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    names = {"train/loss", "train/root", "train/learning_rate", "train/gradient_norm"}
    assert names | {"perf/steps_per_s", "perf/data_wait", "validation/step"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("train/loss")] == [3, 6, 9, 12, 15, 18, 20]
    assert [e.value for e in events.Scalars("validation/step")] == [10, 20]
    assert all(0 <= e.value <= 1 for e in events.Scalars("perf/data_wait"))


def test_bf16_trains_in_float32_weights(tmp_path):
    result = fit(Net(), Batches(), replace(CONFIG, steps=2, precision="bf16-mixed"), tmp_path)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in result.model.parameters())


def test_the_learning_rate_rises_in_a_line_and_falls_to_zero():
    config = FitConfig(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert all(a >= b for a, b in pairwise(rates[9:])) and rates[100] == pytest.approx(0)
    assert rates[55] == pytest.approx(0.5)
    assert learning_rate(99, replace(config, schedule="constant")) == 1.0


def test_a_short_training_warms_up_in_a_tenth_of_its_steps():
    config = FitConfig(steps=40, warmup_steps=100, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(41)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0]) and rates[40] == pytest.approx(0)
    assert learning_rate(0, FitConfig(steps=4, warmup_steps=100, learning_rate=1.0)) == 1.0


def test_a_training_of_so_many_minutes_equals_one_of_the_steps_that_it_measured(tmp_path, capsys):
    timed = fit(Net(), Batches(), CONFIG, tmp_path / "timed", minutes=0.002)
    assert f"fit.steps={timed.step} trains the same" in capsys.readouterr().out
    assert timed.step >= fitting.FEWEST_STEPS and timed.course[-1]["steps"] == timed.step
    counted = fit(Net(), Batches(), replace(CONFIG, steps=timed.step), tmp_path / "counted")
    for one, other in zip(timed.model.parameters(), counted.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_training_of_minutes_keeps_its_steps(tmp_path, monkeypatch):
    first = fit(Net(), Batches(), CONFIG, tmp_path, minutes=0.002)
    monkeypatch.setattr(fitting._Run, "seconds_a_step", lambda run, batches: 1e-9)  # not measured again
    assert fit(Net(), Batches(), CONFIG, tmp_path, minutes=5).step == first.step


def test_half_the_speed_gives_half_the_steps(tmp_path, monkeypatch):
    found = []
    for seconds in (0.1, 0.2):
        monkeypatch.setattr(fitting._Run, "seconds_a_step", lambda run, batches, seconds=seconds: seconds)
        found.append(fitting.steps_within(10, Net(), Batches(), CONFIG, tmp_path))
    assert found[0] == pytest.approx(2 * found[1], rel=0.01)
    assert found[0] == pytest.approx(600 * fitting.FOR_STEPS / 0.1, rel=0.01)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_no_time_is_refused(tmp_path, minutes):
    with pytest.raises(ValueError, match="minutes: expected more than 0"):
        fit(Net(), Batches(), CONFIG, tmp_path, minutes=minutes)


def test_the_average_of_constant_weights_is_these_weights_and_buffers_are_copied():
    net, other = Net(), Net()
    ema = Ema(net, decay=0.9)
    with torch.no_grad():
        [p.fill_(2.0) for p in other.parameters()]
    other.seen += 5
    for step in range(200):
        ema.update(other, step)
    assert all(torch.allclose(p, torch.full_like(p, 2.0), atol=1e-4) for p in ema.model.parameters())
    assert int(ema.model.seen) == 5 and int(net.seen) == 0


def test_an_average_of_decay_zero_is_the_last_weights():
    net, other = Net(), nn.Linear(3, 5)
    ema = Ema(net, decay=0.0)
    net.layers[0].load_state_dict(other.state_dict())
    ema.update(net, step=10**6)
    assert same(ema.model, net)


def test_weight_decay_pulls_on_matrices_only():
    decayed, free = adamw(Net(), FitConfig(weight_decay=0.3)).param_groups
    assert decayed["weight_decay"] == 0.3 and {p.ndim for p in decayed["params"]} == {2}
    assert free["weight_decay"] == 0.0 and {p.ndim for p in free["params"]} == {1}


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"ema_decay": 1.0}, {"learning_rate": -1.0}, {"log_every": 0}])
def test_settings_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FitConfig(**wrong)


def cut_and_resumed(folder: Path, config: FitConfig, steps: int) -> FitResult:
    """Stopped at step 10 of `config.steps`, then resumed with other `steps`."""
    with pytest.raises(Interrupted):
        fit(Net(), Batches(10, interrupt), config, folder)
    return fit(Net(), Batches(), replace(config, steps=steps), folder, evaluate=fall)


@pytest.mark.parametrize("steps", [15, 40])
def test_other_steps_under_a_falling_rate_are_printed_and_recorded_wherever_the_result_is(tmp_path, capsys, steps):
    resumed = cut_and_resumed(tmp_path / "cut", CONFIG, steps)
    assert f"fit.steps is {steps} now and was 20" in capsys.readouterr().out
    assert [(each["from_step"], each["steps"]) for each in resumed.course] == [(0, 20), (10, steps)]
    saved = latest(tmp_path / "cut")
    assert saved is not None and saved.progress["course"] == resumed.course
    assert read_json(tmp_path / "cut/metrics.json")["course"] == resumed.course
    whole = fit(Net(), Batches(), replace(CONFIG, steps=steps), tmp_path / "whole")
    assert not same(whole.model, resumed.model) and len(whole.course) == 1


def test_other_steps_under_a_constant_rate_change_nothing_and_warn_of_nothing(tmp_path, capsys):
    config = replace(CONFIG, schedule="constant")
    resumed = cut_and_resumed(tmp_path / "cut", config, 40)
    assert "fit.steps is" not in capsys.readouterr().out
    assert same(resumed.model, fit(Net(), Batches(), replace(config, steps=40), tmp_path / "whole").model)


def test_a_resumed_run_keeps_its_number_of_threads(tmp_path, monkeypatch):
    seen = []

    class Recorded(Net):
        def loss(self, batch):
            seen.append(torch.get_num_threads())
            return super().loss(batch)

    [monkeypatch.delenv(name, raising=False) for name in COUNTS]
    before = torch.get_num_threads()
    with threads(3):
        fit(Recorded(), Batches(), replace(CONFIG, steps=2), tmp_path)
    result = fit(Recorded(), Batches(), replace(CONFIG, steps=4), tmp_path)
    assert seen == [3] * 4 and [each["threads"] for each in result.course] == [3, 3]
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))  # what a person sets is taken, and recorded
    result = fit(Recorded(), Batches(), replace(CONFIG, steps=5), tmp_path)
    assert seen[4:] == [before] and [each["threads"] for each in result.course] == [3, 3, before]
    assert torch.get_num_threads() == before


def test_metrics_belong_to_the_weights_that_were_measured_and_to_no_other_run(tmp_path):
    counted = []

    def evaluate(model, step, writer):
        counted.append(step)
        return fall(model, step, writer)

    fit(Net(), Batches(), CONFIG, tmp_path, evaluate=evaluate, signature={"data": 1})
    shutil.rmtree(tmp_path / "checkpoints")  # as the message about another run says
    fit(Net(), Batches(), CONFIG, tmp_path, evaluate=evaluate, signature={"data": 2})
    fit(Net(), Batches(), CONFIG, tmp_path, evaluate=evaluate, signature={"data": 2})
    shutil.rmtree(tmp_path / "checkpoints")
    fit(Net(), Batches(), replace(CONFIG, learning_rate=0.02), tmp_path, evaluate=evaluate, signature={"data": 2})
    assert counted == [20, 20, 20]


@pytest.mark.parametrize("damage", ["", "{", '{"step": 20, "metrics": {"validation/step": 7.0}}'])
def test_damaged_metrics_are_measured_again(tmp_path, damage):
    whole = fit(Net(), Batches(), CONFIG, tmp_path, evaluate=fall)
    (tmp_path / "metrics.json").write_text(damage)
    assert fit(Net(), Batches(0, interrupt), CONFIG, tmp_path, evaluate=fall).metrics == whole.metrics


def test_metrics_changed_by_hand_are_measured_again(tmp_path):
    whole = fit(Net(), Batches(), CONFIG, tmp_path, evaluate=fall)
    path = tmp_path / "metrics.json"
    path.write_text(path.read_text().replace('"validation/step": 20.0', '"validation/step": 21.0'))
    assert fit(Net(), Batches(0, interrupt), CONFIG, tmp_path, evaluate=fall).metrics == whole.metrics


def test_metrics_that_are_not_finite_end_no_training(tmp_path, capsys):
    odd = {"good": 1.5, "none": math.nan, "much": math.inf}
    first = fit(Net(), Batches(), CONFIG, tmp_path, evaluate=lambda *_: odd)
    assert "not finite, so metrics.json has null for it: none, much" in capsys.readouterr().out
    assert read_json(tmp_path / "metrics.json")["metrics"] == {"good": 1.5, "none": None, "much": None}
    again = fit(Net(), Batches(0, interrupt), CONFIG, tmp_path, evaluate=fall)
    assert first.metrics["good"] == again.metrics["good"] == 1.5 and math.isnan(again.metrics["much"])


def test_ranks_and_accumulated_batches_make_one_number_that_is_compared(tmp_path):
    alone = run_signature_of(replace(CONFIG, accumulate=2), {}, ranks=1)
    assert alone == run_signature_of(CONFIG, {}, ranks=2) != run_signature_of(CONFIG, {}, ranks=1)
    found = Checkpoint(3, {}, {**alone, "course": []})
    with pytest.raises(ValueError, match=r"batches_per_step: 2 there, 1 here.*ranks of torchrun"):
        refuse_other_run(found, run_signature_of(CONFIG, {}, ranks=1), 20, tmp_path)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_checkpoint_of_an_older_version_is_resumed(tmp_path, accumulate):
    values = run_signature_of(replace(CONFIG, accumulate=accumulate), {}, ranks=1)
    older = {"fit": {**values["fit"], **({"accumulate": accumulate} if accumulate > 1 else {})}, "identity": {}}
    del older["fit"]["batches_per_step"]
    refuse_other_run(Checkpoint(3, {}, older), values, 20, tmp_path)
    with pytest.raises(ValueError, match="batches_per_step"):
        other = run_signature_of(replace(CONFIG, accumulate=3), {}, ranks=1)
        refuse_other_run(Checkpoint(3, {}, older), other, 20, tmp_path)


FREE_OF_RESULT = {"log_every": 1, "eval_every": 2, "checkpoint_every": 3, "workers": 1}
OTHER = {
    "batch_size": 8, "learning_rate": 0.02, "warmup_steps": 4, "schedule": "constant", "weight_decay": 0.1,
    "clip_norm": 0.5, "ema_decay": 0.9, "precision": "bf16-mixed", "seed": 1, "accumulate": 2,
}  # fmt: skip


def test_every_setting_is_compared_or_recorded_or_changes_no_result():
    recorded = {"steps", "accelerator"}
    assert {each.name for each in fields(FitConfig)} == {*FREE_OF_RESULT, *OTHER, *recorded}


@pytest.mark.parametrize("name", OTHER)
def test_every_setting_that_decides_the_result_is_compared(name, tmp_path):
    found = Checkpoint(3, {}, run_signature_of(CONFIG, {}, ranks=1))
    with pytest.raises(ValueError, match="holds another run"):
        refuse_other_run(found, run_signature_of(replace(CONFIG, **{name: OTHER[name]}), {}, ranks=1), 20, tmp_path)


def test_settings_that_only_watch_a_run_change_no_bit_of_it(tmp_path):
    nets = Net(), Net()
    fit(nets[0], Batches(), CONFIG, tmp_path / "a")
    fit(nets[1], Batches(), replace(CONFIG, **FREE_OF_RESULT), tmp_path / "b", evaluate=fall)
    assert same(*nets)


def alive_in(folder: Path, command: list[str], **settings) -> subprocess.Popen:
    """A process that trains in a folder, once it has saved a checkpoint there."""
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    env = {**os.environ, "PYTHONPATH": path}
    child = subprocess.Popen([sys.executable, *command], env=env, stderr=subprocess.DEVNULL, **settings)
    while not list((folder / "checkpoints").glob("0*")):
        assert child.poll() is None
        time.sleep(0.05)
    return child


@pytest.mark.skipif(os.name == "nt", reason="no such locks on Windows")
def test_a_second_training_on_a_folder_names_the_first_and_a_killed_one_leaves_no_lock(tmp_path):
    program = "import test_fit as t; t.fit(t.Net(), t.Slow(), t.replace(t.CONFIG, steps=400, workers=1), 'run')"
    child = alive_in(tmp_path / "run", ["-c", program], cwd=tmp_path)
    try:
        with pytest.raises(FolderInUse, match=rf"process {child.pid} on .*, since .*\(training\)"):
            fit(Net(), Batches(), replace(CONFIG, steps=400), tmp_path / "run")
        fit(Net(), Batches(), CONFIG, tmp_path / "elsewhere")
    finally:
        child.kill()  # its data worker lives on for a moment
        child.wait()
    again = replace(CONFIG, steps=400, checkpoint_every=400)
    assert fit(Net(), Batches(), again, tmp_path / "run").step == 400


def test_a_script_that_locks_around_fit_does_not_lock_itself_out(tmp_path):
    with sole_training(tmp_path):
        assert fit(Net(), Batches(), replace(CONFIG, steps=2), tmp_path).step == 2
        problems = []

        def beside() -> None:
            with pytest.raises(FolderInUse) as refused:
                fit(Net(), Batches(), replace(CONFIG, steps=3), tmp_path)
            problems.append(refused.value)

        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
    assert len(problems) == 1


def test_of_several_ranks_the_first_alone_locks(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with sole_training(tmp_path), sole_training(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
