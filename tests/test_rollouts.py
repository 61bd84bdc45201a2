"""What is said of dreams: on a perfect world, on broken ones, and against values computed by hand."""

import numpy as np
import pytest
import torch

from tests.helpers_evaluate import brightening, brightening_tokens, brightening_world, simulate
from worldmodel.evaluate.measures.frechet import encoder_features
from worldmodel.evaluate.measures.images import make_frame_metrics
from worldmodel.evaluate.sections.rollouts import RolloutsConfig, best, imagine, rollouts
from worldmodel.evaluate.statistics.bootstrap import leading_true
from worldmodel.evaluate.testbed.held_out import sample_clips
from worldmodel.prior import SamplerConfig

HOW = {"context": 3, "sampler": SamplerConfig(), "seed": 0}
CONFIG = RolloutsConfig(clips=8, horizon=5, samples=2, at=(1, 5, 30))


@pytest.fixture
def world():
    return brightening_world()


@pytest.fixture
def clips(tmp_path, world):
    store = brightening(tmp_path, episodes=6)
    return sample_clips(store, brightening_tokens(world, store, tmp_path), range(6), latents=8, count=12, seed=0)


def judged(world, clips, config=CONFIG):
    frame_metrics, features = make_frame_metrics(), {"frechet_encoder": encoder_features(world.tokenizer, clips.frames)}
    return rollouts(world, clips, config, **HOW, frame_metrics=frame_metrics, features=features)


def test_a_perfect_world_has_no_error_beats_copying_at_every_step_and_the_wrong_actions_cost(world, clips, monkeypatch):
    monkeypatch.setattr(world, "imagine", simulate)
    section = judged(world, clips)
    assert section.metrics["psnr/dream@5"].low > 100 and section.metrics["ssim/dream@5"].mean == pytest.approx(1)
    assert section.metrics["psnr/copy_last_frame@1"].mean == pytest.approx(20 * np.log10(255 / 8))
    assert section.metrics["frames_above_copy"].mean == 5 and section.metrics["share_above_copy"].mean == 1
    assert section.metrics["least_gain_over_copy"].low == min(section.curves["psnr_gained/copy_last_frame"].low) > 0
    assert min(section.curves["psnr_gained/shuffled_actions"].low[1:]) > 0
    assert section.metrics["frechet_encoder/dream"].mean == pytest.approx(0, abs=1e-6)
    assert section.metrics["frechet_encoder/copy_last_frame"].mean > 0.1


def test_a_world_that_always_dreams_of_black_never_beats_copying(world, clips, monkeypatch):
    monkeypatch.setattr(world, "imagine", lambda *given: torch.zeros_like(simulate(*given)))
    section = judged(world, clips)
    assert section.metrics["frames_above_copy"].mean == 0 and section.metrics["least_gain_over_copy"].high < 0
    assert max(section.curves["psnr_gained/copy_last_frame"].high) < 0
    assert max(section.curves["ssim_gained/copy_last_frame"].high) < 0


def test_gains_are_differences_of_the_curves_and_figures_lie_on_them(world, clips):
    section = judged(world, clips)
    for name in ("psnr", "ssim"):
        dream, still = (np.array(section.curves[f"{name}/{who}"].mean) for who in ("dream", "copy_last_frame"))
        assert section.curves[f"{name}_gained/copy_last_frame"].mean == pytest.approx(dream - still)
        assert section.metrics[f"{name}/dream@5"].mean == dream[4] and f"{name}/dream@30" not in section.metrics


def test_dreams_follow_the_given_frames_and_rivals_what_their_names_say(world, clips):
    continuations = imagine(world, clips, CONFIG, **HOW)
    assert torch.equal(continuations.truth, clips.frames[:, 3:8]) and len(continuations.dreams) == 2
    assert torch.equal(continuations.baselines["copy_last_frame"][:, 4], clips.frames[:, 2])
    assert torch.equal(
        continuations.dreams[1], world.imagine(clips.frames[:, :3], clips.actions, 5, SamplerConfig(), 1)
    )
    decoded = world.tokenizer.decode(clips.tokens)
    assert torch.equal(continuations.baselines["decoded_truth"], decoded[:, 3:8])


def test_shuffled_actions_are_another_clips_after_the_given_frames_alone(world, clips, monkeypatch):
    seen = []

    def recorded(given, actions, *rest):
        seen.append(actions)
        return simulate(given, actions, *rest)

    monkeypatch.setattr(world, "imagine", recorded)
    imagine(world, clips, CONFIG, **HOW)
    assert np.array_equal(seen[-1][:, :2], clips.actions[:, :2])
    assert np.array_equal(seen[-1][:, 2:], clips.actions[clips.others(), 2:])


def test_the_best_sample_of_a_clip_is_chosen_by_all_of_its_frames():
    error = np.array([[[1.0, 9.0], [4.0, 4.0]], [[3.0, 3.0], [9.0, 1.0]]])  # two samples of two clips
    assert best(error, make_frame_metrics()["psnr"]).tolist() == [[3.0, 3.0], [4.0, 4.0]]
    assert best(error, make_frame_metrics()["ssim"]).tolist() == [[1.0, 9.0], [9.0, 1.0]]


@pytest.mark.parametrize(("low", "expected"), [((1, 2, 3), 3), ((1, -1, 3), 1), ((0, 2, 3), 0)])
def test_above_copy_ends_at_the_first_step_whose_interval_touches_nought(low, expected):
    assert leading_true(np.array(low) > 0) == expected


def test_images_and_clips_show_real_dreamed_and_wrongly_led_frames_side_by_side(world, clips):
    section = judged(world, clips)
    (sheet,) = section.images.values()
    assert sheet.shape[0] > 3 * 16
    for clip in section.clips.values():
        assert clip.shape == (5, 16, 3 * 24, 3)


def test_settings_that_measure_nothing_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        RolloutsConfig(samples=0)
