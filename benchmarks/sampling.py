"""Speed of imagined frames: the samplers compared with one parallel pass, and the whole step from action to pixel."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from measure import Row, memory, preset, row, typical, versus
from torch.utils._python_dispatch import TorchDispatchMode

from worldmodel.backends.cpu.prior import CompiledPrior
from worldmodel.data.clips.start_contexts import StartContexts
from worldmodel.dream import DreamVectorEnv
from worldmodel.io.config import from_mapping
from worldmodel.nn.causal_conv import Past
from worldmodel.prior import FrameInputs, PixelCNN, PriorConfig, SamplerConfig, sample, uniform
from worldmodel.prior.categorical import sample_categorical
from worldmodel.tokenizer import VQVAE, TokenizerConfig
from worldmodel.world import DreamState, WorldInfo, WorldModel

ACTIONS, FRAME = 8, (64, 64, 3)  # as in ViZDoom's HealthGathering
FRAMES = 4  # that are sampled one after the other, or passed through in parallel
GRIDS = ((8, 8), (16, 16))
BATCHES = (1, 16, 64)
LIMITS = {1: 2.0, 16: 2.0, 64: 1.5}  # sampling ÷ parallel pass
EARLY, LONG, FEW = 100, 10_000, 20  # steps of the long dream that are timed, and how many steps a timing takes


def sampling() -> Iterator[Row]:
    """The prior alone: context and tokens of a few frames, sampled and passed through in parallel."""
    for grid in GRIDS:
        prior = demo_prior(grid)
        for b in BATCHES:
            yield from against_the_floor(prior, b, slowest=grid == (16, 16) and b == 16)


@torch.no_grad()
def against_the_floor(prior: PixelCNN, b: int, slowest: bool) -> list[Row]:
    """Compiled sampling compared with the parallel pass and, with `slowest`, the naive sampler compared with it."""
    (y, x), repeats = prior.grid, 15 if b == 1 else 5
    tokens, actions = torch.randint(0, prior.codes, (b, FRAMES, y, x)), torch.randn(b, FRAMES, prior.actions)
    compiled = CompiledPrior(prior)
    past = first_past(compiled, tokens[:, 0], actions[:, 0])
    sampled = lambda: compiled_frames(compiled, tokens, actions, past)  # noqa: E731
    times, cost, floor = versus(sampled, lambda: prior(tokens, actions), repeats)
    note = f"{cost / FRAMES * 1e3:.2f} ms a frame of the batch against {floor / FRAMES * 1e3:.2f} ms"
    rows = [row(f"compiled ÷ one parallel pass, {y}×{x} tokens, batch {b}", times, "", most=LIMITS[b], note=note)]
    if slowest:
        naive = naive_frame(prior, tokens[:, 0], actions[:, 0])
        note = f"naive {naive:.1f} s a frame of the batch, extrapolated from some of its steps"
        rows.append(
            row(f"naive ÷ compiled, {y}×{x} tokens, batch {b}", naive * FRAMES / cost, "", least=100, note=note)
        )
    return rows


def demo_prior(grid: tuple[int, int]) -> PixelCNN:
    """The demo's prior with random weights, on that grid: its speed does not depend on what it learned."""
    torch.manual_seed(0)
    codes = preset("train_tokenizer")["tokenizer"]["quantizer"]["codes"]
    prior = PixelCNN(from_mapping(PriorConfig, preset("train_prior")["prior"]), codes, grid, ACTIONS, (0.0, 1.0)).eval()
    assert prior.outcome is not None
    prior.outcome.set_frequencies(torch.tensor([985.0, 10.0, 0.0, 5.0]))  # one step in 200 ends a dream
    return prior


def first_past(prior: CompiledPrior, tokens: torch.Tensor, actions: torch.Tensor) -> Past:
    """The past of a dream after its first latents."""
    past = prior.start(torch.stack([tokens] * 2, dim=1), torch.stack([actions] * 2, dim=1))
    return prior.context.carry(tokens, actions, past)


def compiled_frames(prior: CompiledPrior, tokens: torch.Tensor, actions: torch.Tensor, past: Past) -> None:
    """Sample as many frames as `tokens` has, one after the other."""
    b, frames, rows, columns = tokens.shape
    newest, dreams = tokens[:, 0], torch.arange(b)
    for s in range(frames):
        features, past = prior.context.features(newest, actions[:, s], past)
        noise = uniform(0, dreams, torch.full_like(dreams, s), rows * columns)
        inputs = FrameInputs(features[:, :, 0], actions[:, s], noise, torch.ones(b, dtype=torch.float64), newest)
        newest = prior.core.sample(inputs, SamplerConfig()).tokens


def naive_frame(prior: PixelCNN, tokens: torch.Tensor, actions: torch.Tensor) -> float:
    """Seconds of a naive frame, from a few of its steps: each is one pass of the core and one choice."""
    context = torch.randn(len(tokens), prior.config.width, *prior.grid)
    noise, config = torch.rand(len(tokens), dtype=torch.float64), SamplerConfig("naive")
    score = lambda: prior.core(tokens, context, actions)[:, 0, 0]  # noqa: E731
    step = typical(lambda: sample_categorical(score(), noise, torch.ones_like(noise), config))
    return step * tokens[0].numel()


def demo_world() -> WorldModel:
    """The demo's world with random weights."""
    torch.manual_seed(0)
    tokenizer = VQVAE(from_mapping(TokenizerConfig, preset("train_tokenizer")["tokenizer"]), FRAME)
    starts = StartContexts(
        torch.zeros(8, 6, *tokenizer.grid, dtype=torch.long), torch.zeros(8, 6, ACTIONS), torch.full((8,), 6), 8
    )
    return WorldModel(tokenizer, demo_prior(tokenizer.grid), WorldInfo(FRAME, Discrete(ACTIONS)), starts)


