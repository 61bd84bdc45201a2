"""A report in TensorBoard: figures, curves, images and clips."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from worldmodel.evaluate.statistics.results import Section
from worldmodel.io.video import log_video


def log_report(sections: Mapping[str, Section], folder: Path) -> None:
    """Write event files into `folder`; those of an earlier report are removed. Curves have their
    own steps."""
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        for title, section in sections.items():
            for name, metric in section.metrics.items():
                if not metric.inapplicable:
                    writer.add_scalar(name, metric.mean, 0)
            for name, curve in section.curves.items():
                for step, value in zip(curve.steps, curve.mean, strict=True):
                    if math.isfinite(value):
                        writer.add_scalar(name, value, step)
            for name, image in section.images.items():
                writer.add_image(f"{title}/{name}", image, 0, dataformats="HWC")
            for name, clip in section.clips.items():
                log_video(writer, f"{title}/{name}", clip, 0)
