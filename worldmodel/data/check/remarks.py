"""What is wrong with the pictures, actions, rewards and ends of an environment, in words, each with what to set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Discrete

from worldmodel.data.check.look import Look
from worldmodel.nn.actions import action_labels

BLACK = 3  # no pixel of a black frame is above this
TINY = 16  # pixels of a side
CODE_BELOW, MOST_SYMBOLS = 32, 16  # a code has so few different values, all of them small
ENLARGED = 2.0
STRIDE = 8  # default of tokenizer.space_stride: sides of frames are multiples of it
FEW_STEPS = 16  # fewer do not say that nothing ever shows or moves
IMPORTED = "imported"  # the policy of imported episodes


@dataclass(frozen=True)
class Remark:
    """One finding in words. refused: no world can learn from such episodes; otherwise it is a warning."""

    name: str
    text: str
    refused: bool = False


def remarks(look: Look) -> tuple[Remark, ...]:
    """All that is remarkable about a look, refusals first."""
    found = [remark for rule in RULES for remark in rule(look)]
    return tuple(sorted(found, key=lambda remark: not remark.refused))


def _faults(look: Look) -> Iterator[Remark]:
    if look.problem:
        yield Remark("failed", look.problem)


def _pictures(look: Look) -> Iterator[Remark]:
    """Codes, black pictures, and pictures that never change: no more than one of these."""
    source, values = look.seen.frames_from, np.flatnonzero(look.seen.values)
    steps = sum(episode.steps for episode in look.played)
    if not look.played:
        return
    if 1 < len(values) <= MOST_SYMBOLS and values[-1] < CODE_BELOW:
        what = f"{source}: a code, not a picture, with {len(values)} different values, {values[0]} to {values[-1]}"
        remedy = "Set env.frames=render, or observe pixels (for MiniGrid, by its RGBImgPartialObsWrapper)"
        yield Remark("code", f"{what}. {remedy}", refused=True)
    elif max(episode.brightest for episode in look.played) <= BLACK:
        what = f"{source}: every frame of {steps} steps is black, no pixel is above {BLACK}"
        yield Remark("black", f"{what}. {_other_source(look)}", refused=steps >= FEW_STEPS)
    elif steps >= FEW_STEPS and all(episode.still for episode in look.played):
        if all(np.array_equal(episode.first, look.played[0].first) for episode in look.played):
            what = f"{source}: all frames of {steps} steps are the same"
            yield Remark("constant", f"{what}. {_other_source(look)}", refused=True)
        else:
            what = f"{source}: within an episode nothing moves, in {steps} steps"
            yield Remark("still", f"{what}. {_other_source(look)}")


def _other_source(look: Look) -> str:
    if look.stored:
        return "Look at the files that they were made from"
    if look.seen.frames_from == "render()":
        return "See what render() of the environment returns without a screen, or set env.frames=observation"
    return "Set env.frames=render, or env.key= to another entry of the observation"


def _sizes(look: Look) -> Iterator[Remark]:
    height, width = look.info.frame_shape[:2]
    smallest = min(look.seen.sizes, key=lambda shape: shape[0] * shape[1], default=(height, width, 3))
    given = f"{smallest[0]}×{smallest[1]}"
    if min(smallest[:2]) < TINY:
        remedy = "import larger ones" if look.stored else "show larger ones, for example by env.frames=render"
        yield Remark("tiny", f"pictures of {given} pixels are smaller than {TINY}×{TINY}: {remedy}")
    elif min(height, width) < TINY:
        yield Remark("tiny", f"frames of {height}×{width} pixels are smaller than {TINY}×{TINY}: set {_size(look)}")
    if max(height / smallest[0], width / smallest[1]) > ENLARGED:
        fit = f"env.height={_multiple(smallest[0])} env.width={_multiple(smallest[1])}"
        yield Remark("enlarged", f"pictures of {given} are enlarged to {height}×{width}: set {fit}, which is faster")
    if height % STRIDE or width % STRIDE:
        what = f"the sides of {height}×{width} are no multiples of {STRIDE}, the default of tokenizer.space_stride"
        yield Remark("stride", f"{what}: set {_size(look)}")


def _size(look: Look) -> str:
    """The settings of the next larger frames that the tokenizer takes."""
    height, width = map(_multiple, look.info.frame_shape[:2])
    return f"size=[{height},{width}] at the import" if look.stored else f"env.height={height} env.width={width}"


def _multiple(pixels: int) -> int:
    """The next size from 16 pixels on that the tokenizer takes."""
    return max(TINY, -(-pixels // STRIDE) * STRIDE)


def _observation(look: Look) -> Iterator[Remark]:
    for name, (what, _) in look.seen.passed_over.items():
        text = f"{name or 'the observation'} is not taken, as it is {what}; frames are {look.seen.frames_from}"
        yield Remark("passed over", text)
    if rest := [name for name in look.seen.unused if name not in look.seen.passed_over]:
        text = f"not kept of the observation: {', '.join(rest)}. The world knows only what is in the picture"
        yield Remark("unused", text)
    if look.seen.fourth:
        text = "the fourth channel of the pictures is dropped as alpha"
        yield Remark("fourth channel", f"{text}: if it is a frame of its own, remove the wrapper that stacks them")


def _actions(look: Look) -> Iterator[Remark]:
    if not look.info.action_names and look.info.policy != IMPORTED:
        count = len(action_labels(look.info.action_space))
        what = f"{count} actions" if isinstance(look.info.action_space, Discrete) else f"numbers of an action ({count})"
        yield Remark("names", f"the {what} have no names, so numbers stand for them: set env.action_names=[…]")


def _outcomes(look: Look) -> Iterator[Remark]:
    steps, limit = sum(episode.steps for episode in look.played), look.info.max_steps
    if cut := sum(episode.end == "cut" for episode in look.played):
        text = (
            f"max_steps={limit} cut {cut} of {len(look.played)} episodes, so their ends are not seen: set a larger one"
        )
        yield Remark("cut", f"{text}, or null for none")
    if steps and not any(episode.rewards.any() for episode in look.played):
        if look.info.policy == IMPORTED:
            remedy = "a table needs the column reward, an npz file the array rewards"
        else:
            remedy = "a world learns none from such episodes; another policy= may find some"
        yield Remark("rewards", f"all rewards of {steps} steps are 0: {remedy}")


RULES: tuple[Callable[[Look], Iterator[Remark]], ...] = (_faults, _pictures, _sizes, _observation, _actions, _outcomes)
