"""Laws of the world: dreams that are reproducible one by one, branch, follow their actions, and survive the disk."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from tests.helpers_models import (
    outcome_head,
    pixelcnn_of,
    random_frames,
    small_prior,
    small_tokenizer,
    small_world,
    space_world,
)
from worldmodel.io.model_folder import load_weights, save_weights
from worldmodel.nn.causal_conv import map_past
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, WorldInfo, WorldModel


def some_actions(b: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (b, n))


@pytest.mark.parametrize("stride", [1, 2])
def test_imagined_frames_have_the_shape_asked_for(stride):
    world = small_world(stride)
    video = world.imagine(random_frames(2, 3), some_actions(2, 8), horizon=6)
    assert video.shape == (2, 6, 16, 24, 3) and video.dtype == torch.uint8


def test_a_world_without_actions_dreams():
    world = small_world(actions=0)
    assert world.imagine(random_frames(2, 3), np.zeros((2, 5)), horizon=3).shape == (2, 3, 16, 24, 3)


def test_same_seed_same_dream_and_another_seed_another():
    world, frames, actions = small_world(), random_frames(2, 3), some_actions(2, 10)
    one, two, other = (world.imagine(frames, actions, 8, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_a_dream_is_the_same_alone_and_among_others_in_any_slot():
    world, frames, actions = small_world(), random_frames(5, 3), some_actions(5, 2)
    together = tokens_of(world, world.start(frames, actions, seed=1), some_actions(5, 6, 1))
    for slot in (0, 3):
        alone = world.start(frames[slot : slot + 1], actions[slot : slot + 1], seed=1, dreams=[slot])
        assert torch.equal(tokens_of(world, alone, some_actions(5, 6, 1)[slot : slot + 1])[0], together[slot])


def tokens_of(world: WorldModel, state, actions: np.ndarray) -> Tensor:
    tokens = []
    for i in range(actions.shape[1]):
        state, step = world.step(state, actions[:, i])
        tokens.append(step.tokens)
    return torch.stack(tokens, 1)


def test_a_kept_state_gives_the_same_future_again_and_other_actions_branch_it():
    world = small_world()
    state = world.start(random_frames(2, 4), some_actions(2, 3))
    state, _ = world.step(state, [0, 1])
    again = [tokens_of(world, state, np.full((2, 5), action)) for action in (2, 2, 3)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])


def test_picking_rows_of_a_state_picks_dreams():
    world = small_world()
    state, actions = world.start(random_frames(3, 4), some_actions(3, 3)), some_actions(3, 5, 1)
    whole = tokens_of(world, state, actions)
    picked = tokens_of(world, state.select(torch.tensor([2, 0, 2])), actions[[2, 0, 2]])
    assert torch.equal(picked, whole[[2, 0, 2]])


def test_joining_states_joins_dreams_and_undoes_picking_rows():
    world = small_world()
    state, actions = world.start(random_frames(3, 4), some_actions(3, 3)), some_actions(3, 5, 1)
    parts = [state.select(torch.tensor(rows)) for rows in ([0], [1, 2])]
    assert torch.equal(tokens_of(world, DreamState.join(parts), actions), tokens_of(world, state, actions))
    with pytest.raises(ValueError, match="one seed"):
        DreamState.join([state, world.start(random_frames(1, 4), some_actions(1, 3), seed=9)])


def test_a_started_dream_is_the_same_to_the_last_bit_alone_and_in_a_batch():
    world, frames, actions = small_world(2), random_frames(4, 5), some_actions(4, 4)
    together = world.start(frames, actions)
    alone = world.start(frames[2:3], actions[2:3], dreams=[2])
    for one, among in zip(tensors_of(alone), tensors_of(together.select(torch.tensor([2]))), strict=True):
        assert torch.equal(one, among)


def tensors_of(state: DreamState) -> list[Tensor]:
    found: list[Tensor] = [state.tokens, state.steps, state.dreams]
    map_past(lambda x: found.append(x) or x, (state.context, state.decoder))
    return found


def test_an_action_changes_nothing_before_it():
    world, frames, actions = small_world(), random_frames(2, 3), some_actions(2, 9)
    changed = actions.copy()
    changed[:, 6] = (changed[:, 6] + 1) % 4
    one, two = (world.imagine(frames, a, 7) for a in (actions, changed))
    assert torch.equal(one[:, :4], two[:, :4]) and not torch.equal(one, two)


def test_the_bits_of_a_step_are_the_likelihood_of_its_tokens_in_one_parallel_pass():
    world, frames, actions = small_world(rewards=()), random_frames(2, 3), some_actions(2, 4)
    state = world.start(frames, actions[:, :2])
    bits, tokens = [], [world.tokenizer.encode(frames)]
    for i in (2, 3):
        state, step = world.step(state, actions[:, i], SamplerConfig(temperature=0.8))
        bits.append(step.bits), tokens.append(step.tokens[:, None])
    lead = torch.cat([torch.zeros(2, 1, 4), torch.from_numpy(world.encoder.encode(actions))], 1)
    with torch.no_grad():
        nats = world.prior.nats(torch.cat(tokens, 1), lead)[:, 3:].sum((2, 3))
    torch.testing.assert_close(torch.stack(bits, 1), nats / np.log(2), rtol=1e-4, atol=1e-4)


def test_dreams_are_drawn_at_the_temperature_of_their_world_unless_another_is_given(tmp_path):
    world, frames, actions = small_world(), random_frames(2, 3), some_actions(2, 9)
    dreams = {warmth: world.imagine(frames, actions, 7, SamplerConfig(temperature=warmth)) for warmth in (0.0, 1.0)}
    assert torch.equal(world.imagine(frames, actions, 7), dreams[1.0]) and not torch.equal(dreams[0.0], dreams[1.0])
    world.info.temperature = 0.0
    world.save(tmp_path)
    world = WorldModel.load(tmp_path)
    for sampler, warmth in ((None, 0.0), (SamplerConfig(kind="cached"), 0.0), (SamplerConfig(temperature=1.0), 1.0)):
        assert torch.equal(world.imagine(frames, actions, 7, sampler), dreams[warmth])
    cases: list[dict[str, Any]] = [{"temperature": -0.5}, {"temperature": float("nan")}, {"temperature_until": -1}]
    for wrong in cases:
        with pytest.raises(ValueError, match=r"temperature.*: expected (at least )?0"):
            WorldInfo((8, 8, 3), None, **wrong)


@pytest.mark.parametrize("kind", ["cached", "compiled"])
def test_a_dream_past_the_temperature_is_drawn_as_it_is_whatever_the_age_of_those_beside_it(kind):
    world, actions = small_world(), some_actions(3, 9)
    world.info.temperature, world.info.temperature_until = 0.0, 5
    own, cold, warm = (SamplerConfig(kind, each) for each in (None, 0.0, 1.0))
    states = [world.start(random_frames(1, n), actions[:1, : n - 1], dreams=[n]) for n in (7, 3, 4)]
    state, ages = DreamState.join(states), [7, 3, 4]
    for i in range(4):
        before, (state, step) = state, world.step(state, actions[:, i], own)
        for row, age in enumerate(ages):
            _, alone = world.step(
                before.select(torch.tensor([row])), actions[row : row + 1, i], warm if age >= 5 else cold
            )
            assert torch.equal(step.tokens[row], alone.tokens[0]) and torch.allclose(step.bits[row], alone.bits[0])
        ages = [age + 1 for age in ages]


def test_the_bits_of_a_step_are_those_of_its_outcome_and_of_its_tokens_given_that():
    world, frames, actions = small_world(), random_frames(2, 3), some_actions(2, 3)
    state = world.start(frames, actions[:, :2])
    _, step = world.step(state, actions[:, 2], SamplerConfig(kind="cached"))
    assert step.outcome is not None
    lead = torch.cat([torch.zeros(2, 1, 4), torch.from_numpy(world.encoder.encode(actions))], 1)
    tokens = torch.cat([world.tokenizer.encode(frames), step.tokens[:, None]], 1)
    prior, head = pixelcnn_of(world), outcome_head(world)
    with torch.no_grad():
        context = prior.context(prior.embed_past(tokens[:, :-1], first=True), lead)[0][:, :, -1]
        table = head.probabilities(head(context)).flatten(1)
        logits = prior.core(step.tokens, head.with_outcome(context, step.outcome.drawn), lead[:, -1])
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 2), step.tokens.flatten(), reduction="none").view(2, -1)
    expected = nats.sum(1) - table.gather(1, step.outcome.drawn[:, None])[:, 0].log()
    torch.testing.assert_close(step.bits.double(), expected.double() / np.log(2), rtol=1e-4, atol=1e-4)


def test_state_and_time_per_step_do_not_grow_with_the_dream():
    world = small_world()
    state, sizes = world.start(random_frames(1, 3), some_actions(1, 2)), set()
    for i in range(40):
        state, _ = world.step(state, [i % 4])
        sizes.add((count(state.context), count(state.decoder)))
    assert len(sizes) == 1


def count(past) -> int:
    if isinstance(past, tuple):
        return sum(count(part) for part in past)
    return 0 if past is None else past.numel()


def test_saving_then_loading_gives_the_same_dream(tmp_path):
    world, frames, actions = small_world(2), random_frames(1, 3), some_actions(1, 6)
    world.save(tmp_path / "world")
    loaded = WorldModel.load(tmp_path / "world")
    assert loaded.info == world.info
    assert torch.equal(loaded.imagine(frames, actions, 4), world.imagine(frames, actions, 4))


def test_a_world_that_was_trained_for_guidance_is_refused_with_the_tag_that_still_reads_it(tmp_path):
    small_world().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["sha256"]
    for dropout in (0.0, 0.1):
        config["config"]["prior"]["action_dropout"] = dropout
        (tmp_path / "config.json").write_text(json.dumps(config))
        if not dropout:
            WorldModel.load(tmp_path)
    with pytest.raises(ValueError, match=r"action_dropout.*before-pruning"):
        WorldModel.load(tmp_path)


def test_a_world_from_before_there_were_memories_dreams_as_it_did(tmp_path):
    world = WorldModel(small_tokenizer(), small_prior(memory=0), WorldInfo((16, 24, 3), Discrete(4)))
    world.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["config"]["prior"]["memory"], config["sha256"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    frames, actions = random_frames(1, 3), some_actions(1, 6)
    assert torch.equal(WorldModel.load(tmp_path).imagine(frames, actions, 4), world.imagine(frames, actions, 4))


def test_parts_that_do_not_belong_together_are_refused():
    info = WorldInfo((16, 24, 3), Discrete(4))
    for prior in (small_prior(codes=18), small_prior(grid=(3, 2)), small_prior(actions=3)):
        with pytest.raises(ValueError, match="do not belong together"):
            WorldModel(small_tokenizer(), prior, info)


def test_an_incomplete_or_foreign_folder_is_refused(tmp_path):
    world = small_world()
    world.save(tmp_path)
    (tmp_path / "weights.safetensors").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"weights\.safetensors is missing"):
        WorldModel.load(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "weights.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["sha256"]
    config["config"]["prior"]["width"] = 12
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="do not fit"):
        WorldModel.load(tmp_path)
    config["config"]["kind"] = "tokenizer"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="expected a world, got tokenizer"):
        WorldModel.load(tmp_path)


def test_actions_outside_the_space_or_too_few_are_refused():
    world, frames = small_world(), random_frames(1, 3)
    with pytest.raises(ValueError, match="inside Discrete"):
        world.imagine(frames, np.full((1, 6), 7), 4)
    with pytest.raises(ValueError, match=r"expected 2 \+ 4 actions"):
        world.imagine(frames, some_actions(1, 5), 4)
    with pytest.raises(ValueError, match="positive multiple of the time stride 2"):
        small_world(2).imagine(frames, some_actions(1, 9), 3)


def test_actions_with_dreams_and_steps_exchanged_are_refused():
    world = small_world()
    with pytest.raises(ValueError, match="2 dreams and 3 steps"):
        world.start(random_frames(2, 4), some_actions(3, 2))
    state = world.start(random_frames(2, 4), some_actions(2, 3))
    with pytest.raises(ValueError, match="2 dreams and 1 steps"):
        world.step(state, some_actions(1, 2))
    with pytest.raises(ValueError, match="seed"):
        world.start(random_frames(2, 4), some_actions(2, 3), seed=2**63)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["compiled", "cached", "naive"])
def test_what_a_step_gave_can_be_painted_over_and_the_dream_goes_on_as_before(kind, stride):
    world, sampler, lives = small_world(stride), SamplerConfig(kind=kind), []
    for paint in (lambda values: values, torch.zero_):
        state, seen = world.start_from_context(2), []
        for value in (state.tokens, state.frame):
            paint(value)
        state = world.start_from_context(2)
        for actions in some_actions(4, stride):
            state, step = world.step(state, actions[None], sampler)
            seen.append([x.clone() for x in (step.frames, step.tokens, step.bits, state.frame)])
            for value in (step.frames, step.tokens, step.bits, step.passes, *vars(step.outcome).values()):
                paint(value)
        lives.append(seen)
    assert all(torch.equal(a, b) for one, two in zip(*lives, strict=True) for a, b in zip(one, two, strict=True))


UNBOUNDED = Box(-np.inf, np.inf, (2,), np.float32)


def test_the_scale_of_actions_is_kept_with_the_world_and_decides_what_it_dreams(tmp_path):
    scale = ((1.0, 4.0), (0.0, 1e6))
    world, plain = space_world(UNBOUNDED, action_scale=scale), space_world(UNBOUNDED)
    world.save(tmp_path / "world"), plain.save(tmp_path / "plain")
    assert "action_scale" not in (tmp_path / "plain" / "config.json").read_text()  # as worlds were written before
    actions, frames = np.array([[[5.0, 1e6]], [[1.0, 0.0]]], np.float32), random_frames(2, 1)
    videos = [each.imagine(frames, actions, 1) for each in (world, WorldModel.load(tmp_path / "world"))]
    assert torch.equal(*videos)
    encoded = (actions - [1.0, 0.0]) / [4.0, 1e6]
    assert torch.equal(videos[0], plain.imagine(frames, encoded.astype(np.float32), 1))
    reached = world.info.reachable
    assert isinstance(reached, Box)
    assert (reached.low.tolist(), reached.high.tolist()) == ([-7, -2e6], [9, 2e6]) and plain.info.reachable is UNBOUNDED


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e38, -1e38])
@pytest.mark.parametrize("scale", [None, ((0.0, 1.0), None)])
def test_actions_that_are_no_numbers_or_nowhere_near_are_refused_everywhere(value, scale):
    world = space_world(UNBOUNDED, action_scale=scale)
    wrong, frames = np.array([[0, value]], np.float32), random_frames(1, 2)
    state = world.start_from_context(0)
    for ask in (
        lambda: world.step(state, wrong),
        lambda: world.start(frames, wrong[:, None]),
        lambda: world.imagine(frames, np.stack([wrong, wrong], 1), 1),
    ):
        with pytest.raises(ValueError, match="actions: expected"):
            ask()


def test_a_step_without_a_finite_probability_is_refused():
    world = small_world()
    state = world.start_from_context(0)
    with torch.no_grad():
        outcome_head(world).out_proj.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="no finite probability"):
        world.step(state, [1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_world_whose_weights_are_no_numbers_is_not_written_and_refused(value, tmp_path):
    small_world().save(tmp_path / "whole")
    config, tensors = load_weights(tmp_path / "whole")
    for part in ("prior.first", "tokenizer.bottleneck.codebook", "prior.outcome.log_weight", "starts.actions"):
        damaged = {**tensors, part: tensors[part].float().clone()}
        damaged[part].flatten()[0] = value
        save_weights(tmp_path / part, config, damaged)
        with pytest.raises(ValueError, match=r"damaged|finite"):
            WorldModel.load(tmp_path / part)
    world = small_world()
    with torch.no_grad():
        pixelcnn_of(world).first[0, 0, 0] = value
    with pytest.raises(ValueError, match=r"prior\.first holds NaN or infinity"):
        world.save(tmp_path / "broken")
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_world_whose_rewards_are_no_numbers_is_not_written(value, tmp_path):
    world = small_world()
    outcome_head(world).rewards[0] = value
    with pytest.raises(ValueError, match=r"prior\.outcome\.rewards holds NaN or infinity"):
        world.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_info_survives_json_with_any_action_space():
    info = WorldInfo((8, 8, 3), Box(-1, np.array([1.0, np.inf]), dtype=np.float64), (), {"id": "x"})
    scaled = WorldInfo((8, 8, 3), Box(-1, np.array([1, np.inf], np.float32)), action_scale=(None, (0.5, 2.0)))
    for each in (info, scaled):
        assert WorldInfo.from_json(json.loads(json.dumps(each.to_json()))) == each


@pytest.mark.parametrize(
    "rewards",
    [[], [0.0], [-1.0, 0.0, 5.0], [-1, 0, 0.5000001], [0.0, -1.0, 0.5], [-1.0, 0.0, 0.5, 0.5], ["a"], None, 3],
)
def test_rewards_in_the_config_that_are_not_those_of_the_head_are_refused(rewards, tmp_path):
    small_world().save(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["config"]["rewards"] == [-1.0, 0.0, 0.5] and WorldModel.load(tmp_path)
    about["config"]["rewards"] = rewards
    del about["sha256"]
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        WorldModel.load(tmp_path)


def test_rewards_of_a_world_that_tells_none_are_refused(tmp_path):
    small_world(rewards=()).save(tmp_path)
    assert pixelcnn_of(WorldModel.load(tmp_path)).outcome is None
    about = json.loads((tmp_path / "config.json").read_text())
    about["config"] |= {"rewards": [1.0], "prior": {**about["config"]["prior"], "outcome_width": 0}}
    del about["sha256"]
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"rewards: config\.json says 1,"):
        WorldModel.load(tmp_path)
