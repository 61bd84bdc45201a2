"""Measure RUN/world on the held-out episodes: RUN/report.html to look at, RUN/report.json with every figure."""

from dataclasses import dataclass
from pathlib import Path

from _run import made_already, made_with, real_env, script

from worldmodel.checkpoint import read_json, write_json
from worldmodel.data.store import EpisodeStore
from worldmodel.evaluate.board import log_report
from worldmodel.evaluate.horizon import keep_horizon, trusted
from worldmodel.evaluate.page import page
from worldmodel.evaluate.report import Case, ReportConfig, measure, to_json
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
    path, looks, logs = config.run / "report.json", config.run / "report.html", config.run / "report"
    store = EpisodeStore.open(config.episodes)
    made = made_with(config.report, config.run / "world", store)
    if not (looks.is_file() and made_already(path, made)):
        world = WorldModel.load(config.run / "world", config.device)
        if fingerprint(load_tokenizer(config.run / "tokenizer")) != fingerprint(world.tokenizer):
            raise ValueError(f"{config.run / 'tokenizer'} is not that of the world: run scripts/train_prior.py")
        tokens = tokenize(world.tokenizer, store, config.run / "tokens")
        make_env = real_env(world.info) if world.info.env else None
        case = Case(world, store, tokens, config.report, make_env)
        sections = measure(case)
        keep_horizon(config.run / "world", trusted(sections["Trust horizon"]))
        log_report(sections, logs)
        looks.write_text(page("How good this world is", case.words(), sections))
        write_json(path, {"made_with": made, **to_json(sections)})
    for name, figure in read_json(path)["figures"].items():
        between = f"[{figure['low']:.3f}, {figure['high']:.3f}]"
        verdict = (
            f"{figure['target']} {'reached' if figure['reached'] else 'NOT reached'}" if "target" in figure else ""
        )
        print(f"  {name:52} {figure['value']:12.3f} {between:24} {figure['unit']:6} {verdict}".rstrip())
    print(f"report: {looks}\nfigures: {path}\nlogs: tensorboard --logdir {config.run.parent}")


if __name__ == "__main__":
    main()
