"""Long dreams as video: where they start, which actions they take, and the frames that show them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from jaxtyping import Float32, UInt8

from worldmodel.data.collect.policies import make_policy
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.video import annotate, contact_sheet, write_gif, write_png
from worldmodel.nn.actions import action_words
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, Step, WorldInfo, WorldModel

SHEET = 16  # dreamed frames on the contact sheet, evenly spaced
GIVEN = 2  # given frames before them
GIF_FRAMES = 72  # the first frames of the dream
GIF_BYTES = 1_900_000  # largest size of the GIF


@dataclass
class RolloutStart:
    """Where a dream starts: the frames that it was given, and the real frames, actions and rewards that followed, if
    known."""

    state: DreamState
    given: UInt8[np.ndarray, "k h w c"]
    next_frames: UInt8[np.ndarray, "n h w c"]
    next_actions: np.ndarray  # `m *space`
    next_rewards: Float32[np.ndarray, "m"]


@dataclass
class RenderedFrame:
    """One frame of the video: the image to show, and what it was made from. Rewards are NaN where they are unknown."""

    image: UInt8[np.ndarray, "H W 3"]
    imagined: UInt8[np.ndarray, "h w c"]
    real: UInt8[np.ndarray, "h w c"]  # black if unknown
    action: str
    reward: float = math.nan
    real_reward: float = math.nan


def start_in_episode(
    world: WorldModel, store: EpisodeStore, episode: int, *, start: int, context: int, horizon: int, seed: int
) -> RolloutStart:
    """Start after `context` frames of an episode, from frame `start` on; up to `horizon` real frames follow.

    Raises: ValueError if the episode has too few frames.
    """
    frames, context = store.length(episode), world.whole_latents(context)
    if start < 0 or context < 1 or start + context > frames:
        raise ValueError(
            f"episode {episode} has {frames} frames: no {context} from frame {start} on; lower start or context"
        )
    stop = min(frames, start + context + horizon)
    video = store.frames(episode, start, stop)
    actions = store.actions(episode)[start : stop - 1]
    state = world.start(torch.from_numpy(video[:context])[None], actions[None, : context - 1], seed)
    rewards = store.rewards(episode)[start : stop - 1]
    return RolloutStart(state, video[:context], video[context:], actions[context - 1 :], rewards[context - 1 :])


def start_from_context(world: WorldModel, number: int | None, seed: int) -> RolloutStart:
    """Start from a context that the world contains: the one with this number, or one that the seed draws.

    Raises: ValueError if there is no such context.
    """
    count = len(world.starts or ())
    chosen = int(np.random.default_rng(seed).integers(max(count, 1))) if number is None else number
    space = world.info.action_space
    none = np.zeros((0, *(getattr(space, "shape", None) or ())), getattr(space, "dtype", None))
    state, unknown = world.start_from_context(chosen, seed), np.zeros((0, *world.info.frame_shape), np.uint8)
    return RolloutStart(state, state.frame.cpu().numpy(), unknown, none, np.zeros(0, np.float32))


ActionRequest = str | int | Sequence[str | int]  # see `action_sequence`


def action_sequence(request: ActionRequest, info: WorldInfo, real: np.ndarray, horizon: int, seed: int) -> np.ndarray:
    """The `horizon` actions of a dream, `n *space`.

    request: "episode" (the real actions, then held random ones after the end of the episode), "random", the name or
    number of an action, or a list of names and numbers, which is repeated.

    Raises: ValueError for a name that the world does not have, or an action outside its space.
    """
    if info.action_space is None:
        return np.zeros(horizon)
    if request in ("episode", "random"):
        known = real[:horizon] if request == "episode" else real[:0]
        rng = np.random.default_rng(seed)
        info.action_space.seed(int(rng.integers(2**31)))
        space = info.reachable
        assert space is not None
        policy = make_policy("sticky", space, rng)
        more = [policy(None) for _ in range(horizon - len(known))]
        return np.concatenate([known, np.stack(more)]) if more else known
    chosen = [_action(str(each), info) for each in ([request] if isinstance(request, str | int) else request)]
    return np.stack([chosen[i % len(chosen)] for i in range(horizon)])


def _action(name: str, info: WorldInfo) -> np.ndarray:
    """One action by name or number. Raises: ValueError if there is none."""
    space = info.action_space
    assert space is not None
    if not isinstance(space, Discrete):
        raise ValueError(f"actions: expected episode or random in {space}, got {name!r}")
    if name in info.action_names:
        return np.asarray(info.action_names.index(name) + space.start)
    try:
        action = np.asarray(int(name))
    except ValueError:
        action = None
    if action is None or not space.contains(action):
        last = space.start + space.n - 1
        named = f", or a name: {', '.join(info.action_names)}" if info.action_names else " (they have no names)"
        raise ValueError(
            f"actions: no action {name!r} in {space}: expected episode, random, a number {space.start} to "
            f"{last}{named}; or a list of these, such as [{space.start},{space.start},{last}]"
        )
    return action


def dream(world: WorldModel, state: DreamState, actions: np.ndarray, sampler: SamplerConfig) -> Iterator[Step]:
    """The steps of one dream, one after the other, in constant memory and time per step.

    Raises: ValueError if the number of actions is no multiple of the time stride.
    """
    stride = world.tokenizer.time_stride
    if len(actions) % stride:
        raise ValueError(f"horizon: expected a multiple of the time stride {stride}, got {len(actions)}")
    sampler = replace(sampler, allow_termination=False)
    for i in range(0, len(actions), stride):
        state, step = world.step(state, actions[None, i : i + stride], sampler)
        yield step


def name_of(action: Any, info: WorldInfo) -> str:
    """The caption of an action: its name, or its values."""
    return action_words(action, info.action_space, info.action_names)


def render_frames(
    start: RolloutStart, steps: Iterator[Step], actions: np.ndarray, info: WorldInfo, scale: int
) -> Iterator[RenderedFrame]:
    """The dream frame by frame, enlarged and with captions, below the real frames as long as these are known."""
    n, compare = 0, len(start.next_frames) > 0
    for step in steps:
        frames = step.frames[0].cpu().numpy()
        for frame, reward in zip(frames, _rewards(step), strict=True):
            known = n < len(start.next_frames)
            real = start.next_frames[n] if known else np.zeros_like(frame)
            action, share = name_of(actions[n], info), float(step.bits[0]) / len(frames)
            above = annotate(real[None], ["real" if known else "real: not known"], scale)
            below = annotate(frame[None], [f"imagined {n + 1}  {action}  {share:.0f} bits"], scale)
            image = np.concatenate([above, below], axis=1)[0] if compare else below[0]
            real_reward = float(start.next_rewards[n]) if known else math.nan
            yield RenderedFrame(image, frame, real, action, reward, real_reward)
            n += 1


def _rewards(step: Step) -> list[float]:
    """The reward of each frame of a step: the last one has it all; NaN if the world predicts none."""
    if step.outcome is None:
        return [math.nan] * step.frames.shape[1]
    return [0.0] * (step.frames.shape[1] - 1) + [float(step.outcome.reward[0])]


@dataclass
class Recording:
    """What is saved of a dream of `horizon` frames beside the video: all tokens, some frames, and the first frames.

    given: the frames that it was given.
    """

    horizon: int
    given: UInt8[np.ndarray, "k h w c"]
    tokens: list[np.ndarray] = field(default_factory=list)
    sheet: dict[int, RenderedFrame] = field(default_factory=dict)
    opening: list[np.ndarray] = field(default_factory=list)

    def record_steps(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Pass steps through, and keep their tokens."""
        for step in steps:
            self.tokens.append(step.tokens[0].cpu().numpy())
            yield step

    def record_frames(self, rendered: Iterator[RenderedFrame]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Pass the images through, and keep some."""
        moments = set(np.linspace(0, self.horizon - 1, SHEET).round().astype(int).tolist())
        for n, each in enumerate(rendered):
            if n in moments:
                self.sheet[n] = each
            if n < GIF_FRAMES:
                self.opening.append(each.image)
            yield each.image

    def save(self, folder: Path, fps: float) -> None:
        """Write tokens.npy (`s y x`), sheet.png and rollout.gif."""
        np.save(folder / "tokens.npy", np.stack(self.tokens))
        write_png(folder / "sheet.png", self.contact_sheet())
        write_gif(folder / "rollout.gif", np.stack(self.opening), fps, GIF_BYTES)

    def contact_sheet(self) -> UInt8[np.ndarray, "H W 3"]:
        """The last given frames, with a colored edge, then moments of the dream below the real frames, with the actions
        into them and their rewards."""
        given, shown = self.given[-GIVEN:], list(self.sheet.values())
        labels = ["real", "imagined"] if any(each.real.any() for each in shown) else ["imagined"]
        rows = [np.stack([*given, *(getattr(each, label) for each in shown)]) for label in labels]
        titles = [*(str(i + 1 - len(given)) for i in range(len(given))), *(f"+{n + 1}" for n in self.sheet)]
        notes = {
            "action": [each.action for each in shown],
            "reward": [_as_text(each.reward) for each in shown],
            "really": [_as_text(each.real_reward) for each in shown],
        }
        notes = {name: [*[""] * len(given), *texts] for name, texts in notes.items() if any(texts)}
        return contact_sheet(rows, labels, len(titles), titles, notes, range(len(given)))


def _as_text(reward: float) -> str:
    """A reward as text; "" if it is unknown."""
    return "" if math.isnan(reward) else f"{reward:.3g}"
