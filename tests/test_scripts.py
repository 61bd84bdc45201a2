"""The scripts as a user runs them: four steps on two environments, resuming, and errors that say what to do."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers_env import CounterEnv, counter_info
from tests.helpers_modes import umask, wrong_modes
from tests.helpers_scripts import module, run
from worldmodel.data.collect.collect import run_episode
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.world import WorldModel

ROOT = Path(__file__).parents[1]
TINY = {
    "collect": ["episodes=4", "workers=1", "max_steps=24"],
    "train_tokenizer": [
        "clip_latents=4",
        "tokenizer.width=8",
        "tokenizer.quantizer.codes=16",
        "fit.steps=6",
        "fit.batch_size=2",
        "fit.workers=0",
    ],
    "train_prior": [
        "clip_latents=4",
        "prior.width=8",
        "prior.layers=1",
        "prior.core_width=8",
        "prior.core_layers=1",
        "fit.steps=6",
        "fit.batch_size=2",
        "fit.workers=0",
    ],
    "evaluate": [
        "report.clips=8",
        "report.near={clips: 2, horizon: 4, samples: 1, at: [1, 4]}",
        "report.far={clips: 2, horizon: 8, samples: 1, at: [8]}",
        "report.control={clips: 2, branches: 2, walk: 6}",
        "report.inverse={clips: 2, steps: 2}",
        "report.memory={scenes: 2, walk: 6, turns: [1]}",
        "report.drift={dreams: 2, steps: 20, real_frames: 16}",
        "report.trust={clips: 2, horizon: 8}",
    ],
    "rollout": ["horizon=8", "scale=2"],
    "train_agent": [
        "ppo.steps=64",
        "ppo.envs=2",
        "ppo.n_steps=16",
        "ppo.batch_size=16",
        "eval_every=32",
        "eval_episodes=1",
    ],
    "evaluate_agent": [
        "episodes=2",
        "planner_episodes=1",
        "planners.cem.candidates=8",
        "max_steps=6",
        "rank_episodes=2",
    ],
    "push": ["repo=someone/world"],
    "bundle": ["to=worlds/tiny", "commands=[]"],
    "improve": ["rounds=2", "episodes=4", "tokenizer_steps=4", "prior_steps=4", "agent_steps=32"],
}


def run_process(script: str, *settings: str, folder: Path | None = None, ok: bool = True) -> str:
    """Run a script in a process of its own; what it printed."""
    command = [sys.executable, f"scripts/{script}.py", *([f"run={folder}"] if folder else []), *settings]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


WORLDS = {
    "maze": (["env=maze", "env.height=16", "env.width=24", "info_keys=[pose]"], [], "actions=[forward,turn_left]"),
    "continuous": (
        ["env=gymnasium", "env.id=Pendulum-v1", "env.height=16", "env.width=32"],
        ["tokenizer.time_stride=2"],
        "actions=random",
    ),
}


@pytest.fixture
def shared() -> Iterator[int]:
    """A umask as a group has it that shares a disk."""
    with umask(mask := 0o002):
        yield mask


def run_the_readme(folder: Path) -> dict:
    """What the README's pieces of Python leave behind when they run on this run folder."""
    pieces = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    pieces = [code for code in pieces if "runs/demo" in code]  # the other one is a sketch of an environment
    assert len(pieces) == 2
    names: dict = {}
    for code in pieces:
        exec(code.replace("runs/demo", str(folder)), names)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_all_steps_run_one_after_the_other_and_running_again_does_nothing_twice(name, tmp_path, shared):
    env, tokenizer, actions = WORLDS[name]
    start = run_process if name == "maze" else run  # as the command, once
    start("collect", *env, *TINY["collect"], folder=tmp_path)
    start("train_tokenizer", *tokenizer, *TINY["train_tokenizer"], folder=tmp_path)
    start("train_prior", *TINY["train_prior"], folder=tmp_path)
    start("evaluate", *TINY["evaluate"], folder=tmp_path)
    start("rollout", actions, *TINY["rollout"], folder=tmp_path)
    if name == "maze":
        names = run_the_readme(tmp_path)
        assert names["video"].shape == (2, 10, 16, 24, 3) and names["envs"].num_envs == 64
    figures = json.loads((tmp_path / "report.json").read_text())["figures"]
    assert all(np.isfinite([f["value"], f["low"], f["high"]]).all() for f in figures.values())
    assert "rollout/psnr/dream@4" in figures and (tmp_path / "report.html").read_text().count("data:video/mp4") >= 3
    assert len(np.load(tmp_path / "rollout/tokens.npy")) == (4 if tokenizer else 8)
    with Image.open(tmp_path / "rollout/sheet.png") as sheet:
        assert sheet.width > 8 * 16
    about = (tmp_path / "world/config.json").read_text()
    assert json.loads(about)["config"]["info"]["trust_horizon"] is not None
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert "nothing to do" in run("collect", *env, *TINY["collect"], folder=tmp_path)
    run("train_tokenizer", *tokenizer, *TINY["train_tokenizer"], folder=tmp_path)
    run("train_prior", *TINY["train_prior"], folder=tmp_path)
    run("evaluate", *TINY["evaluate"], folder=tmp_path)
    run("rollout", actions, *TINY["rollout"], folder=tmp_path)
    assert (tmp_path / "world/config.json").read_text() == about  # its trust horizon as well
    done_again = {path.name for path, when in written.items() if path.stat().st_mtime_ns != when}
    assert not done_again & {"report.json", "report.html", "rollout.mp4", "sheet.png", "tokens.npy"}
    assert not any(name.startswith(("episode_", "tokens_", "0000")) for name in done_again)
    run("train_prior", "temperature=0.5", *TINY["train_prior"], folder=tmp_path)  # trained already: a word in the world
    info = json.loads((tmp_path / "world/config.json").read_text())["config"]["info"]
    assert (info["temperature"], info["trust_horizon"]) == (0.5, None)
    assert not wrong_modes(tmp_path, shared)


