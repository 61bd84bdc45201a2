"""What is done to training: kills of the real scripts at random moments, those of writing a checkpoint among them."""

import random
import shutil
import time
from pathlib import Path
from typing import Any

from tests.torture import Row
from tests.torture.processes import KILLED, contents, finished, script, start, struck

EPISODES = ("env=maze", "env.height=16", "env.width=24", "episodes=4", "max_steps=7", "workers=0")
FIT = ("clip_latents=4", "fit.steps=60", "fit.batch_size=2", "fit.workers=0", "fit.warmup_steps=20")
FIT += ("fit.checkpoint_every=3", "fit.log_every=5", "fit.eval_every=25")
TOKENIZER = (*FIT, "tokenizer.width=8", "tokenizer.quantizer.codes=16")
PRIOR = (*FIT, "starts=4", "prior.width=8", "prior.layers=1", "prior.core_width=8", "prior.core_layers=1")


def tokenizer_kills(tried: int, folder: Path) -> Row:
    """scripts/train_tokenizer.py, killed and called again until it is done."""
    made = folder / "made"
    run("collect", made, EPISODES)
    return kills("train_tokenizer", TOKENIZER, made, ("tokenizer",), tried)


def prior_kills(tried: int, folder: Path) -> Row:
    """scripts/train_prior.py, which also makes tokens and joins the world, killed and called again until it is done."""
    made = folder / "made"
    run("collect", made, EPISODES)
    run("train_tokenizer", made, TOKENIZER)
    return kills("train_prior", PRIOR, made, ("tokens", "prior", "world"), tried)


def run(name: str, folder: Path, settings: tuple[str, ...]) -> float:
    """Runs a script undisturbed; its seconds."""
    began = time.monotonic()
    log = folder.with_suffix(".log")
    assert finished(start(script, log, name, f"run={folder}", *settings)), log.read_text()
    return time.monotonic() - began


def kills(name: str, settings: tuple[str, ...], made: Path, results: tuple[str, ...], tried: int) -> Row:
    """Kills a script `tried` times at random moments; each run that comes to its end must give the very same bits."""
    chance, undisturbed, disturbed = random.Random(tried), made.with_name("undisturbed"), made.with_name("disturbed")
    shutil.copytree(made, undisturbed)
    seconds = run(name, undisturbed, settings)
    expected = state(undisturbed, results)
    count, writing, runs, failed = 0, 0, 0, 0
    while count < tried:
        shutil.copytree(made, disturbed)
        code = KILLED
        while count < tried and code == KILLED:
            code = killed(started(name, disturbed, settings), disturbed, chance, seconds)
            count += code == KILLED
            writing += any(disturbed.glob("*/checkpoints/.*.tmp"))
        runs += 1
        sound = code in (0, KILLED) and finished(started(name, disturbed, settings))
        failed += not (sound and state(disturbed, results) == expected)
        shutil.rmtree(disturbed)
    steps = next(value for value in settings if value.startswith("fit.steps")).partition("=")[2]
    note = f"{writing} while a checkpoint was written; {runs} runs of {steps} steps, weights and optimizer compared"
    return Row(f"kill -9 of scripts/{name}.py", count, failed, note)


def killed(process: Any, folder: Path, chance: random.Random, seconds: float) -> int:
    """The exit code of a script killed at a random moment, in every other case one after the next checkpoint."""
    if chance.random() < 0.5:
        before = checkpoints(folder)
        while process.exitcode is None and checkpoints(folder) == before:
            time.sleep(0.01)
        seconds /= 4  # the rest is start and evaluation
    return struck(process, chance, seconds)


def checkpoints(folder: Path) -> set[Path]:
    return set(folder.glob("*/checkpoints/*"))


def started(name: str, folder: Path, settings: tuple[str, ...]) -> Any:
    return start(script, folder.with_suffix(".log"), name, f"run={folder}", *settings)


def state(folder: Path, results: tuple[str, ...]) -> dict[str, bytes]:
    """All files that a training leaves, but its logs, which tell the time, and all but its newest checkpoint."""
    found = {name: value for result in results for name, value in contents(folder, result).items()}
    newest = max(path.parent.name for path in folder.glob("*/checkpoints/*/progress.json"))
    return {
        name: value
        for name, value in found.items()
        if "/logs/" not in name and ("/checkpoints/" not in name or f"/{newest}/" in name)
    }
