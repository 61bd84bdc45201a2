"""Laws of the dream as an environment: it is reproducible one by one, begins anew as Gymnasium has it, and branches."""

from typing import Any, Literal

import gymnasium
import jaxtyping
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.helpers_env import CounterEnv
from tests.helpers_models import outcome_head, random_frames, small_world
from worldmodel.agents.encoded_env import EncodedEnv
from worldmodel.dream import DreamEnv, DreamVectorEnv
from worldmodel.envs.maze import MazeConfig, MazeEnv
from worldmodel.world import WorldInfo, WorldModel

Record = list[tuple[Any, ...]]  # what reset and every step gave


def lasting_world(lasting: float = 2.0, **settings) -> WorldModel:
    """A small world of which about one step in eight (the sigmoid of −2) ends a dream: some end soon, some last."""
    world = small_world(**settings)
    head = outcome_head(world)
    with torch.no_grad():
        for part in (head.out_proj.weight, head.out_proj.bias):
            goes_on, ends = part.chunk(2)
            ends.copy_(goes_on)  # whatever the rewards, an end is as likely
        head.out_proj.bias[len(head.rewards) :] -= lasting
    return world


def endless_world(**settings) -> WorldModel:
    """A small world in which nothing ends by itself."""
    return lasting_world(100.0, **settings)


def some_actions(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape)


def run_episode(env: Any, actions: Any, **reset: Any) -> Record:
    """What a reset and then these actions, one row each, give."""
    return [env.reset(**reset), *(env.step(each) for each in actions)]


def identical(one: Any, two: Any) -> bool:
    """To the last bit, types included."""
    return data_equivalence(one, two, exact=True)


def at(record: Any, place: Any) -> Any:
    """The same record with this of every array (or tensor)."""
    if isinstance(record, dict):
        return {name: at(value, place) for name, value in record.items()}
    return type(record)(at(x, place) for x in record) if isinstance(record, list | tuple) else record[place]


def squeeze_single(record: Record) -> Record:
    """The record of the only dream among vectors, as `DreamEnv` gives it."""

    def plain(name: str, value: np.ndarray) -> Any:
        return value[0] if name == "tokens" else value[0].item()

    found: Record = []
    for seen, *outcome, infos in record:
        values = {name: plain(name, x) for name, x in infos.items() if not name.startswith("_")}
        found.append((seen[0], *(each[0].item() for each in outcome), values))
    return found


def ended(record: Record) -> np.ndarray:
    """Whether each dream was over at each step."""
    return np.stack([terminated | truncated for _, _, terminated, truncated, _ in record[1:]])


# --- the same seed, the same dream


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_dream_is_to_the_last_bit_the_same_alone_and_among_64_in_any_slot(mode):
    settings, actions = {"world": lasting_world(), "starts": "anywhere", "autoreset_mode": mode}, some_actions(9, 64)
    together = run_episode(DreamVectorEnv(64, **settings), actions, seed=100)
    assert ended(together)[:-2].any(0).sum() > 32
    for slot in (0, 17, 63):
        single = run_episode(DreamVectorEnv(1, **settings), actions[:, [slot]], seed=100 + slot)
        for step, among in zip(single, at(together, [slot]), strict=True):
            assert identical(step[:-1], among[:-1])
            assert identical(step[-1], {name: among[-1][name] for name in step[-1]})


def test_seeds_in_another_order_are_the_same_dreams_in_another_order():
    env, actions = DreamVectorEnv(6, world=lasting_world()), some_actions(12, 6)
    order = np.array([3, 0, 5, 1, 4, 2])
    one = run_episode(env, actions, seed=[9, 8, 7, 6, 5, 4])
    other = run_episode(env, actions[:, order], seed=np.array([9, 8, 7, 6, 5, 4])[order].tolist())
    assert ended(one).any() and identical(at(one, order), other)


