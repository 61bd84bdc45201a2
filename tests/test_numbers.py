"""Numbers that no part of the library can work with are refused by their key, before any work."""

import math
from pathlib import Path

import pytest

from tests.helpers_scripts import NAMES, SCRIPTS, schema, shared
from tests.test_overrides import compose
from worldmodel.io.config import from_mapping

NEEDED = {"push": ["repo=a/b"], "ship": ["to=x", "commands=[]"]}
PRESETS = sorted(path.stem for path in (SCRIPTS.parent / "configs/preset").glob("*.yaml"))


def check(name: str, *given: str) -> None:
    config = from_mapping(schema(name), compose(name, *NEEDED.get(name, []), *given))
    shared("_numbers").check_numbers(config)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_within_the_limits(name):
    folder = Path(SCRIPTS.parent / "configs/preset" / name)
    for preset in sorted(path.stem for path in folder.glob("*.yaml")) or ["demo"]:
        check(name, f"preset={preset}")


@pytest.mark.parametrize(
    ("name", "setting", "told"),
    [
        ("collect", "seed=-1", "seed: expected at least 0, got -1"),
        ("collect", "episodes=0", "episodes: expected at least 1, got 0"),
        ("collect", f"episodes={10**30}", "episodes: expected 1 to 9.22337e+18, got 1000"),
        ("collect", "hold=nan", "hold: expected 1 to 1e+09, got nan"),
        ("collect", "timeout=0", "timeout: expected more than 0, got 0"),
        ("collect", "max_steps=-5", "max_steps: expected at least 1, got -5"),
        ("rollout", "horizon=-3", "horizon: expected at least 1, got -3"),
        ("rollout", "fps=0", "fps: expected more than 0, got 0"),
        ("rollout", "fps=inf", "fps: expected 1e-09 to 1000, got inf"),
        ("rollout", "temperature=inf", "temperature: expected 0 to 1e+30, got inf"),
        ("train_prior", "fit.learning_rate=inf", "fit"),
        ("train_agent", "ppo.clip_range=inf", "ppo.clip_range: expected 1e-09 to 1e+30, got inf"),
        ("rollout", "device=cuda:99", "device: expected one of those that are here, cpu"),
        ("rollout", "device=foo", "device: expected one of those that are here, cpu"),
        ("evaluate", "report.drift.dreams=0", "report.drift.dreams: expected at least 1, got 0"),
        ("evaluate", "report.near.at=[0,1]", "report.near.at: expected at least 1, got 0"),
        ("evaluate_agent", "planners.cem.discount=2", "planners.cem.discount: expected 0 to 1, got 2.0"),
        ("train_agent", "ppo.gamma=-0.5", "ppo.gamma: expected 0 to 1, got -0.5"),
        ("train_agent", "ppo.learning_rate=nan", "ppo.learning_rate: expected more than 0, got nan"),
        ("train_prior", "clip_latents=0", "clip_latents: expected at least 1, got 0"),
        ("improve", "rounds=0", "rounds: expected at least 1, got 0"),
        ("data", "workers=-1", "workers: expected at least 0, got -1"),
    ],
)
def test_a_number_beyond_the_limits_is_refused_by_its_key(name, setting, told):
    with pytest.raises(ValueError) as caught:
        check(name, setting)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(("name", "setting"), [("collect", "timeout=inf"), ("evaluate", "report.sampler.top_k=0")])
def test_odd_numbers_that_mean_something_pass(name, setting):
    check(name, setting)


def test_a_number_without_a_limit_of_its_own_is_still_one_that_fits():
    for value in (math.nan, 2**63, -(2**63) - 1):
        with pytest.raises(ValueError, match="mine"):
            shared("_numbers").check_numbers({"mine": value})
