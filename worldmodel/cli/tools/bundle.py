"""Write a world as it comes with the package.

The folder holds weights in float16, the config, and a card with commands, seeds and metrics. All files together are
smaller than 8 MB. The metrics must be those of the rounded world, so there are three steps:

    worldmodel bundle run=runs/maze to=worldmodel/worlds/maze 'commands=["worldmodel collect ...", ...]'
    worldmodel evaluate run=runs/maze world=worldmodel/worlds/maze out=runs/maze/bundle
    the first command again, which adds what was measured
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel.cli.command import WorldConfig, command
from worldmodel.evaluate.sections.horizon import kept_horizon
from worldmodel.io.hub.card import model_card
from worldmodel.io.hub.names import world_folder
from worldmodel.io.hub.report import REPORT, load_report
from worldmodel.io.hub.transfer import CARD
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.model_folder import read_config
from worldmodel.training.run_state import latest
from worldmodel.world import WorldModel

MAX_BYTES = 8_000_000  # of all files of a world that comes with the package: every installation has a copy


@dataclass(kw_only=True)
class BundleConfig(WorldConfig):
    """Settings of `worldmodel bundle`."""

    report: Path = Path("${run}/bundle/report.json")
    """File with the metrics of the rounded world."""
    to: Path
    """Folder that is made; its own name becomes the name of the world."""
    commands: tuple[str, ...]
    """The commands that made the world, for the card."""


@command(BundleConfig)
def main(config: BundleConfig) -> None:
    world = WorldModel.load(world_folder(config.world))
    world.round_weights()
    world.info.trust_horizon = kept_horizon(config.to, world)  # a horizon measured before rounding is not this world's
    world.save(config.to)
    found = load_report(config.report, config.to) if config.report.is_file() else None
    (config.to / REPORT).unlink(missing_ok=True)  # it may belong to earlier weights
    if found is not None:
        write_checked_json(config.to / REPORT, found)
    about, figures = read_config(config.to)[0], {} if found is None else found["figures"]
    (config.to / CARD).write_text(model_card(about, config.to.name, figures, origin(config, found)), encoding="utf-8")
    size = sum(path.stat().st_size for path in config.to.iterdir())
    if size >= MAX_BYTES:
        raise ValueError(f"{config.to}: {size:,} bytes, expected fewer than {MAX_BYTES:,}; train a smaller world")
    print(f"world: {config.to}, {size:,} bytes; WorldModel.load({config.to.name!r}) once that is in worldmodel/worlds")
    if found is None:
        command = f"worldmodel evaluate run={config.run} world={config.to} out={config.report.parent}"
        print(f"not measured yet: {command}, then this again")


def origin(config: BundleConfig, found: dict[str, Any] | None) -> dict[str, Any]:
    """What made the world: the commands, and the seeds that the run still has."""
    details: dict[str, Any] = {f"step {i}": command for i, command in enumerate(config.commands, 1)}
    if (episodes := config.run / "episodes" / "dataset.json").is_file():
        details["seed of the episodes"] = read_checked_json(episodes).get("seed")
    for part in ("tokenizer", "prior"):
        if (checkpoint := latest(config.run / part)) is not None:
            details[f"seed of the {part}"] = checkpoint.progress["fit"]["seed"]
    if found is not None:
        details["seed of the evaluation"] = found["made_with"]["settings"]["seed"]
    return details | {"weights": "rounded to float16 before anything was measured; sums are made in float32"}
