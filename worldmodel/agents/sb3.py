"""Stable-Baselines3 on dreams: a `VecEnv`, PPO from a config, and its policy as an agent on disk.

Needs the extra `agents`. Dreams are reset in the step that ends them, as Stable-Baselines3 expects.
"""

import math
import operator
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn

from worldmodel.agents import ChunkedPolicy, Policy
from worldmodel.agents.encoded_env import ObservationEncoder
from worldmodel.agents.sb3_actions import ActionAdapter, AdaptedVecEnv
from worldmodel.dream.env import DreamEnv
from worldmodel.dream.spaces import Observation, action_space, as_array, observation_space
from worldmodel.dream.vector_env import DreamVectorEnv, single
from worldmodel.interfaces import Tokenizer
from worldmodel.io.config import FINITE, POSITIVE, check_range, from_mapping, to_dict
from worldmodel.io.model_folder import build_module, check_kind, check_shapes, load_weights, save_weights
from worldmodel.io.tensors_file import Shapes
from worldmodel.io.untrusted import errors_name
from worldmodel.io.upgrades import current_names
from worldmodel.nn.action_scale import Scale, scale_from_json
from worldmodel.nn.actions import space_from_json, space_to_json
from worldmodel.tokenizer.storage import describe_tokenizer, new_tokenizer
from worldmodel.world import WorldModel

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    message = "Stable-Baselines3 is not installed: pip install worldmodel[agents]"
    raise ImportError(message, name="stable_baselines3") from error

LARGE = 36  # pixels per side of the smallest frame that fits the kernels for large frames


@dataclass
class PolicyConfig:
    """What a policy observes, and how large it is."""

    obs: Literal["latent", "frames"] = "latent"
    """What the policy observes: the latent state of the world, or frames."""
    channels: int = 32
    """Channels of the first layer."""
    units: int = 128
    """Units of the last layer."""

    def __post_init__(self) -> None:
        check_range(self, 2, 2**14, "channels", "units")


