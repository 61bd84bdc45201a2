"""The report.json of a world, as its model card shows it: read, checked, and compared with the world's weights."""

import math
from pathlib import Path
from typing import Any

from worldmodel.io.json_files import read_checked_json
from worldmodel.io.model_folder import read_config
from worldmodel.io.untrusted import errors_name

REPORT = "report.json"
# Default sampling temperature and the latent at which it ends (0: never), for worlds that don't set them.
DEFAULT_TEMPERATURE = (1.0, 0)


def load_report(report: Path, folder: str | Path) -> dict[str, Any]:
    """The settings (`made_with`) and results (`figures`) in a report.json on the world in `folder`.

    Raises:
        ValueError: it is damaged, or about other weights, or about dreams sampled at another temperature.
    """
    found, (config, weights) = read_report(report), read_config(folder)
    with errors_name(report):
        remedy = "run `worldmodel evaluate run=…` first"
        if found["made_with"]["world"] != weights:
            raise ValueError(f"measured of other weights than those in {folder}; {remedy}")
        if _report_temperature(found["made_with"]) != sampling_temperature(config["info"]):
            raise ValueError(f"measured at another temperature than that of {folder}; {remedy}")
        return {name: found[name] for name in ("made_with", "figures")}


def read_report(path: Path) -> dict[str, Any]:
    """The content of a report.json, each of its results with value, interval and unit.

    Raises:
        ValueError: it is missing, damaged or changed by hand, or holds something else.
    """
    found = read_checked_json(path)
    with errors_name(path):
        for name, result in found["figures"].items():
            if not _is_result(result):
                raise ValueError(f"{name}: expected a value with its interval, count and unit, got {result!r:.80}")
    return found


def sampling_temperature(info: dict[str, Any]) -> tuple[float, int]:
    """A world's sampling temperature and the latent of a dream at which it ends (0: never), from its config."""
    return info.get("temperature", DEFAULT_TEMPERATURE[0]), info.get("temperature_until", DEFAULT_TEMPERATURE[1])


def _report_temperature(made_with: dict[str, Any]) -> tuple[Any, ...]:
    """The temperature of the dreams that were measured: the sampler's own setting, else the world's."""
    sampler = made_with.get("settings", {}).get("sampler", {})
    if sampler.get("temperature") is not None:
        return sampling_temperature(sampler)
    return tuple(made_with.get("temperature", DEFAULT_TEMPERATURE))


def _is_result(result: Any) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("unit"), str):
        return False
    numbers: list[Any] = [result.get(name) for name in ("value", "low", "high")]
    finite = all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
    return finite and isinstance(result.get("not_applicable", ""), str)
