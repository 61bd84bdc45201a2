"""An agent's training that was stopped goes on: in dreams to the last bit, as if nobody had stopped it."""

import random
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize, unwrap_vec_normalize

from tests.helpers_models import small_world
from worldmodel.agents.ppo_state import load_ppo_state, ppo_state
from worldmodel.agents.sb3 import DreamVecEnv, PolicyConfig, PPOConfig, make_ppo
from worldmodel.training.run_state import Checkpoint, latest, load_optimizer_tensors, optimizer_tensors, save

CONFIG = PPOConfig(steps=48, envs=2, n_steps=6, batch_size=6, n_epochs=2, policy=PolicyConfig("latent", 4, 8))


class Saving(BaseCallback):
    """Saves before each rollout, and stops in the midst of the one after `at` steps, as a kill does."""

    def __init__(self, folder, at=None):
        super().__init__()
        self.folder, self.at = folder, at

    def _on_rollout_start(self):
        assert isinstance(self.model, PPO)
        tensors, values = ppo_state(self.model)
        tensors["optimizer"] = optimizer_tensors(self.model.policy.optimizer)
        save(self.folder, Checkpoint(self.num_timesteps, tensors, {"ppo": values}))

    def _on_step(self):
        if self.at is not None and self.num_timesteps > self.at + 4:
            raise KeyboardInterrupt
        return True


def ppo(env, obs="latent", seed=3) -> PPO:
    env = VecNormalize(VecMonitor(env), norm_obs=False, gamma=0.9)
    env.seed(seed)
    return make_ppo(env, replace(CONFIG, policy=replace(CONFIG.policy, obs=obs)), seed)


def dreaming(stride=1, obs="latent") -> PPO:
    world = small_world(time_stride=stride)
    return ppo(DreamVecEnv(2, world=world, obs=obs, starts="anywhere", horizon=5 * stride), obs)


def weights(model):
    return {**model.policy.state_dict(), **optimizer_tensors(model.policy.optimizer)}


def episode_returns(model: PPO) -> list[float]:
    assert model.ep_info_buffer is not None
    return [each["r"] for each in model.ep_info_buffer]


def equal(left, right):
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def stir():
    """What another program draws between a stop and the same command."""
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)


@pytest.mark.parametrize(("stride", "obs"), [(1, "latent"), (2, "latent"), (1, "frames")])
@pytest.mark.parametrize("at", [12, 36])
def test_a_training_in_dreams_that_was_stopped_ends_bit_equal_to_one_that_was_not(tmp_path, at, stride, obs):
    whole = dreaming(stride, obs)
    whole.learn(CONFIG.steps)
    with pytest.raises(KeyboardInterrupt):
        dreaming(stride, obs).learn(CONFIG.steps, Saving(tmp_path, at))
    stir()
    found, resumed = latest(tmp_path), dreaming(stride, obs)
    assert found is not None and found.step == at
    load_optimizer_tensors(resumed.policy.optimizer, found.tensors["optimizer"])
    load_ppo_state(resumed, found.tensors, found.progress["ppo"], seed=7)
    resumed.learn(CONFIG.steps - at, reset_num_timesteps=False)
    assert (resumed.num_timesteps, whole.num_timesteps) == (CONFIG.steps, CONFIG.steps)
    assert equal(weights(whole), weights(resumed))
    assert episode_returns(whole) == episode_returns(resumed)


class Chain(gymnasium.Env):
    """Pays for staying; tells with which seeds it was reset."""

    observation_space, action_space = Box(-1, 1, (2, 3, 5), np.float32), Discrete(2)
    seeds: list = []  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Chain.seeds.append(seed)
        self.steps = 0
        return self.np_random.uniform(-1, 1, (2, 3, 5)).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        seen = self.np_random.uniform(-1, 1, (2, 3, 5)).astype(np.float32)
        return seen, float(action), self.steps >= 7, False, {}


def test_a_training_in_real_environments_goes_on_with_new_episodes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        ppo(DummyVecEnv([Chain] * 2)).learn(CONFIG.steps, Saving(tmp_path, 24))
    found, resumed = latest(tmp_path), ppo(DummyVecEnv([Chain] * 2))
    assert found is not None and "dreams" not in found.tensors
    Chain.seeds.clear()
    load_optimizer_tensors(resumed.policy.optimizer, found.tensors["optimizer"])
    load_ppo_state(resumed, found.tensors, found.progress["ppo"], seed=70)
    assert Chain.seeds == [70, 71] and resumed.num_timesteps == 24
    assert equal({k: v for k, v in resumed.policy.state_dict().items()}, found.tensors["policy"])
    env, starts = resumed.env, resumed._last_episode_starts
    assert env is not None and starts is not None
    normalized = unwrap_vec_normalize(env)
    assert normalized is not None and isinstance(normalized.venv, VecMonitor)
    assert normalized.ret_rms.count == pytest.approx(24, abs=0.01) and not normalized.returns.any()
    assert not normalized.venv.episode_returns.any() and starts.all()
    resumed.learn(CONFIG.steps - 24, reset_num_timesteps=False)
    assert resumed.num_timesteps == CONFIG.steps
