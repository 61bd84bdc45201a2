"""Settings mean what was typed: paths, URLs and names letter by letter, in every script."""

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.helpers_scripts import NAMES, schema
from worldmodel.cli import command, overrides
from worldmodel.envs.gymnasium_env import GenericConfig
from worldmodel.io.config import from_mapping

ODD = [
    "démo", "my videos (1)", "a,b", "#1", "it's", 'say "so"', "a=b", "[old] videos", "[old]", "{x}", "a{b", "$5", "a$b",
    "a\\b", "a\\", "\\\\server\\share", "C:\\runs\\x", "a/", " a ", "a  b", "日本/語", "\U0001f600", "%20", "100%",
    "a;b", "a&b", "a|b", "a*?", "-x", "+x", "@x", "x@y", "!x", "^", "`x`", "<x>", "a:b", "...", "..", "123", "1e3",
    "1_000", "true", "nan", "None", "x(1", "(", ")", "]", "'", '"', "a'b'c", "'a'b'", "\\'", "\\${x}", "${home}", "$$",
    "$", "${", "tab\there", "line\nbreak", "glob(*)", "range(1,3)", "int(3)", "s3://bucket/a b/(1)", "hf://a/b@v1.0",
]  # fmt: skip


def compose(name: str, *given: str) -> dict[str, Any]:
    """The plain values that a script gets from settings."""
    (values,) = command.composed(schema(name), name, given)
    return values


def words_of(kind: type, above: str = "") -> list[str]:
    """The keys of a config that are a text: paths, URLs, names."""
    hints = get_type_hints(kind)
    found = []
    for field in fields(kind):
        key = above + field.name.removesuffix("_")
        if isinstance(hint := hints[field.name], type) and is_dataclass(hint):
            found += words_of(hint, f"{key}.")
        elif hint in (str, Path, str | None, Path | None, str | tuple[str, ...] | None):
            found.append(key)
    return found


WORDS = [(name, key) for name in NAMES for key in words_of(schema(name)) if key != "preset"]


def meant(name: str, setting: str) -> Any:
    """What a value is after Hydra's parser and OmegaConf, without the time that a composition takes."""
    (argument,) = overrides.as_typed(schema(name), [setting])
    override = overrides._parser().parse_override(argument)
    assert not override.is_sweep_override()
    values: Any = OmegaConf.to_container(OmegaConf.create({"x": override.value()}), resolve=True)
    return values["x"]


def test_a_text_is_taken_letter_by_letter():
    for text in ODD:
        assert meant("collect", f"run={text}") == text
        assert meant("data", f"+from=x{text}") == f"x{text}"


@pytest.mark.parametrize(("name", "key"), WORDS)
def test_every_key_that_is_a_text_takes_it_letter_by_letter(name, key):
    for text in ("démo", "my videos (1)", "a,b", "#1=[x]", "it's\\", "12"):
        assert meant(name, f"{key}={text}") == text


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_text_is_taken_as_it_is_unless_it_is_in_quotes_null_or_home(text):
    if (text[0] == text[-1] and text[0] in "'\"") or text.startswith("~") or "${run" in text:
        return
    if text != "null":
        assert meant("collect", f"continue_from={text}") == text
    assert meant("collect", f"run={text}") == text


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("continue_from=null", None),
        ("run=null", "null"),
        ("run='my videos (1)'", "my videos (1)"),
        ('run="a,b"', "a,b"),
        ("info_keys=[pose,two words]", ["pose", "two words"]),
        ("info_keys=['a,b', (c), \"d\"]", ["a,b", "(c)", "d"]),
        ("info_keys=[]", []),
        ("env.level_cache=my videos (1)", "my videos (1)"),
        ("env.scenario=12", "12"),
        ("env.id=ALE/Pong-v5", "ALE/Pong-v5"),
        ("env.height=12", 12),
        ("env.crop=[0, 1, 0, 1]", [0, 1, 0, 1]),
        ("+env.kwargs.depth=3", 3),
        ("+env.kwargs.map=a (b)", "a (b)"),
        ("env.kwargs={a: 1, b: x}", {"a": 1, "b": "x"}),
        ("hold=1e3", 1000.0),
        ("env.height=1,2", "1,2"),
        ("seed=#", "#"),
    ],
)
def test_other_values_are_what_they_were(setting, value):
    assert meant("collect", setting) == value


@pytest.mark.parametrize("setting", ["run=~/videos (1)", "continue_from=~", "policy=~/x", "info_keys=[~/videos (1)]"])
def test_the_home_folder_may_be_written_short(setting, monkeypatch):
    monkeypatch.setenv("HOME", "/home/mé")
    value = meant("collect", setting)
    assert (value[0] if isinstance(value, list) else value) == f"/home/mé{setting.partition('~')[2].rstrip(']')}"


def test_lists_of_paths_take_each_letter_by_letter():
    assert meant("data", "from=[runs/a b,~x(1), 'c,d',é]") == ["runs/a b", os.path.expanduser("~x(1)"), "c,d", "é"]
    assert meant("evaluate_agent", "runs=[1,2]") == ["1", "2"]
    assert meant("evaluate_agent", "agents.mine=[a (1),b]") == ["a (1)", "b"]
    assert meant("rollout", "actions=[1,turn left,(x)]") == [1, "turn left", "(x)"]
    assert meant("data", "size=[64,64]") == [64, 64]
    assert meant("improve", 'overrides.collect=["env=maze", "hold=3,4"]') == ["env=maze", "hold=3,4"]


