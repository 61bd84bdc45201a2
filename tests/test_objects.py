"""Small objects on a still background: found where they are, and counted as kept or lost."""

import numpy as np
import pytest
import torch

from worldmodel.evaluate.measures.objects import are_small, background, kept, object_area


def clip(size: int, contrast: int = 120) -> torch.Tensor:
    """A square that moves one pixel a frame over a grey picture: uint8 `1 12 20 30 3`."""
    frames = torch.full((1, 12, 20, 30, 3), 90, dtype=torch.uint8)
    for t in range(12):
        frames[0, t, 4 : 4 + size, 2 * t : 2 * t + size] = 90 + contrast
    return frames


def test_the_background_is_what_shows_most_of_the_time_and_objects_stand_out_from_it():
    frames = clip(2)
    still = background(frames)
    assert (still == 90).all()
    assert object_area(frames, still) == pytest.approx(np.full((1, 12), 4 / 600))
    assert object_area(clip(2, contrast=30), still).max() == 0  # too faint


def test_a_video_keeps_an_object_wherever_it_is_but_not_a_blurred_or_absent_one():
    frames = clip(2)
    still = background(frames)

    def share(video: torch.Tensor) -> float:
        there, true = kept(video, frames, still)
        return float(there.sum() / true.sum())

    assert share(frames) == share(frames.roll(1, dims=1)) == share(clip(5)) == 1
    assert share(still[:, None].expand_as(frames)) == 0
    assert share(clip(2, contrast=30)) == 0
    half = frames.clone()
    half[:, 6:] = 90
    assert share(half) == 0.5


def test_a_moving_background_is_no_small_object():
    noise = torch.randint(0, 256, (1, 12, 20, 30, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for frames, small in ((clip(2), True), (noise, False), (clip(2) * 0, False)):
        assert are_small(object_area(frames, background(frames))) == small
