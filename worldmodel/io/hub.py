"""Worlds by name: those that come with the package, and those on the Hugging Face Hub.

`resolve_world` finds the folder behind any name. The Hub needs the extra `hub`: `push` a folder, `pull` it anywhere.
What travels is weights.safetensors, config.json and a model card; nothing else is fetched, and a repository that
holds what could run code is refused.
"""

import contextlib
import json
import math
import re
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from worldmodel.io.model_folder import CONFIG, WEIGHTS, check_kind, load_weights, read_checked_json, read_config
from worldmodel.io.untrusted import JSON_BYTES, WEIGHTS_BYTES, errors_name

CARD, REPORT = "README.md", "report.json"
FILES = {WEIGHTS: WEIGHTS_BYTES, CONFIG: JSON_BYTES, CARD: JSON_BYTES}  # what travels, and the most bytes of it
ALLOWED_SUFFIXES = {".safetensors", ".json", ".md", ".txt", ".gif", ".png", ".jpg", ".mp4"}  # may lie beside them
HUB_URL = re.compile(r"hf:/+([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")  # a Path makes one slash of two
WORLDS = Path(__file__).parents[1] / "worlds"  # a folder for each world that comes with the package
TIMEOUT = 10.0  # seconds without an answer after which the Hub counts as out of reach
PACKAGE_PREFIX = "worldmodel:"  # before the name of one of them, where a folder might have that name too
# Default sampling temperature and the latent at which it ends (0: never), for worlds that don't set them.
DEFAULT_TEMPERATURE = (1.0, 0)


