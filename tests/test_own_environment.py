"""The page about one's own environment: its code is collected from, and its messages and spaces are those of today."""

import re
from pathlib import Path

import gymnasium
import pytest
from gymnasium import spaces

from tests.helpers_scripts import run
from worldmodel import envs
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.envs.gymnasium_env import ACTION_SPACES

PAGE = (Path(__file__).parents[1] / "docs" / "guides" / "own-environment.md").read_text()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The code of the page as a module in the working directory."""
    monkeypatch.chdir(tmp_path)
    codes = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    Path("my_module.py").write_text("\n".join(codes))  # an environment, and a policy for it
    yield "env.id=my_module:MyEnv-v0"
    gymnasium.registry.pop("MyEnv-v0", None)


def test_the_code_of_the_page_is_checked_and_collected_from_without_a_warning(module):
    printed = run("check", module, "env.height=48", "env.width=48")
    assert "Discrete(2): left, right" in printed and "warning" not in printed and "0 (" in printed
    run("collect", module, "episodes=3", "workers=0", "policy=my_module:act", folder=Path("run"))
    info = EpisodeStore.open("run/episodes").info
    assert info.action_names == ("left", "right") and info.max_steps == 60


def test_every_action_space_of_the_table_is_taken_and_no_other():
    table = PAGE.partition("## Actions")[2].partition("\n\n## ")[0]
    rows = [line.partition("|")[2].partition("|")[0] for line in table.splitlines() if line.startswith("| `")]
    taken = {name for row in rows[:-1] for name in re.findall(r"`(\w+)`", row)}
    assert taken == {kind.__name__ for kind in ACTION_SPACES}
    assert all(hasattr(spaces, name) for name in re.findall(r"`(\w+)`", rows[-1]))


def test_every_environment_that_the_page_names_has_a_setting_of_that_name():
    fields = set(envs.GenericConfig.__dataclass_fields__) | {"game"}
    named = set(re.findall(r"\benv\.(\w+)", PAGE))
    assert named <= fields, named - fields