def start_state(world: WorldModel, b: int) -> DreamState:
    """The state of b dreams after six random frames."""
    return world.start(torch.randint(0, 256, (b, 6, *FRAME), dtype=torch.uint8), np.zeros((b, 5), int))


def imagining() -> Iterator[Row]:
    """Frames with pixels: action in, frame out."""
    world = demo_world()
    for b, least in zip(BATCHES, (100, None, 400), strict=True):
        state = start_state(world, b)
        step = typical(lambda: world.step(state, np.ones(b, int)), 100 if b == 1 else 15)  # noqa: B023
        note = f"{step * 1e3:.2f} ms a step"
        yield row(f"imagined frames of 64×64, pixels included, batch {b}", b / step, "frames/s", least=least, note=note)
    for b in BATCHES:
        state = start_state(world, b)
        step = typical(partial(next_latents, world, state), 100 if b == 1 else 15)
        note = f"{step * 1e3:.2f} ms a step"
        yield row(f"imagined latents of 8×8 tokens, without pixels, batch {b}", b / step, "latents/s", note=note)
    state = start_state(world, 1)
    for sampler in (SamplerConfig("cached"), SamplerConfig("predictive")):
        step = typical(lambda: world.step(state, [1], sampler), 5)  # noqa: B023
        passes = float(world.step(state, [1], sampler)[1].passes[0])
        note = f"{passes:.0f} passes over {world.prior.grid[0]}×{world.prior.grid[1]} tokens, untrained weights"
        yield row(f"… sampler={sampler.kind}, batch 1", 1 / step, "frames/s", note=note if passes > 1 else "")


def next_latents(world: WorldModel, state: DreamState) -> None:
    """The next tokens and outcomes of dreams, not decoded."""
    b, rows, columns = state.tokens.shape
    noise = uniform(state.seed, state.dreams, state.steps, rows * columns + 1)
    world.predictor().step(state.context, state.tokens, torch.ones(b, ACTIONS), noise, SamplerConfig())


def launches() -> Iterator[Row]:
    """Operators for the tokens of a frame, counted on the CPU; on a GPU each launches one kernel or more."""
    prior = demo_prior(GRIDS[0])
    inputs = FrameInputs(
        torch.randn(1, prior.config.width, *prior.grid),
        torch.randn(1, prior.actions),
        torch.rand(1, prior.grid[0] * prior.grid[1], dtype=torch.float64),
        torch.ones(1, dtype=torch.float64),
        torch.zeros(1, *prior.grid, dtype=torch.long),
    )
    for kind in ("cached", "predictive"):
        with Counting() as counted:
            passes = int(sample(prior.core, inputs, SamplerConfig(kind)).passes[0])
        note = f"{passes} passes, untrained weights" if kind == "predictive" else ""
        yield row(f"operators of a frame's tokens, 8×8, sampler={kind}, batch 1", counted.count, "", note=note)


class Counting(TorchDispatchMode):
    """Counts operators that compute something, not views."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not any(each.alias_info for each in func._schema.returns)
        return func(*args, **(kwargs or {}))


def dreaming() -> Iterator[Row]:
    """What the environment adds to the step of the world: observations, flags, infos and resets."""
    world = demo_world()
    for b in BATCHES:
        dreams, actions = DreamVectorEnv(b, world=world, autoreset_mode="SameStep"), np.ones(b, int)
        dreams.reset(seed=0)
        state, few = start_state(world, b), max(4, 64 // b)  # many steps per measurement, so that resets are included
        env = partial(repeat, lambda: dreams.step(actions), few)  # noqa: B023
        times, cost, _ = versus(env, partial(repeat, lambda: world.step(state, actions), few), 15)  # noqa: B023
        note = f"{cost / few * 1e3:.2f} ms a step, {b * few / cost:.0f} steps/s, one in 200 of them an end"
        yield row(f"dream environment ÷ world step, batch {b}", times, "", most=1.15, note=note)


def repeat(call: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        call()


def endurance() -> Iterator[Row]:
    """Cost of an early and a late frame of a long dream, and of a long video that is encoded."""
    world, frames = demo_world(), torch.randint(0, 256, (1, 1, *FRAME), dtype=torch.uint8)
    yield from early_and_late("imagined frame", start_state(world, 1), lambda state: world.step(state, [1])[0])
    past = world.tokenizer.encode_chunk(frames, None)[1]
    yield from early_and_late("encoded frame", past, lambda past: world.tokenizer.encode_chunk(frames, past)[1])


def early_and_late(what: str, state: Any, step: Callable[[Any], Any]) -> Iterator[Row]:
    """Time and memory at steps 100 and 10,000. States are values, so the same moments can be timed in turns."""
    states, used = {}, {}
    for n in range(LONG + 1):
        if n in (EARLY, LONG):
            states[n], used[n] = state, memory()
        state = step(state)
    late, early = (partial(go_on, states[n], step) for n in (LONG, EARLY))
    times, cost, before = versus(late, early, 31)
    note = f"{cost / FEW * 1e3:.2f} and {before / FEW * 1e3:.2f} ms"
    yield row(f"{what}: time at step 10,000 ÷ at step 100", times, "", most=1.05, note=note)
    note = f"{used[LONG] / 2**20:.0f} MB in all, grown by {(used[LONG] - used[EARLY]) / 2**20:.2f}"
    yield row(f"{what}: memory at step 10,000 ÷ at step 100", used[LONG] / used[EARLY], "", most=1.05, note=note)


def go_on(state: Any, step: Callable[[Any], Any]) -> None:
    """A few steps from there."""
    for _ in range(FEW):
        state = step(state)
