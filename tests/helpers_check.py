"""Environments as people bring them, small: MiniGrid, CarRacing, Crafter and others, and pictures that are none."""

from enum import IntEnum
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvCreator


def picture(side: int, now: int, height: int | None = None) -> np.ndarray:
    """A green field with a red square that walks with time."""
    image = np.full((height or side, side, 3), (40, 120, 60), np.uint8)
    size, place = max(2, side // 6), 3 * now % max(1, side - side // 6)
    image[place : place + size, place : place + size] = (210, 40, 40)
    return image


class Walker(gymnasium.Env):
    """Walks for `length` steps. Rewarded at every third one; subclasses say what it shows."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, length: int = 12, render_mode: str | None = None):
        self.length, self.render_mode = length, render_mode
        self.action_space: spaces.Space = spaces.Discrete(3)
        self.observation_space = self.space()

    def space(self) -> spaces.Space:
        return spaces.Box(0, 255, (48, 48, 3), np.uint8)

    def show(self) -> Any:
        return picture(48, self.now)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return self.show(), {}

    def step(self, action) -> Any:
        assert self.action_space.contains(action)
        self.now += 1
        return self.show(), float(self.now % 3 == 0), self.now >= self.length, False, {}


class MiniGridLike(Walker):
    """A code of 7×7×3, a direction, a mission, and a rendering; names of actions as an Enum, a limit of its own."""

    metadata = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012
    max_steps = 40

    class actions(IntEnum):
        left = 0
        right = 1
        forward = 2

    def space(self) -> spaces.Space:
        image = spaces.Box(0, 255, (7, 7, 3), np.uint8)
        return spaces.Dict(image=image, direction=spaces.Discrete(4), mission=spaces.Text(20))

    def show(self) -> Any:
        code = np.zeros((7, 7, 3), np.uint8)
        code[1:6, 1:6] = (1, 0, 0)
        code[0], code[self.now % 7, 3] = (2, 5, 0), (8, 1, 2)
        return {"image": code, "direction": self.now % 4, "mission": "get to the goal"}

    def render(self) -> Any:
        return picture(160, self.now)


class CodeAlone(MiniGridLike):
    """MiniGrid's code without a rendering."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012


class CarRacingLike(Walker):
    """Steer, gas and brake; pictures of 96×96."""

    def __init__(self, **options):
        super().__init__(**options)
        self.action_space = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))

    def space(self) -> spaces.Space:
        return spaces.Box(0, 255, (96, 96, 3), np.uint8)

    def show(self) -> Any:
        return picture(96, self.now)


class CartPoleLike(Walker):
    """Four numbers and a rendering that is wider than high."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def space(self) -> spaces.Space:
        return spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def show(self) -> Any:
        return np.full(4, self.now, np.float32)

    def render(self) -> Any:
        return picture(120, self.now, 80)


class CrafterLike(Walker):
    """A picture, an inventory, and a map of what is where: a code of 9×9."""

    def space(self) -> spaces.Space:
        grid = spaces.Box(0, 255, (9, 9), np.uint8)
        return spaces.Dict(
            image=spaces.Box(0, 255, (64, 64, 3), np.uint8), inventory=spaces.Box(0, 9, (6,)), semantic=grid
        )

    def show(self) -> Any:
        grid = (np.arange(81, dtype=np.uint8).reshape(9, 9) + self.now) % 12
        return {"image": picture(64, self.now), "inventory": np.zeros(6, np.float32), "semantic": grid}


class OldStep(Walker):
    """Four values from a step, as before Gym 0.26."""

    def step(self, action) -> Any:
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class OldReset(Walker):
    """A reset without a seed and without an info."""

    def reset(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.now = 0
        return self.show()


class Floats(Walker):
    """Pictures of 0 to 1."""

    def space(self) -> spaces.Space:
        return spaces.Box(0, 1, (48, 48, 3), np.float32)

    def show(self) -> Any:
        return picture(48, self.now).astype(np.float32) / 255


class FloatsRendered(Floats):
    """... which are rendered as well."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def render(self) -> Any:
        return picture(48, self.now)


class Black(Walker):
    """Black pictures, as from a screen that is not there."""

    def show(self) -> Any:
        return np.zeros((48, 48, 3), np.uint8)


class BlackRendered(CartPoleLike):
    """A black rendering."""

    def render(self) -> Any:
        return np.zeros((48, 48, 3), np.uint8)


class Constant(Walker):
    """The same picture for ever."""

    def show(self) -> Any:
        return picture(48, 0)


class Still(Walker):
    """A picture that only a reset changes."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(30))
        return self.show(), {}

    def show(self) -> Any:
        return picture(48, getattr(self, "place", 0))


class Tiny(Walker):
    """Nine by nine pixels."""

    def space(self) -> spaces.Space:
        return spaces.Box(0, 255, (9, 9, 3), np.uint8)

    def show(self) -> Any:
        return picture(9, self.now)


class Stacked(Walker):
    """Four grey pictures in place of channels."""

    def space(self) -> spaces.Space:
        return spaces.Box(0, 255, (48, 48, 4), np.uint8)

    def show(self) -> Any:
        return np.stack([picture(48, self.now + i)[..., 0] for i in range(4)], axis=-1)


class ChannelsFirst(Walker):
    """Pictures as PyTorch has them."""

    def space(self) -> spaces.Space:
        return spaces.Box(0, 255, (3, 48, 48), np.uint8)

    def show(self) -> Any:
        return picture(48, self.now).transpose(2, 0, 1)


class Binary(Walker):
    """A mask of 0 and 1, in place of 0 and 255."""

    def show(self) -> Any:
        return (picture(48, self.now) > 100).astype(np.uint8)


class Unrewarded(Walker):
    """No reward, ever, and no end."""

    def step(self, action) -> Any:
        observation, _, _, _, info = super().step(action)
        return observation, 0.0, False, False, info


ENVIRONMENTS = [each for each in list(globals().values()) if isinstance(each, type) and issubclass(each, Walker)]
for _each in ENVIRONMENTS:
    gymnasium.register(f"Check{_each.__name__}-v0", cast(EnvCreator, _each))
gymnasium.register("CheckLimited-v0", cast(EnvCreator, Unrewarded), max_episode_steps=30)


def sees_the_frame(observation, rng, action_space):
    """A policy with the right parameters."""
    return int(observation[0, 0, 0]) % 3


def forgets_the_space(observation, rng):
    """A policy with too few parameters."""
    return 0


def maker_of_nothing(text):
    """A maker of policies with too few parameters."""
    return lambda observation: 0
