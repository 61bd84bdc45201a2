"""Finds the folder of a world by its name: a folder, a world that comes with the package, or one on the Hub."""

import re
from pathlib import Path, PurePosixPath

from worldmodel.io.folders import maker
from worldmodel.io.hub.transfer import pull
from worldmodel.io.model_folder import CONFIG

HUB_URL = re.compile(r"hf:/+([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")  # a Path makes one slash of two
WORLDS = Path(__file__).parents[2] / "worlds"  # has a folder for each world that comes with the package
PACKAGE_PREFIX = "worldmodel:"  # tells a world of the package from a folder of the same name


def resolve_world(world: str | Path) -> Path:
    """The folder of a world.

    world: a folder; or hf://owner/name, with @revision or without; or the name of a world that comes with the package
        ("maze"). A folder of that name has priority; worldmodel:maze is always the world of the package.

    Raises:
        ValueError: the name is none of these (the message lists the worlds of the package), or a folder has the name
            of a world of the package but holds no world.
        OSError: the world is on the Hub and cannot be pulled.
    """
    if not isinstance(world, str | Path):
        raise TypeError(f"world: expected a folder, a name or an address, got {world!r}")
    if not str(world).strip():
        raise ValueError("world: expected a folder, a name or an address, got an empty text")
    if match := HUB_URL.fullmatch(str(world)):
        return pull(match[1], revision=match[2])
    if (name := bundled_name(world)) is not None:
        return WORLDS / name
    folder = Path(world)
    if str(world) in bundled_worlds() and not (folder / CONFIG).is_file():
        raise ValueError(
            f"world {str(world)!r}: {folder.absolute()} is there, but holds no world ({CONFIG} is missing); "
            f"write {PACKAGE_PREFIX}{world} for the world that comes with the package"
        )
    if str(world).startswith(PACKAGE_PREFIX) or (_is_plain_name(world) and not folder.exists()):
        names = ", ".join(bundled_worlds()) or "none"
        raise ValueError(
            f"world {str(world)!r}: no such folder, and no world of the package has this name; the package has: {names}"
        )
    return folder


def world_folder(world: str | Path) -> Path:
    """`resolve_world` for a script that needs a trained world in the folder.

    Raises:
        ValueError: as `resolve_world`, or the folder holds no world; the message says which command makes one.
        OSError: as `resolve_world`.
    """
    folder = resolve_world(world)
    if not (folder / CONFIG).exists():
        if str(world).startswith("hf:/"):
            raise ValueError(f"world {str(world)!r}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
        raise ValueError(
            f"{folder} holds no world ({CONFIG} is missing); make one with "
            f"{maker(folder) or '`worldmodel train-prior run=…`'}, or name another"
        )
    return folder


def bundled_worlds() -> list[str]:
    """The names of the worlds that come with the package."""
    return sorted(path.parent.name for path in WORLDS.glob(f"*/{CONFIG}"))


def bundled_name(world: str | Path) -> str | None:
    """The name of the package's world that `world` means ("maze" for "maze" or "worldmodel:maze").

    None if it means another world, or an existing folder.
    """
    name = str(world).removeprefix(PACKAGE_PREFIX)
    is_folder = name == str(world) and Path(world).exists()
    return name if name in bundled_worlds() and not is_folder else None


def _is_plain_name(world: str | Path) -> bool:
    """Whether it is a single word, without a path."""
    return PurePosixPath(world).name == str(world) and str(world) != ".."
