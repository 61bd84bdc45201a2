"""Every reader of files of ours, given what is no regular file: a pipe, a device, a socket, a folder, a bad link."""

import os
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.helpers_env import counter_info
from tests.helpers_models import small_world
from tests.test_episode_store import make_episode
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.remote import push
from worldmodel.data.episodes.repair import find_damaged
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.open import open_episodes
from worldmodel.evaluate.measures.images import Lpips
from worldmodel.io.hub.report import load_report
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.model_folder import load_weights
from worldmodel.tokenizer import load_tokenizer
from worldmodel.tokenizer.storage import save_tokenizer
from worldmodel.training.run_state import Checkpoint, latest, save
from worldmodel.world import WorldModel

KINDS = ("pipe", "zeros", "socket", "folder", "link to nowhere", "circle of links")


def put(path: Path, kind: str) -> None:
    """Put what is no regular file in the place of a file."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(path.parent)  # names of sockets are short
            server.bind(path.name)
    else:
        path.symlink_to({"zeros": "/dev/zero", "link to nowhere": "nowhere"}.get(kind, path.name))


def prepared(folder: Path) -> Path:
    """One of each file that there is; the readers below read it."""
    store = EpisodeStore.create(folder / "episodes", counter_info())
    store.write(make_episode(0))
    tokens = TokenStore.create(folder / "tokens", key="k", codes=19, grid=(2, 3), time_stride=1)
    tokens.write(0, torch.zeros(5, 2, 3, dtype=torch.long).numpy())
    world = small_world()
    world.save(folder / "world")
    save_tokenizer(world.tokenizer, folder / "tokenizer")
    save(folder / "run", Checkpoint(1, {"model": {"x": torch.ones(3)}}, {}))
    write_checked_json(folder / "report.json", {"made_with": {}, "figures": {}})
    save_file({"x": torch.ones(3)}, folder / "lpips.safetensors")
    return folder


def agent(folder: Path) -> None:
    from worldmodel.agents.sb3 import PolicyAgent

    PolicyAgent.load(folder / "world")


# The file that is replaced, and who reads it.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "open": ("episodes/dataset.json", lambda folder: EpisodeStore.open(folder / "episodes")),
    "create": ("episodes/dataset.json", lambda folder: EpisodeStore.create(folder / "episodes", counter_info())),
    "read": ("episodes/episode_000000.h5", lambda folder: EpisodeStore.open(folder / "episodes").read(0)),
    "verify": ("episodes/episode_000000.h5", lambda folder: EpisodeStore.open(folder / "episodes").verify(0)),
    "damaged": ("episodes/episode_000000.h5", lambda folder: damaged(folder / "episodes")),
    "frames": ("episodes/episode_000000.h5", lambda folder: EpisodeStore.open(folder / "episodes").frames(0, 0, 1)),
    "push": ("episodes/episode_000000.h5", lambda folder: away(folder)),
    "remote info": ("episodes/dataset.json", lambda folder: behind(folder).indices),
    "remote": ("episodes/episode_000000.h5", lambda folder: behind(folder).read(0)),
    "token info": ("tokens/tokens.json", lambda folder: TokenStore.open(folder / "tokens", "k")),
    "tokens": ("tokens/tokens_000000.npy", lambda folder: TokenStore.open(folder / "tokens", "k").tokens(0)),
    "world config": ("world/config.json", lambda folder: WorldModel.load(folder / "world")),
    "world weights": ("world/weights.safetensors", lambda folder: WorldModel.load(folder / "world")),
    "config": ("world/config.json", lambda folder: load_weights(folder / "world")),
    "weights": ("world/weights.safetensors", lambda folder: load_weights(folder / "world")),
    "agent": ("world/config.json", agent),
    "tokenizer": ("tokenizer/weights.safetensors", lambda folder: load_tokenizer(folder / "tokenizer")),
    "checkpoint": ("run/checkpoints/00000001/progress.json", lambda folder: latest(folder / "run")),
    "checkpoint weights": ("run/checkpoints/00000001/model.safetensors", lambda folder: latest(folder / "run")),
    "report": ("report.json", lambda folder: load_report(folder / "report.json", folder / "world")),
    "sealed": ("report.json", lambda folder: read_checked_json(folder / "report.json")),
    "lpips": ("lpips.safetensors", lambda folder: Lpips(folder / "lpips.safetensors")),
}


def damaged(folder: Path) -> None:
    if problems := find_damaged(EpisodeStore.open(folder)):
        raise ValueError(problems[0])


def away(folder: Path) -> None:
    push(EpisodeStore.open(folder / "episodes"), f"file://{folder}/away")


def behind(folder: Path) -> EpisodeStore:
    return open_episodes(f"file://{folder}/episodes")


def attempt(reader: str, kind: str, whole: Path) -> str:
    """What a reader says; its own file is no regular one, all others are as they should be."""
    folder = whole.with_name(f"{reader} {kind}")
    shutil.copytree(whole, folder)
    name, read = READERS[reader]
    put(folder / name, kind)
    try:
        read(folder)
    except OSError as error:  # of what is not there
        return "refused" if str(folder) in str(error) else f"{type(error).__name__} without a name: {error}"
    return "read it"


def attempts(whole: Path) -> list[Callable[[], str]]:
    return [partial(attempt, reader, kind, whole) for reader in READERS for kind in KINDS]
