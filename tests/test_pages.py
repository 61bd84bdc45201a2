"""The film, report.html and run.html."""

import dataclasses
import re

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from tests.helpers_dreams import noise_store
from tests.helpers_evaluate import brightening, brightening_tokens, brightening_world
from tests.helpers_models import REWARDS, small_world
from tests.test_report import CONFIG
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.store import DatasetInfo, EpisodeStore
from worldmodel.evaluate.page import run_page as run_page_module
from worldmodel.evaluate.page.advice import LIKELIHOOD, TRUST, advice
from worldmodel.evaluate.page.drawing import film_bytes, film_images, film_sheet
from worldmodel.evaluate.page.film import Film, Track, choose_episode, film_of_context, film_of_episode
from worldmodel.evaluate.page.report_page import report_page
from worldmodel.evaluate.page.results import Results
from worldmodel.evaluate.page.run_page import write_run_page
from worldmodel.evaluate.page.verdict import answers
from worldmodel.evaluate.report import EvaluationContext, ReportConfig, measure
from worldmodel.evaluate.sections.rollouts import RolloutsConfig


def rewarded_store(folder, **settings) -> EpisodeStore:
    """Two episodes of noise for a `small_world`; the second one has a reward at step 8 and ends at step 12."""
    store = EpisodeStore.create(folder, DatasetInfo(Discrete(4), (16, 24, 3), seed=0))
    for index in range(2):
        frames = np.random.default_rng(index).integers(0, 256, (13, 16, 24, 3), np.uint8)
        rewards = np.zeros(12, np.float32)
        rewards[7] = index
        store.write(Episode(frames, np.arange(12) % 4, rewards, bool(index), not index, seed=index, index=index))
    return store


@pytest.mark.parametrize("stride", [1, 2])
def test_a_film_has_given_real_and_dreamed_frames_with_actions_and_rewards(stride, tmp_path):
    world, store = small_world(stride), rewarded_store(tmp_path)
    assert choose_episode(store, [0, 1]) == 1
    film = film_of_episode(world, store, 1, dataclasses.replace(CONFIG, context=3))
    assert film.real is not None and len(film.given) == 3 and film.steps == len(film.real) == 10
    assert np.array_equal(film.real.frames, store.frames(1, 3, 13)) and film.real.ended
    assert film.actions[:3] == ("left", "right", "noop") and np.flatnonzero(film.events(film.real)).tolist() == [5]
    assert 5 in film.moments() and len(film.dream) <= 10
    images = film_images(film)
    assert len({image.shape for image in images}) == 1 and len(images) == 13
    marked = [bool((image == (245, 170, 60)).all(-1)[100].any()) for image in images]
    assert marked == [True] * 3 + [False] * 10  # the edge of the given frames
    assert film_sheet(film).shape[1] <= 1600


def test_a_film_is_as_small_as_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    track = Track(rng.integers(0, 256, (20, 16, 16, 3), np.uint8), np.zeros(20), False)
    film = Film(track.frames[:2], np.zeros(1), ("",) * 20, None, track, 0.0)
    large, small = film_bytes(film, 10**9), film_bytes(film, 60_000)
    assert len(small) <= 60_000 < len(large) and small[4:8] == large[4:8] == b"ftyp"


def test_without_episodes_the_film_is_a_dream_from_a_context_of_the_world():
    film = film_of_context(small_world(2), CONFIG)
    assert film.real is None and len(film.given) == 1 and 0 < film.steps <= 120
    assert film_images(film)[0].shape[0] < 400 and film_sheet(film).shape[1] <= 1600


# --- the pages


def test_the_report_begins_with_film_and_verdict_then_asks_each_question(tmp_path):
    store, world = brightening(tmp_path, episodes=5), brightening_world(rewards=REWARDS)
    world.info.env = {"name": "gymnasium", "id": "my_module:Bright-v0"}
    context = EvaluationContext(world, store, brightening_tokens(world, store, tmp_path), CONFIG)
    sections = measure(context, show=False)
    page = report_page(context, sections)
    assert page.startswith("<!doctype html>") and "<h1>Bright-v0: " in page
    places = [
        page.index(text)
        for text in ("<video", "<h2>Verdict</h2>", *(f"</span>{each}</h2>" for each in answers(Results({}))))
    ]
    assert places == sorted(places)
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "<script" not in page and "http:" not in page
    assert "default-src 'none'" in page  # nothing from elsewhere
    assert len(page) < 2_000_000 and "viewport" in page and "prefers-color-scheme: dark" in page
    said = advice(Results.of(sections))  # an untrained world
    assert said[LIKELIHOOD] and said[TRUST]
    assert all(sentence.split("`")[0].strip() in page for each in said.values() for sentence in each)


def test_a_run_page_is_written_of_a_run_and_of_a_world_alone(tmp_path, monkeypatch):
    quick = ReportConfig(clips=4, context=3, near=RolloutsConfig(clips=2, horizon=4, samples=1))
    monkeypatch.setattr(run_page_module, "QUICK", quick)
    noise_store(tmp_path / "episodes")
    world = small_world()
    world.save(tmp_path / "world")
    page = write_run_page(tmp_path).read_text()
    assert page.count("<video") == 1 and "bits a token" in page and "worldmodel evaluate" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and len(page) < 2_000_000
    alone = write_run_page(tmp_path / "other", world=tmp_path / "world").read_text()
    assert "no episodes to compare with" in alone and "<video" in alone
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        write_run_page(tmp_path / "none")


def test_a_run_page_of_episodes_too_short_to_measure_says_so(tmp_path):
    store = EpisodeStore.create(tmp_path / "episodes", DatasetInfo(Discrete(4), (16, 24, 3), seed=0))
    for index in range(2):
        frames, rewards = np.zeros((3, 16, 24, 3), np.uint8), np.zeros(2, np.float32)
        store.write(Episode(frames, np.zeros(2, int), rewards, False, True, seed=index, index=index))
    small_world().save(tmp_path / "world")
    page = write_run_page(tmp_path).read_text()
    assert "not measured" in page and "<video" in page


def test_a_run_page_of_episodes_of_one_step_judges_nothing(tmp_path):
    store = EpisodeStore.create(tmp_path / "episodes", DatasetInfo(Discrete(4), (16, 24, 3), seed=0))
    for index in range(2):
        frames, rewards = np.zeros((2, 16, 24, 3), np.uint8), np.zeros(1, np.float32)
        store.write(Episode(frames, np.zeros(1, int), rewards, True, False, seed=index, index=index))
    small_world(2).save(tmp_path / "world")  # a latent of two frames: nothing can be dreamed of one
    assert "too short to judge anything" in write_run_page(tmp_path).read_text()
