"""Ids of environments: one's own, those of packages, and those of the old Gym, each with what to set or install."""

import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.helpers_check import ENVIRONMENTS
from worldmodel import envs
from worldmodel.envs.gymnasium_env import GenericConfig
from worldmodel.envs.pictures import is_code

OWN = """
import gymnasium
from tests.helpers_check import Walker

gymnasium.register("{id}", Walker)
"""


def refused(name: str, kind: type[Exception] = ValueError, **settings) -> str:
    with pytest.raises(kind) as caught:
        envs.make(GenericConfig(id=name, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    before = {**gymnasium.registry}
    yield tmp_path
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def test_a_module_is_found_in_the_working_directory(folder):
    (folder / "own_walk.py").write_text(OWN.format(id="OwnWalk-v0"))
    env = envs.make(GenericConfig(id="own_walk:OwnWalk-v0"))
    assert env.reset(seed=0)[0].shape == (64, 64, 3)
    env.close()


def test_a_bare_id_that_is_unknown_is_told_of_its_module():
    text = refused("MyEnv-v0")
    assert "unknown Gymnasium id 'MyEnv-v0'" in text
    assert "an environment of your own is env.id=my_module:MyEnv-v0, where my_module registers MyEnv-v0" in text


def test_what_a_module_registers_is_listed_where_it_does_not_register_the_id():
    assert "registered by tests.helpers_check: CheckBinary-v0, " in refused("tests.helpers_check:CheckBinry-v0")
    assert "registered by json: none: call gymnasium.register(id='Mine-v0', …) in it" in refused("json:Mine-v0")


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("dm_control/cartpole-balance-v0", ValueError, '"shimmy[dm-control]"; then env.id=shimmy:dm_control/cartpole-'),
        ("MiniGrid-Empty-8x8-v0", ValueError, "pip install minigrid; then env.id=minigrid:MiniGrid-Empty-8x8-v0"),
        ("shimmy:dm_control/cartpole-balance-v0", ImportError, 'pip install "shimmy[dm-control]"'),
        ("GymV21Environment-v0", ImportError, 'pip install "shimmy[gym-v21]"'),
        ("OpenSpiel/chess-v0", ValueError, "several players"),
        ("no_such:X-v0", ImportError, "install it, start in its folder, or put that folder on PYTHONPATH"),
    ],
)
def test_ids_of_well_known_packages_name_what_to_install(name, kind, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "shimmy", None)
    assert words in refused(name, kind)


def test_a_module_of_the_old_gym_is_told_of_gymnasium_and_shimmy(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gym", None)
    (folder / "old_walk.py").write_text("import gym\n")
    text = refused("old_walk:OldWalk-v0", ImportError)
    assert "write `import gymnasium as gym` in it" in text and "shimmy" in text


@pytest.mark.parametrize("registry", [{"OldWalk-v0": 1}, types.SimpleNamespace(env_specs={"OldWalk-v0": 1})])
def test_an_id_of_the_old_gym_is_wrapped_by_shimmy(registry, monkeypatch):
    gym = types.SimpleNamespace(envs=types.SimpleNamespace(registry=registry))
    monkeypatch.setitem(sys.modules, "gym", gym)
    assert "registered with the old Gym; shimmy wraps it: pip install" in refused("json:OldWalk-v0")


def test_what_a_missing_package_of_a_module_is_called_is_said(folder):
    (folder / "needs_it.py").write_text("import a_package_of_nobody.part\n")
    assert "pip install a_package_of_nobody, or put its folder" in refused("needs_it:X-v0", ImportError)


def names_of(name: str, *given: str, **settings) -> tuple[str, ...]:
    env = envs.make(GenericConfig(id=f"tests.helpers_check:Check{name}-v0", action_names=given, **settings))
    env.close()
    return env.get_wrapper_attr("action_names")


def test_actions_have_the_given_names_those_of_the_environment_or_none():
    assert names_of("Walker", "a", "b", "c") == ("a", "b", "c")
    assert names_of("MiniGridLike") == ("left", "right", "forward")
    assert names_of("MiniGridLike", "a", "b", "c") == ("a", "b", "c")
    assert names_of("Walker") == () == names_of("CarRacingLike")
    assert names_of("CarRacingLike", "steer", "gas", "brake") == ("steer", "gas", "brake")


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (
            "Walker",
            ("a", "b"),
            r"env\.action_names: expected 3 names, one for each choice of Discrete\(3\), got 2: a, b",
        ),
        ("CarRacingLike", ("a",), r"expected 3 names, one for each number of Box.*, got 1: a"),
        ("Walker", ("a", "b", "a"), r"action_names: expected different names, got a, b, a"),
    ],
)
def test_the_number_of_names_is_that_of_the_actions(name, given, words):
    with pytest.raises(ValueError, match=words):
        names_of(name, *given)


def test_a_step_before_the_first_reset_is_refused_although_the_picture_was_looked_for():
    env = envs.make(GenericConfig(id="tests.helpers_check:CheckWalker-v0"))
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"call reset\(seed=\.\.\.\)"):
        env.step(0)


def test_a_reset_without_a_seed_is_another_one_in_each_environment():
    make = partial(envs.make, GenericConfig(id="tests.helpers_check:CheckStill-v0"))
    assert len({make().reset()[0].tobytes() for _ in range(8)}) > 1
    assert len({make().reset(seed=4)[0].tobytes() for _ in range(8)}) == 1


def test_every_stand_in_is_registered():
    assert {f"Check{each.__name__}-v0" for each in ENVIRONMENTS} <= {*gymnasium.registry}


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (np.zeros((7, 7, 3), np.uint8), False),  # constant: a picture may begin black
        (np.eye(7, dtype=np.uint8), True),
        (np.eye(7, dtype=np.uint8) * 255, False),
        (np.arange(40, dtype=np.uint8).reshape(5, 8), False),
        (np.arange(32, dtype=np.uint8).reshape(4, 8), False),  # a dark picture with a gradient
    ],
)
def test_few_small_values_are_a_code_and_anything_else_is_a_picture(image, code):
    assert is_code(image) == code


def test_a_space_of_pictures_in_a_stack_is_named(monkeypatch):
    from tests.test_envs_generic import ImageEnv, register

    register(monkeypatch, "Image-v0", ImageEnv)
    stacked = spaces.Box(0, 255, (4, 20, 20, 3), np.uint8)
    text = refused("Image-v0", kwargs={"space": stacked}, frames="observation")
    assert "the observation is 4 stacked pictures: remove the wrapper that stacks them" in text