def push(
    folder: str | Path, repo: str, *, report: Path | None = None, private: bool = False, endpoint: str = ""
) -> str:
    """Upload the world in `folder` to the repository `repo` ("owner/name"), which is made where there is none.

    Its card tells what it imitates, and the figures of `report`, a report.json. Who you are is what `hf auth login`
    stored; `endpoint` is another Hub than the public one. Returns the address of the commit.

    Raises:
        ValueError: the folder holds no whole world, the report is of other weights, or `repo` or `endpoint` is none.
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
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.create_commit(repo, files, commit_message="A world to dream in").commit_url)


def pull(repo: str, *, revision: str | None = None, endpoint: str = "") -> Path:
    """The folder of a world on the Hub, in the local cache of `huggingface_hub`, at a branch, tag or commit.

    Where the Hub cannot be reached, the copy that was pulled last is used, with a warning that says so.

    Raises:
        ValueError: the repository holds files that could run code or lead out of their folder, or that are too large,
            or no world.
        OSError: there is none, it is not yours to see, or it cannot be reached and no copy is in the cache.
    """
    try:
        return _download(repo, revision, endpoint)
    except HubOutOfReach as error:
        return _from_cache(repo, revision, error)


class HubOutOfReach(OSError):
    """The Hub gave no answer, or one that it may take back: no network, a timeout, too many requests, its own fault."""


def _check_endpoint(endpoint: str) -> None:
    """Raises ValueError for what is no address of a server."""
    if endpoint and not re.fullmatch(r"https?://(\[[\da-fA-F:]+\]|[^\s/?#@:\[\]]+)(:\d{1,5})?(/\S*)?", endpoint):
        raise ValueError(f"endpoint: expected an address like https://hub.example.org, got {endpoint!r}")


def _download(repo: str, revision: str | None, endpoint: str) -> Path:
    _check_endpoint(endpoint)
    hub = _library()
    with _hub_errors(repo):
        api = hub.HfApi(endpoint=endpoint or None)
        found = api.model_info(repo, revision=revision, timeout=TIMEOUT, files_metadata=True)
    sizes = {each.rfilename: each.size for each in found.siblings or ()}
    _check_file_names(repo, [*sizes])
    _check_file_sizes(repo, sizes)
    # By the commit whose names were looked at: a branch may have moved on.
    where = {"revision": found.sha, "endpoint": endpoint or None}
    with _hub_errors(repo):
        folder = Path(hub.snapshot_download(repo, allow_patterns=list(FILES), **where))
    _record_revision(folder, revision or "main")
    return folder


def _record_revision(folder: Path, revision: str) -> None:
    """Note in the cache, in its own way, which commit a branch or tag is: without a network it cannot be asked."""
    if revision != folder.name and ".." not in (path := PurePosixPath(revision)).parts and not path.is_absolute():
        note = folder.parents[1] / "refs" / revision
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(folder.name)


def _from_cache(repo: str, revision: str | None, error: HubOutOfReach) -> Path:
    """The whole copy in the cache. Raises `error` where there is none."""
    try:
        where = {"revision": revision, "local_files_only": True}
        folder = Path(_library().snapshot_download(repo, allow_patterns=list(FILES), **where))
    except Exception:  # none, half of one, or a damaged cache
        folder = None
    if folder is None or not all((folder / name).is_file() for name in (WEIGHTS, CONFIG)):
        raise OSError(f"{error}; and the cache holds no whole copy of it. Connect, or name a folder") from error
    warnings.warn(f"{error}; the copy in the cache is used: {folder}", RuntimeWarning, stacklevel=4)
    return folder


@contextlib.contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Whatever comes from the Hub, or on the way there, becomes one OSError that says what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(error, OSError | json.JSONDecodeError):
            wanted = "expected OWNER/NAME of letters, digits, -, _ and ., at most 96 in all"  # a name that can be none
            raise ValueError(f"repo {repo!r}: {wanted}") from error
        status = getattr(getattr(error, "response", None), "status_code", None)
        what = f"hf://{repo}: {textwrap.shorten(str(error), 160) or type(error).__name__}"
        if status is None or status in (408, 429) or status >= 500:
            raise HubOutOfReach(f"{what} (the Hub cannot be reached, or has no time)") from error
        remedy = {401: "log in with `hf auth login`", 403: "ask its owner for access, or log in as another"}
        raise OSError(f"{what}; {remedy.get(status, 'check the name, or log in with `hf auth login`')}") from error


def resolve_world(world: str | Path) -> Path:
    """The folder of a world that is named by its folder, as hf://owner/name, with @revision or without, or by the plain
    name of one that comes with the package ("maze"). A folder of that name wins; worldmodel:maze is always the world
    of the package.

    Raises: ValueError for a name of none of these, which lists those that there are, or for a folder that has the
        name of a world of the package, but holds no world.
    """
    if not isinstance(world, str | Path):
        raise TypeError(f"world: expected a folder, a name or an address, got {world!r}")
    if not str(world).strip():
        raise ValueError("world: expected a folder, a name or an address, got an empty text")
    if match := HUB_URL.fullmatch(str(world)):
        return pull(match[1], revision=match[2])
    if (name := is_bundled(world)) is not None:
        return WORLDS / name
    folder = Path(world)
    if str(world) in bundled_worlds() and not (folder / CONFIG).is_file():
        raise ValueError(
            f"world {str(world)!r}: {folder.absolute()} is there, but holds no world ({CONFIG} is missing); "
            f"write {PACKAGE_PREFIX}{world} for the world that comes with the package"
        )
    if str(world).startswith(PACKAGE_PREFIX) or (_is_plain_name(world) and not folder.exists()):
        names = ", ".join(bundled_worlds()) or "none"
        raise ValueError(f"world {str(world)!r}: no such folder, and none of the worlds that come along: {names}")
    return folder


def world_folder(world: str | Path) -> Path:
    """`resolve_world`, for a script that needs a trained world there.

    Raises: ValueError as `resolve_world`, or where the folder holds no world; the message says which script makes one.
    """
    folder = resolve_world(world)
    if not (folder / CONFIG).exists():
        if str(world).startswith("hf:/"):
            raise ValueError(f"world {str(world)!r}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
        raise ValueError(
            f"{folder} holds no world ({CONFIG} is missing); run scripts/train_prior.py to make one, or name another"
        )
    return folder


def bundled_worlds() -> list[str]:
    """The names of the worlds that come with the package."""
    return sorted(path.parent.name for path in WORLDS.glob(f"*/{CONFIG}"))


def is_bundled(world: str | Path) -> str | None:
    """The name of the world of the package that this means ("maze" or "worldmodel:maze"); None where it means another,
    or a folder that is there."""
    name = str(world).removeprefix(PACKAGE_PREFIX)
    is_there = name == str(world) and Path(world).exists()
    return name if name in bundled_worlds() and not is_there else None


def _is_plain_name(world: str | Path) -> bool:
    """Whether it is one word, which might be a folder here."""
    return PurePosixPath(world).name == str(world) and str(world) != ".."


def model_card(
    config: dict[str, Any], place: str, figures: dict[str, dict[str, Any]], origin: dict[str, Any] | None = None
) -> str:
    """A model card, from a world's config and the figures of its report.json.

    place: what `WorldModel.load` takes for it. origin: what it was made with, by name.
    """
    info, tokenizer = config["info"], config["tokenizer"]
    env = str(info["env"].get("name", "unknown"))
    height, width, _ = info["frame_shape"]
    trusted = info.get("trust_horizon")
    front: dict[str, Any] = {"library_name": "worldmodel", "pipeline_tag": "reinforcement-learning"}
    front["tags"] = ["world-model", "reinforcement-learning", "vq-vae", "pixelcnn", env]
    facts = {
        "environment": info["env"],
        "frames": f"{height}×{width}, uint8",
        "actions": info["action_names"] or info["action_space"],
        "tokens of a frame": (height // tokenizer["space_stride"]) * (width // tokenizer["space_stride"]),
        "codes": tokenizer["quantizer"]["codes"],
        "frames of a latent": tokenizer["time_stride"],
        "trust horizon, in steps": "not measured" if trusted is None else trusted,
        "temperature of its dreams, and until which latent": list(sampling_temperature(info)),
    }
    use = f'from worldmodel import WorldModel\n\nworld = WorldModel.load("{place}")'
    parts = [f"# A world to dream in: {_escape(env)}", _table("what", "value", facts), f"```python\n{use}\n```"]
    if origin:
        parts.append("Made with:\n\n" + _table("what", "value", origin))
    if figures:
        told = {name: _format_figure(figure) for name, figure in figures.items()}
        parts.append("Measured on held-out episodes, with 95 % intervals:\n\n" + _table("figure", "value", told))
    header = "\n".join(f"{name}: {json.dumps(value)}" for name, value in front.items())  # JSON is YAML
    return f"---\n{header}\n---\n\n" + "\n\n".join(parts) + "\n"


def load_report(report: Path, folder: str | Path) -> dict[str, Any]:
    """A report.json on the world in `folder`.

    Raises: ValueError where it is damaged, or tells of other weights, or of dreams drawn at another temperature.
    """
    found, (config, weights) = read_report(report), read_config(folder)
    with errors_name(report):
        if found["made_with"]["world"] != weights:
            raise ValueError(f"measured of other weights than those in {folder}; run scripts/evaluate.py first")
        if _report_temperature(found["made_with"]) != sampling_temperature(config["info"]):
            raise ValueError(f"measured at another temperature than that of {folder}; run scripts/evaluate.py first")
        return {name: found[name] for name in ("made_with", "figures")}


def _report_temperature(made_with: dict[str, Any]) -> tuple[Any, ...]:
    """The temperature of the dreams that were measured: the sampler's own setting, else the world's."""
    sampler = made_with.get("settings", {}).get("sampler", {})
    if sampler.get("temperature") is not None:
        return sampling_temperature(sampler)
    return tuple(made_with.get("temperature", DEFAULT_TEMPERATURE))


def read_report(path: Path) -> dict[str, Any]:
    """A report.json whose figures are what one says of a figure.

    Raises: ValueError where it is missing, damaged or changed by hand, or holds other things.
    """
    found = read_checked_json(path)
    with errors_name(path):
        for name, figure in found["figures"].items():
            if not _is_figure(figure):
                raise ValueError(f"{name}: expected a value with its interval, count and unit, got {figure!r:.80}")
    return found


def _is_figure(figure: Any) -> bool:
    if not isinstance(figure, dict) or not isinstance(figure.get("unit"), str):
        return False
    numbers: list[Any] = [figure.get(name) for name in ("value", "low", "high")]
    known = all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
    return known and isinstance(figure.get("not_applicable", ""), str)


def sampling_temperature(info: dict[str, Any]) -> tuple[float, int]:
    """The temperature that a world draws at, and until which latent of a dream (0: always), from its config."""
    return info.get("temperature", DEFAULT_TEMPERATURE[0]), info.get("temperature_until", DEFAULT_TEMPERATURE[1])


def _format_figure(figure: dict[str, Any]) -> str:
    """A figure of a report on one line: its value, its unit, and its interval where it has one."""
    if why := figure.get("not_applicable", ""):
        return f"not applicable: {why}"
    value, low, high = (f"{figure[name]:.4g}" for name in ("value", "low", "high"))
    interval = "" if low == high else f"({low} to {high})"
    return " ".join(filter(None, [value, figure["unit"], interval]))


def _table(left: str, right: str, rows: dict[str, Any]) -> str:
    lines = [f"| {_escape(name)} | {_escape(_short(value))} |" for name, value in rows.items()]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *lines])


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _escape(text: str) -> str:
    """On one line, and without what Markdown or HTML would act on."""
    return re.sub(r"([|<>\[\]`\\])", r"\\\1", " ".join(text.split()))


def _check_file_names(repo: str, names: list[str]) -> None:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ValueError(f"{repo}: holds {name!r}, a name that leads out of its folder; nothing was fetched")
        if path.suffix not in ALLOWED_SUFFIXES and name not in (".gitattributes", ".gitignore", "LICENSE"):
            raise ValueError(f"{repo}: holds {name!r}, which may run code; nothing was fetched")
    if missing := {WEIGHTS, CONFIG} - set(names):
        raise ValueError(f"{repo}: holds no world, as {', '.join(sorted(missing))} is missing")


def _check_file_sizes(repo: str, sizes: dict[str, int | None]) -> None:
    """Before anything is fetched; a file whose size the Hub does not say is judged when it is read."""
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