@pytest.mark.parametrize("obs", ["frames", "tokens", "latent"])
def test_dream_i_of_a_seeded_reset_is_the_single_dream_of_that_seed_plus_i(obs):
    world, actions = endless_world(), some_actions(5, 4)
    together = run_episode(DreamVectorEnv(4, world=world, obs=obs), actions, seed=30)
    for i in range(4):
        single = run_episode(DreamEnv(world=world, obs=obs), actions[:, i], seed=30 + i)
        assert identical(single, squeeze_single(at(together, [i])))


def test_without_a_seed_every_dream_is_another_and_the_first_seed_decides_them_all():
    env, actions = DreamVectorEnv(2, world=endless_world()), some_actions(4, 2)
    first = [run_episode(env, actions, seed=1), run_episode(env, actions), run_episode(env, actions)]
    again = [run_episode(env, actions, seed=1), run_episode(env, actions), run_episode(env, actions)]
    assert identical(first, again) and not identical(first[1], first[2])


def test_a_saved_and_loaded_world_dreams_the_same(tmp_path):
    world, actions = lasting_world(time_stride=2), some_actions(8, 3, 2)
    world.save(tmp_path)
    one, two = (DreamVectorEnv(3, world=each, starts="anywhere") for each in (world, tmp_path))
    assert identical(run_episode(one, actions, seed=5), run_episode(two, actions, seed=5))


# --- beginning anew


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_many_dreams_do_step_for_step_what_gymnasium_makes_of_single_ones(mode):
    settings = {"world": lasting_world(), "horizon": 5}
    ours = DreamVectorEnv(5, autoreset_mode=mode, **settings)
    theirs = SyncVectorEnv([lambda: DreamEnv(**settings)] * 5, autoreset_mode=mode)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert ours.metadata == theirs.metadata and ours.single_observation_space == theirs.single_observation_space
    assert_same_step(ours.reset(seed=7), theirs.reset(seed=7))
    ends = np.zeros(2)
    for actions in some_actions(14, 5):
        one, two = ours.step(actions), theirs.step(actions)
        assert_same_step(one, two)
        ends += [one[2].sum(), one[3].sum()]
        if mode == AutoresetMode.DISABLED and (over := one[2] | one[3]).any():
            assert_same_step(*(env.reset(options={"reset_mask": over}) for env in (ours, theirs)))
    assert ends.all()  # some by themselves, some by the horizon