@dataclass
class PPOConfig:
    """Proximal policy optimization (arXiv 1707.06347) by Stable-Baselines3, with its names."""

    steps: int = 40_000
    """Steps of all environments together."""
    envs: int = 16
    """Environments that are stepped at once."""
    n_steps: int = 32
    """Steps of each environment between two updates."""
    batch_size: int = 128
    """Steps of a minibatch."""
    n_epochs: int = 4
    """Passes over the collected steps in each update."""
    learning_rate: float = 5e-4
    """Learning rate of Adam."""
    gamma: float = 0.97
    """Discount of a step."""
    gae_lambda: float = 0.95
    """Factor λ of generalized advantage estimation."""
    ent_coef: float = 0.01
    """Weight of the entropy in the loss."""
    clip_range: float = 0.2
    """Largest change of the action probabilities' ratio."""
    max_grad_norm: float = 0.5
    """Largest norm of the gradient."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """The policy network."""

    def __post_init__(self) -> None:
        check_range(self, 1, 2**31, "steps", "envs", "n_steps", "n_epochs")
        check_range(self, 2, 2**31, "batch_size")
        check_range(self, POSITIVE, FINITE, "learning_rate", "clip_range")
        check_range(self, 0, FINITE, "ent_coef")
        check_range(self, 0, math.inf, "max_grad_norm")
        check_range(self, 0, 1, "gamma", "gae_lambda")
        if self.envs * self.n_steps < 2:
            raise ValueError("n_steps: expected 2 steps or more between updates, of all envs together, got 1")


class DreamVecEnv(VecEnv):
    """Dreams as a `VecEnv` of Stable-Baselines3. Arguments are those of `DreamVectorEnv`.

    It behaves as a `DummyVecEnv` of single `DreamEnv`s, but steps them in one pass: each of `envs` is one of the
    dreams. `set_options` takes the options of `DreamEnv.reset`: one dict for all dreams, or a list with one for each.

    Raises: ValueError as `DreamVectorEnv`, or for another `autoreset_mode` than "SameStep".
    """

    def __init__(self, num_envs: int, **settings: Any):
        mode = AutoresetMode(settings.pop("autoreset_mode", AutoresetMode.SAME_STEP))
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"autoreset_mode: Stable-Baselines3 expects SameStep, got {mode.value}")
        self.dreams = DreamVectorEnv(num_envs, autoreset_mode=mode, **settings)
        self.envs = [DreamEnv.among(self.dreams.batch, place, self.dreams.render_mode) for place in range(num_envs)]
        super().__init__(num_envs, self.dreams.single_observation_space, self.dreams.single_action_space)
        self.metadata = self.envs[0].metadata
        self._actions = np.zeros(0)

    def reset(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start new dreams, with the seeds and options of the last `seed(...)` and `set_options(...)`."""
        if any(self._options):
            for i, env in enumerate(self.envs):
                _, self.reset_infos[i] = env.reset(seed=self._seeds[i], options=self._options[i])
        else:
            _, infos = self.dreams.reset(seed=self._seeds)
            self.reset_infos = [single(infos, i) for i in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return as_array(self.dreams.batch.observe())

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:  # pyright: ignore
        """Observations, rewards, dones and infos; the info of a dream that is over has its last observation."""
        seen, *flags, infos = self.dreams.step(self._actions)
        seen, rewards, terminated, truncated = (as_array(each) for each in (seen, *flags))
        rows = [single(infos, i) for i in range(self.num_envs)]
        for i in np.flatnonzero(terminated | truncated).tolist():
            self.reset_infos[i] = rows[i]
            rows[i] = single(infos["final_info"], i) | {"terminal_observation": infos["final_obs"][i]}
        for i, row in enumerate(rows):
            row["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return seen, rewards.astype(np.float32), terminated | truncated, rows

    def close(self) -> None:
        self.dreams.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each of these dreams, or of the batch that they share (`limit`, `world`, ...)."""
        return [getattr(self._owner(env, attr_name), attr_name) for env in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of each of these dreams, or of the batch that they share.

        Raises: ValueError if only some dreams are to get another value of a shared attribute.
        """
        chosen = self._chosen(indices)
        shared = self._owner(self.envs[0], attr_name) is not self.envs[0]
        if shared and len({env.place for env in chosen}) < self.num_envs:
            raise ValueError(f"set_attr: all dreams share {attr_name}; set it without indices")
        for env in chosen:
            setattr(self._owner(env, attr_name), attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of each of these dreams."""
        return [getattr(env, method_name)(*method_args, **method_kwargs) for env in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None) -> list[bool]:
        """False: single dreams have no wrappers."""
        return [False] * len(self._chosen(indices))

    def get_images(self) -> list[np.ndarray | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The newest frame of each dream; warns without `render_mode`."""
        if self.render_mode != "rgb_array":
            warnings.warn(f"render_mode is {self.render_mode}: images need rgb_array", stacklevel=2)
        return [env.render() for env in self.envs]

    def _owner(self, env: DreamEnv, name: str) -> Any:
        """What has an attribute: the dream, or else what it shares with the others; the dream if nothing has it."""
        return next((each for each in (env, self.dreams.batch, self.dreams) if hasattr(each, name)), env)

    def _chosen(self, indices: Any) -> list[DreamEnv]:
        if indices is None:
            return list(self.envs)
        chosen = [indices] if np.ndim(indices) == 0 else list(indices)
        if any(isinstance(i, bool | np.bool_) for i in chosen):
            raise ValueError(f"indices: expected numbers of dreams, got booleans {chosen}")
        return [self.envs[operator.index(i)] for i in chosen]


class GridFeatures(BaseFeaturesExtractor):
    """Turns observations into a vector: latents `y x d` by two convolutions, frames (channels first) by three.

    Frames of at least 36 pixels per side use the kernels of arXiv 1312.5602 and 1502.04791. Smaller ones use kernels
    of 3 with stride 2, which fit every size.
    """

    def __init__(self, observation_space: spaces.Box, channels: int, units: int):
        super().__init__(observation_space, units)
        self.latent = observation_space.dtype == np.float32
        shape = observation_space.shape
        if self.latent:
            layers: list[nn.Module] = [nn.Conv2d(shape[2], channels, 3, padding=1), nn.SiLU()]
            layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.SiLU()]
        else:
            kernels = [(8, 4, 0), (4, 2, 0), (3, 1, 0)] if min(shape[1:]) >= LARGE else [(3, 2, 1)] * 3
            widths = [shape[0], channels // 2, channels, channels]
            layers = []
            for width, wider, (side, stride, padding) in zip(widths, widths[1:], kernels, strict=False):
                layers += [nn.Conv2d(width, wider, side, stride, padding), nn.SiLU()]
        self.grid = nn.Sequential(*layers, nn.Flatten())
        flat = self._features(torch.zeros(1, *shape)).shape[1]
        self.vector = nn.Sequential(nn.Linear(flat, units), nn.SiLU())

    def forward(self, observations: Tensor) -> Tensor:
        return self.vector(self._features(observations))

    def _features(self, observations: Tensor) -> Tensor:
        # contiguous, as a backward pass through small channels-last images crashed torch 2.13 on a CPU
        return self.grid(observations.movedim(-1, 1).contiguous() if self.latent else observations)


def policy_kwargs(config: PolicyConfig) -> dict[str, Any]:
    """The config as keyword arguments of Stable-Baselines3's policy."""
    extractor = {"channels": config.channels, "units": config.units}
    return {"features_extractor_class": GridFeatures, "features_extractor_kwargs": extractor, "net_arch": []}


def make_ppo(env: VecEnv, config: PPOConfig, seed: int, folder: Path | None = None, scale: Scale | None = None) -> PPO:
    """A new PPO for this environment; its curves go to `folder`, for TensorBoard.

    `scale` is the world's `info.action_scale`. Raises: ValueError and TypeError as `ActionAdapter`.
    """
    env = AdaptedVecEnv(env, ActionAdapter(env.action_space, scale))
    names = ("n_steps", "batch_size", "n_epochs", "learning_rate", "gamma", "gae_lambda", "ent_coef", "clip_range")
    settings = {name: getattr(config, name) for name in (*names, "max_grad_norm")}
    logs = None if folder is None else str(folder)
    kwargs = policy_kwargs(config.policy)
    return PPO(ActorCriticPolicy, env, seed=seed, device="cpu", tensorboard_log=logs, policy_kwargs=kwargs, **settings)


class PolicyAgent:
    """A trained policy with the tokenizer that encodes its observations; it acts on real frames.

    Raises: ValueError and TypeError as `ActionAdapter`.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        tokenizer: Tokenizer,
        space: spaces.Space,
        config: PolicyConfig,
        scale: Scale | None = None,
    ):
        self.policy, self.tokenizer, self.space, self.config = policy.eval(), tokenizer, space, config
        self.scale, self.adapter = scale, ActionAdapter(space, scale)

    @property
    def obs(self) -> Observation:
        """The kind of its observations."""
        return self.config.obs

    def episode(self, rng: np.random.Generator) -> Policy:
        """A policy for one episode, which samples its actions as in training."""
        encoder = ObservationEncoder(self.tokenizer, self.obs)

        def decide(frames: np.ndarray) -> Iterable[Any]:
            action = self.act(encoder.observe(frames)[None], rng)[0]
            return action if self.tokenizer.time_stride > 1 else [action]

        return ChunkedPolicy(decide)

    def act(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Actions of the environment for a batch of observations."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            return self.adapter.to_env(self.policy.predict(observations, deterministic=False)[0])

    def save(self, folder: str | Path) -> None:
        """Write policy and tokenizer to weights.safetensors and config.json."""
        config = {
            "kind": "agent",
            "policy": to_dict(self.config),
            **describe_tokenizer(self.tokenizer),
            "action_space": space_to_json(self.space),
        }
        if self.scale is not None:
            config["action_scale"] = [pair and list(pair) for pair in self.scale]
        parts = {"policy": self.policy, "tokenizer": self.tokenizer}
        tensors = {f"{part}.{name}": x for part, module in parts.items() for name, x in module.state_dict().items()}
        save_weights(folder, config, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> "PolicyAgent":
        """The agent in `folder`.

        Raises: ValueError if the folder is incomplete, damaged, or has no agent.
        """

        def fits(config: dict[str, Any], shapes: Shapes) -> None:
            check_kind(folder, config, "agent")
            check_shapes(lambda: _parts(config), current_names(shapes))

        config, tensors = load_weights(folder, fits)
        with errors_name(folder):
            parts: Any = build_module(lambda: _parts(config), current_names(tensors))
            space, scale = space_from_json(config["action_space"]), scale_from_json(config.get("action_scale"))
            settings = from_mapping(PolicyConfig, config["policy"], "policy")
            return cls(parts["policy"], parts["tokenizer"].eval(), space, settings, scale)


def _parts(config: Mapping[str, Any]) -> nn.ModuleDict:
    """The policy and the tokenizer of a config.json, with new weights."""
    tokenizer, settings = new_tokenizer(config), from_mapping(PolicyConfig, config["policy"], "policy")
    scale = scale_from_json(config.get("action_scale"))
    policy = empty_policy(tokenizer, space_from_json(config["action_space"]), settings, scale)
    return nn.ModuleDict({"policy": policy, "tokenizer": tokenizer})


def empty_policy(
    tokenizer: Tokenizer, space: spaces.Space, config: PolicyConfig, scale: Scale | None = None
) -> ActorCriticPolicy:
    """A policy with new weights for a world's observations and actions."""
    seen = observation_space(tokenizer, config.obs)
    if config.obs == "frames":  # Stable-Baselines3 moves channels to the front
        seen = spaces.Box(0, 255, (seen.shape[2], *seen.shape[:2]), np.uint8)
    return ActorCriticPolicy(
        seen, ActionAdapter(space, scale).agent_space, lr_schedule=lambda _: 0.0, **policy_kwargs(config)
    )


def ppo_agent(model: PPO, world: WorldModel, config: PolicyConfig) -> PolicyAgent:
    """The trained policy as an agent for the real environment."""
    assert isinstance(model.policy, ActorCriticPolicy)
    return PolicyAgent(model.policy, world.tokenizer, action_space(world), config, world.info.action_scale)


@cache
def _loaded(folder: str) -> PolicyAgent:
    return PolicyAgent.load(folder)


def load_policy(folder: str, rng: np.random.Generator) -> Policy:
    """The agent in `folder` as a policy of `worldmodel collect`: policy=worldmodel.agents.sb3:load_policy:FOLDER."""
    torch.set_num_threads(1)  # collection has one process per core
    return _loaded(folder).episode(rng)