@pytest.mark.slow
def test_the_loop_improves_round_by_round_goes_on_where_it_stopped_and_its_agents_are_compared(
    tmp_path, shared, monkeypatch
):
    tiny = {name: [*TINY[name]] for name in ("collect", "train_tokenizer", "train_prior", "train_agent")}
    tiny["collect"] = ["env=maze", "env.height=16", "env.width=24", "env.max_steps=24", "workers=1"]
    settings = [f"overrides.{name}={json.dumps(values)}" for name, values in tiny.items()]
    improve, steps = module("improve"), []

    def call(config, name, values):  # the first time in this process, which is faster
        steps.append(name)
        given = [f"{key}={value}" for key, value in {"preset": config.preset, **values}.items()]
        run(name, *given, *config.overrides[name])

    with monkeypatch.context() as patched:
        patched.setattr(improve, "call", call)
        run("improve", *TINY["improve"], *settings, folder=tmp_path)
    assert steps == [*improve.COMMANDS] * 2
    episodes = [sorted(path.name for path in (tmp_path / f"round_{i}/episodes").glob("*.h5")) for i in range(2)]
    assert len(episodes[0]) == 4 and len(episodes[1]) == 8 and set(episodes[0]) < set(episodes[1])
    info = json.loads((tmp_path / "round_1/episodes/dataset.json").read_text())
    assert info["policy"].endswith("round_0/agent")
    weights = tmp_path / "round_1/agent/weights.safetensors"
    before = weights.stat().st_mtime_ns
    first = [each for each in TINY["improve"] if not each.startswith("rounds=")]
    printed = run_process("improve", *first, "rounds=1", *settings, folder=tmp_path)
    assert printed.count("$ worldmodel ") == 4 and "nothing to do" in printed
    assert weights.stat().st_mtime_ns == before
    run("evaluate_agent", *TINY["evaluate_agent"], folder=tmp_path / "round_1")
    report = json.loads((tmp_path / "round_1/agents.json").read_text())
    assert set(report["returns"]) == {"random", "sticky", "dream", "cem"}
    assert any(name.startswith("exploited/") for name in next(iter(report["ranking"].values())))
    assert not wrong_modes(tmp_path, shared)


