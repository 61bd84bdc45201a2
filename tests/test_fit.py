"""Fitting: stopping costs nothing, not even the last bit, and what goes wrong is named and leaves no trace."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import Dataset

from worldmodel.training import FitConfig, Interrupted, fit
from worldmodel.training.interrupt import SignalGuard
from worldmodel.training.optim import Ema, adamw, learning_rate

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


def test_a_signal_to_the_whole_group_stops_the_parent_and_not_its_readers_first(tmp_path):
    program = "import test_fit as t; t.fit(t.Net(), t.Slow(), t.replace(t.CONFIG, steps=999, workers=1), 'run')"
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    while not (tmp_path / "run" / "checkpoints").exists():
        assert child.poll() is None
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGTERM)
    assert "the same command goes on" in child.communicate(timeout=60)[0] and child.returncode == 143


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
    fit(Net(), Batches(), replace(CONFIG, steps=3), tmp_path, identity={"codes": (1, 2)})
    with pytest.raises(ValueError, match=r"fit\.learning_rate: 0\.01 there, 0\.5 here.*run name"):
        fit(Net(), Batches(), replace(CONFIG, learning_rate=0.5), tmp_path, identity={"codes": (1, 2)})
    with pytest.raises(ValueError, match=r"identity\.codes: \[1, 2\] there, \[3\] here"):
        fit(Net(), Batches(), CONFIG, tmp_path, identity={"codes": (3,)})
    with pytest.raises(ValueError, match="at step 3, beyond steps=2"):
        fit(Net(), Batches(), replace(CONFIG, steps=2), tmp_path, identity={"codes": (1, 2)})


def test_a_finished_run_can_be_made_longer_and_watched_differently(tmp_path):
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
