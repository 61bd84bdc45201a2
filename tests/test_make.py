"""worldmodel make: its plan, its names of runs, and what it refuses; tests/test_first_minutes.py runs all of it."""

import pytest

from tests.helpers_scripts import run
from tests.test_overrides import compose
from worldmodel.cli.command import slug
from worldmodel.cli.steps import collect, make
from worldmodel.io.config import from_mapping
from worldmodel.io.json_files import write_checked_json

MAZE = ("env=maze", "env.height=16", "env.width=24", "env.max_steps=20")


def config(*given: str) -> make.MakeConfig:
    return from_mapping(make.MakeConfig, compose("make", *given))


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"name": "gymnasium", "id": "my_module:MyEnv-v0"}, "my_env"),
        ({"name": "gymnasium", "id": "minigrid:MiniGrid-DoorKey-5x5-v0"}, "mini_grid_door_key_5x5"),
        ({"name": "gymnasium", "id": "ale_py:ALE/Pong-v5"}, "pong"),
        ({"name": "maze"}, "maze"),
    ],
)
def test_a_run_is_named_after_its_environment(env, name):
    assert slug(env) == name


def test_make_takes_the_run_of_its_environment_unless_one_is_given():
    assert str(config("env.id=my_module:MyEnv-v0").run) == "runs/my_env"
    assert str(config("env.id=my_module:MyEnv-v0", "run=runs/other").run) == "runs/other"
    assert config("env.id=a:B-v0").env["name"] == "gymnasium" and config("env=maze").env["name"] == "maze"


def test_each_training_gets_its_share_of_the_minutes_and_the_seed():
    for minutes in (3, 10):
        parts = {name: make.part(config(*MAZE, f"minutes={minutes}", "seed=5"), name) for name in make.STEPS}
        spent = parts["train_tokenizer"].minutes + parts["train_prior"].minutes
        assert 0.6 * minutes < spent < 0.8 * minutes and parts["train_prior"].fit.seed == parts["collect"].seed == 5
    assert make.plan(parts).startswith(f"plan: {parts['collect'].episodes} episodes, train-tokenizer 2.7 minutes, ")


def test_keys_of_one_part_reach_it_alone():
    settings = config(*MAZE, 'overrides.train_prior=["prior.width=32"]', 'overrides.collect=["policy=random"]')
    assert make.part(settings, "train_prior").prior.width == 32 and make.part(settings, "collect").policy == "random"
    with pytest.raises(ValueError, match=r"overrides\.train_pior: "):
        config(*MAZE, '+overrides.train_pior=["x=1"]')


def test_keys_of_one_part_have_the_last_word(tmp_path):
    given = ('overrides.collect=["episodes=5"]', 'overrides.train_prior=["minutes=7","fit.seed=9"]', f"run={tmp_path}")
    settings = config(*MAZE, *given)
    prior = make.part(settings, "train_prior")
    assert (prior.minutes, prior.fit.seed) == (7, 9)
    assert make.planned_episodes(settings, make.part(settings, "collect")) == 5


def test_more_minutes_are_more_episodes(tmp_path):
    found = []
    for minutes in (1, 4):
        settings = config(*MAZE, f"minutes={minutes}", f"run={tmp_path}")
        part = make.part(settings, "collect")
        part.workers = 0
        found.append(make.planned_episodes(settings, part))
    assert found[1] > 2 * found[0] >= 2 * make.FEWEST_EPISODES
    assert not [*tmp_path.iterdir()]


def test_a_second_call_plans_what_the_first_one_did_and_refuses_another_time(tmp_path):
    write_checked_json(tmp_path / make.PLAN, {"episodes": 77, "minutes": 3.0})
    settings = config(*MAZE, "minutes=3", f"run={tmp_path}")
    make.refuse_other_time(settings)
    assert make.planned_episodes(settings, collect.CollectConfig()) == 77
    printed = run("make", *MAZE, "minutes=8", folder=tmp_path, ok=False)
    assert "minutes: " in printed and "expected minutes=3.0, or another run=" in printed


@pytest.mark.parametrize("given", ["minutes=0", "minutes=-1", "minutes=inf", "minutes=nan", "seed=-1"])
def test_a_wrong_value_is_refused_by_its_key(given):
    with pytest.raises(ValueError, match=given.partition("=")[0]):
        config(*MAZE, given)
