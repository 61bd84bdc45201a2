"""Measure a world on held-out episodes, with 95 % intervals.

Measured are reconstruction, likelihood, rewards and terminations, and dreams beside real episodes: how long they stay
close, whether they follow actions, remember, and stay alive. OUT/report.html is the page to read: a film, a
verdict in plain words, and figures with advice. OUT/report.json has
all metrics, curves and targets, OUT/report the same for TensorBoard. The trust horizon is saved in the world's folder
(not in that of a world by name), for dreams with horizon=trust; it changes no other dream.
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from worldmodel.cli.command import WorldConfig, command
from worldmodel.cli.models import check_device, is_up_to_date, provenance, real_env
from worldmodel.data.open import open_episodes
from worldmodel.evaluate.output.catalogue import verdict
from worldmodel.evaluate.output.tensorboard import log_report
from worldmodel.evaluate.page.report_page import report_page
from worldmodel.evaluate.report import EvaluationContext, ReportConfig, measure, to_json
from worldmodel.evaluate.sections.horizon import keep_horizon, trusted
from worldmodel.io.hub.names import world_folder
from worldmodel.io.hub.report import read_report
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.model_folder import CONFIG
from worldmodel.tokenizer import fingerprint, load_tokenizer, tokenize
from worldmodel.world import WorldModel


@dataclass
class EvaluateConfig(WorldConfig):
    """Settings of `worldmodel evaluate`."""

    episodes: str = "${run}/episodes"
    """Folder or URL of the episodes; they must be those that the world was trained on, with the held-out ones."""
    out: Path = Path("${run}")
    """Folder of the results."""
    device: str = "cpu"
    """cpu or cuda."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """How much is measured."""

    def __post_init__(self) -> None:
        check_device(self)


@command(EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    path, html_path, log_folder = config.out / "report.json", config.out / "report.html", config.out / "report"
    store, folder = open_episodes(config.episodes), world_folder(config.world)
    made = provenance(config.report, folder, store) | {"resampled": "episodes"}  # earlier reports drew clips
    if not (html_path.is_file() and is_up_to_date(path, made)):
        world = WorldModel.load(folder, config.device)
        if folder == config.run / "world":
            check_tokenizer(config.run / "tokenizer", world)
        tokens = tokenize(world.tokenizer, store, config.out / "tokens")
        make_env = real_env(world.info) if world.info.env else None
        context = EvaluationContext(world, store, tokens, config.report, make_env)
        sections = measure(context)
        own = config.report.sampler.temperature is None  # dreams were sampled at the world's own temperature
        if own and folder == config.world:  # a world by name keeps its own horizon
            keep_horizon(folder, trusted(sections["Trust horizon"]))
        log_report(sections, log_folder)
        html_path.write_text(report_page(context, sections))
        write_checked_json(path, {"made_with": made, **to_json(sections)})
    report = read_report(path)
    for name, metric in report["figures"].items():
        interval = f"[{metric['low']:.4g}, {metric['high']:.4g}]"
        result = verdict(metric.get("target", ""), metric.get("reached"), metric.get("not_applicable", ""))
        print(f"  {name:52} {metric['value']:12.4g} {interval:24} {metric['unit']:6} {result}".rstrip())
    for name, reason in report.get("not_applicable", {}).items():
        print(f"  {name:52} {verdict('', None, reason)}")
    print(describe_horizon(read_checked_json(folder / CONFIG)["config"]["info"].get("trust_horizon")))
    print(f"report: {html_path}\nmetrics: {path}\nlogs: tensorboard --logdir {config.run.parent}")


def describe_horizon(trust_horizon: int | None) -> str:
    """Says what the trust horizon of a world is, and that dreams do not end there by themselves."""
    if trust_horizon is None:
        return "trust horizon: not kept with this world; its dreams are as long as real episodes"
    asked = f"horizon=trust (train-agent: dream.horizon=trust) ends them after {max(trust_horizon, 1)}"
    return f"trust horizon: {trust_horizon} steps; dreams are as long as real episodes, and {asked}"


def check_tokenizer(folder: Path, world: WorldModel) -> None:
    """Raises: ValueError if the tokenizer was trained again after the world was made."""
    if fingerprint(load_tokenizer(folder)) != fingerprint(world.tokenizer):
        command = f"`worldmodel train-prior {shlex.quote(f'run={folder.parent}')} fresh=true`"
        raise ValueError(f"{folder}: the world was made with another tokenizer; {command} makes it anew")
