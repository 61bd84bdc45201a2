"""How well training uses the machine, and how long it waits for data."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measure import Row, extra_memory, gemm_flops, preset, row, seconds, versus
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.data.clips.clips import ClipBatches
from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.config import from_mapping
from worldmodel.nn.actions import ActionEncoder
from worldmodel.prior import PixelCNN, PriorConfig
from worldmodel.tokenizer import VQVAE, TokenizerConfig, nearest, tokenize
from worldmodel.training.fit import FitConfig, fit

STEPS, WINDOW = 90, 30  # of training; the last window is measured
SECONDS = 3.0  # of loading clips
VECTORS, WIDTH = 65_536, 64  # of the quantizer's search


def training(store: EpisodeStore) -> Iterator[Row]:
    """Both models of the demo, on its data."""
    settings, episodes = preset("train_tokenizer"), store.indices
    shape = {"length": settings["clip_latents"], "batch_size": settings["fit"]["batch_size"], "seed": 0}
    clips = ClipBatches(store, episodes, **shape)
    tokenizer = VQVAE(from_mapping(TokenizerConfig, settings["tokenizer"]), store.info.frame_shape)
    steps = yield from trained("tokenizer", tokenizer, clips, settings["fit"])
    yield loading(clips, steps)
    with tempfile.TemporaryDirectory() as folder:
        tokens = tokenize(tokenizer.eval(), store, folder, show=False)
        settings = preset("train_prior")
        shape = {"length": settings["clip_latents"], "batch_size": settings["fit"]["batch_size"], "seed": 0}
        actions = ActionEncoder(store.info.action_space).width
        prior = PixelCNN(from_mapping(PriorConfig, settings["prior"]), tokens.info.codes, tokenizer.grid, actions)
        yield from trained("prior", prior, TokenBatches(tokens, store, episodes, **shape), settings["fit"])


def trained(name: str, model: nn.Module, batches: Dataset, settings: dict[str, Any]) -> Iterator[Row]:
    """The rows of one training; returns its steps/s."""
    changes = {"steps": STEPS, "log_every": WINDOW, "checkpoint_every": STEPS, "eval_every": 0, "accelerator": "cpu"}
    config = from_mapping(FitConfig, {**settings, **changes})
    with FlopCounterMode(display=False) as counter:
        model.train().loss(batches[0])[0].backward()  # pyright: ignore
    ceiling = gemm_flops()
    with tempfile.TemporaryDirectory() as folder:
        fit(model, batches, config, folder)
        speed, wait = (last(Path(folder), tag) for tag in ("perf/steps_per_s", "perf/data_wait"))
    achieved = counter.get_total_flops() * speed
    note = f"{achieved / 1e9:.0f} GFLOP/s of {ceiling / 1e9:.0f}; {speed:.1f} steps/s of {config.batch_size} clips"
    yield row(f"{name} training: GFLOP/s ÷ GEMM ceiling", achieved / ceiling, "", least=0.6, note=note)
    yield row(f"{name} training: share of time waiting for data", 100 * wait, "%", most=2)
    return speed


def last(folder: Path, tag: str) -> float:
    """The newest value of a scalar in the logs of a run."""
    logs = EventAccumulator(str(folder / "logs"))
    logs.Reload()
    return logs.Scalars(tag)[-1].value


def loading(clips: ClipBatches, steps: float) -> Row:
    """Random clips from files that the system holds in memory, by one process."""
    clips[0]
    step, spent = 1, 0.0
    while spent < SECONDS:
        spent += seconds(lambda: clips[step])  # noqa: B023
        step += 1
    loaded, consumed = step / spent * clips.batch_size, steps * clips.batch_size
    note = f"{loaded:.0f} clips/s by one process, files in memory, against {consumed:.0f}"
    return row("clips loaded ÷ clips that tokenizer training consumes", loaded / consumed, "", least=5, note=note)


def quantizer() -> Iterator[Row]:
    """The nearest of many codes against a matrix product of that size, which is the least it could do."""
    for codes in (512, 8192):
        z, book, out = torch.randn(VECTORS, WIDTH), torch.randn(codes, WIDTH), torch.empty(VECTORS, codes)
        nearest(z, book)
        extra = extra_memory(lambda: nearest(z, book)) / 2**20  # noqa: B023
        times, cost, floor = versus(lambda: nearest(z, book), lambda: torch.mm(z, book.T, out=out), 5)  # noqa: B023
        name = f"nearest of {codes} codes for 65,536 vectors of 64"
        yield row(f"{name} ÷ GEMM", times, "", most=2, note=f"{cost * 1e3:.0f} ms against {floor * 1e3:.0f} ms")
        yield row(f"{name}: extra memory", extra, "MB", most=64)
