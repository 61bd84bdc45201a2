"""The trust horizon: by hand, on worlds whose answer is known, on the disk, and in dreams."""

import json

import numpy as np
import pytest

from tests.helpers_dreams import Blank, Deaf, Frozen, TrueMaze, maze_store, noise_store
from tests.helpers_models import pixelcnn_of, small_tokenizer, small_world
from worldmodel.dream import DreamEnv
from worldmodel.evaluate.sections.horizon import (
    SMOOTHING_REACH,
    HorizonConfig,
    horizon_of,
    keep_horizon,
    kept_horizon,
    smooth,
    trust_horizon,
    trusted,
)
from worldmodel.evaluate.statistics.bootstrap import Resampler, leading_true
from worldmodel.evaluate.testbed.dream_clips import DreamSettings
from worldmodel.tokenizer import save_tokenizer
from worldmodel.world import WorldInfo, WorldModel

SMALL = HorizonConfig(clips=24, horizon=25), DreamSettings(context=3)
CLIPS = Resampler.by_row(20, "clips")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return maze_store(tmp_path_factory.mktemp("maze") / "episodes", episodes=6, steps=40)


def lost_after(step: int, clips=20, steps=20) -> np.ndarray:
    """Errors that beat 100 up to this step and lose to it from there on, the same for all clips but for their level."""
    level = np.random.default_rng(0).uniform(0.9, 1.1, (clips, 1))
    return np.where(np.arange(1, steps + 1) <= step, 50.0, 200.0) * level


def test_the_horizon_is_where_the_smoothed_errors_cross():
    section = horizon_of(CLIPS, lost_after(8), {"still": np.full((20, 20), 100.0)})
    # Over five steps, 50 and 200: means 80 (one lost), 110 (two lost). The second lost step is in reach from step 8 on.
    assert trusted(section) == 7 and section.metrics["horizon/steps"].high == 7


def test_what_never_loses_is_trusted_to_the_end_and_what_never_wins_not_at_all():
    still = {"still": np.full((20, 20), 100.0)}
    best = horizon_of(CLIPS, lost_after(20), still)
    assert trusted(best) == 20 and "may hold for more" in best.notes[0]
    worst = horizon_of(CLIPS, lost_after(0), still)
    assert trusted(worst) == 0 and worst.notes == []


def test_a_single_noisy_step_does_not_end_the_trust_and_two_baselines_must_both_be_beaten():
    dream = lost_after(20)
    dream[:, 9] = 180.0
    still = np.full((20, 20), 100.0)
    assert trusted(horizon_of(CLIPS, dream, {"still": still})) == 20
    assert trusted(horizon_of(CLIPS, dream, {"still": still, "shuffled": 0.8 * lost_after(20)})) == 0


def test_where_clips_disagree_the_horizon_is_open_between_its_bounds():
    rng = np.random.default_rng(0)
    dream = 100 + 10 * (np.arange(20) - 10) + rng.normal(0, 60, (30, 1))
    still = {"still": np.full((30, 20), 100.0)}
    found = horizon_of(Resampler.by_row(30, "clips"), dream, still).metrics["horizon/steps"]
    assert found.low < found.mean < found.high and found.count == 30


def test_smoothing_takes_two_steps_on_either_side_and_fewer_at_the_ends():
    values = np.array([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]])
    assert smooth(values)[0].tolist() == pytest.approx([7 / 3, 15 / 4, 31 / 5, 62 / 5, 60 / 4, 56 / 3])
    assert leading_true(np.array([True, True, False, True])) == 2 and leading_true(np.array([True])) == 1


def test_a_true_world_is_trusted_all_along_and_broken_ones_never(store):
    section = trust_horizon(TrueMaze(), store, store.indices, *SMALL)
    assert trusted(section) == 25 and min(section.curves["horizon/gain_over_still"].low) > 20
    assert min(section.curves["horizon/psnr"].mean) > 100
    for world in (Frozen(), Deaf()):
        assert trusted(trust_horizon(world, store, store.indices, *SMALL)) == 0


def test_a_world_that_goes_blank_is_trusted_as_long_as_it_is_good_within_the_steps_of_smoothing(store):
    found = trusted(trust_horizon(Blank(good=12), store, store.indices, *SMALL))
    assert 12 - SMOOTHING_REACH <= found <= 12 + SMOOTHING_REACH


@pytest.mark.parametrize("stride", [1, 2])
def test_a_real_world_is_measured_through_its_latents(stride, tmp_path):
    store = noise_store(tmp_path / "episodes")
    section = trust_horizon(small_world(stride), store, [0, 1], HorizonConfig(clips=4, horizon=9), DreamSettings(4))
    assert len(section.curves["horizon/psnr"].steps) == (9 if stride == 1 else 8)
    assert 0 <= trusted(section) <= 9


def test_one_clip_has_no_other_to_exchange_actions_with():
    with pytest.raises(ValueError, match="clips: expected at least 2, got 1"):
        HorizonConfig(clips=1)


def test_a_world_without_actions_has_but_the_still_frame_to_beat(store):
    world = TrueMaze()
    world.info = WorldInfo((16, 16, 3), None)
    assert set(trust_horizon(world, store, store.indices, *SMALL).curves) == {"horizon/gain_over_still", "horizon/psnr"}


def test_the_horizon_is_kept_with_the_world_and_its_weights_stay(tmp_path):
    world = small_world()
    world.save(tmp_path)
    weights = (tmp_path / "weights.safetensors").read_bytes()
    keep_horizon(tmp_path, 3)
    assert WorldModel.load(tmp_path).info.trust_horizon == 3
    assert (tmp_path / "weights.safetensors").read_bytes() == weights
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    assert config["prior"]["width"] == 10 and config["info"]["longest"] == 9


def test_a_dream_of_the_kept_world_is_cut_at_its_horizon_if_asked_to(tmp_path):
    small_world().save(tmp_path)
    for kept, steps in ((3, 3), (0, 1)):  # of a world that never held, one step
        keep_horizon(tmp_path, kept)
        assert DreamEnv(world=tmp_path, horizon="trust").batch.limit == steps
        assert DreamEnv(world=tmp_path).batch.limit == 9  # its longest episode


def test_the_horizon_is_known_again_of_the_same_weights_alone(tmp_path):
    world = small_world()
    assert kept_horizon(tmp_path, world) is None
    world.save(tmp_path)
    keep_horizon(tmp_path, 0)
    assert kept_horizon(tmp_path, world) == 0 and kept_horizon(tmp_path, small_world(time_stride=2)) is None
    world.info.temperature = 0.5  # it was measured of dreams that are drawn otherwise
    assert kept_horizon(tmp_path, world) is None
    world.info.temperature = 1.0
    pixelcnn_of(world).core.bias.data[0] += 1
    assert kept_horizon(tmp_path, world) is None


def test_no_horizon_is_kept_where_no_world_is(tmp_path):
    with pytest.raises(ValueError, match="missing"):
        keep_horizon(tmp_path, 3)
    save_tokenizer(small_tokenizer(), tmp_path)
    with pytest.raises(ValueError, match="expected a world, got tokenizer"):
        keep_horizon(tmp_path, 3)
    small_world().save(tmp_path / "world")
    with pytest.raises(ValueError, match="0 steps or more"):
        keep_horizon(tmp_path / "world", -1)
