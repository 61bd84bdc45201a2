"""Parts of an HTML page that need no other file: tables of metrics, plots, images and clips."""

import base64
import io
import math
from collections.abc import Iterable, Mapping
from html import escape

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodel.evaluate.output.catalogue import RESAMPLED, MetricInfo, metric_info, resampling, verdict
from worldmodel.evaluate.output.plots import plot
from worldmodel.evaluate.statistics.results import Curve, Interval, Section
from worldmodel.io.video import video_bytes

FPS, MAX_CLIP_FRAMES = 8.0, 60  # of clips, to compare by eye; longer clips skip frames
WEBP_QUALITY = 88
CLIP_QUALITY, CLIP_WIDTH = 24, 256  # x264's rate factor; pixels to which small clips are enlarged


def target_table(sections: Iterable[Section]) -> str:
    """A table of the metrics that have a target; "" if none has one."""
    every = {name: metric for section in sections for name, metric in section.metrics.items()}
    asked = {name: metric for name, metric in every.items() if metric_info(name).target}
    return metrics_table(asked) if asked else ""


def targets_line(sections: Iterable[Section]) -> str:
    """How many targets are reached; "" if there are none."""
    every = {name: metric for section in sections for name, metric in section.metrics.items()}
    asked = [metric_info(name).reached(metric) for name, metric in every.items() if metric_info(name).target]
    left = asked.count(None)
    words = f"{asked.count(True)} of {len(asked) - left} targets are reached by the whole 95 % interval."
    words += f" {left} more {'is' if left == 1 else 'are'} not applicable here." if left else ""
    return f"<p class=note>{words}</p>" if asked else ""


def resampled_note(sections: Mapping[str, Section]) -> str:
    """What the intervals of these sections draw again."""
    used = {metric.resampled for section in sections.values() for metric in section.metrics.values()}
    lines = "; ".join(f"{escape(name)}: {escape(text)}" for name, text in RESAMPLED.items() if name in used)
    return f"<p class=note>Resampled for the intervals: {lines}.</p>" if lines else ""


def section_html(title: str, section: Section) -> str:
    """A part of the report: its pictures, and its numbers folded."""
    images = [picture_figure(each, caption(name)) for name, each in section.images.items()]
    clips = [video_figure(_clip(each), caption(name), "clip") for name, each in section.clips.items()]
    shown = "".join([*_plots(section.curves), *images, *clips])
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in section.notes)
    table = metrics_table(section.metrics) if section.metrics else ""
    if table:
        table = f"<details><summary>All {len(section.metrics)} numbers</summary>{table}</details>"
    return f"<h3>{escape(title)}</h3>{notes}<div class=shown>{shown}</div>{table}"


def picture_figure(image: UInt8[np.ndarray, "h w 3"], words: str) -> str:
    """An image with its caption, as WebP: a contact sheet takes a fifth of a PNG's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=WEBP_QUALITY)
    return image_figure("webp", buffer.getvalue(), words, "image")


def image_figure(kind: str, data: bytes, words: str, role: str) -> str:
    """An image with its caption. kind: such as png or svg+xml."""
    source, words = f"data:image/{kind};base64,{base64.b64encode(data).decode()}", escape(words)
    return f'<figure class={role}><img src="{source}" alt="{words}"><figcaption>{words}</figcaption></figure>'


def video_figure(data: bytes, words: str, role: str) -> str:
    """An mp4 with its caption; it plays by itself, without sound, again and again."""
    source, words = f"data:video/mp4;base64,{base64.b64encode(data).decode()}", escape(words)
    player = f'<video src="{source}" aria-label="{words}" autoplay loop muted playsinline controls></video>'
    return f"<figure class={role}>{player}<figcaption>{words}</figcaption></figure>"


def caption(name: str) -> str:
    """The last part of a name, as a caption."""
    return name.rpartition("/")[2].replace("_", " ")


def metrics_table(metrics: Mapping[str, Interval]) -> str:
    """A table of metrics with their intervals and targets."""
    head = "<th>metric<th class=n>value<th class=n>95 % interval<th>unit<th>resampled<th>target<th>meaning"
    rows = "".join(_row(name, metric, metric_info(name)) for name, metric in metrics.items())
    return f"<div class=wide><table><tr>{head}</tr>{rows}</table></div>"


def number(value: float) -> str:
    """Four digits, without powers of ten if possible; a dash if it is not finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _clip(clip: UInt8[np.ndarray, "t h w 3"]) -> bytes:
    """An mp4 of at most MAX_CLIP_FRAMES frames, spread evenly; small ones are enlarged."""
    frames, times = clip[:: -(-len(clip) // MAX_CLIP_FRAMES)], max(1, CLIP_WIDTH // clip.shape[2])
    return video_bytes(frames.repeat(times, axis=1).repeat(times, axis=2), FPS, CLIP_QUALITY)


def _plots(curves: Mapping[str, Curve]) -> Iterable[str]:
    """A plot for each group of curves, in the order of their first names."""
    groups: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        group, member = _split(name)
        groups.setdefault(group, {})[member] = curve
    for group, members in groups.items():
        known, what = metric_info(next(name for name in curves if name.startswith(group))), caption(group.rstrip("/"))
        yield image_figure("svg+xml", plot(members, known.steps, known.unit or what), what, "plot")


def _split(name: str) -> tuple[str, str]:
    """Group and member of a curve: `part/what/member` is in the plot `part/what/`; `part/what` has
    its own plot."""
    group, _, member = name.rpartition("/")
    return (f"{group}/", member) if "/" in group else (name, member)


def _row(name: str, metric: Interval, known: MetricInfo) -> str:
    exact = metric.low == metric.mean == metric.high
    between = f"{number(metric.low)} … {number(metric.high)}" if metric.finite and not exact else ""
    cells = [f"<td class=name>{escape(name)}", f"<td class=n>{number(metric.mean)}", f"<td class=n>{between}"]
    cells += [f"<td>{escape(known.unit)}", f"<td>{escape(resampling(metric))}", _target(known, metric)]
    return f"<tr>{''.join(cells)}<td>{escape(known.what)}</tr>"


def _target(known: MetricInfo, metric: Interval) -> str:
    if metric.inapplicable:
        return f"<td>{escape(verdict(known.target, None, metric.inapplicable))}"
    if not known.target:
        return "<td>"
    kind, words = ("yes", "reached") if known.reached(metric) else ("no", "not reached")
    return f"<td class={kind}>{escape(known.target)} {words}"
