"""The model card of a world: what it imitates, how to load it, and its results."""

import json
import re
from typing import Any

from worldmodel.io.hub.report import sampling_temperature


def model_card(
    config: dict[str, Any], place: str, figures: dict[str, dict[str, Any]], origin: dict[str, Any] | None = None
) -> str:
    """A model card in Markdown, from a world's config and the results (`figures`) of its report.json.

    place: the name that `WorldModel.load` takes for it. origin: what the world was made with, by name.
    """
    env = str(config["info"]["env"].get("name", "unknown"))
    front: dict[str, Any] = {"library_name": "worldmodel", "pipeline_tag": "reinforcement-learning"}
    front["tags"] = ["world-model", "reinforcement-learning", "vq-vae", "pixelcnn", env]
    header = "\n".join(f"{name}: {json.dumps(value)}" for name, value in front.items())  # JSON is YAML
    use = f'from worldmodel import WorldModel\n\nworld = WorldModel.load("{place}")'
    parts = [f"# A world to dream in: {_escape(env)}", _table("what", "value", _facts(config))]
    parts.append(f"```python\n{use}\n```")
    if origin:
        parts.append("Made with:\n\n" + _table("what", "value", origin))
    if figures:
        rows = {name: _format_figure(figure) for name, figure in figures.items()}
        parts.append("Measured on held-out episodes, with 95 % intervals:\n\n" + _table("figure", "value", rows))
    return f"---\n{header}\n---\n\n" + "\n\n".join(parts) + "\n"


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    info, tokenizer = config["info"], config["tokenizer"]
    height, width, _ = info["frame_shape"]
    horizon = info.get("trust_horizon")
    return {
        "environment": info["env"],
        "frames": f"{height}×{width}, uint8",
        "actions": info["action_names"] or info["action_space"],
        "tokens of a frame": (height // tokenizer["space_stride"]) * (width // tokenizer["space_stride"]),
        "codes": tokenizer["quantizer"]["codes"],
        "frames of a latent": tokenizer["time_stride"],
        "trust horizon, in steps": "not measured" if horizon is None else horizon,
        "temperature of its dreams, and until which latent": list(sampling_temperature(info)),
    }


def _format_figure(figure: dict[str, Any]) -> str:
    """A result on one line: its value, its unit, and its interval if it has one."""
    if why := figure.get("not_applicable", ""):
        return f"not applicable: {why}"
    value, low, high = (f"{figure[name]:.4g}" for name in ("value", "low", "high"))
    interval = "" if low == high else f"({low} to {high})"
    return " ".join(filter(None, [value, figure["unit"], interval]))


def _table(left: str, right: str, rows: dict[str, Any]) -> str:
    lines = [f"| {_escape(name)} | {_escape(_short(value))} |" for name, value in rows.items()]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *lines])


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _escape(text: str) -> str:
    """The text on one line, without what Markdown or HTML would act on."""
    return re.sub(r"([|<>\[\]`\\])", r"\\\1", " ".join(text.split()))
