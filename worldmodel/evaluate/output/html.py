"""A report as one HTML page that needs no other file: targets first, then each section, images
first."""

import base64
import math
from collections.abc import Iterable, Mapping
from html import escape

import numpy as np
from jaxtyping import UInt8

from worldmodel.evaluate.output.catalogue import RESAMPLED, MetricInfo, metric_info, resampling, verdict
from worldmodel.evaluate.output.plots import plot
from worldmodel.evaluate.statistics.results import Curve, Interval, Section
from worldmodel.io.video import gif_bytes, png_bytes

MAX_OPEN_ROWS = 16  # longer tables are folded
FPS, MAX_GIF_FRAMES = (
    8.0,
    60,
)  # of clips, to compare by eye; longer clips skip frames

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1080px; margin: 2em auto;
       padding: 0 1em; }
h1 { font-size: 1.7em; margin-bottom: 0; } h2 { margin-top: 2.2em; border-bottom: 1px solid #ccc; }
p.lead, p.note, caption, figcaption { color: #555; } p.note { margin: .3em 0; font-size: .9em; }
table { border-collapse: collapse; width: 100%; font-size: .88em; margin: 1em 0; }
th, td { text-align: left; padding: .2em .6em; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { font-family: ui-monospace, monospace; font-size: .92em; }
.yes { color: #17722f; } .no { color: #b3261e; } .yes, .no { font-weight: 600; white-space: nowrap; }
.shown { display: flex; flex-wrap: wrap; gap: 1.2em; align-items: flex-start; }
figure { margin: 0; max-width: 100%; } figure img { max-width: 100%; display: block; } figcaption { font-size: .85em; }
figure.plot img { width: 520px; } figure.clip img { width: 520px; image-rendering: pixelated; }
summary { cursor: pointer; color: #555; }
"""


def html_page(title: str, lead: str, sections: Mapping[str, Section]) -> str:
    """The page. title and lead: plain text above all sections."""
    body = [f"<h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>", _targets(sections), _resampled(sections)]
    body += [_section(name, section) for name, section in sections.items()]
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _targets(sections: Mapping[str, Section]) -> str:
    """The metrics that have a target."""
    every = {name: metric for section in sections.values() for name, metric in section.metrics.items()}
    asked = {name: metric for name, metric in every.items() if metric_info(name).target}
    verdicts = [metric_info(name).reached(metric) for name, metric in asked.items()]
    left = verdicts.count(None)
    words = f"{verdicts.count(True)} of {len(asked) - left} targets are reached by the whole 95 % interval."
    words += f" {left} more {'is' if left == 1 else 'are'} not applicable here." if left else ""
    return f"<p>{words}</p>{_table(asked)}" if asked else ""


def _resampled(sections: Mapping[str, Section]) -> str:
    """What the intervals of this report draw again."""
    used = {metric.resampled for section in sections.values() for metric in section.metrics.values()}
    lines = "; ".join(f"{escape(name)}: {escape(text)}" for name, text in RESAMPLED.items() if name in used)
    return f"<p class=note>Resampled for the intervals: {lines}.</p>" if lines else ""


def _section(title: str, section: Section) -> str:
    images = [_image("png", png_bytes(each), _title(name), "image") for name, each in section.images.items()]
    clips = [_image("gif", _gif(each), _title(name), "clip") for name, each in section.clips.items()]
    shown = "".join([*_plots(section.curves), *images, *clips])
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in section.notes)
    table = _table(section.metrics) if section.metrics else ""
    if len(section.metrics) > MAX_OPEN_ROWS:
        table = f"<details><summary>All {len(section.metrics)} metrics</summary>{table}</details>"
    return f"<h2>{escape(title)}</h2>{notes}<div class=shown>{shown}</div>{table}"


def _gif(clip: UInt8[np.ndarray, "t h w 3"]) -> bytes:
    """A GIF of at most MAX_GIF_FRAMES frames, spread evenly."""
    return gif_bytes(clip[:: -(-len(clip) // MAX_GIF_FRAMES)], FPS)


def _plots(curves: Mapping[str, Curve]) -> Iterable[str]:
    """A plot for each group of curves, in the order of their first names."""
    groups: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        group, member = _split(name)
        groups.setdefault(group, {})[member] = curve
    for group, members in groups.items():
        known, what = metric_info(next(name for name in curves if name.startswith(group))), _title(group.rstrip("/"))
        yield _image("svg+xml", plot(members, known.steps, known.unit or what), what, "plot")


def _split(name: str) -> tuple[str, str]:
    """Group and member of a curve: `part/what/member` is in the plot `part/what/`; `part/what` has
    its own plot."""
    group, _, member = name.rpartition("/")
    return (f"{group}/", member) if "/" in group else (name, member)


def _title(name: str) -> str:
    """The last part of a name, as a caption."""
    return name.rpartition("/")[2].replace("_", " ")


def _image(kind: str, data: bytes, caption: str, role: str) -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    words = escape(caption)
    return f'<figure class={role}><img src="{source}" alt="{words}"><figcaption>{words}</figcaption></figure>'


def _table(metrics: Mapping[str, Interval]) -> str:
    head = "<th>metric<th class=n>value<th class=n>95 % interval<th>unit<th>resampled<th>target<th>meaning"
    rows = "".join(_row(name, metric, metric_info(name)) for name, metric in metrics.items())
    return f"<table><tr>{head}</tr>{rows}</table>"


def _row(name: str, metric: Interval, known: MetricInfo) -> str:
    exact = metric.low == metric.mean == metric.high
    between = f"{_number(metric.low)} … {_number(metric.high)}" if metric.finite and not exact else ""
    cells = [f"<td class=name>{escape(name)}", f"<td class=n>{_number(metric.mean)}", f"<td class=n>{between}"]
    cells += [f"<td>{escape(known.unit)}", f"<td>{escape(resampling(metric))}", _target(known, metric)]
    return f"<tr>{''.join(cells)}<td>{escape(known.what)}</tr>"


def _target(known: MetricInfo, metric: Interval) -> str:
    if metric.inapplicable:
        return f"<td>{escape(verdict(known.target, None, metric.inapplicable))}"
    if not known.target:
        return "<td>"
    kind, words = ("yes", "reached") if known.reached(metric) else ("no", "not reached")
    return f"<td class={kind}>{escape(known.target)} {words}"


def _number(value: float) -> str:
    """Four digits, without powers of ten if possible; a dash if it is not finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
