"""Measure a world on the held-out episodes: OUT/report.html to look at, OUT/report.json with every figure."""

from _run import made_already, made_with, real_env, script

from dataclasses import dataclass
from pathlib import Path

from worldmodel.data.open import open_episodes
from worldmodel.evaluate.output.catalogue import verdict
from worldmodel.evaluate.output.html import html_page
from worldmodel.evaluate.output.tensorboard import log_report
from worldmodel.evaluate.report import EvaluationContext, ReportConfig, measure, to_json
from worldmodel.evaluate.sections.horizon import keep_horizon, trusted
from worldmodel.io.hub import read_report, world_folder
from worldmodel.io.model_folder import CONFIG, read_checked_json, write_checked_json
from worldmodel.tokenizer import fingerprint, load_tokenizer, tokenize
from worldmodel.world import WorldModel


@dataclass
class EvaluateConfig:
    """The keys of configs/evaluate.yaml, explained there."""

    run: Path
    episodes: str
    world: Path
    out: Path
    device: str
    report: ReportConfig


@script(EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    path, html_path, log_folder = config.out / "report.json", config.out / "report.html", config.out / "report"
    store, folder = open_episodes(config.episodes), world_folder(config.world)
    made = made_with(config.report, folder, store)
    if not (html_path.is_file() and made_already(path, made)):
        world = WorldModel.load(folder, config.device)
        if folder == config.run / "world":
            check_tokenizer(config.run / "tokenizer", world)
        tokens = tokenize(world.tokenizer, store, config.out / "tokens")
        make_env = real_env(world.info) if world.info.env else None
        case = EvaluationContext(world, store, tokens, config.report, make_env)
        sections = measure(case)
        own = config.report.sampler.temperature is None  # dreams were drawn as this world draws them
        if own and folder == config.world:  # what goes by a name keeps the horizon that it came with
            keep_horizon(folder, trusted(sections["Trust horizon"]))
        log_report(sections, log_folder)
        html_path.write_text(html_page("How good this world is", case.summary(), sections))
        write_checked_json(path, {"made_with": made, **to_json(sections)})
    report = read_report(path)
    for name, metric in report["figures"].items():
        between = f"[{metric['low']:.4g}, {metric['high']:.4g}]"
        said = verdict(metric.get("target", ""), metric.get("reached"), metric.get("not_applicable", ""))
        print(f"  {name:52} {metric['value']:12.4g} {between:24} {metric['unit']:6} {said}".rstrip())
    for name, why in report.get("not_applicable", {}).items():
        print(f"  {name:52} {verdict('', None, why)}")
    print(describe_horizon(read_checked_json(folder / CONFIG)["config"]["info"].get("trust_horizon")))
    print(f"report: {html_path}\nfigures: {path}\nlogs: tensorboard --logdir {config.run.parent}")


def describe_horizon(trust_horizon: int | None) -> str:
    """Where the dreams of a world with this trust horizon end by default, in words."""
    if trust_horizon is None:
        return "trust horizon: none is kept with the world; its dreams are as long as its longest episode"
    ends = f"trust horizon: {trust_horizon} steps; dreams of this world end after {max(trust_horizon, 1)} by default"
    return f"{ends}; horizon= (dream.horizon= in train_agent.py) takes another number"


def check_tokenizer(folder: Path, world: WorldModel) -> None:
    """Raises: ValueError when the tokenizer was trained anew since the world was made."""
    if fingerprint(load_tokenizer(folder)) != fingerprint(world.tokenizer):
        raise ValueError(f"{folder} is not that of the world: run scripts/train_prior.py")


if __name__ == "__main__":
    main()