def assert_same_step(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    """Equal to the last bit, infos where their masks say that they hold."""
    assert identical(ours[:-1], theirs[:-1])
    assert_same_infos(ours[-1], theirs[-1])


def assert_same_infos(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name in (name for name in theirs if not name.startswith("_")):
        mask = theirs[f"_{name}"]
        assert identical(ours[f"_{name}"], mask), name
        if name == "final_info":
            assert_same_infos(ours[name], theirs[name])
        elif name == "final_obs":
            assert all(identical(a, b) for a, b in zip(ours[name], theirs[name], strict=True))
        else:
            assert identical(ours[name][mask], theirs[name][mask]), name


def test_a_masked_reset_restarts_these_dreams_by_their_seeds_and_leaves_the_others_alone():
    env, actions = DreamVectorEnv(3, world=endless_world(), autoreset_mode="Disabled"), some_actions(6, 3)
    undisturbed = run_episode(env, actions, seed=1)
    run_episode(env, actions[:3], seed=1)
    seen, infos = env.reset(seed=[50, 51, 52], options={"reset_mask": np.array([False, True, False])})
    after = [env.step(each) for each in actions[3:]]
    fresh = run_episode(DreamVectorEnv(1, world=env.world), actions[3:, [1]], seed=51)
    assert infos["_surprise"].tolist() == [False, True, False]
    assert identical(at([seen], [0, 2]), at([undisturbed[3][0]], [0, 2])) and identical(seen[[1]], fresh[0][0])
    assert identical(at(after, [0, 2]), at(undisturbed[4:], [0, 2])) and identical(at(after, [1]), fresh[1:])


def test_a_dream_that_is_over_asks_for_a_reset():
    many = DreamVectorEnv(2, world=endless_world(), autoreset_mode="Disabled", horizon=2)
    many.reset(seed=0), many.step([0, 0]), many.reset(seed=0, options={"reset_mask": np.array([True, False])})
    many.step([0, 0])
    with pytest.raises(ResetNeeded, match=r"dreams \[1\] are over: reset them"):
        many.step([0, 0])
    single = DreamEnv(world=many.world, horizon=1)
    single.reset(seed=0), single.step(0)
    with pytest.raises(ResetNeeded, match="reset"):
        single.step(0)


def test_before_the_first_reset_there_is_nothing_to_step_render_or_branch_from():
    env = DreamEnv(world=small_world(), render_mode="rgb_array")
    for ask in (lambda: env.step(0), env.render, env.snapshot, lambda: env.state):
        with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
            ask()
    many = DreamVectorEnv(2, world=env.batch.world)
    with pytest.raises(ResetNeeded, match="reset them all first"):
        many.reset(options={"reset_mask": np.array([True, False])})


# --- coming back, and branching


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_from_a_snapshot_the_same_actions_lead_to_the_same_future_autoresets_included(mode):
    resets = mode != AutoresetMode.DISABLED
    env = DreamVectorEnv(4, world=lasting_world() if resets else endless_world(), autoreset_mode=mode)
    run_episode(env, some_actions(2, 4), seed=2)
    moment, actions = env.snapshot(), some_actions(20 if resets else 6, 4, seed=1)
    one = [env.step(each) for each in actions]
    env.restore(moment)
    again = [env.step(each) for each in actions]
    assert identical(one, again)


def test_a_seed_makes_another_future_of_the_same_moment_and_always_the_same_one():
    env, actions = DreamEnv(world=endless_world()), some_actions(5)
    run_episode(env, actions[:2], seed=2)
    moment, frame = env.snapshot(), env.state.frame.clone()
    futures = []
    for seed in (None, 8, 9, 8):
        env.restore(moment, seed)
        assert torch.equal(env.state.frame, frame)
        futures.append([env.step(each) for each in actions])
    own, eight, nine, again = futures
    assert identical(eight, again) and not identical(eight, nine) and not identical(own, eight)


def test_other_actions_branch_and_a_snapshot_serves_other_environments_too():
    world = endless_world()
    env, other = DreamEnv(world=world), DreamEnv(world=world)
    env.reset(seed=3)
    moment = env.snapshot()
    left, right = [], []
    for actions, future in (([2] * 5, left), ([3] * 5, right)):
        env.restore(moment)
        future.extend(env.step(each) for each in actions)
    other.restore(moment)
    assert identical(left, [other.step(2) for _ in range(5)]) and not identical(left, right)
    with pytest.raises(ValueError, match="snapshot of 2 dreams, got one of 1"):
        DreamVectorEnv(2, world=world).restore(moment)


# --- when dreams are cut


def cut_after(**settings: Any) -> tuple[int, str]:
    """The steps after which a dream is truncated in fact, and what says so; at most 12 steps."""
    env = DreamEnv(**settings)
    (_, told), *record = run_episode(env, np.zeros(int(min(env.batch.limit, 12)), int), seed=0)
    truncated = [step[3] for step in record]
    assert not any(step[2] for step in record) and not any(truncated[:-1])
    assert told["horizon"] == (len(record) if truncated[-1] else 0)
    return told["horizon"], env.limit_source


def test_a_dream_is_cut_where_real_episodes_end_and_its_reset_says_which_limit_holds():
    world = endless_world(longest=4)
    world.info.trust_horizon = 2
    assert cut_after(world=world) == (4, "longest episode")
    world.info.env = {"name": "maze", "max_steps": 5}
    assert cut_after(world=world) == (5, "environment")
    world.info.max_steps = 3
    assert cut_after(world=world) == (3, "environment")
    assert WorldInfo.from_json(world.info.to_json()).max_steps == 3
    world.info.max_steps = None
    assert cut_after(world=world, horizon="trust") == (2, "trust")
    assert cut_after(world=world, horizon=6) == (6, "horizon")
    assert cut_after(world=world, horizon=0) == (0, "horizon")
    assert cut_after(world=world, horizon=6, max_episode_steps=3) == (3, "max_episode_steps")
    assert cut_after(world=world, horizon="trust", max_episode_steps=3) == (2, "trust")
    assert cut_after(world=endless_world(longest=None)) == (0, "none")


def test_a_measured_trust_horizon_changes_no_dream_unless_it_is_asked_for():
    world, actions = endless_world(longest=5), some_actions(5)
    before = run_episode(DreamEnv(world=world), actions, seed=1)
    for measured in (0, 2, 100):
        world.info.trust_horizon = measured
        record = run_episode(DreamEnv(world=world), actions, seed=1)
        assert all(identical(step[:-1], earlier[:-1]) for step, earlier in zip(record, before, strict=True))
        assert {(step[-1]["horizon"], step[-1]["trust_horizon"]) for step in record} == {(5, measured)}
        assert DreamEnv(world=world, horizon="trust").batch.limit == max(measured, 1)


def test_a_horizon_that_nobody_measured_and_a_length_that_is_none_are_refused():
    with pytest.raises(ValueError, match=r"horizon=trust: .* never measured; run evaluate first"):
        DreamEnv(world=small_world(), horizon="trust")
    world = small_world()
    world.info.env = {"max_steps": -1}
    with pytest.raises(ValueError, match=r"max_steps in the world's config.json: expected 1 or more, got -1"):
        DreamEnv(world=world)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_dream_that_ends_at_its_last_step_is_terminated_and_not_truncated(mode):
    actions = some_actions(9, 16)
    free = run_episode(
        DreamVectorEnv(16, world=lasting_world(), horizon=0, autoreset_mode="Disabled"), actions[:1], seed=2
    )
    ends = free[1][2]
    assert ends.any() and not ends.all()
    cut = run_episode(DreamVectorEnv(16, world=lasting_world(), horizon=1, autoreset_mode=mode), actions[:1], seed=2)
    assert cut[1][2].tolist() == ends.tolist() and cut[1][3].tolist() == (~ends).tolist()


def test_each_info_has_the_horizon_that_holds_and_the_one_that_was_measured():
    world = endless_world(longest=3)
    env = DreamVectorEnv(2, world=world, max_episode_steps=2)
    for infos in (env.reset(seed=0)[1], *(env.step([0, 0])[-1] for _ in range(3))):
        assert infos["horizon"].tolist() == [2, 2] and infos["trust_horizon"].tolist() == [-1, -1]
        assert infos["_horizon"].tolist() == [True, True]
    assert env.limit_source == "max_episode_steps"
    told = DreamVectorEnv(2, world=world, tensors=True).reset(seed=0)[1]["horizon"]
    assert isinstance(told, torch.Tensor) and told.tolist() == [3, 3]


def test_make_and_make_vec_take_max_episode_steps():
    world = endless_world(longest=9)
    one = gymnasium.make("worldmodel/Dream-v0", world=world, max_episode_steps=2)
    many = gymnasium.make_vec("worldmodel/Dream-v0", num_envs=3, world=world, max_episode_steps=2)
    assert isinstance(many, DreamVectorEnv) and many.num_envs == 3
    assert [step[3] for step in run_episode(one, np.zeros(2, int), seed=0)[1:]] == [False, True]
    cut = np.stack([step[3] for step in run_episode(many, np.zeros((6, 3), int), seed=0)[1:]])
    assert cut.tolist() == [[False] * 3, [True] * 3, [False] * 3] * 2  # the third only begins anew


def test_a_step_that_surprises_more_than_is_allowed_truncates_the_dream():
    world, actions = endless_world(), some_actions(8)
    surprises = [step[-1]["surprise"] for step in run_episode(DreamEnv(world=world), actions, seed=4)[1:]]
    bits = sorted(surprises)[-2]
    env = DreamEnv(world=world, truncate_on_surprise=bits)
    stop = surprises.index(max(surprises))
    record = run_episode(env, actions[: stop + 1], seed=4)
    assert [step[3] for step in record[1:]] == [False] * stop + [True]


# --- what is seen and told


def test_observations_are_in_their_spaces_and_show_the_same_dream():
    world, actions = endless_world(), some_actions(6, 2)
    frames, tokens, latent = (DreamVectorEnv(2, world=world, obs=obs) for obs in ("frames", "tokens", "latent"))
    records = [run_episode(env, actions, seed=3) for env in (frames, tokens, latent)]
    assert frames.single_observation_space == Box(0, 255, (16, 24, 3), np.uint8)
    assert tokens.single_observation_space == Box(0, 18, (2, 3), np.int64)
    assert latent.single_observation_space == Box(-np.inf, np.inf, (2, 3, 5), np.float32)
    for env, record in zip((frames, tokens, latent), records, strict=True):
        assert all(env.observation_space.contains(step[0]) for step in record)
    seen, read, vectors = (torch.from_numpy(np.stack([step[0] for step in record], 1)) for record in records)
    assert torch.equal(world.tokenizer.embed(read), vectors)
    assert (seen.int() - world.tokenizer.decode(read).int()).abs().max() <= 1  # sums are ordered otherwise


def test_infos_tell_tokens_exact_bits_and_the_chance_of_the_end():
    world = lasting_world()
    env = DreamVectorEnv(3, world=world, obs="tokens")
    run_episode(env, some_actions(2, 3), seed=6)
    state, actions = env.state, some_actions(3)
    seen, rewards, terminated, _, infos = env.step(actions)
    _, step = world.step(state, actions)
    assert step.outcome is not None
    assert identical(infos["tokens"], seen) and identical(seen, step.tokens.numpy())
    assert identical(infos["surprise"], step.bits.double().numpy())
    assert identical(infos["end_probability"], step.outcome.end.numpy()) and identical(
        rewards, step.outcome.reward.numpy()
    )
    assert identical(terminated, step.outcome.ended.numpy())


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("obs", ["frames", "tokens", "latent"])
def test_tensors_have_the_values_of_arrays(obs, mode):
    settings, actions = {"world": lasting_world(), "obs": obs, "autoreset_mode": mode}, some_actions(12, 4)
    arrays = run_episode(DreamVectorEnv(4, **settings), actions, seed=1)
    tensors = run_episode(DreamVectorEnv(4, tensors=True, **settings), torch.from_numpy(actions), seed=1)
    assert all(isinstance(each, torch.Tensor) for step in tensors for each in step[:-1])
    assert ended(arrays).any() and identical(as_arrays(tensors), in_single_precision(arrays))


def in_single_precision(record: Any) -> Any:
    """The same record, its numbers as tensors hold them."""
    if isinstance(record, dict):
        return {name: in_single_precision(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return type(record)(in_single_precision(each) for each in record)
    return record.astype(np.float32) if record.dtype == np.float64 else record


def as_arrays(record: Any) -> Any:
    if isinstance(record, dict):
        return {name: as_arrays(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return type(record)(as_arrays(each) for each in record)
    if isinstance(record, np.ndarray) and record.dtype == object:
        found = np.full(len(record), None, dtype=object)
        for i, each in enumerate(record):
            found[i] = as_arrays(each)
        return found
    return record.numpy() if isinstance(record, torch.Tensor) else record


def test_a_single_dream_gives_tensors_too():
    env = DreamEnv(world=endless_world(), tensors=True)
    env.reset(seed=0)
    seen, reward, terminated, truncated, infos = env.step(torch.tensor(1))
    assert seen.shape == (16, 24, 3) and seen.dtype == torch.uint8
    assert all(isinstance(each, torch.Tensor) and each.ndim == 0 for each in (reward, terminated, truncated))
    assert isinstance(infos["tokens"], torch.Tensor) and infos["surprise"].ndim == 0


def test_what_was_given_is_the_users_to_keep_and_to_paint_over():
    env, actions = DreamVectorEnv(2, world=lasting_world(), obs="tokens"), some_actions(6, 2)
    kept = run_episode(env, actions, seed=1)
    env.reset(seed=1)
    for actions_, (seen, *_, infos) in zip(actions, kept[1:], strict=True):
        now, *_, told = env.step(actions_)
        assert identical(now, seen) and identical(told, infos)
        now[:], told["tokens"][:], told["surprise"][:] = 0, 0, 0


def test_the_state_of_a_dream_and_its_snapshots_are_copies():
    env, actions = DreamVectorEnv(2, world=lasting_world(), obs="tokens"), some_actions(6, 2)
    kept = run_episode(env, actions, seed=1)
    env.reset(seed=1)
    for each, step in zip(actions, kept[1:], strict=True):
        moment = env.snapshot()
        env.restore(moment)
        for state in (env.state, moment.state):
            for value in (state.tokens, state.frame, state.steps, state.dreams):
                value.zero_()
        assert identical(env.step(each), step)


def test_rendering_shows_the_newest_frame_if_it_was_asked_for():
    world = endless_world()
    env, many = DreamEnv(world=world, render_mode="rgb_array"), DreamVectorEnv(2, world=world, render_mode="rgb_array")
    for record in (run_episode(env, some_actions(2), seed=0), run_episode(many, some_actions(2, 2), seed=0)):
        assert record[-1][0].dtype == np.uint8
    assert identical(env.render(), env.state.frame[0].numpy())
    assert identical(many.render(), tuple(many.state.frame.numpy()))
    assert DreamEnv(world=world).render() is None and DreamVectorEnv(2, world=world).render() is None


# --- chunks, beginnings, worlds without actions


def test_where_frames_share_latents_actions_come_in_chunks_and_steps_count_as_many():
    world = endless_world(time_stride=2, longest=6)
    env, many = DreamEnv(world=world), DreamVectorEnv(3, world=world)
    assert env.action_space == MultiDiscrete([4, 4]) and many.single_action_space == env.action_space
    assert [step[3] for step in run_episode(env, some_actions(3, 2), seed=0)[1:]] == [False, False, True]
    run_episode(many, some_actions(1, 3, 2), seed=0)
    state, actions = many.state, some_actions(3, 2, seed=1)
    _, step = world.step(state, actions)
    seen = many.step(actions)[0]
    assert step.frames.shape[1] == 2 and identical(seen, step.frames[:, -1].numpy())


def test_within_a_chunk_every_action_counts():
    env = DreamEnv(world=endless_world(time_stride=2), obs="latent")
    ways = [run_episode(env, np.array([way] * 4), seed=1) for way in ([0, 0], [0, 3], [3, 0])]
    assert not identical(ways[0], ways[1]) and not identical(ways[0], ways[2]) and not identical(ways[1], ways[2])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_dream_starts_where_the_given_frames_end(stride):
    world, frames, actions = endless_world(time_stride=stride), random_frames(2, 5), some_actions(2, 4)
    many, one = DreamVectorEnv(2, world=world, obs="tokens"), DreamEnv(world=world, obs="tokens")
    seen, _ = many.reset(seed=3, options={"frames": frames, "actions": actions})
    single, _ = one.reset(seed=4, options={"frames": frames[1].numpy(), "actions": actions[1].tolist()})
    assert identical(seen, world.tokenizer.encode(frames)[:, -1].numpy()) and identical(single, seen[1])
    follow = some_actions(3, 2, *([2] if stride > 1 else []))
    together, alone_ = [many.step(each) for each in follow], [one.step(each[1]) for each in follow]
    assert identical([step[0][1] for step in together], [step[0] for step in alone_])


def test_a_dream_starts_from_the_context_that_is_named():
    world = small_world()
    assert world.starts is not None
    env = DreamVectorEnv(2, world=world, obs="tokens")
    for start in range(len(world.starts)):
        seen, _ = env.reset(options={"start": start})
        last = world.starts.tokens[start, int(world.starts.lengths[start]) - 1].numpy()
        assert identical(seen, np.stack([last, last]))


def test_dreams_start_where_episodes_did_unless_anywhere_is_asked_for():
    world = small_world()  # of five starts the first two are beginnings
    lengths: dict[Literal["resets", "anywhere"], set[int]] = {"resets": {1}, "anywhere": {1, 2, 3, 4}}
    for starts, expected in lengths.items():
        env = DreamVectorEnv(64, world=world, starts=starts)
        env.reset(seed=0)
        assert set(env.state.steps.tolist()) == expected


def test_a_world_without_actions_takes_the_action_zero():
    world = endless_world(actions=0)
    env, many = DreamEnv(world=world), DreamVectorEnv(2, world=world)
    assert env.action_space == Discrete(1)
    assert not identical(*(step[0] for step in run_episode(env, np.zeros(2, int), seed=1)[1:]))
    assert identical(
        at(run_episode(many, np.zeros((3, 2), int), seed=1), [0])[-1][0],
        run_episode(env, [0, 0, 0], seed=1)[-1][0][None],
    )
    env.reset(options={"frames": random_frames(1, 3)[0]})
    assert DreamEnv(world=endless_world(actions=0, time_stride=2)).action_space == MultiDiscrete([1, 1])


# --- doors


@pytest.mark.parametrize("stride", [1, 2])
def test_actions_outside_the_space_or_of_another_shape_are_refused(stride):
    env = DreamVectorEnv(2, world=small_world(time_stride=stride))
    env.reset(seed=0)
    assert env.action_space.shape is not None
    good = np.zeros(env.action_space.shape, int)
    for bad, message in (
        (good + 4, r"inside Discrete\(4\), got 4"),
        (good + 0.5, "integers"),
        (good[:1], "one action"),
    ):
        with pytest.raises(ValueError, match=message):
            env.step(bad)
    with pytest.raises(ValueError, match="2 dreams and"):
        env.step(np.zeros((2, 3), int))


def test_frames_and_actions_that_do_not_fit_are_refused():
    env, frames = DreamEnv(world=small_world()), random_frames(1, 3)[0]
    for options, message in (
        ({"frames": frames[:1, :8]}, r"frames of shape \(16, 24, 3\), got \(8, 24, 3\)"),
        ({"frames": frames.float()}, r"uint8 of shape \(1, t, 16, 24, 3\), got torch.float32"),
        ({"frames": frames[0]}, r"uint8 of shape \(1, t, 16, 24, 3\)"),
        ({"frames": frames}, '3 frames need the "actions" between them'),
        ({"frames": frames, "actions": [1]}, "1 dreams and 2 steps"),
        ({"frames": frames, "actions": [1, 7]}, r"inside Discrete\(4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(options=options)


def test_without_starts_or_frames_there_is_nothing_to_start_from():
    env = DreamVectorEnv(2, world=small_world(starts=0))
    with pytest.raises(ValueError, match=r"came with 0 contexts.*give frames .*, or train the prior again"):
        env.reset(seed=0)
    env.reset(seed=0, options={"frames": random_frames(2, 1)})
    with pytest.raises(ValueError, match="start 5: this world came with 5 contexts"):
        DreamEnv(world=small_world()).reset(options={"start": 5})


def test_a_world_without_rewards_makes_no_environment():
    with pytest.raises(ValueError, match=r"no rewards and ends.*prior\.outcome_width above 0"):
        DreamEnv(world=small_world(rewards=()))


def test_masks_and_seeds_that_do_not_fit_are_refused():
    env = DreamVectorEnv(2, world=small_world())
    env.reset(seed=0)
    for mask in ([True], [False, False], [1, 0]):
        with pytest.raises(ValueError, match="reset_mask: expected 2 booleans, one of them true"):
            env.reset(options={"reset_mask": np.array(mask)})
    with pytest.raises(ValueError, match="seed: expected a number or 2 of them, got 3"):
        env.reset(seed=[1, 2, 3])


def test_settings_that_are_none_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a user's Python does not check types
    world = small_world()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"obs": "pixels"}, "obs: expected frames, tokens or latent, got 'pixels'"),
        ({"starts": "ends"}, "starts: expected resets or anywhere, got 'ends'"),
        ({"horizon": -1}, "horizon: expected 0 or more"),
        ({"horizon": np.nan}, "horizon: expected a whole number"),
        ({"horizon": "trusted"}, "horizon: expected a whole number or trust, got 'trusted'"),
        ({"max_episode_steps": 0}, "max_episode_steps: expected 1 or more"),
        ({"truncate_on_surprise": np.nan}, "truncate_on_surprise: expected 0 bits or more"),
        ({"truncate_on_surprise": -1.0}, "truncate_on_surprise: expected 0 bits or more"),
        ({"autoreset_mode": "never"}, "never"),
    ]
    for settings, message in cases:
        with pytest.raises((TypeError, ValueError), match=message):
            DreamVectorEnv(2, world=world, **settings)


def test_keys_of_chance_that_are_no_64_bit_numbers_are_refused_before_a_dream_starts(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    world = small_world()
    frames = torch.zeros(1, 1, *world.info.frame_shape, dtype=torch.uint8)
    for number in (2**63, 2**70, -(2**63) - 1):
        for keys in ({"seed": number}, {"dream": number}):
            with pytest.raises(ValueError, match="expected a signed 64-bit number"):
                world.start_from_context(0, **keys)
        several: list[dict[str, Any]] = [{"seed": number}, {"dreams": [number]}]
        for keys in several:
            with pytest.raises(ValueError, match="expected a signed 64-bit number"):
                world.start(frames, np.zeros((1, 0), np.int64), **keys)


# --- the real environment, seen as its dream


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("obs", ["frames", "tokens", "latent"])
def test_the_real_environment_in_disguise_has_the_spaces_of_its_dream_and_shows_what_the_tokenizer_sees(obs, stride):
    world, real = small_world(stride, actions=7), MazeEnv(MazeConfig(height=16, width=24))
    env, dream = EncodedEnv(real, world, obs), DreamEnv(world=world, obs=obs)
    assert (env.observation_space, env.action_space) == (dream.observation_space, dream.action_space)
    actions = [[1] * stride, [4] * stride]
    seen = [step[0] for step in run_episode(env, np.squeeze(np.array(actions), 1) if stride == 1 else actions, seed=2)]
    real.reset(seed=2)
    frames = [real.reset(seed=2)[0], *(real.step(a)[0] for chunk in actions for a in chunk)]
    tokens = world.tokenizer.encode(torch.from_numpy(np.stack(frames))[None])
    expected = {"tokens": tokens, "latent": world.tokenizer.embed(tokens)}
    if obs == "frames":
        shown = world.tokenizer.decode(tokens)[0, ::stride].int()
        assert (torch.from_numpy(np.stack(seen)).int() - shown).abs().max() <= 1
    else:
        assert identical(np.stack(seen), expected[obs][0].numpy())


def test_a_chunk_in_the_real_environment_earns_the_sum_and_ends_with_it():
    real = MazeEnv(MazeConfig(height=16, width=24, max_steps=3))
    env = EncodedEnv(real, small_world(time_stride=2, actions=7))
    steps = run_episode(env, np.ones((2, 2), int), seed=0)[1:]
    assert [truncated for _, _, _, truncated, _ in steps] == [False, True]
    assert all(env.observation_space.contains(step[0]) for step in steps)


def test_another_environment_than_the_worlds_is_refused():
    world = small_world(actions=7)
    with pytest.raises(ValueError, match=r"env: expected frames of shape \(16, 24, 3\), got \(6, 5, 3\); make it with"):
        EncodedEnv(CounterEnv(), world)
    with pytest.raises(ValueError, match=r"env: expected actions Discrete\(4\), got Discrete\(7\); make it with"):
        EncodedEnv(MazeEnv(MazeConfig(height=16, width=24)), small_world())
