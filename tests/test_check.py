"""What a world would see of an environment: the right picture, or a refusal that says what to set."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers_check import Walker, picture
from tests.helpers_env import CounterEnv, counter_info
from tests.test_episode_store import make_episode
from worldmodel import envs
from worldmodel.data.check.check import check_env, check_episodes
from worldmodel.data.check.findings import Findings
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.envs.gymnasium_env import GenericConfig
from worldmodel.io.config import to_dict


def check(name: str, *, policy: str = "random", max_steps: Any = "auto", episodes: int = 10, **settings) -> Findings:
    """The findings of one of the environments of `tests.helpers_check`, by the name of its class."""
    config = GenericConfig(id=f"tests.helpers_check:Check{name}-v0", **settings)
    how: dict[str, Any] = {"policy": policy, "max_steps": max_steps, "seed": 3, "episodes": episodes}
    return check_env(partial(envs.make, config), to_dict(config), played=2, **how)


def names(findings: Findings) -> set[str]:
    return {remark.name for remark in findings.remarks}


def refusal(findings: Findings) -> str:
    (remark,) = findings.refusals
    return remark.text


def test_minigrid_is_seen_as_it_is_rendered_and_its_code_is_named(tmp_path):
    findings = check("MiniGridLike")
    assert "render(), 160×160 → 64×64" in str(findings) and not findings.refusals
    assert "Discrete(3): left, right, forward" in str(findings) and "names" not in names(findings)
    assert "image is not taken, as it is a code of 7×7×3 symbols with values 0 to 8" in str(findings)
    assert "not kept of the observation: direction, mission" in str(findings)
    assert findings.info.max_steps == 40
    image = np.asarray(Image.open(findings.write_sheet(tmp_path / "check.png")))
    assert image.shape[1] <= 1600 and (image == (210, 40, 40)).all(-1).any()


def test_a_code_is_never_taken_for_a_picture_unless_the_observation_is_asked_for():
    with pytest.raises(ValueError, match=r"no frames: .*image is a code of 7×7×3.*RGBImgPartialObsWrapper"):
        check("CodeAlone")
    with pytest.raises(ValueError, match=r"a code of 7×7×3 symbols.* set env\.frames=render \(or observation"):
        check("MiniGridLike", key="image")
    asked = check("MiniGridLike", frames="observation")
    assert (
        "'image' of the observation: a code, not a picture, with 5 different values, 0 to 8. Set env.frames=render"
        in refusal(asked)
    )
    assert {"tiny", "enlarged"} <= names(asked)


def test_the_picture_of_a_dict_is_found_beside_other_entries_and_codes():
    findings = check("CrafterLike")
    assert "the entry 'image' of the observation, 64×64 → 64×64" in str(findings)
    assert not findings.refusals and names(findings) == {"unused", "passed over", "names"}
    assert "semantic is not taken, as it is a code of 9×9" in str(findings) and "inventory" in str(findings)


def test_carracing_has_three_numbers_and_they_may_be_named():
    assert "Box" in str(check("CarRacingLike")) and "the numbers of an action (3) have no names" in str(
        check("CarRacingLike")
    )
    findings = check("CarRacingLike", action_names=("steer", "gas", "brake"))
    assert ": steer, gas, brake" in str(findings) and not findings.remarks
    assert findings.info.action_names == ("steer", "gas", "brake")


def test_numbers_without_a_picture_are_rendered():
    findings = check("CartPoleLike")
    assert "render(), 80×120 → 64×64" in str(findings) and names(findings) == {"names"}


def test_gymnasiums_cartpole_is_right_and_has_its_own_limit():
    pytest.importorskip("pygame")
    config = GenericConfig()
    findings = check_env(partial(envs.make, config), to_dict(config), max_steps="auto", seed=0, played=1, steps=9)
    assert "render(), 400×600 → 64×64" in str(findings) and findings.info.max_steps == 500
    assert not findings.refusals and "Discrete(2): 0, 1" in str(findings)


@pytest.mark.parametrize(("name", "words"), [("OldStep", "got 4 values"), ("OldReset", "argument 'seed'")])
def test_an_environment_of_the_old_gym_is_told_of_shimmy(name, words):
    (failed,) = (remark.text for remark in check(name).remarks if remark.name == "failed")
    assert failed.startswith("episode 0 failed: ") and words in failed and "old Gym API" in failed
    assert "shimmy:GymV21Environment-v0" in failed and "\n" not in failed


def test_float_pictures_are_rendered_or_refused_with_the_line_that_converts_them():
    findings = check("FloatsRendered")
    assert "the observation is not taken, as it is pictures of float32" in str(findings)
    assert "render(), 48×48 → 64×64" in str(findings)
    with pytest.raises(ValueError, match=r"pictures of float32.*\(255 \* picture\)\.round\(\)\.astype\('uint8'\)"):
        check("Floats")


@pytest.mark.parametrize(
    ("name", "remark", "words"),
    [
        ("Black", "black", "every frame of 24 steps is black, no pixel is above 3. Set env.frames=render"),
        ("BlackRendered", "black", "See what render() of the environment returns without a screen"),
        ("Constant", "constant", "all frames of 24 steps are the same"),
        ("Binary", "code", "the observation: a code, not a picture, with 2 different values, 0 to 1"),
    ],
)
def test_pictures_that_no_world_can_learn_from_are_refused(name, remark, words):
    findings = check(name, frames="render" if name == "BlackRendered" else "observation")
    assert findings.refusals[0].name == remark and words in refusal(findings)
    assert f"refused: {findings.refusals[0].text}" in findings.short()


@pytest.mark.parametrize(
    ("name", "settings", "remark", "words"),
    [
        ("Tiny", {}, "tiny", "pictures of 9×9 pixels are smaller than 16×16"),
        ("Tiny", {}, "enlarged", "pictures of 9×9 are enlarged to 64×64: set env.height=16 env.width=16"),
        ("Walker", {"height": 100, "width": 64}, "enlarged", "set env.height=48 env.width=48"),
        ("Walker", {"height": 60, "width": 44}, "stride", "env.height=64 env.width=48"),
        (
            "Walker",
            {"height": 8},
            "tiny",
            "frames of 8×64 pixels are smaller than 16×16: set env.height=16 env.width=64",
        ),
        ("Still", {}, "still", "within an episode nothing moves, in 24 steps"),
        ("Stacked", {}, "fourth channel", "remove the wrapper that stacks them"),
        ("Walker", {"max_steps": 5}, "cut", "max_steps=5 cut 2 of 2 episodes"),
        ("Unrewarded", {"max_steps": 20}, "rewards", "all rewards of 40 steps are 0"),
        ("Walker", {}, "names", "the 3 actions have no names"),
    ],
)
def test_what_may_not_be_meant_is_a_warning_with_what_to_set(name, settings, remark, words):
    findings = check(name, **settings)
    texts = {found.name: found.text for found in findings.remarks}
    assert words in texts[remark] and not findings.refusals


def test_channels_that_come_first_are_refused_with_the_order_to_have():
    with pytest.raises(
        ValueError, match=r"the observation is pictures \[3, 48, 48\] with the channels first: transpose"
    ):
        check("ChannelsFirst")


def test_nothing_is_remarked_where_all_is_well():
    findings = check("Walker", height=48, width=48, action_names=("a", "b", "c"))
    assert not findings.remarks
    text = str(findings)
    assert "rewards   0 (16 times), 1 (8 times)" in text
    assert "ends      2 episodes of 12 to 12 steps: 2 terminated" in text
    assert "for 10 episodes, 120 steps" in text and "steps/s in one process" in text
    assert [line.partition(":")[0] for line in findings.short().splitlines()] == ["frames", "actions", "estimate"]


def test_a_look_that_ends_early_says_so_and_estimates_the_full_length():
    config = GenericConfig(id="tests.helpers_check:CheckLimited-v0")
    how: dict[str, Any] = {"max_steps": "auto", "seed": 0, "played": 2, "steps": 10, "episodes": 4}
    findings = check_env(partial(envs.make, config), to_dict(config), **how)
    assert "2 episodes of 10 to 10 steps: 2 stopped by this check" in str(findings)
    assert findings.info.max_steps == 30 and "for 4 episodes, 120 steps" in str(findings)
    unlimited = check_env(partial(envs.make, config), to_dict(config), **{**how, "max_steps": None})
    assert "at least " in str(unlimited) and "cut" not in names(unlimited)


def test_the_longest_episode_is_the_environments_own_limit_or_250_steps():
    assert check("Walker").info.max_steps == 250
    assert check("MiniGridLike", frame_skip=3).info.max_steps == 14
    assert check("Walker", max_steps=None).info.max_steps is None
    make = partial(envs.make, envs.MazeConfig(height=16, width=16, max_steps=33))
    assert check_env(make, {}, max_steps="auto", seed=0, played=0).info.max_steps == 33


def test_the_look_takes_place_in_another_process_and_at_the_first_episodes_of_the_collection():
    config = GenericConfig(id="tests.helpers_check:CheckWalker-v0")
    how: dict[str, Any] = {"max_steps": "auto", "seed": 3, "played": 2, "policy": "random"}
    far = check_env(partial(envs.make, config), to_dict(config), workers=1, timeout=60, **how)
    here = check_env(partial(envs.make, config), to_dict(config), **how)
    actions = [[shot.action for shot in findings.look.seen.shots] for findings in (far, here)]
    assert actions[0] == actions[1] and [each.steps for each in far.look.played] == [12, 12]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("forgets_the_space", r"expected forgets_the_space\(observation, rng, action_space\) -> action, got .*rng\)"),
        ("maker_of_nothing:x", r"expected maker_of_nothing\(text, rng\) -> policy.*, got maker_of_nothing\(text\)"),
    ],
)
def test_a_policy_of_other_parameters_is_shown_the_right_ones(policy, words):
    with pytest.raises(ValueError, match=words):
        check("Walker", policy=f"tests.helpers_check:{policy}")
    assert not check("Walker", policy="tests.helpers_check:sees_the_frame").refusals


def test_the_sheet_shows_pictures_of_any_size_above_the_frames(tmp_path):
    findings = check("CartPoleLike", height=16, width=24)
    with Image.open(findings.write_sheet(tmp_path / "a" / "check.png")) as image:
        assert image.width <= 1600 and image.height < 600


def test_stored_episodes_are_looked_at_and_an_import_without_rewards_is_told_its_column(tmp_path: Path):
    imported = EpisodeStore.create(tmp_path / "imported", counter_info(policy="imported"))
    for index in range(3):
        imported.write(make_episode(index, rewards=np.zeros(9, np.float32), steps=9))
    findings = check_episodes(imported)
    assert "a table needs the column reward" in str(findings) and "6×5 → 6×5" in str(findings)
    assert "set size=[16,16] at the import" in str(findings) and "speed" not in str(findings)
    findings.write_sheet(tmp_path / "check.png")


def test_an_environment_object_of_ones_own_needs_no_config():
    findings = check_env(CounterEnv, {}, seed=0, played=1, max_steps="auto")
    assert ": left, right, jump" in str(findings) and "the observation, 6×5 → 6×5" in str(findings)
    assert picture(9, 0).shape == (9, 9, 3) and Walker().length == 12
