"""The Python API: an environment that is an object is collected and trained, with the results of the commands."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import worldmodel
from tests.helpers_models import small_world
from tests.helpers_scripts import run
from worldmodel import api
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.envs.gymnasium_env import GenericConfig, GenericEnv
from worldmodel.tokenizer import load_tokenizer

SMALL: dict[str, Any] = {"tokenizer": {"fit.steps": 3, "clip_latents": 3, "tokenizer.width": 8}}
SMALL["prior"] = {"fit.steps": 3, "clip_latents": 3, "prior.width": 16, "prior.layers": 2, "starts": 2}


class Dot(gymnasium.Env):
    """A white dot that moves by one column a step; it is worth a point in column 0."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, columns: int = 8, rendered: bool = False, render_mode: str | None = None):
        self.columns, self.rendered, self.render_mode = columns, rendered, render_mode
        picture = spaces.Box(0, 255, (16, 16, 3), np.uint8)
        self.observation_space = spaces.Discrete(columns) if rendered else picture
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.column, self.steps = int(self.np_random.integers(self.columns)), 0
        return self.column if self.rendered else self.render(), {}

    def step(self, action):
        self.column, self.steps = (self.column + (1, -1)[action]) % self.columns, self.steps + 1
        observation = self.column if self.rendered else self.render()
        return observation, float(self.column == 0), self.steps == 12, False, {}

    def render(self):
        frame = np.full((16, 16, 3), (20, 60, 120), np.uint8)
        frame[4:12, 2 * self.column : 2 * self.column + 2] = 255
        return frame


def test_episodes_of_an_object_equal_those_of_its_id(tmp_path):
    gymnasium.register("Dot-v0", entry_point=cast(Any, Dot))
    try:
        run(
            "collect",
            "env.id=Dot-v0",
            "env.height=16",
            "env.width=16",
            "episodes=3",
            "workers=0",
            folder=tmp_path / "a",
        )
    finally:
        del gymnasium.registry["Dot-v0"]
    store = worldmodel.collect(Dot, tmp_path / "b", episodes=3, height=16, width=16)
    named = EpisodeStore.open(tmp_path / "a" / "episodes")
    for index in range(3):
        assert np.array_equal(store.read(index).frames, named.read(index).frames)
        assert np.array_equal(store.read(index).actions, named.read(index).actions)
    assert store.info.env == {} and len(store.indices) == 3


def test_a_second_call_collects_what_is_missing_and_workers_collect_the_same(tmp_path):
    make = partial(Dot, 6)
    worldmodel.collect(make, tmp_path / "a", episodes=1, height=16, width=16)
    first = worldmodel.collect(make, tmp_path / "a", episodes=3, height=16, width=16)
    other = worldmodel.collect(make, tmp_path / "b", episodes=3, height=16, width=16, workers=1)
    assert [np.array_equal(first.read(i).frames, other.read(i).frames) for i in range(3)] == [True] * 3


def test_an_environment_without_pictures_is_rendered_if_it_was_made_so(tmp_path):
    make = partial(Dot, rendered=True, render_mode="rgb_array")
    store = worldmodel.collect(make, tmp_path / "a", episodes=1, height=16, width=16)
    assert len(np.unique(store.read(0).frames)) > 2
    with pytest.raises(ValueError, match="make it with render_mode='rgb_array'"):
        worldmodel.collect(partial(Dot, rendered=True), tmp_path / "b", episodes=1)


def test_a_copy_makes_the_environment_again():
    import copy

    env = GenericEnv(GenericConfig(height=16, width=16), Dot)
    env.reset(seed=1)
    other = copy.deepcopy(env)
    assert np.array_equal(env.render(), other.render())
    assert np.array_equal(other.reset(seed=3)[0], env.reset(seed=3)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episode": 3}, "episode: unknown key; did you mean 'episodes'?"),
        ({"heigth": 16}, "heigth: unknown key"),
        ({"height": 0}, "height: expected at least 1, got 0"),
        ({"episodes": "many"}, "episodes: expected int, got str 'many'"),
    ],
)
def test_wrong_settings_are_refused_by_their_names(tmp_path, settings, message):
    with pytest.raises((ValueError, TypeError), match=message.replace("?", r"\?")):
        worldmodel.collect(Dot, tmp_path, **settings)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_training_by_the_api_equals_training_by_the_commands(tmp_path):
    for name in ("a", "b"):
        worldmodel.collect(Dot, tmp_path / name, episodes=6, height=16, width=16)
    world = worldmodel.train(tmp_path / "a", **SMALL)
    for command, part in (("train_tokenizer", "tokenizer"), ("train_prior", "prior")):
        run(command, *(f"{key}={value}" for key, value in SMALL[part].items()), folder=tmp_path / "b")
    other = worldmodel.WorldModel.load(tmp_path / "b" / "world")
    assert all(torch.equal(x, other.state_dict()[name]) for name, x in world.state_dict().items())
    env = gymnasium.make("worldmodel/Dream-v0", world=str(Path(tmp_path) / "a" / "world"))
    frame, _ = env.reset(seed=0)
    assert frame.shape == (16, 16, 3)


def test_values_of_python_reach_a_training_as_they_are(tmp_path, monkeypatch):
    found: list[Any] = []
    monkeypatch.setattr(api.train_tokenizer, "main", replace(api.train_tokenizer.main, work=found.append))
    monkeypatch.setattr(api.train_prior, "main", replace(api.train_prior.main, work=found.append))
    world = small_world()
    monkeypatch.setattr(api.WorldModel, "load", lambda folder: world)
    given: dict[str, Any] = {"fresh": True, "minutes": None, "init": tmp_path, "tokenizer.bottleneck": "fsq"}
    assert worldmodel.train(tmp_path, minutes=2.0, tokenizer=given, prior={"fit.steps": 3}) is world
    first, second = found
    assert (first.fresh, first.minutes, first.init, first.tokenizer.bottleneck) == (True, None, tmp_path, "fsq")
    assert (second.fit.steps, second.minutes, second.run) == (3, pytest.approx(1.1), tmp_path)


@pytest.mark.parametrize(
    "given", [{"tokenizer": {"fit.stepz": 3}}, {"prior": {"prior.width": "wide"}}, {"preset": "qick"}]
)
def test_a_misspelt_setting_of_a_training_is_refused(tmp_path, given):
    worldmodel.collect(Dot, tmp_path, episodes=3, height=16, width=16)
    with pytest.raises((ValueError, TypeError)):
        worldmodel.train(tmp_path, **{**SMALL, **given})


def test_a_training_that_makes_the_tokenizer_worse_keeps_its_start(tmp_path):
    store = worldmodel.collect(Dot, tmp_path, episodes=6, height=16, width=16)
    settings = ("fit.steps=20", "fit.learning_rate=0.02", "clip_latents=3", "tokenizer.width=8")
    assert "its start is kept" in run("train_tokenizer", *settings, folder=tmp_path)
    frames = torch.from_numpy(store.read(0).frames[None, :4])
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    assert torch.equal(tokenizer.decode(tokenizer.encode(frames)), frames)  # few patches: the start is exact
