"""Put RUN/world into TO, rounded to float16, as a world that others load by the name of that folder.

    python scripts/ship.py run=runs/maze to=worldmodel/worlds/maze 'commands=["python scripts/collect.py ...", ...]'
    python scripts/evaluate.py run=runs/maze world=worldmodel/worlds/maze out=runs/maze/shipped

The first writes the rounded world, the second measures it where it lies; then the first again adds what was measured.
"""

from _run import script

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel.evaluate.sections.horizon import kept_horizon
from worldmodel.io.hub.card import model_card
from worldmodel.io.hub.report import REPORT, load_report
from worldmodel.io.hub.transfer import CARD
from worldmodel.io.model_folder import read_checked_json, read_config, write_checked_json
from worldmodel.training.run_state import latest
from worldmodel.world import WorldModel

MOST_BYTES = 8_000_000  # of all files of a world that comes with the package: it is copied into every installation


@dataclass
class ShipConfig:
    """The keys of configs/ship.yaml, explained there."""

    run: Path
    world: Path
    report: Path
    to: Path
    commands: tuple[str, ...]


@script(ShipConfig)
def main(config: ShipConfig) -> None:
    world = WorldModel.load(config.world)
    world.round_weights()
    world.info.trust_horizon = kept_horizon(config.to, world)  # what was measured before rounding does not count
    world.save(config.to)
    found = load_report(config.report, config.to) if config.report.is_file() else None
    (config.to / REPORT).unlink(missing_ok=True)  # it may be of earlier weights
    if found is not None:
        write_checked_json(config.to / REPORT, found)
    about, figures = read_config(config.to)[0], {} if found is None else found["figures"]
    (config.to / CARD).write_text(model_card(about, config.to.name, figures, origin(config, found)), encoding="utf-8")
    size = sum(path.stat().st_size for path in config.to.iterdir())
    if size >= MOST_BYTES:
        raise ValueError(f"{config.to}: {size:,} bytes, expected fewer than {MOST_BYTES:,}; train a smaller world")
    print(f"world: {config.to}, {size:,} bytes; WorldModel.load({config.to.name!r}) once that is in worldmodel/worlds")
    if found is None:
        command = f"python scripts/evaluate.py run={config.run} world={config.to} out={config.report.parent}"
        print(f"not measured yet: {command}, then this again")


def origin(config: ShipConfig, found: dict[str, Any] | None) -> dict[str, Any]:
    """What the world was made with: the commands, and such seeds as the run still knows."""
    details: dict[str, Any] = {f"step {i}": command for i, command in enumerate(config.commands, 1)}
    if (episodes := config.run / "episodes" / "dataset.json").is_file():
        details["seed of the episodes"] = read_checked_json(episodes).get("seed")
    for part in ("tokenizer", "prior"):
        if (checkpoint := latest(config.run / part)) is not None:
            details[f"seed of the {part}"] = checkpoint.progress["fit"]["seed"]
    if found is not None:
        details["seed of the evaluation"] = found["made_with"]["settings"]["seed"]
    return details | {"weights": "rounded to float16 before anything was measured; sums are made in float32"}


if __name__ == "__main__":
    main()
