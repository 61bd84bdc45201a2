"""Pushes worlds to the Hugging Face Hub and pulls them from it.

What travels is weights.safetensors, config.json and a model card. Nothing else is downloaded, and a repository that
holds anything that could run code is refused.
"""

import contextlib
import json
import re
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from worldmodel.io.hub.card import model_card
from worldmodel.io.hub.report import load_report
from worldmodel.io.model_folder import CONFIG, WEIGHTS, check_kind, load_weights
from worldmodel.io.untrusted import JSON_BYTES, WEIGHTS_BYTES, errors_name

CARD = "README.md"
FILES = {WEIGHTS: WEIGHTS_BYTES, CONFIG: JSON_BYTES, CARD: JSON_BYTES}  # what travels, and the most bytes of each
ALLOWED_SUFFIXES = {".safetensors", ".json", ".md", ".txt", ".gif", ".png", ".jpg", ".mp4"}  # of other files
ALLOWED_NAMES = {".gitattributes", ".gitignore", "LICENSE"}
TIMEOUT = 10.0  # seconds without an answer after which the Hub counts as out of reach


def push(
    folder: str | Path, repo: str, *, report: Path | None = None, private: bool = False, endpoint: str = ""
) -> str:
    """Upload the world in `folder` to the repository `repo` ("owner/name"); returns the URL of the commit.

    The repository is made if it does not exist. The card says what the world imitates, with the results in `report`
    (a report.json). The login is the one that `hf auth login` stored. `endpoint` is the URL of another Hub.

    Raises:
        ValueError: the folder holds no complete world, the report is about other weights, or `repo` or `endpoint`
            is malformed.
        OSError: the Hub cannot be reached, or refuses; the message says what to do.
    """
    folder = Path(folder)
    config, _ = load_weights(folder)
    check_kind(folder, config, "world")
    figures = {} if report is None else load_report(report, folder)["figures"]
    _check_endpoint(endpoint)
    hub = _library()
    with errors_name(folder / CONFIG):
        text = model_card(config, f"hf://{repo}", figures)
    content = {CARD: text.encode(), **{name: folder / name for name in (CONFIG, WEIGHTS)}}
    files = [hub.CommitOperationAdd(name, each) for name, each in content.items()]
    api = hub.HfApi(endpoint=endpoint or None)
    with _hub_errors(repo):
        _ask(api, repo)
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.create_commit(repo, files, commit_message="A world to dream in").commit_url)


