"""The real world seen as a dream shows it: frames through the tokenizer, actions in chunks."""

from typing import Any

import gymnasium
import numpy as np
import torch

from worldmodel.dream.spaces import Observation, action_space, observation_space
from worldmodel.interfaces import Tokenizer
from worldmodel.world import WorldModel


class ObservationEncoder:
    """The frames of one episode, as they come → what a dream would show instead (`obs` as in `DreamVectorEnv`)."""

    def __init__(self, tokenizer: Tokenizer, obs: Observation):
        self.tokenizer, self.obs = tokenizer, obs
        self._encoder, self._decoder = None, None

    @torch.no_grad()
    def observe(self, frames: np.ndarray) -> np.ndarray:
        """The observation after these frames, `t h w c`: the first of the episode alone, then `time_stride` at once."""
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

    Raises: ValueError for an environment that is not the one that the world imitates.
    """

    def __init__(self, env: gymnasium.Env, world: WorldModel, obs: Observation = "frames"):
        check_spaces(env, world)
        super().__init__(env)
        self.tokenizer = world.tokenizer
        self.obs: Observation = obs
        self.stride = world.tokenizer.time_stride
        self.observation_space = observation_space(world.tokenizer, obs)
        self.action_space = action_space(world)
        self._eyes = ObservationEncoder(world.tokenizer, obs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's, seen through the tokenizer."""
        frame, info = self.env.reset(seed=seed, options=options)
        self._eyes = ObservationEncoder(self.tokenizer, self.obs)
        return self._eyes.observe(frame[None]), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As many real steps as a latent has frames; after an end the last frame stands."""
        frames: list[np.ndarray] = []
        frame: Any = None
        total, terminated, truncated, info = 0.0, False, False, {}
        for each in action if self.stride > 1 else [action]:
            if not (terminated or truncated):
                frame, reward, terminated, truncated, info = self.env.step(each)
                total += float(reward)
            frames.append(np.array(frame))
        return self._eyes.observe(np.stack(frames)), total, terminated, truncated, info


def check_spaces(env: gymnasium.Env, world: WorldModel) -> None:
    """Raises: ValueError where frames or actions of `env` are not those of the world, saying which and what to do."""
    shape, actions = env.observation_space.shape, env.action_space
    remedy = "make it with the settings in the world's config.json, under info.env (envs.make does)"
    if shape != tuple(world.info.frame_shape):
        raise ValueError(f"env: expected frames of shape {tuple(world.info.frame_shape)}, got {shape}; {remedy}")
    if world.info.action_space is not None and actions != world.info.action_space:
        raise ValueError(f"env: expected actions {world.info.action_space}, got {actions}; {remedy}")
