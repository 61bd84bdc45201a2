"""Dreams as the ecosystem sees them, by the real packages: their own checkers find nothing, warnings are errors."""

from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
import stable_baselines3.common.env_checker as sb3_checker
import torch
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.wrappers import FrameStackObservation, RecordEpisodeStatistics, RecordVideo
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from torchrl.envs import GymEnv, GymWrapper
from torchrl.envs.utils import check_env_specs

import worldmodel  # noqa: F401  (registers the dream)
from tests.helpers_models import REWARDS, small_prior, small_tokenizer, small_world, some_tokens
from worldmodel.agents.sb3 import DreamVecEnv, PolicyAgent, PolicyConfig, PPOConfig, make_ppo, ppo_agent
from worldmodel.data.clips.start_contexts import StartContexts
from worldmodel.dream import DreamEnv, DreamVectorEnv
from worldmodel.world import WorldInfo, WorldModel

ID = "worldmodel/Dream-v0"


def picture_world() -> WorldModel:
    """A small world whose frames are large enough for the usual networks for pictures (36 × 36 and more)."""
    info = WorldInfo((40, 48, 3), Discrete(4), ("noop", "forward", "left", "right"), longest=9)
    tokenizer, prior = small_tokenizer(frame=info.frame_shape), small_prior(grid=(5, 6), rewards=REWARDS)
    starts = StartContexts(some_tokens(2, 1, (5, 6)), torch.zeros(2, 1, 4), torch.ones(2, dtype=torch.long), resets=2)
    return WorldModel(tokenizer, prior, info, starts)


def chunked_world() -> WorldModel:
    """A small world of two actions at once."""
    return small_world(time_stride=2)


def tiny_ppo(obs: Literal["latent", "frames"]) -> PPOConfig:
    return PPOConfig(envs=4, n_steps=8, batch_size=16, n_epochs=1, policy=PolicyConfig(obs, channels=4, units=8))


def make(world: WorldModel | None = None, **settings: Any) -> gymnasium.Env:
    return gymnasium.make(ID, world=world or small_world(), **settings)


def over(step: tuple[Any, ...]) -> np.ndarray:
    return step[2] | step[3]


# --- Gymnasium


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("obs", ["frames", "tokens"])
def test_gymnasium_finds_nothing_wrong(obs, stride):
    check_env(make(small_world(stride), obs=obs, render_mode="rgb_array").unwrapped)