def _ask(api: Any, repo: str) -> None:
    """Ask for a repository, since uploads wait without a limit for a Hub that does not answer.

    Raises: what `huggingface_hub` raises if the Hub is out of reach, or refuses.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        api.model_info(repo, timeout=TIMEOUT)
    except RepositoryNotFoundError as error:
        if error.response.status_code != 404:  # 401: not logged in
            raise


def pull(repo: str, *, revision: str | None = None, endpoint: str = "") -> Path:
    """Download a world at a branch, tag or commit; returns its folder in the local cache of `huggingface_hub`.

    If the Hub cannot be reached, the copy that was pulled last is used, with a warning.

    Raises:
        ValueError: the repository holds no world, or files that could run code, lead out of their folder or are
            too large.
        OSError: the repository does not exist or may not be read, or the Hub cannot be reached and the cache
            holds no copy.
    """
    try:
        return _download(repo, revision, endpoint)
    except HubOutOfReach as error:
        return _from_cache(repo, revision, error)


class HubOutOfReach(OSError):
    """The Hub cannot answer now: no network, a timeout, too many requests, or an error of the Hub itself."""


def _check_endpoint(endpoint: str) -> None:
    """Raises ValueError if it is not the URL of a server."""
    if endpoint and not re.fullmatch(r"https?://(\[[\da-fA-F:]+\]|[^\s/?#@:\[\]]+)(:\d{1,5})?(/\S*)?", endpoint):
        raise ValueError(f"endpoint: expected a URL like https://hub.example.org, got {endpoint!r}")


def _download(repo: str, revision: str | None, endpoint: str) -> Path:
    _check_endpoint(endpoint)
    hub = _library()
    with _hub_errors(repo):
        api = hub.HfApi(endpoint=endpoint or None)
        found = api.model_info(repo, revision=revision, timeout=TIMEOUT, files_metadata=True)
    sizes = {each.rfilename: each.size for each in found.siblings or ()}
    _check_file_names(repo, [*sizes])
    _check_file_sizes(repo, sizes)
    # By the commit whose file names were checked: a branch may have moved on.
    where = {"revision": found.sha, "endpoint": endpoint or None}
    with _hub_errors(repo):
        folder = Path(hub.snapshot_download(repo, allow_patterns=list(FILES), **where))
    _record_revision(folder, revision or "main")
    return folder


def _record_revision(folder: Path, revision: str) -> None:
    """Note in the cache which commit a branch or tag is, as `huggingface_hub` does, for use without a network."""
    if revision != folder.name and ".." not in (path := PurePosixPath(revision)).parts and not path.is_absolute():
        note = folder.parents[1] / "refs" / revision
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(folder.name)


def _from_cache(repo: str, revision: str | None, error: HubOutOfReach) -> Path:
    """The folder of the complete copy in the cache. Raises OSError with the message of `error` if there is none."""
    try:
        where = {"revision": revision, "local_files_only": True}
        folder = Path(_library().snapshot_download(repo, allow_patterns=list(FILES), **where))
    except Exception:  # none, half of one, or a damaged cache
        folder = None
    if folder is None or not all((folder / name).is_file() for name in (WEIGHTS, CONFIG)):
        remedy = "connect to the network, or name a folder"
        raise OSError(f"{error}; and the cache holds no complete copy of it: {remedy}") from error
    warnings.warn(f"{error}; the copy in the cache is used: {folder}", RuntimeWarning, stacklevel=4)
    return folder


@contextlib.contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turn any error of the Hub or the network into one OSError that says what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(error, OSError | json.JSONDecodeError):
            wanted = "expected OWNER/NAME of letters, digits, -, _ and ., at most 96 in all"
            raise ValueError(f"repo {repo!r}: {wanted}") from error
        status = getattr(getattr(error, "response", None), "status_code", None)
        what = f"hf://{repo}: {textwrap.shorten(str(error), 160) or type(error).__name__}"
        if status is None or status in (408, 429) or status >= 500:
            raise HubOutOfReach(f"{what} (the Hub cannot be reached, or has no time)") from error
        remedy = {401: "log in with `hf auth login`", 403: "ask its owner for access, or log in as another"}
        raise OSError(f"{what}; {remedy.get(status, 'check the name, or log in with `hf auth login`')}") from error


def _check_file_names(repo: str, names: list[str]) -> None:
    """Raises ValueError if a file could run code or lead out of its folder, or no world is there."""
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ValueError(f"{repo}: holds {name!r}, a name that leads out of its folder; nothing was fetched")
        if path.suffix not in ALLOWED_SUFFIXES and name not in ALLOWED_NAMES:
            raise ValueError(f"{repo}: holds {name!r}, which may run code; nothing was fetched")
    if missing := {WEIGHTS, CONFIG} - set(names):
        raise ValueError(f"{repo}: holds no world: {', '.join(sorted(missing))} is missing")


def _check_file_sizes(repo: str, sizes: dict[str, int | None]) -> None:
    """Raises ValueError if a file is too large; a file of unknown size is checked when it is read."""
    for name, most in FILES.items():
        if (size := sizes.get(name)) is not None and size > most:
            raise ValueError(f"{repo}: {name} has {size:,} bytes, expected at most {most:,}; nothing was fetched")


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        message = 'the Hub needs huggingface_hub: pip install "worldmodel[hub]"'
        raise ImportError(message, name="huggingface_hub") from error
    return huggingface_hub
