"""Worlds on the Hub: what is pushed is what is pulled, and nothing that could run code or lead out is fetched."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.helpers_hub import Door, Hub, hub_server
from tests.helpers_models import small_world
from tests.helpers_scripts import run
from worldmodel.evaluate.report import to_json
from worldmodel.evaluate.statistics.results import Interval, Section
from worldmodel.io.hub import names, transfer
from worldmodel.io.hub.card import model_card
from worldmodel.io.hub.names import resolve_world
from worldmodel.io.hub.transfer import pull, push
from worldmodel.world import WorldModel

ROOT = Path(__file__).parents[1]
REPO = "someone/small-world"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with hub_server() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)  # HF_ENDPOINT is read at import
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


@pytest.fixture
def world(tmp_path) -> Path:
    small_world().save(tmp_path / "world")
    return tmp_path / "world"


def figure(value: float) -> dict:
    """As a report.json has it, of a number that no sample stands behind."""
    return {"value": value, "low": value, "high": value, "count": 1, "unit": ""}


def test_what_was_pushed_dreams_as_before_when_it_is_pulled(hub, world):
    assert push(world, REPO, endpoint=hub.url).startswith(hub.url)
    here, there = WorldModel.load(world), WorldModel.load(f"hf://{REPO}")
    assert there.info == here.info
    assert all(torch.equal(a, b) for a, b in zip(here.state_dict().values(), there.state_dict().values(), strict=True))


def test_a_pushed_world_is_two_files_and_a_card(hub, world):
    (world / "secret.txt").write_text("my password")
    push(world, REPO)
    assert sorted(hub.repos[REPO]) == ["README.md", "config.json", "weights.safetensors"]


@pytest.mark.parametrize("name", ["weights.pkl", "pytorch_model.bin", "setup.py", "tokens.npy", "x/policy.zip"])
def test_a_repository_that_holds_what_may_run_code_is_refused_and_nothing_is_fetched(hub, world, name):
    push(world, REPO)
    hub.repos[REPO][name] = b"\x80\x04cos\nsystem\n."
    with pytest.raises(ValueError, match="may run code; nothing was fetched"):
        pull(REPO)
    assert hub.fetched == []


@pytest.mark.parametrize("name", ["../x.json", "/etc/x.json", "a/../../x.json", "..\\x.json"])
def test_a_repository_with_names_that_lead_out_is_refused_and_nothing_is_fetched(hub, world, name):
    push(world, REPO)
    hub.repos[REPO][name] = b"{}"
    with pytest.raises(ValueError, match="leads out of its folder; nothing was fetched"):
        pull(REPO)
    assert hub.fetched == []


@pytest.mark.parametrize(
    ("name", "size"), [("config.json", 10**8), ("README.md", 10**8), ("weights.safetensors", 10**11)]
)
def test_a_file_that_is_too_large_by_the_hubs_own_word_is_refused_and_nothing_is_fetched(hub, world, name, size):
    push(world, REPO)
    hub.sizes[name] = size
    with pytest.raises(ValueError, match=rf"{name} has {size:,} bytes, expected at most .*nothing was fetched"):
        pull(REPO)
    assert hub.fetched == []
    hub.sizes[name] = None  # the Hub need not say it
    assert (pull(REPO) / name).is_file()


def test_other_harmless_files_are_left_where_they_are(hub, world):
    push(world, REPO)
    hub.repos[REPO] |= {"dream.gif": b"GIF89a", "more/config.json": b"{}", ".gitattributes": b""}
    assert sorted(path.name for path in pull(REPO).iterdir()) == ["README.md", "config.json", "weights.safetensors"]
    assert sorted(hub.fetched) == ["README.md", "config.json", "weights.safetensors"]


def test_weights_that_were_changed_on_the_hub_are_refused(hub, world):
    push(world, REPO)
    content = bytearray(hub.repos[REPO]["weights.safetensors"])
    content[-5] ^= 1
    hub.repos[REPO]["weights.safetensors"] = bytes(content)
    with pytest.raises(ValueError, match="damaged, or from another save"):
        WorldModel.load(f"hf://{REPO}@main")


def test_a_repository_without_a_world_and_one_that_is_not_there_say_so(hub):
    hub.repos["someone/empty"] = {"README.md": b"soon"}
    with pytest.raises(ValueError, match=r"holds no world: config\.json, weights\.safetensors is missing"):
        pull("someone/empty")
    with pytest.raises(OSError, match="404"):
        pull("someone/nothing")


NOBODY = "http://127.0.0.1:9"  # a port that nobody listens at


def unreachable(monkeypatch, how: str, hub: Hub) -> None:
    """No way to the Hub."""
    if how.isdigit():
        hub.status = int(how)
    if how in ("refused", "no name"):
        place = NOBODY if how == "refused" else "http://hub.invalid"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", place)
    if how == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if how == "silent":
        monkeypatch.setattr(transfer, "TIMEOUT", 0.01)
        monkeypatch.setattr(hub, "status", 0)
        monkeypatch.setattr(Hub, "commit", lambda self, repo: time.sleep(0.5) or "0" * 40)


@pytest.mark.parametrize("how", ["refused", "no name", "offline", "silent", "503", "429", "500"])
def test_without_the_hub_the_copy_in_the_cache_is_used_with_a_word(hub, world, monkeypatch, how):
    push(world, REPO)
    here = pull(REPO)
    hub.repos[REPO] = {"config.json": b"newer"}
    unreachable(monkeypatch, how, hub)
    with pytest.warns(RuntimeWarning, match=rf"hf://{REPO}: .*; the copy in the cache is used"):
        assert WorldModel.load(f"hf://{REPO}").info == WorldModel.load(world).info
    with pytest.warns(RuntimeWarning):
        assert pull(REPO, revision=here.name) == here  # by commit
    if how == "silent":  # it answers 404 at once for what it does not know
        return
    with pytest.raises(OSError, match=r"hf://someone/other: .*the cache holds no complete copy") as caught:
        pull("someone/other")
    assert "\n" not in str(caught.value)


def test_half_a_copy_in_the_cache_is_none(hub, world, monkeypatch):
    push(world, REPO)
    (pull(REPO) / "weights.safetensors").unlink()
    unreachable(monkeypatch, "refused", hub)
    with pytest.raises(OSError, match="the cache holds no complete copy of it"):
        pull(REPO)


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "hf auth login"), (403, "ask its owner"), (404, "check the name")]
)
def test_what_the_hub_refuses_is_refused_though_the_cache_has_it(hub, world, status, remedy):
    push(world, REPO)
    pull(REPO)
    hub.status = status
    for ask in (lambda: pull(REPO), lambda: push(world, REPO)):
        with pytest.raises(OSError, match=rf"hf://{REPO}: .*{status}.*{remedy}") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_revision_that_leads_out_of_the_cache_is_not_noted_there(hub, world, tmp_path):
    push(world, REPO)
    for revision in ("../../../../up", "/etc/up"):
        pull(REPO, revision=revision)
    assert not [path for path in tmp_path.rglob("*") if path.name == "up"]


@pytest.mark.parametrize("how", ["refused", "no name", "offline"])
def test_pushing_without_the_hub_says_so_in_one_line(hub, world, monkeypatch, how):
    unreachable(monkeypatch, how, hub)
    with pytest.raises(OSError, match=rf"hf://{REPO}: .*the Hub cannot be reached") as caught:
        push(world, REPO)
    assert "\n" not in str(caught.value)


def test_a_push_to_a_server_that_does_not_answer_ends_within_the_limit(world, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(OSError, match=rf"^hf://{REPO}: timed out .*the Hub cannot be reached"):
            push(world, REPO, endpoint=endpoint)


@pytest.mark.parametrize("repo", ["a", "a/b/c", "a/..b", "a b/c", ""])
def test_a_name_that_can_be_none_is_a_value_error(hub, world, repo):
    with pytest.raises(ValueError, match=r"(?i)repo"):
        push(world, repo)


def test_what_is_no_world_is_not_pushed(hub, tmp_path):
    from tests.helpers_models import small_tokenizer
    from worldmodel.tokenizer import save_tokenizer

    save_tokenizer(small_tokenizer(), tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="expected a world, got tokenizer"):
        push(tmp_path / "tokenizer", REPO)
    assert hub.repos == {}


def test_places_on_the_hub_are_distinguished_from_folders(monkeypatch):
    monkeypatch.setattr(names, "pull", lambda repo, revision=None: Path(f"{repo} at {revision}"))
    assert resolve_world("hf://a/b") == Path("a/b at None")
    assert resolve_world(Path("hf://a/b@v1.0")) == Path("a/b at v1.0")
    for folder in ("runs/demo/world", "./hf", "hf:/a", "hf://a/b/c", "hf://../x@y z"):
        assert resolve_world(folder) == Path(folder)


def test_the_card_has_front_matter_that_yaml_reads_and_nothing_that_acts(world):
    config = json.loads((world / "config.json").read_text())["config"]
    config["info"]["env"] = {"name": "maze\n---\n<script>alert(1)</script> | [x](javascript:1)"}
    text = model_card(config, f"hf://{REPO}", {"psnr": figure(27.81234)})
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    values = yaml.safe_load(front)
    assert values["library_name"] == "worldmodel" and values["tags"][-1] == config["info"]["env"]["name"]
    assert "| psnr | 27.81 |" in body and f'WorldModel.load("hf://{REPO}")' in body
    assert "<script" not in body.replace("\\<", "") and "[x]" not in body.replace("\\[", "")


def test_the_card_shows_figures_with_unit_and_interval_and_a_horizon_of_0_as_measured(world):
    config = json.loads((world / "config.json").read_text())["config"]
    sections = {"Tokenizer": Section({"tokenizer/psnr": Interval(27.81234, 27.5, 28.0, 9)})}
    text = model_card(config, f"hf://{REPO}", to_json(sections)["figures"])
    assert "| tokenizer/psnr | 27.81 dB (27.5 to 28) |" in text
    for measured, shown in ((0, "0"), (7, "7"), (None, "not measured")):
        config["info"]["trust_horizon"] = measured
        assert f"| trust horizon, in steps | {shown} |" in model_card(config, f"hf://{REPO}", {})


def test_a_report_of_other_weights_is_refused(hub, world, tmp_path):
    report = tmp_path / "report.json"
    weights = json.loads((world / "config.json").read_text())["weights"]
    for made in ({"made_with": {"world": "0" * 64}, "figures": {}}, {"made_with": {"world": weights}}):
        report.write_text(json.dumps(made))
        with pytest.raises(ValueError, match=r"report\.json: (measured of other weights|KeyError: 'figures')"):
            push(world, REPO, report=report)
    assert hub.repos == {}


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'pip install "worldmodel\[hub\]"'):
        pull(REPO)


@pytest.mark.slow
def test_the_script_pushes_and_tells_the_figures_of_the_report(hub: Hub, world, tmp_path):
    weights = json.loads((world / "config.json").read_text())["weights"]
    report = {"made_with": {"world": weights}, "figures": {"bits": figure(2.44)}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    command = [sys.executable, "scripts/push.py", f"run={tmp_path}", f"repo={REPO}", f"endpoint={hub.url}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_of_nobody"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"WorldModel.load('hf://{REPO}')" in done.stdout and b"| bits | 2.44 |" in hub.repos[REPO]["README.md"]


def test_a_push_without_a_report_names_the_command_that_makes_one(hub, world, tmp_path):
    printed = run("push", f"repo={REPO}", f"endpoint={hub.url}", folder=tmp_path)
    assert f"report.json is missing; `worldmodel evaluate run={tmp_path}` makes it, then push again" in printed


@pytest.mark.parametrize("repo", ["x/y/z", "x/\u00fc", "a b/c", "", "../x", "x/" + "y" * 200, "hf://x/y"])
def test_a_repository_that_can_be_none_is_refused_by_its_key(hub, world, repo):
    with pytest.raises(ValueError, match=r"^repo '.*': expected OWNER/NAME of letters, digits"):
        push(world, repo)


@pytest.mark.parametrize("endpoint", ["ftp://x", "hub.org", "http://", "http://[::1", "file:///etc", "not one", "//x"])
def test_an_endpoint_that_is_no_address_is_refused_by_its_key(world, endpoint):
    for ask in (lambda: push(world, REPO, endpoint=endpoint), lambda: pull(REPO, endpoint=endpoint)):
        with pytest.raises(ValueError, match=r"^endpoint: expected a URL like"):
            ask()


def test_a_page_in_place_of_the_hub_counts_as_out_of_reach(hub, world, monkeypatch):
    push(world, REPO)
    here = pull(REPO)
    monkeypatch.setattr(Door, "answer", page)
    with pytest.raises(OSError, match=rf"^hf://{REPO}: .*the Hub cannot be reached"):
        push(world, REPO)
    with pytest.warns(RuntimeWarning, match="the copy in the cache is used"):
        assert pull(REPO) == here


def page(door, *answer):
    """What a hotel's network answers to everything."""
    content = b"<html>Welcome! Log in to go on.</html>"
    door.send_response(200)
    door.send_header("Content-Length", str(len(content)))
    door.end_headers()
    door.wfile.write(content)
