"""Measure RUN/world on the held-out episodes; the figures go to RUN/report.json."""

from dataclasses import dataclass
from pathlib import Path

from _run import made_already, made_with, script

from worldmodel.checkpoint import read_json, write_json
from worldmodel.data.store import EpisodeStore
from worldmodel.evaluate.report import ReportConfig, measure
from worldmodel.tokenizer import fingerprint, load_tokenizer, tokenize
from worldmodel.world import WorldModel


@dataclass
class EvaluateConfig:
    """The keys of configs/evaluate.yaml, explained there."""

    run: Path
    episodes: str
    device: str
    report: ReportConfig


@script(EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    path = config.run / "report.json"
    store = EpisodeStore.open(config.episodes)
    made = made_with(config.report, config.run / "world", store)
    if not made_already(path, made):
        world = WorldModel.load(config.run / "world", config.device)
        if fingerprint(load_tokenizer(config.run / "tokenizer")) != fingerprint(world.tokenizer):
            raise ValueError(f"{config.run / 'tokenizer'} is not that of the world: run scripts/train_prior.py")
        tokens = tokenize(world.tokenizer, store, config.run / "tokens")
        figures = measure(world, store, tokens, config.report)
        write_json(path, {"made_with": made, "figures": figures})
    for name, value in read_json(path)["figures"].items():
        print(f"  {name:48} {value:10.3f}")
    print(f"report: {path}")


if __name__ == "__main__":
    main()
