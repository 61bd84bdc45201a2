"""The optimizer, its learning rate as a function of the step, and the averaged weights."""

import copy
import math
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from worldmodel.io.config import FINITE, LARGEST, check_range

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class FitConfig:
    """How to fit. A step is one update, made from `accumulate` batches on each device."""

    steps: int = 1000
    """Training steps (updates of the weights)."""
    batch_size: int = 4
    """Clips of a batch, on each device."""
    accumulate: int = 1
    """Batches per device and step, one after the other: a larger batch in the same memory."""
    learning_rate: float = 2e-3
    """Highest learning rate."""
    warmup_steps: int = 100
    """Steps in which the learning rate rises linearly to its highest value; under `cosine` at most a tenth of
    all steps."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """The learning rate after the warm-up: it falls to 0 at the last step, or stays."""
    weight_decay: float = 0.01
    """Weight decay of AdamW, on matrices and kernels, not on biases and gains."""
    clip_norm: float = 1.0
    """Largest norm of the gradient (0: no clipping)."""
    ema_decay: float = 0.995
    """Decay of the averaged weights, which are evaluated and kept (0: the last weights)."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Numbers of the forward and backward pass: float32, or bfloat16 where autocast allows it."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    seed: int = 0
    """Weights at the start, batches and noise are functions of the seed."""
    log_every: int = 20
    """Steps between entries in the log."""
    eval_every: int = 1000
    """Steps between evaluations on held-out data (0: at the end only)."""
    checkpoint_every: int = 500
    """Steps between checkpoints, from which a stopped training continues."""
    workers: int = 1
    """Processes that read batches (0: this one, between steps)."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "steps", "batch_size", "accumulate", "log_every", "checkpoint_every")
        check_range(self, 0, LARGEST, "warmup_steps", "eval_every", "workers", "seed")
        check_range(self, 0, FINITE, "learning_rate", "weight_decay", "clip_norm")
        check_range(self, 0, 1, "ema_decay")
        if self.ema_decay == 1:
            raise ValueError("ema_decay: expected less than 1, as averages with 1 never change")


def learning_rate(step: int, config: FitConfig) -> float:
    """The learning rate of update `step`, counted from 0."""
    constant = config.schedule == "constant"
    warmup = config.warmup_steps if constant else min(config.warmup_steps, config.steps // 10)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if constant:
        return config.learning_rate
    progress = (step - warmup) / max(1, config.steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def adamw(model: nn.Module, config: FitConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters of a model, with weight decay on matrices and kernels only.

    Two attributes of a parameter change this. `no_weight_decay = True` exempts it from weight decay. `fresh_rows`, a
    bool tensor, marks rows that the model has replaced since the last step: this step leaves them unchanged and
    resets their moments, which described the old rows.

    Raises:
        ValueError: nothing in the model is to be trained.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(f"{type(model).__name__} has no parameters that require gradients: nothing to fit")
    decays = {p: p.ndim >= 2 and not getattr(p, "no_weight_decay", False) for p in trained}
    groups = [
        {"params": [p for p in trained if decays[p]], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if not decays[p]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)
    optimizer.register_step_pre_hook(_forget_fresh_rows)
    return optimizer


def _forget_fresh_rows(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        if (rows := getattr(parameter, "fresh_rows", None)) is None:
            continue
        moments = optimizer.state.get(parameter, {})
        for values in (parameter.grad, moments.get("exp_avg"), moments.get("exp_avg_sq")):
            if values is not None:
                values[rows] = 0
        parameter.fresh_rows = None


class Ema(Generic[M]):
    """A copy of a model whose weights are the running average of the model's, and its buffers the model's own.

    The average warms up, min(decay, (1 + n) / (10 + n)) at update n, so that it forgets the random start.
    """

    def __init__(self, model: M, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: M, step: int) -> None:
        """Take in the weights after update `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        average = get_ema_multi_avg_fn(decay)  # all parameters in one kernel
        average([p.detach() for p in self.model.parameters()], [p.detach() for p in model.parameters()], None)
        for own, new in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(new)
