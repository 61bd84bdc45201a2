"""Minari datasets by their id: those on this machine, and those of the server that Minari downloads from."""

import os
import re
import textwrap
from pathlib import Path

from worldmodel.data.convert.formats.minari import DATA, METADATA

PREFIX = "minari:"
ID = re.compile(r"(?:[\w-]+/)*[\w-]+-v\d+")  # such as cartpole/images-v0
TIMEOUT = 10.0  # seconds without an answer after which the server counts as out of reach
SERVER = "farama-minari"  # where Minari downloads from; MINARI_REMOTE names another place


def is_minari_id(place: Path | str) -> bool:
    return str(place).startswith(PREFIX)


def minari_folder(place: str) -> Path:
    """The folder of the dataset that "minari:ID" names; it is downloaded by Minari if it is not on this machine.

    Datasets lie below `MINARI_DATASETS_PATH`, or below ~/.minari/datasets, as Minari has them.

    Raises:
        ValueError: a malformed id, or the server has no such dataset.
        ImportError: a package for the download is not installed.
        OSError: the server cannot be reached.
    """
    name = place.removeprefix(PREFIX)
    if not ID.fullmatch(name):
        raise ValueError(f"from: expected minari:ID with an id like cartpole/images-v0, got {place!r}")
    root = os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari/datasets"
    folder = Path(root) / name
    if not all((folder / "data" / file).is_file() for file in (METADATA, DATA)):
        _download(name, folder)
    return folder


def _download(name: str, folder: Path) -> None:
    """Let Minari download a dataset, after a question that shows whether the server can be reached."""
    try:
        import huggingface_hub
        import minari
    except ImportError as error:
        message = f'{folder} is not there; a download needs pip install "worldmodel[data,hub]"'
        raise ImportError(message, name=error.name) from error
    where = f"minari:{name} is not in {folder}, and cannot be downloaded"
    try:
        if "MINARI_REMOTE" not in os.environ:
            group = f"{SERVER}/{name.split('/')[0]}"
            huggingface_hub.HfApi().repo_info(group, repo_type="dataset", timeout=TIMEOUT)
        minari.download_dataset(name, force_download=folder.exists())  # it passes over a part of a dataset
    except Exception as error:
        what = textwrap.shorten(str(error), 160) or type(error).__name__
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, ValueError) or status in (401, 404):
            raise ValueError(f"{where}: {what}; check the id, or set MINARI_DATASETS_PATH to its folder") from error
        raise OSError(f"{where}: {what}; connect to the network, or set MINARI_DATASETS_PATH") from error
