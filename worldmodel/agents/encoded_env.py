"""The real environment with a dream's observations: frames pass the tokenizer, actions come in chunks."""

from typing import Any

import gymnasium
import numpy as np
import torch

from worldmodel.dream.spaces import Observation, action_space, observation_space
from worldmodel.interfaces import Tokenizer
from worldmodel.world import WorldModel


class ObservationEncoder:
    """Turns the frames of one episode into the observations of a dream (`obs` as in `DreamVectorEnv`)."""

    def __init__(self, tokenizer: Tokenizer, obs: Observation):
        self.tokenizer, self.obs = tokenizer, obs
        self._encoder, self._decoder = None, None

    @torch.no_grad()
    def observe(self, frames: np.ndarray) -> np.ndarray:
        """The observation after these frames, `t h w c`: first one frame, then `time_stride` frames a call."""
        video = torch.from_numpy(np.ascontiguousarray(frames))[None].to(self.tokenizer.device)
        tokens, self._encoder = self.tokenizer.encode_chunk(video, self._encoder)
        if self.obs == "tokens":
            return tokens[0, -1].cpu().numpy()
        if self.obs == "latent":
            return self.tokenizer.embed(tokens[:, -1])[0].cpu().numpy()
        seen, self._decoder = self.tokenizer.decode_chunk(tokens, self._decoder)
        return seen[0, -1].cpu().numpy()


class EncodedEnv(gymnasium.Wrapper):
    """The real environment with the observations and actions of its dream.

    Raises: ValueError if frames or actions are not those of the world.
    """

    def __init__(self, env: gymnasium.Env, world: WorldModel, obs: Observation = "frames"):
        check_spaces(env, world)
        super().__init__(env)
        self.tokenizer = world.tokenizer
        self.obs: Observation = obs
        self.stride = world.tokenizer.time_stride
        self.observation_space = observation_space(world.tokenizer, obs)
        self.action_space = action_space(world)
        self._observations = ObservationEncoder(world.tokenizer, obs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; the frame passes the tokenizer."""
        frame, info = self.env.reset(seed=seed, options=options)
        self._observations = ObservationEncoder(self.tokenizer, self.obs)
        return self._observations.observe(frame[None]), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take `time_stride` real steps, with the sum of their rewards; after an end the last frame is repeated."""
        frames: list[np.ndarray] = []
        frame: Any = None
        total, terminated, truncated, info = 0.0, False, False, {}
        for each in action if self.stride > 1 else [action]:
            if not (terminated or truncated):
                frame, reward, terminated, truncated, info = self.env.step(each)
                total += float(reward)
            frames.append(np.array(frame))
        return self._observations.observe(np.stack(frames)), total, terminated, truncated, info


def check_spaces(env: gymnasium.Env, world: WorldModel) -> None:
    """Raises: ValueError if frames or actions of `env` are not those of the world."""
    shape, actions = env.observation_space.shape, env.action_space
    remedy = "make it with the settings in the world's config.json, under info.env (envs.make does)"
    if shape != tuple(world.info.frame_shape):
        raise ValueError(f"env: expected frames of shape {tuple(world.info.frame_shape)}, got {shape}; {remedy}")
    if world.info.action_space is not None and actions != world.info.action_space:
        raise ValueError(f"env: expected actions {world.info.action_space}, got {actions}; {remedy}")