@pytest.mark.filterwarnings("ignore:.*Box observation space m(in|ax)imum value is -?infinity:UserWarning")  # as it is
def test_gymnasium_finds_nothing_wrong_with_latents_but_that_they_are_unbounded():
    check_env(make(obs="latent", render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("obs", ["frames", "tokens", "latent"])
def test_the_checks_that_make_puts_around_every_environment_pass_over_whole_dreams(obs):
    env = make(obs=obs, render_mode="rgb_array")
    env.action_space.seed(0)
    for seed in range(4):
        done = False
        env.reset(seed=seed)
        while not done:
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
            frame = env.render()
            assert isinstance(frame, np.ndarray) and frame.shape == (16, 24, 3)


def test_a_world_on_disk_is_all_that_make_and_make_vec_need(tmp_path):
    small_world().save(tmp_path)
    env, many = gymnasium.make(ID, world=tmp_path), gymnasium.make_vec(ID, num_envs=3, world=tmp_path)
    assert isinstance(env.unwrapped, DreamEnv) and isinstance(many, DreamVectorEnv)
    assert np.array_equal(env.reset(seed=1)[0], many.reset(seed=0)[0][1])
    assert env.spec is not None
    assert gymnasium.make(env.spec).unwrapped.observation_space == env.observation_space


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_make_vec_gives_the_same_dreams_one_by_one_and_in_one_pass(mode):
    many = gymnasium.make_vec(ID, num_envs=3, vectorization_mode=mode, world=small_world())
    own = DreamVectorEnv(3, world=small_world())
    assert np.array_equal(many.reset(seed=5)[0], own.reset(seed=5)[0])
    for i in range(6):
        assert data_equivalence(many.step(np.full(3, i % 4))[:-1], own.step(np.full(3, i % 4))[:-1], exact=True)


def test_frames_stack():
    env = FrameStackObservation(make(), 3)
    first, _ = env.reset(seed=0)
    second = env.step(1)[0]
    assert first.shape == (3, 16, 24, 3) and env.observation_space.contains(second)
    assert np.array_equal(first[-1], second[-2]) and not np.array_equal(second[-1], second[-2])


def test_episodes_are_counted_and_summed():
    env = RecordEpisodeStatistics(make())
    env.reset(seed=0)
    rewards, done, info = [], False, {}
    while not done:
        _, reward, terminated, truncated, info = env.step(1)
        rewards, done = [*rewards, reward], terminated or truncated
    assert info["episode"]["l"] == len(rewards) and info["episode"]["r"] == pytest.approx(sum(rewards))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_episodes_of_many_dreams_are_counted_and_summed(mode):
    env = vector_wrappers.RecordEpisodeStatistics(DreamVectorEnv(6, world=small_world(), autoreset_mode=mode))
    env.reset(seed=0)
    sums, found = np.zeros(6), 0
    for _ in range(5):
        step = env.step(np.ones(6, int))
        sums += step[1]
        if (done := over(step)).any():
            infos = step[-1]["final_info"] if mode == "SameStep" and "episode" not in step[-1] else step[-1]
            assert infos["episode"]["r"][done] == pytest.approx(sums[done])
            sums[done], found = 0.0, found + done.sum()
    assert found


def test_a_video_of_a_dream_is_recorded(tmp_path):
    env = RecordVideo(make(render_mode="rgb_array"), str(tmp_path / "videos"), disable_logger=True)
    env.reset(seed=0)
    while not any(env.step(1)[2:4]):
        pass
    env.close()
    assert [path.suffix for path in Path(tmp_path / "videos").iterdir()] == [".mp4"]


def test_vector_wrappers_take_dreams():
    many = DreamVectorEnv(2, world=small_world(), obs="latent")
    env = vector_wrappers.DictInfoToList(vector_wrappers.NormalizeReward(vector_wrappers.FlattenObservation(many)))
    env.reset(seed=0)
    seen, rewards, *_, infos = env.step(np.array([0, 1]))
    assert seen.shape == (2, 30) and rewards.shape == (2,)
    names = ["end_probability", "horizon", "surprise", "tokens", "trust_horizon"]
    assert [sorted(info) for info in infos] == [names] * 2


# --- Stable-Baselines3


def test_stable_baselines3_finds_nothing_wrong():
    sb3_checker.check_env(DreamEnv(world=picture_world(), render_mode="rgb_array"))


@pytest.mark.filterwarnings("ignore:It seems that your observation:UserWarning")  # three axes need not be a picture
@pytest.mark.filterwarnings("ignore:Your observation .*unconventional shape:UserWarning")  # nor one
@pytest.mark.filterwarnings("ignore:The minimal resolution for an image:UserWarning")
@pytest.mark.parametrize("obs", ["tokens", "latent"])
def test_stable_baselines3_finds_nothing_wrong_but_that_latents_are_no_images(obs):
    sb3_checker.check_env(DreamEnv(world=small_world(), obs=obs, render_mode="rgb_array"))


def test_as_a_vec_env_dreams_restart_at_once_and_hand_over_their_last_observation():
    world, seen = small_world(longest=3), []
    env, plain = DreamVecEnv(8, world=world), DreamVectorEnv(8, world=world, autoreset_mode="Disabled")
    env.seed(3), env.reset(), plain.reset(seed=3)
    for i in range(6):
        _, rewards, dones, infos = env.step(np.full(8, i % 4))
        last, same, terminated, truncated, _ = plain.step(np.full(8, i % 4))
        assert np.array_equal(rewards, same) and np.array_equal(dones, terminated | truncated)
        for j in np.flatnonzero(dones):
            assert np.array_equal(infos[j]["terminal_observation"], last[j])
            assert infos[j]["TimeLimit.truncated"] == (truncated[j] and not terminated[j])
            seen.append(infos[j]["TimeLimit.truncated"])
        assert all("terminal_observation" not in infos[j] for j in np.flatnonzero(~dones))
        if dones.any():
            plain.reset(options={"reset_mask": dones})
    assert len(set(seen)) == 2  # some ended, some were cut


def test_a_seed_is_for_the_next_reset_of_a_vec_env_and_decides_all_that_follows():
    env = VecMonitor(DreamVecEnv(4, world=small_world()))
    lives = []
    for seed in (1, 1, 2):
        env.seed(seed)
        lives.append([env.reset(), *(env.step(np.full(4, 2))[0] for _ in range(6))])
    one, again, other = (np.stack(life) for life in lives)
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    first, second = env.reset(), env.step(np.full(4, 2))[0]
    assert isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
    assert not np.array_equal(first, other[0]) or not np.array_equal(second, other[1])


def test_vec_monitor_reports_the_return_of_each_dream():
    env = VecMonitor(DreamVecEnv(4, world=small_world()))
    env.seed(0), env.reset()
    sums, found = np.zeros(4), 0
    for _ in range(6):
        _, rewards, dones, infos = env.step(np.ones(4, int))
        sums += rewards
        for j in np.flatnonzero(dones):
            assert infos[j]["episode"]["r"] == pytest.approx(sums[j])
            sums[j], found = 0.0, found + 1
    assert found


def test_the_rest_of_the_vec_env_interface_answers():
    env = DreamVecEnv(3, world=small_world(), render_mode="rgb_array")
    env.set_options({"start": 1}), env.reset()
    assert env.env_is_wrapped(gymnasium.Wrapper, [0, 2]) == [False, False] and len(env.reset_infos) == 3
    assert env.get_attr("num_envs", 1) == [3] and not env.has_attr("nothing")
    env.set_attr("limit", 1)
    assert env.step(np.zeros(3, int))[2].all()
    image, tiled = env.get_images()[1], env.render(mode="rgb_array")
    assert image is not None and np.array_equal(image, env.env_method("render", indices=[1])[0])
    assert tiled is not None and tiled.ndim == 3
    env.close()


@pytest.mark.parametrize(
    ("obs", "world"), [("latent", small_world), ("latent", chunked_world), ("frames", picture_world)]
)
def test_ppo_learns_in_dreams_and_acts_the_same_once_saved_and_loaded(obs, world, tmp_path):
    world, config = world(), tiny_ppo(obs)
    model = make_ppo(VecNormalize(DreamVecEnv(4, world=world, obs=obs), norm_obs=False), config, seed=0)
    before = [weight.detach().clone() for weight in model.policy.parameters()]
    model.learn(64)
    assert not all(torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    agent = ppo_agent(model, world, config.policy)
    agent.save(tmp_path)
    one, two = (acts(each, world) for each in (agent, PolicyAgent.load(tmp_path)))
    assert one == two and set(one) <= set(range(4))


def acts(agent: PolicyAgent, world: WorldModel) -> list[int]:
    """What it does in one episode of noise."""
    frames = np.random.default_rng(0).integers(0, 256, (9, *world.info.frame_shape), np.uint8)
    policy = agent.episode(np.random.default_rng(4))
    return [int(policy(frame)) for frame in frames]


def test_plain_ppo_from_images_trains_and_saves(tmp_path):
    env = DreamVecEnv(2, world=picture_world())
    model = PPO("CnnPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu")
    model.learn(32)
    model.save(tmp_path / "ppo")
    seen = env.reset()
    loaded = PPO.load(tmp_path / "ppo", device="cpu")
    one, two = (each.predict(seen, deterministic=True)[0] for each in (model, loaded))
    assert np.array_equal(one, two)


def test_the_same_seed_trains_the_same_policy():
    world, weights = small_world(), []
    for seed in (0, 0, 1):
        model = make_ppo(DreamVecEnv(4, world=world, obs="latent"), tiny_ppo("latent"), seed=seed)
        model.learn(64)
        weights.append(torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


# --- TorchRL


@pytest.mark.parametrize("obs", ["frames", "tokens", "latent"])
def test_torchrl_steps_a_dream_and_finds_its_specs_true(obs):
    env = GymWrapper(DreamEnv(world=small_world(), obs=obs))
    check_env_specs(env)
    record = env.rollout(6, break_when_any_done=False)
    seen = record["next", "pixels" if obs == "frames" else "observation"]
    assert seen.shape == (6, *env.observation_space.shape) and "reward" in record["next"]


def test_torchrl_makes_a_dream_by_its_name():
    env = GymEnv(ID, world=small_world(), device="cpu")
    env.set_seed(0)
    assert env.rollout(4)["pixels"].dtype == torch.uint8


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])  # the two that TorchRL takes
def test_torchrl_steps_many_dreams_at_once(mode):
    env = GymWrapper(gymnasium.make_vec(ID, num_envs=3, world=small_world(), autoreset_mode=mode))
    assert env.rollout(6, break_when_any_done=False)["observation"].shape == (3, 6, 16, 24, 3)
