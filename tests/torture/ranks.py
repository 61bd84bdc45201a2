"""Training on two ranks against one process that takes two batches a step: the same, but for the order of sums.

Under torchrun this file is the program of each rank: python -m tests.torture.ranks STEPS FOLDER.
"""

import atexit
import hashlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import Dataset

from tests.helpers_models import clip_of, quantizer_of, small_prior, small_tokenizer, some_actions, some_tokens
from tests.torture import Row
from worldmodel.data.clips.clips import Clip
from worldmodel.data.clips.token_batches import TokenClip
from worldmodel.prior import PixelCNN
from worldmodel.tokenizer import VQVAE
from worldmodel.training import FitConfig, fit

ROOT = Path(__file__).parents[2]
RANKS = 2
CONFIG = FitConfig(learning_rate=2e-3, warmup_steps=5, accelerator="cpu", workers=0, ema_decay=0.9, schedule="constant")
# Relative, of the loss. Two numbers add up the same either way round, so two ranks on a CPU differ by nothing at all;
# the room is for libraries that sum a batch in another order on other processors.
TOLERANCE = 1e-4


class Clips(Dataset):
    """Soft frames that move, `size` clips a batch: a function of the step."""

    def __init__(self, size: int = 2):
        self.size = size

    def __getitem__(self, step: int) -> Clip:
        coarse = torch.rand(self.size, 3, 3, 4, 6, generator=torch.Generator().manual_seed(step))
        frames = torch.nn.functional.interpolate(coarse, size=(3, 16, 24), mode="trilinear").mul(255)
        flat = torch.zeros(self.size, 2)
        return Clip(frames.movedim(1, -1).byte(), flat[..., None], flat, flat.bool())


class Tokens(Dataset):
    """Clips of tokens under actions: a function of the step."""

    def __getitem__(self, step: int) -> TokenClip:
        rewards = torch.tensor([-1.0, 0.0, 0.5])[some_tokens(seed=step)[:, :, 0, 0] % 3]
        return clip_of(some_tokens(seed=step), some_actions(seed=step), rewards)


def seen_by(model: Any) -> list[dict[str, Any]]:
    """What each call of a model's loss found; its codebook as the hash of its bytes."""
    found: list[dict[str, Any]] = []
    loss = model.loss

    def recorded(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        value, metrics = loss(batch)
        book = quantizer_of(model).codebook if isinstance(model, VQVAE) else torch.zeros(0)
        found.append({"loss": value.item(), "codebook": hashlib.sha256(book.numpy().tobytes()).hexdigest()})
        return value, metrics

    model.loss = recorded
    return found


def models(restart_below: float) -> dict[str, tuple[VQVAE | PixelCNN, Dataset]]:
    """Both models with batches; the prior with noise on its context, and a head."""
    tokenizer = small_tokenizer(restart_below=restart_below)
    return {"tokenizer": (tokenizer, Clips()), "prior": (small_prior(noise=0.2, rewards=(-1.0, 0.0, 0.5)), Tokens())}


def train(steps: int, folder: Path, accumulate: int = 1, restart_below: float = 0.0) -> dict[str, list[dict[str, Any]]]:
    """Both models, step by step."""
    found = {}
    for name, (model, batches) in models(restart_below).items():
        found[name] = seen_by(model)
        fit(model, batches, replace(CONFIG, steps=steps, accumulate=accumulate), folder / f"{name}_{restart_below}")
    return found


def torchrun(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command on both ranks, which meet on this machine's own address."""
    launch = ["-m", "torch.distributed.run", "--nnodes=1", f"--nproc_per_node={RANKS}"]
    launch += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run([sys.executable, *launch, *command], cwd=cwd, env=env, capture_output=True, text=True)


def ranks(tried: int, folder: Path) -> Row:
    """`tried` steps of each model; one fails where codebooks differ in a bit, or the loss from that of one process; and
    each rank that ends within its group."""
    done = torchrun("-m", "tests.torture.ranks", str(tried), str(folder))
    if done.returncode:
        return Row("ranks compared", tried, tried, done.stderr[-500:])
    both = [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(RANKS)]
    alone = train(tried, folder / "alone", accumulate=RANKS)
    apart = [
        a["codebook"] != b["codebook"] for a, b in zip(*(rank["restarting"]["tokenizer"] for rank in both), strict=True)
    ]
    gaps = {name: differences([rank["steady"][name] for rank in both], alone[name]) for name in alone}
    within = RANKS - len(list(folder.glob("left_*")))
    failed = within + sum(apart) + sum(gap > TOLERANCE for gap in itertools.chain(*gaps.values()))
    largest = ", ".join(f"{name} {max(gap):.1e}" for name, gap in gaps.items())
    return Row("ranks compared", 3 * tried, failed, f"largest relative difference of the loss: {largest}")


def differences(ranks: list[list[dict[str, Any]]], alone: list[dict[str, Any]]) -> list[float]:
    """Of the mean loss of each step, relative."""
    shared = [sum(each["loss"] for each in step) / RANKS for step in zip(*ranks, strict=True)]
    single = [sum(each["loss"] for each in alone[i : i + RANKS]) / RANKS for i in range(0, len(alone), RANKS)]
    return [abs(a - b) / b for a, b in zip(shared, single, strict=True)]


def leave_sign(place: Path) -> None:
    """A file that says that this rank is out of its group, which Gloo's threads must not outlive."""
    if not torch.distributed.is_initialized():
        (place / f"left_{os.environ['RANK']}").touch()


if __name__ == "__main__":
    steps, place = int(sys.argv[1]), Path(sys.argv[2])
    atexit.register(leave_sign, place)  # before training: what is registered last is called first
    torch.manual_seed(0)
    found = {"steady": train(steps, place), "restarting": train(steps, place, restart_below=0.5)}
    (place / f"rank_{os.environ['RANK']}.json").write_text(json.dumps(found))
