"""A long dream: where it begins, which actions it follows, and the frames that show it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from worldmodel.data.collect.policies import make_policy
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.video import annotate, contact_sheet, write_gif, write_png
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, Step, WorldInfo, WorldModel

SHEET = 16  # moments on the contact sheet, spread evenly
GIF, GIF_BYTES = 72, 1_900_000  # frames of the GIF, which shows the beginning, and its largest size


@dataclass
class Beginning:
    """Where a dream begins, and what truly followed, if known."""

    state: DreamState
    next_frames: UInt8[np.ndarray, "n h w c"]
    next_actions: np.ndarray  # `m *space`


@dataclass
class Shot:
    """One frame of the film: the picture to show, and what it was made from."""

    picture: UInt8[np.ndarray, "H W 3"]
    imagined: UInt8[np.ndarray, "h w c"]
    real: UInt8[np.ndarray, "h w c"]  # black where it is not known


def beginning(
    world: WorldModel, store: EpisodeStore, episode: int, *, start: int, context: int, horizon: int, seed: int
) -> Beginning:
    """After `context` frames of an episode from frame `start` on, with up to `horizon` that follow.

    Raises: ValueError when the episode has fewer frames than that.
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
    return Beginning(state, video[context:], actions[context - 1 :])


def stored_beginning(world: WorldModel, number: int | None, seed: int) -> Beginning:
    """After one of the contexts that came with the world: this one or, without a number, one that the seed draws.

    Raises: ValueError when there is no such context.
    """
    count = len(world.starts or ())
    chosen = int(np.random.default_rng(seed).integers(max(count, 1))) if number is None else number
    space = world.info.action_space
    none = np.zeros((0, *(getattr(space, "shape", None) or ())), getattr(space, "dtype", None))
    return Beginning(world.start_from_context(chosen, seed), np.zeros((0, *world.info.frame_shape), np.uint8), none)


Wanted = str | int | Sequence[str | int]  # what a user may ask for as the actions of a dream


def plan(wanted: Wanted, info: WorldInfo, real: np.ndarray, horizon: int, seed: int) -> np.ndarray:
    """The `horizon` actions of a dream, `n *space`.

    wanted: "episode" (the real ones, then, where the episode is over, held random ones), "random", the name of an
    action ("forward"), its number, or a list of either, repeated until the end.
    Raises: ValueError for a name that the world does not know, or an action outside its space.
    """
    if info.action_space is None:
        return np.zeros(horizon)
    if wanted in ("episode", "random"):
        known = real[:horizon] if wanted == "episode" else real[:0]
        rng = np.random.default_rng(seed)
        info.action_space.seed(int(rng.integers(2**31)))
        space = info.reachable
        assert space is not None
        policy = make_policy("sticky", space, rng)
        more = [policy(None) for _ in range(horizon - len(known))]
        return np.concatenate([known, np.stack(more)]) if more else known
    chosen = [_action(str(each), info) for each in ([wanted] if isinstance(wanted, str | int) else wanted)]
    return np.stack([chosen[i % len(chosen)] for i in range(horizon)])


def _action(name: str, info: WorldInfo) -> np.ndarray:
    """One action by name or number.

    Raises: ValueError when there is none.
    """
    assert info.action_space is not None
    if name in info.action_names:
        start = getattr(info.action_space, "start", 0)
        return np.asarray(info.action_names.index(name) + start)
    try:
        action = np.asarray(int(name))
    except ValueError:
        action = None
    if action is None or not info.action_space.contains(action):
        names = ", ".join(info.action_names) or "none: use a number of that space, episode or random"
        raise ValueError(f"actions: no action {name!r} in {info.action_space}; the named ones are {names}")
    return action


def dream(world: WorldModel, state: DreamState, actions: np.ndarray, sampler: SamplerConfig) -> Iterator[Step]:
    """The steps of one dream that goes on from here, as they are imagined: any number, in constant memory and time per
    step.

    Raises: ValueError when the actions do not fill whole latents.
    """
    stride = world.tokenizer.time_stride
    if len(actions) % stride:
        raise ValueError(f"horizon: expected a multiple of the time stride {stride}, got {len(actions)}")
    sampler = replace(sampler, allow_termination=False)
    for i in range(0, len(actions), stride):
        state, step = world.step(state, actions[None, i : i + stride], sampler)
        yield step


def name_of(action: Any, info: WorldInfo) -> str:
    """What to write on a frame: the action's name, or its values."""
    if info.action_names and np.ndim(action) == 0:
        return info.action_names[int(action) - int(getattr(info.action_space, "start", 0))]
    return np.array2string(np.asarray(action), precision=1, separator=" ")


def film(begin: Beginning, steps: Iterator[Step], actions: np.ndarray, info: WorldInfo, scale: int) -> Iterator[Shot]:
    """The dream frame by frame, enlarged and captioned; where truth is known, that above it until it ends."""
    n, compare = 0, len(begin.next_frames) > 0
    for step in steps:
        for frame in step.frames[0].cpu().numpy():
            known = n < len(begin.next_frames)
            real = begin.next_frames[n] if known else np.zeros_like(frame)
            share = float(step.bits[0]) / step.frames.shape[1]
            above = annotate(real[None], ["real" if known else "real: not known"], scale)
            text = f"imagined {n + 1}  {name_of(actions[n], info)}  {share:.0f} bits"
            below = annotate(frame[None], [text], scale)
            yield Shot(np.concatenate([above, below], axis=1)[0] if compare else below[0], frame, real)
            n += 1


@dataclass
class Recording:
    """What is kept of a film of `horizon` frames, besides the video: all tokens, some moments, and the beginning."""

    horizon: int
    tokens: list[np.ndarray] = field(default_factory=list)
    sheet: dict[int, Shot] = field(default_factory=dict)
    opening: list[np.ndarray] = field(default_factory=list)

    def listen(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The same steps; their tokens are kept."""
        for step in steps:
            self.tokens.append(step.tokens[0].cpu().numpy())
            yield step

    def watch(self, shots: Iterator[Shot]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The pictures of the shots; some of these are kept."""
        moments = set(np.linspace(0, self.horizon - 1, SHEET).round().astype(int).tolist())
        for n, shot in enumerate(shots):
            if n in moments:
                self.sheet[n] = shot
            if n < GIF:
                self.opening.append(shot.picture)
            yield shot.picture

    def save(self, folder: Path, fps: float) -> None:
        """Write tokens.npy (`s y x`), sheet.png and rollout.gif."""
        np.save(folder / "tokens.npy", np.stack(self.tokens))
        labels = ["real", "imagined"] if any(shot.real.any() for shot in self.sheet.values()) else ["imagined"]
        rows = [np.stack([getattr(shot, label) for shot in self.sheet.values()]) for label in labels]
        titles = [str(n + 1) for n in self.sheet]
        write_png(folder / "sheet.png", contact_sheet(rows, labels, SHEET, titles))
        write_gif(folder / "rollout.gif", np.stack(self.opening), fps, GIF_BYTES)
