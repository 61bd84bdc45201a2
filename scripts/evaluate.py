"""Measure RUN/world on the held-out episodes; the figures go to RUN/report.json."""

import json
from dataclasses import dataclass
from pathlib import Path

from _run import made_already, made_with, script

from worldmodel.data.store import EpisodeStore
from worldmodel.evaluate.report import ReportConfig, measure
from worldmodel.tokenizer import tokenize
from worldmodel.world import WorldModel


@dataclass
class EvaluateConfig:
    """The keys of configs/evaluate.yaml, explained there."""

    run: Path
    device: str
    report: ReportConfig


@script(EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    path = config.run / "report.json"
    made = made_with(config.report, config.run / "world")
    if not made_already(path, made):
        world = WorldModel.load(config.run / "world", config.device)
        store = EpisodeStore.open(config.run / "episodes")
        tokens = tokenize(world.tokenizer, store, config.run / "tokens")
        figures = measure(world, store, tokens, config.report)
        path.write_text(json.dumps({"made_with": made, "figures": figures}, indent=2) + "\n")
    for name, value in json.loads(path.read_text())["figures"].items():
        print(f"  {name:48} {value:10.3f}")
    print(f"report: {path}")


if __name__ == "__main__":
    main()
