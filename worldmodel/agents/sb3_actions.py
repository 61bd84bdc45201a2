"""The actions of an environment in the form that Stable-Baselines3 samples: choices count from 0, and each number of a
`Box` is drawn around 0 with a standard deviation of 1."""

import numpy as np
from gymnasium import Space, spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from worldmodel.nn.action_scale import Scale, clip_to_space, plausible_actions


class ActionAdapter:
    """Turns actions of `agent_space`, from which Stable-Baselines3 samples, into actions of `space`.

    Choices are shifted to their start. Numbers of a bounded float Box stay as they are. Integers, and numbers with a
    `scale`, are sampled from [-1, 1] and spread over the Box, or over the range of the data.

    Raises:
        ValueError: the Box has no bounds, and there is no scale.
        TypeError: the space has another kind.
    """

    def __init__(self, space: Space, scale: Scale | None = None):
        self.space = plausible_actions(space, scale)
        self.spread = isinstance(space, spaces.Box) and (scale is not None or space.dtype.kind in "iub")
        self.agent_space = _agent_space(self.space, self.spread)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """The actions `b *space` of the environment."""
        space = self.space
        actions = np.asarray(actions).reshape(-1, *(space.shape or ()))
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            return (actions + space.start).astype(space.dtype)
        if not isinstance(space, spaces.Box):
            return actions.astype(space.dtype)
        return clip_to_space(_spread(actions, space) if self.spread else actions, space)


class AdaptedVecEnv(VecEnvWrapper):
    """Environments, real or dreamed, with the action space that Stable-Baselines3 samples from."""

    def __init__(self, venv: VecEnv, adapter: ActionAdapter):
        super().__init__(venv, action_space=adapter.agent_space)
        self.adapter = adapter

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self.venv.step_async(self.adapter.to_env(actions))

    def step_wait(self) -> VecEnvStepReturn:
        return self.venv.step_wait()


def _agent_space(space: Space, spread: bool) -> Space:
    """The space that Stable-Baselines3 samples from: one axis, choices from 0, finite numbers."""
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec.reshape(-1))
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary(int(np.prod(space.shape)))
    if not isinstance(space, spaces.Box):
        raise TypeError(f"agent: expected Discrete, MultiDiscrete, MultiBinary or Box actions, got {space}")
    with np.errstate(over="ignore"):
        low, high = (each.reshape(-1).astype(np.float32) for each in (space.low, space.high))
    if not (np.isfinite(low) & np.isfinite(high)).all():
        raise ValueError(
            f"agent: {space} has no bounds, and the world does not say how large its actions are: train its prior "
            "again (`worldmodel train-prior` measures that), or bound the actions in the environment"
        )
    return spaces.Box(-1.0, 1.0, low.shape) if spread else spaces.Box(low, high)


def _spread(fractions: np.ndarray, space: spaces.Box) -> np.ndarray:
    """Map [-1, 1] to the range of the Box; each integer has an equal share."""
    edge = 0.5 if space.dtype.kind in "iub" else 0.0
    low, high = space.low.astype(np.float64) - edge, space.high.astype(np.float64) + edge
    return low + (fractions.astype(np.float64) + 1) / 2 * (high - low)
