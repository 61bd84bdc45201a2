"""Every setting has one default and one explanation, in its dataclass. Presets hold what differs."""

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.helpers_scripts import NAMES, SCRIPTS, entry, schema
from tests.test_overrides import compose
from worldmodel import envs
from worldmodel.cli import schema as cli_schema
from worldmodel.io.config import LARGEST, from_mapping

NEEDED = {"push": ["repo=a/b"], "bundle": ["to=x", "commands=[]"]}
PRESETS = sorted((SCRIPTS.parent / "configs/preset").glob("*.yaml"))
SECTIONS = [(path, name) for path in PRESETS for name in OmegaConf.load(path) if name != "run"]


def config_of(name: str, *given: str) -> Any:
    """The config of a script, as the command line gives it."""
    return from_mapping(schema(name), compose(name, *NEEDED.get(name, []), *given))


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a mapping, `a.b` for nested ones, and their values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def dataclasses_in(kind: Any) -> Iterator[type]:
    """The dataclasses of a config, at any depth."""
    if dataclasses.is_dataclass(kind):
        yield typing.cast(type, kind)
        for hint in typing.get_type_hints(kind).values():
            yield from dataclasses_in(hint)
    for each in typing.get_args(kind):
        yield from dataclasses_in(each)


CONFIGS = sorted({each for kind in (*map(schema, NAMES), *envs.SCHEMAS.values()) for each in dataclasses_in(kind)},
                 key=lambda kind: kind.__name__)  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_every_setting_is_explained_below_its_field(kind):
    texts = cli_schema.field_docs(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    assert [name for name in names if name not in texts and name != "name"] == []


def test_the_folder_of_configs_holds_presets_alone():
    assert [*(SCRIPTS.parent / "configs").iterdir()] == [SCRIPTS.parent / "configs/preset"]
    assert {name for _, name in SECTIONS} <= {*NAMES}


@pytest.mark.parametrize(("path", "name"), SECTIONS, ids=lambda value: getattr(value, "stem", value))
def test_every_key_of_a_preset_exists_and_none_restates_its_default(path, name):
    section = cli_schema.read_preset(path)[name]
    env = section.get("env", {}).get("name", "vizdoom")
    given_env = [f"env={env}"] if name == "collect" else []
    known = dict(leaves(compose(name, "preset=demo", *NEEDED.get(name, []), *given_env)))
    free = ("env.kwargs.", "agents.")  # mappings whose keys a preset may add
    given = {key: value for key, value in leaves(section) if key != "env.name"}
    assert [key for key in given if key not in known and not key.startswith(free)] == []
    assert [key for key, value in given.items() if key in known and known[key] == value] == []
    config_of(name, f"preset={path.stem}")


def test_a_preset_chooses_its_environment_and_the_command_line_another():
    values = compose("collect", "preset=maze")
    assert (values["env"]["name"], values["env"]["rooms"], values["run"]) == ("maze", 3, "runs/maze")
    assert compose("collect", "preset=small", "env=atari")["env"]["name"] == "atari"
    assert compose("collect", "preset=maze", "env.rooms=5", "run=x")["env"]["rooms"] == 5
    with pytest.raises(ValueError, match=r"env\.rooms: unknown key"):
        config = config_of("collect", "preset=maze", "env=atari")
        from_mapping(envs.schema("atari"), config.env, "env")


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_every_key_with_its_value_and_its_text(name, capsys):
    given = [*NEEDED.get(name, []), "run=runs/elsewhere"]
    entry(name)([*given, "--help"])
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    assert (
        "run=runs/elsewhere Folder of the run" in words
        and f"usage: worldmodel {name.replace('_', '-')} [key=value ...]" in words
    )
    assert "preset A named set of values" in words and max(map(len, printed.splitlines())) <= 120
    for kind in dataclasses_in(schema(name)):
        for field, text in cli_schema.field_docs(kind).items():
            nested = dataclasses.is_dataclass(typing.get_type_hints(kind)[field])
            assert nested or field in ("env", "preset") or text in words or kind.__name__ == "PlannerConfig"


def test_help_of_collect_shows_the_settings_of_the_chosen_environment(capsys):
    entry("collect")(["--help", "preset=maze"])
    words = " ".join(capsys.readouterr().out.split())
    assert "env.rooms=3 Rooms per side" in words and "episodes=320" in words and "max_steps=null" in words


def test_help_leaves_no_folder_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    entry("train_prior")(["-h"])
    assert "fit.steps=6000" in capsys.readouterr().out and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("collect", "seed=-1", "seed: expected at least 0, got -1"),
        ("collect", "episodes=0", "episodes: expected at least 1, got 0"),
        ("collect", f"episodes={10**30}", "episodes: expected -9223372036854775807 to 9223372036854775807, got a"),
        ("collect", "hold=nan", "hold: expected a number, got nan"),
        ("collect", "timeout=0", "timeout: expected more than 0"),
        ("collect", "max_steps=-5", "max_steps: expected at least 1, got -5"),
        ("rollout", "horizon=-3", "horizon: expected at least 1, got -3"),
        ("rollout", "fps=0", "fps: expected more than 0 to 1000, got 0"),
        ("rollout", "fps=inf", "fps: expected more than 0 to 1000, got inf"),
        ("rollout", "temperature=inf", "temperature: expected 0 to 1e+30, got inf"),
        ("rollout", "sampler=cashed", "sampler: expected one of 'auto', 'compiled', 'predictive', 'cached', 'naive'"),
        ("train_prior", "fit.learning_rate=inf", "fit: learning_rate: expected 0 to 1e+30, got inf"),
        ("train_agent", "ppo.clip_range=inf", "ppo: clip_range: expected more than 0 to 1e+30, got inf"),
        ("rollout", "device=cuda:99", "device: expected one that is here, cpu"),
        ("rollout", "device=foo", "device: expected one that is here, cpu"),
        ("evaluate", "report.drift.dreams=0", "report.drift: dreams: expected at least 1, got 0"),
        ("evaluate", "report.near.at=[0,1]", "report.near: at: expected at least 1, got 0"),
        ("evaluate", "report.context=0", "report: context: expected at least 1, got 0"),
        ("evaluate_agent", "planners.cem.discount=2", "planners.cem: discount: expected 0 to 1, got 2.0"),
        ("evaluate_agent", "planners.cem.elites=65", "planners.cem: elites: expected 1 to 64, got 65"),
        ("train_agent", "ppo.gamma=-0.5", "ppo: gamma: expected 0 to 1, got -0.5"),
        ("train_agent", "ppo.learning_rate=nan", "ppo.learning_rate: expected a number, got nan"),
        ("train_agent", "dream.horizon=0", "dream: horizon: expected at least 1, got 0"),
        ("train_agent", "dream.horizon=far", "dream: horizon: expected a number of steps or trust, got 'far'"),
        ("train_prior", "clip_latents=0", "clip_latents: expected at least 1, got 0"),
        ("improve", "rounds=0", "rounds: expected at least 1, got 0"),
        ("improve", "overrides.colect=[a]", "overrides.colect: unknown key; did you mean 'collect'?"),
        ("data", "workers=-1", "workers: expected at least 0, got -1"),
        ("data", "size=[0,64]", "size: expected at least 1, got 0"),
        ("data", "command=verfy", "command: expected one of 'info', 'verify'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(name, setting, message):
    with pytest.raises(ValueError) as caught:
        config_of(name, setting)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["sampler=cashed", "command=verfy"])
def test_a_misspelt_choice_is_answered_with_the_close_one(setting):
    name = "data" if setting.startswith("command") else "rollout"
    close = {"sampler=cashed": "cached", "command=verfy": "verify"}[setting]
    with pytest.raises(ValueError, match=f"did you mean '{close}'"):
        config_of(name, setting)


def test_odd_numbers_that_mean_something_pass():
    assert config_of("collect", "timeout=inf").timeout == math.inf
    assert config_of("evaluate", "report.sampler.top_k=0").report.sampler.top_k == 0


@pytest.mark.parametrize("value", [math.nan, LARGEST + 1, -LARGEST - 1])
def test_a_number_that_torch_cannot_hold_is_refused_without_a_limit_of_its_own(value):
    kind = dataclasses.make_dataclass("Mine", [("mine", float if isinstance(value, float) else int)])
    with pytest.raises(ValueError, match="mine: expected"):
        from_mapping(kind, {"mine": value})


def test_a_preset_of_something_else_is_refused_by_its_path(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("- a\n- b\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: expected keys with values"):
        cli_schema.read_preset(tmp_path / "mine.yaml")


def test_what_all_sections_of_a_report_share_is_set_once():
    report = config_of("evaluate", "report.context=8", "report.seed=3").report
    assert (report.context, report.seed) == (8, 3)
    with pytest.raises(ValueError, match=r"report\.control\.context: unknown key"):
        config_of("evaluate", "+report.control.context=8")