def test_a_whole_config_has_the_paths_that_were_typed(monkeypatch):
    values = compose(
        "collect", "run=x/démo (1),[2]=#'$'\\", "++continue_from=~/a b", "env=maze", "env.height=12", "preset=maze"
    )
    config = from_mapping(schema("collect"), values)
    assert config.run == Path("x/démo (1),[2]=#'$'\\") and config.continue_from == Path("~/a b").expanduser()
    assert (config.env["name"], config.env["height"]) == ("maze", 12)


@pytest.mark.parametrize(
    ("given", "kwargs"),
    [
        ("env.kwargs={kind: a, depth: 3}", {"kind": "a", "depth": 3}),
        ("env.kwargs.kind=a", {"kind": "a"}),
        ("env.kwargs.map.size=3", {"map": {"size": 3}}),
        ("+env.kwargs.kind=a", {"kind": "a"}),
        ("env.kwargs={}", {}),
        (
            "env.kwargs={'a': None, 'b': [1, (2.5, True)], 'c d': {'e': 'it\\'s', 3: \"x\"}}",
            {"a": None, "b": [1, [2.5, True]], "c d": {"e": "it's", 3: "x"}},
        ),
        (
            'env.kwargs={"a": null, "b": [true, false], "c": {"d:e": "${f}, {g}"}}',
            {"a": None, "b": [True, False], "c": {"d:e": "${f}, {g}"}},
        ),
        (
            "env.kwargs={a: None, b: [None, 'None', null], c: 8x8, d: True}",
            {"a": None, "b": [None, "None", None], "c": "8x8", "d": True},
        ),
        ('env.kwargs={map: é, "b c": x y}', {"map": "é", "b c": "x y"}),
        ("env.kwargs={id: my.module:Old-v0, path: /a/b.txt}", {"id": "my.module:Old-v0", "path": "/a/b.txt"}),
        ("env.kwargs.size=(3, 4)", {"size": [3, 4]}),
        ("env.kwargs.size=None", {"size": None}),
        ("env.kwargs.size='None'", {"size": "None"}),
        ("env.kwargs.rows=['ab', 'c,d']", {"rows": ["ab", "c,d"]}),
    ],
)
def test_a_mapping_of_free_keys_takes_new_ones_without_a_plus(given, kwargs):
    assert compose("collect", "env=gymnasium", given)["env"]["kwargs"] == kwargs


def test_an_id_means_the_environments_of_gymnasium_unless_another_one_is_named():
    assert compose("collect", "env.id=a:B-v0")["env"]["name"] == "gymnasium"
    assert compose("check", "preset=maze", "env.id=a:B-v0")["env"]["id"] == "a:B-v0"
    with pytest.raises(ValueError, match=r"env\.id: unknown key"):
        compose("collect", "env=maze", "env.id=a:B-v0")


def test_references_to_other_keys_stay_references():
    assert compose("rollout", "run=a b", "out=${run}/c", "world=${x}")["out"] == "a b/c"
    assert compose("rollout", "run=a b", "world=a\\${x}/${run")["world"] == "a\\${x}/${run"


@pytest.mark.parametrize("given", [["-m", "seed=0,1", "run=a b"], ["seed=0,1", "run=a b", "--multirun"]])
def test_several_values_are_several_runs_where_that_is_asked_for(monkeypatch, tmp_path, given):
    monkeypatch.chdir(tmp_path)
    found = command.composed(schema("collect"), "collect", given)
    assert [(values["seed"], values["run"]) for values in found] == [(0, "a b"), (1, "a b")]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("episods=3", "episods: unknown key; did you mean 'episodes'?"),
        ("env.hight=3", "env.hight: unknown key; did you mean 'height'?"),
        ("hydra.rum=3", "hydra.rum: unknown key; did you mean 'run'?"),
        ("zzz=3", "zzz: unknown key; known keys: "),
        ("env=maz", "env: there is no 'maz'; did you mean 'maze'?"),
        ("env=a,b", "env: there is no 'a,b'; there are: atari, dmlab"),
        ("preset=qqqq", "preset: there is no 'qqqq'; there are: base, basic"),
        ("episodes", "episodes: expected key=value, such as run=runs/mine"),
        ("=3", "=3: expected key=value"),
        ("--wokers=3", "unrecognized arguments: --wokers=3; --help lists the keys"),
        ("seed=${nothing}", "Interpolation key 'nothing' not found"),
        ("seed=${", "seed: expected int, got str '${'"),
        ("run=", "run: expected Path, got str ''"),
    ],
)
def test_the_error_for_what_hydra_does_not_take_is_one_line(given, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        from_mapping(schema("collect"), compose("collect", given))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kwargs", ["{a: x,y}", "{'1': 2}", "{a, b}", "{'a': {1, 2}}"])
def test_what_is_no_mapping_in_any_grammar_is_refused_by_its_key(kwargs):
    values = compose("collect", "env=gymnasium", f"env.kwargs={kwargs}")["env"]
    with pytest.raises(TypeError, match=r"env\.kwargs: expected a mapping of keys, got str .\{"):
        from_mapping(GenericConfig, values, "env")