def test_a_misspelt_key_a_wrong_type_and_an_unknown_scenario_are_named_with_their_path(tmp_path):
    assert "env.hight: unknown key" in run("collect", "+env.hight=3", folder=tmp_path, ok=False)
    assert "tokenizer.width: expected int" in run("train_tokenizer", "tokenizer.width=big", folder=tmp_path, ok=False)
    message = run("collect", "env.scenario=MyWayHom", folder=tmp_path, ok=False)
    assert "MyWayHome" in message and "Traceback" not in message


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_collecting_stops_when_asked_with_a_message_no_process_and_no_half_file(tmp_path, signum):
    command = [sys.executable, "scripts/collect.py", f"run={tmp_path}", "env=maze", "episodes=9999", "workers=2"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # shells have what they start with & deaf to it
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    collecting = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=env, preexec_fn=heard)
    while not list(tmp_path.glob("episodes/*.h5")):
        assert collecting.poll() is None
        time.sleep(0.05)
    collecting.send_signal(signum)
    assert "the same command continues" in collecting.communicate(timeout=30)[1]  # the workers hold that pipe too
    assert collecting.returncode == 128 + signum
    assert not list(tmp_path.glob("episodes/.*"))


def test_collecting_says_which_episodes_are_missing_and_leaves_with_status_1(tmp_path):
    seed = run_episode(CounterEnv(), counter_info(), 0).seed
    env = ["env=gymnasium", "env.id=tests.helpers_env:Faulty-v0", "env.height=6", "env.width=5"]
    crash = ["+env.kwargs.fault=crash", f"+env.kwargs.seeds=[{seed}]", "episodes=3", "workers=1", "retries=0"]
    printed = run("collect", *env, *crash, folder=tmp_path, ok=False)
    assert "missing: episode 0 (env seed" in printed and "its process was killed by SIGSEGV" in printed
    assert "1 episodes are missing" in printed and "Run the same command again" in printed
    assert sorted(path.name for path in tmp_path.glob("episodes/*.h5")) == ["episode_000001.h5", "episode_000002.h5"]


@pytest.mark.parametrize("script", ["train_tokenizer", "train_prior", "evaluate", "rollout", "train_agent", "data"])
def test_a_script_without_its_inputs_leaves_no_folder_behind(script, tmp_path):
    settings = ["import", f"from={tmp_path / 'nowhere'}"] if script == "data" else []
    assert "error: " in run(script, *settings, folder=tmp_path / "new/run", ok=False)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("script", "settings", "maker"),
    [
        *((name, [], "collect run={}") for name in ("train_tokenizer", "train_prior", "evaluate", "data")),
        *((name, [], "train-prior run={}") for name in ("rollout", "play", "train_agent", "evaluate_agent")),
        ("bundle", ["to={}/out", "commands=[]"], "train-prior run={}"),
        ("push", ["repo=a/b"], "train-prior run={}"),
        ("evaluate", ["world=maze"], "collect run={}"),
        ("evaluate_agent", ["world=maze"], "train-agent run={} world=maze"),
        ("evaluate_agent", ["world=maze", "agents.dream=[a/b]"], "train-agent run={} world=maze out={}/a/b"),
    ],
)
def test_a_step_without_the_one_before_it_names_the_command(script, settings, maker, tmp_path):
    printed = run(script, *(each.replace("{}", str(tmp_path)) for each in settings), folder=tmp_path, ok=False)
    assert f"`worldmodel {maker.replace('{}', str(tmp_path))}`" in printed and len(printed.splitlines()) == 1
    assert not [*tmp_path.iterdir()]


def test_a_missing_folder_of_agents_to_rank_is_refused_before_any_agent_plays(tmp_path):
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    refused = run("evaluate_agent", "world=maze", folder=tmp_path, ok=False)
    assert refused == f"error: {folder / 'checkpoints'} holds no agents to rank; rank=null ranks none\n"


def test_a_missing_tokenizer_and_a_missing_earlier_run_name_their_commands(tmp_path):
    store = EpisodeStore.create(tmp_path / "my run/episodes", counter_info())
    store.write(run_episode(CounterEnv(), counter_info(), 0))
    printed = run("train_prior", folder=tmp_path / "my run", ok=False)
    assert f"`worldmodel train-tokenizer 'run={tmp_path / 'my run'}'` makes it" in printed
    with pytest.raises(ValueError, match=r"`worldmodel train-prior run=.*before` makes it"):
        WorldModel.load(tmp_path / "before/world")
