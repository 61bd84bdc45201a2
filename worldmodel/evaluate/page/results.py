"""The measured results as pages read them: the content of a report.json, looked up by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from worldmodel.evaluate.report import to_json
from worldmodel.evaluate.statistics.results import Section


@dataclass(frozen=True)
class Results:
    """figures: value, low, high, target, ... of each metric; curves: steps and mean of each; both as in report.json."""

    figures: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, sections: Mapping[str, Section], intervals: bool = True) -> "Results":
        """The results of these sections. Without `intervals`, targets are judged by the values alone: a few clips give
        intervals too wide to judge by."""
        if not intervals:
            sections = {title: _values_alone(section) for title, section in sections.items()}
        found = to_json(sections)
        return cls(found["figures"], found["curves"])

    def value(self, name: str, part: str = "value") -> float | None:
        """The value of a metric (or its `low`, `high`); None if it is not there or not applicable."""
        figure = self.figures.get(name)
        return None if figure is None or "not_applicable" in figure else float(figure[part])

    def names(self, pattern: str) -> list[str]:
        """The applicable metrics whose names match, such as "drift/frozen*"."""
        return [name for name in self.figures if fnmatchcase(name, pattern) and self.value(name) is not None]

    def missed(self, pattern: str) -> str | None:
        """The first metric that matches and misses its target; None if none does."""
        return next((name for name in self.names(pattern) if self.figures[name].get("reached") is False), None)

    def reached(self, pattern: str) -> bool | None:
        """Whether all metrics that match reach their targets; None if none has one."""
        asked = [name for name in self.names(pattern) if "target" in self.figures[name]]
        return None if not asked else self.missed(pattern) is None

    def first_below(self, curve: str, level: float, part: str = "mean") -> int | None:
        """The first step at which the mean (or `low`) of a curve is not above a level; None if there is none."""
        found = self.curves.get(curve)
        pairs = [] if found is None else zip(found["steps"], found[part], strict=True)
        return next((step for step, value in pairs if value is not None and value <= level), None)


def step_of(name: str) -> int:
    """The step in the name of a metric: 10 of `control/delta_psnr@10`, 495 of `drift/sharpness_495_over_10`."""
    digits = name.partition("@")[2] or next((part for part in name.split("_") if part.isdigit()), "0")
    return int(digits)


def _values_alone(section: Section) -> Section:
    metrics, curves = (
        {name: replace(x, low=x.mean, high=x.mean) for name, x in found.items()}
        for found in (section.metrics, section.curves)
    )
    return replace(section, metrics=metrics, curves=curves)
