"""What the pages of a known environment say: the clock strikes at steps 8, 16 and 24, and stops with the third."""

import json
import re

import numpy as np
import pytest

from tests.helpers_clock import HOUR, LAST
from tests.helpers_scripts import run
from worldmodel.data.clips.split import train_validation_split
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.dream import DreamEnv
from worldmodel.evaluate.page.advice import SHARP, advice
from worldmodel.evaluate.page.film import choose_episode, film_of_episode
from worldmodel.evaluate.page.results import Results
from worldmodel.evaluate.page.run_page import write_run_page
from worldmodel.world import WorldModel

CLOCK = ["env=gymnasium", "env.id=tests.helpers_clock:Clock-v0", "env.height=32", "env.width=32"]
SMALL = ["fit.steps=600", "fit.batch_size=8"]
PRIOR = ["width=32", "core_width=24", "core_layers=2", "embed=32", "layers=4", "outcome_width=32"]
MEASURED = [
    *("clips=32", "near={clips: 16, horizon: 30, samples: 2, at: [1, 5, 10]}", "far.clips=4", "control.clips=8"),
    *("inverse.steps=200", "drift.dreams=16", "drift.steps=50", "trust.clips=16"),
]


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    """The folder of a run: collected, trained and measured within two minutes."""
    folder = tmp_path_factory.mktemp("clock")
    run("collect", *CLOCK, "episodes=60", "workers=0", "policy=random", folder=folder)
    run(
        "train_tokenizer", *SMALL, "tokenizer.quantizer.codes=64", "tokenizer.width=16", "clip_latents=4", folder=folder
    )
    run("train_prior", *SMALL, *(f"prior.{each}" for each in PRIOR), folder=folder)
    run("evaluate", *(f"report.{each}" for each in MEASURED), folder=folder)
    return folder


@pytest.mark.long
@pytest.mark.slow
def test_the_report_of_the_clock_says_that_its_world_is_right(clock):
    page = (clock / "report.html").read_text()
    assert "<h1>Clock-v0: how good its world is</h1>" in page and len(page) < 2_000_000
    said = re.sub(r"<[^>]*>", " ", page.partition("<h2>Verdict</h2>")[2].partition("</ul>")[0])
    for sentence in (
        "Frames are sharp",
        "Actions do what they should",
        "Rewards and ends are right",
        "can be trusted for all",
    ):
        assert sentence in said, said
    found = json.loads((clock / "report.json").read_text())
    results = Results(found["figures"], found["curves"])
    assert results.value("outcome/rare_reward_recall") == results.value("outcome/end_recall") == 1
    assert min(results.curves["rollout/small_objects/dream"]["mean"]) > 0.5  # hand, lamps and marker stay
    assert set(advice(results)) <= {SHARP}  # of 64 codes some are idle


@pytest.mark.long
@pytest.mark.slow
def test_the_film_of_the_clock_strikes_when_the_clock_does(clock):
    store, world = EpisodeStore.open(clock / "episodes"), WorldModel.load(clock / "world")
    film = film_of_episode(world, store, choose_episode(store, train_validation_split(store)[1]))
    assert film.real is not None and film.real.ended and film.dream.ended
    struck = [np.flatnonzero(film.events(track)) + len(film.given) for track in (film.real, film.dream)]
    assert struck[0].tolist() == struck[1].tolist() == [HOUR, 2 * HOUR, LAST]
    page = write_run_page(clock).read_text()
    assert "Rewards and ends are right: 100%" in page and len(page) < 500_000


@pytest.mark.long
@pytest.mark.slow
def test_a_dream_of_the_clock_ends_with_the_third_hour_also_after_it_was_evaluated(clock):
    env = DreamEnv(world=clock / "world")
    info, rewards, steps = env.reset(seed=1)[1], 0.0, 0
    # The clock has no limit of its own, so its collection cuts at 250 steps. The trust horizon changes nothing.
    assert info["horizon"] == 250 and 0 < info["trust_horizon"] < LAST
    terminated = truncated = False
    while not (terminated or truncated):
        _, reward, terminated, truncated, _ = env.step(steps % 2)
        rewards, steps = rewards + reward, steps + 1
    assert (steps, rewards, terminated, truncated) == (LAST, 3.0, True, False)
