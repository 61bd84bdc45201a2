"""Identifies a training run: settings that must equal those of a checkpoint, and conditions that it records.

Compared settings decide what is learned; a checkpoint that has others is refused. Conditions may change when a run is
resumed. They change its result too: the number of steps by the learning rate's schedule, the others by rounding. So
each checkpoint records the course of its run: each set of conditions with the step from which it held.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worldmodel.training.optim import FitConfig
from worldmodel.training.run_state import Checkpoint

# These are not compared: `steps` and `accelerator` are conditions, `accumulate` is part of `batches_per_step`, and the
# others decide when a run logs and saves, not what it computes.
RESUMABLE = {"steps", "log_every", "eval_every", "checkpoint_every", "workers", "accelerator", "accumulate"}

# What a difference means where the values are hashes, which say nothing.
IN_WORDS = {
    "identity.tokens": "the tokenizer was trained again, or the episodes changed, after this training began",
    "identity.data": "the episodes changed after this training began",
    "identity.init": "it began with another init",
}

Course = list[dict[str, Any]]  # each has `from_step`, and the conditions from there on


def run_signature_of(config: FitConfig, signature: Mapping[str, Any], ranks: int) -> dict[str, Any]:
    """The values that must equal those of a checkpoint to resume from it, as JSON reads them back."""
    fit = {name: value for name, value in asdict(config).items() if name not in RESUMABLE}
    fit["batches_per_step"] = config.accumulate * ranks
    return json.loads(json.dumps({"fit": fit, "identity": dict(signature)}))


def refuse_other_run(found: Checkpoint, run_signature: Mapping[str, Any], steps: int, folder: Path) -> None:
    """Raises ValueError where a checkpoint is of another run, or beyond `steps`."""
    remedy = f"choose another run name, or start anew with fresh=true, which keeps this one as {folder.name}.old-1"
    theirs = {part: found.progress.get(part, {}) for part in run_signature}
    if "batches_per_step" not in theirs["fit"]:  # an older run, which mentions accumulate where it is not 1
        theirs["fit"] = {**theirs["fit"], "batches_per_step": theirs["fit"].get("accumulate", 1)}
        theirs["fit"].pop("accumulate", None)
    differing = [
        IN_WORDS.get(f"{part}.{name}")
        or f"{part}.{name}: {theirs[part].get(name)!r} there, {run_signature[part].get(name)!r} here"
        for part in run_signature
        for name in sorted({*run_signature[part], *theirs[part]})
        if run_signature[part].get(name) != theirs[part].get(name)
    ]
    if any("batches_per_step" in each for each in differing):
        remedy = f"batches_per_step is fit.accumulate × the ranks of torchrun: set these as before, {remedy}"
    if differing:
        raise ValueError(f"{folder} holds another run ({'; '.join(differing)}); {remedy}")
    if found.step > steps:
        raise ValueError(f"{folder} is at step {found.step}, beyond steps={steps}; raise steps, {remedy}")


def conditions(config: FitConfig, device: torch.device, ranks: int) -> dict[str, Any]:
    """The conditions of this call, which may change when a run is resumed, and then change its result."""
    return {"steps": config.steps, "threads": torch.get_num_threads(), "device": device.type, "ranks": ranks}


def continued(course: Course, step: int, now: Mapping[str, Any]) -> Course:
    """The course of a run that goes on after `step` steps under these conditions."""
    earlier = [each for each in course if each["from_step"] < step]
    if earlier and {**earlier[-1], **now} == earlier[-1]:
        return earlier
    return [*earlier, {"from_step": step, **now}]


def other_schedule(course: Course, config: FitConfig) -> str:
    """What to say when a run is resumed with other `steps` than before; empty where that changes nothing."""
    if not course or config.schedule == "constant" or (before := course[-1]["steps"]) == config.steps:
        return ""
    return (
        f"fit.steps is {config.steps} now and was {before}: from here on the learning rate falls to zero at step "
        f"{config.steps}. The result differs from {config.steps} steps in one go; the checkpoints and metrics.json "
        "record this. For that result, choose another run name"
    )


def digest(model: nn.Module, run_signature: Mapping[str, Any]) -> str:
    """sha256 of the weights and of their run, to recognize the evaluation of a run."""
    sha256 = hashlib.sha256(json.dumps(run_signature, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha256.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()
