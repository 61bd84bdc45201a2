"""Sharpness and surprise of dreams by step, and how much they look like some real frame."""

import numpy as np
from jaxtyping import Float

from worldmodel.evaluate.measures.frames import nearest, sharpness
from worldmodel.evaluate.sections.drift.data import AVERAGING_STEPS, DriftData
from worldmodel.evaluate.statistics.bootstrap import identity, share
from worldmodel.evaluate.statistics.results import Section
from worldmodel.evaluate.testbed.dream_clips import decibels, gain, rgb_array
from worldmodel.evaluate.testbed.real_samples import real_frames
from worldmodel.io.video import contact_sheet

SHEET_DREAMS = 6  # dreams on the contact sheet


def sharpness_by_step(data: DriftData) -> Section:
    real = real_frames(data.store, data.held_out, len(data.trace.tokens), data.seed)
    values = sharpness(real.frames)
    section = _by_moment(data, "sharpness", data.trace.sharpness, share(1.0, values.mean()))
    section.metrics["drift/sharpness_real"] = real.resampler.interval(identity, values)
    return section


def surprise_by_step(data: DriftData) -> Section:
    return _by_moment(data, "bits", data.trace.bits.astype(np.float64))


def _by_moment(
    data: DriftData, name: str, values: Float[np.ndarray, "b n"], scale: float | np.ndarray = 1.0
) -> Section:
    """Means up to each moment, times `scale`, and the ratio of the last to the first."""
    moments, resampler = data.config.moments, data.trace.resampler
    means = {m: values[:, m - AVERAGING_STEPS : m].mean(1) for m in (*moments, *data.late_steps)}
    first = moments[0]
    metrics = {
        f"drift/{name}_{m}_over_{first}": resampler.quotient(means[m], means[first]).unless(data.beyond(m))
        for m in data.late_steps
    }
    columns = np.stack([means[m] for m in moments], axis=1)
    return Section(metrics, {f"drift/{name}": resampler.curve(moments, identity, columns * scale)})


def nearest_real(data: DriftData) -> Section:
    """How much dreams look like some real frame."""
    config, resampler = data.config, data.trace.resampler
    gallery = real_frames(data.store, data.train, config.real_frames, data.seed).frames
    error = np.stack([nearest(frames, gallery) for frames in data.trace.frames], axis=1)
    real = real_frames(data.store, data.held_out, len(data.trace.tokens), data.seed)
    first, last = config.moments[0], config.moments[-1]
    metrics = {
        f"drift/nearest_real@{first}": resampler.interval(decibels, error[:, 0]),
        f"drift/nearest_real@{last}": resampler.interval(decibels, error[:, -1]),
        f"drift/nearest_real_{last}_minus_{first}": resampler.interval(gain, error[:, 0], error[:, -1]),
        "drift/nearest_real_held_out": real.resampler.interval(decibels, nearest(real.frames, gallery)),
    }
    return Section(metrics, {"drift/nearest_real": resampler.curve(config.moments, decibels, error)})


def dream_images(data: DriftData) -> Section:
    """Some dreams at all moments, and a video of the first few, side by side."""
    trace, titles = data.trace, [str(moment) for moment in data.config.moments]
    rows = [rgb_array(trace.frames[:, i]) for i in range(min(SHEET_DREAMS, trace.frames.shape[1]))]
    sheet = contact_sheet(rows, [f"dream {i}" for i in range(len(rows))], len(titles), titles)
    video = np.concatenate([rgb_array(trace.video[:, i]) for i in range(trace.video.shape[1])], axis=2)
    return Section(images={"drift/moments": sheet}, clips={"drift/dreams": video})
