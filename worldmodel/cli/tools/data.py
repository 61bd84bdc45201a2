"""Inspect, verify, repair, import, export and merge episodes.

The first word says what to do, as in `worldmodel data verify run=runs/mine`:

info    print statistics; a contact sheet goes to RUN/episodes.png
verify  read every byte; name what is damaged, and exit with status 1 if anything is
repair  move damaged episodes to RUN/episodes/quarantine; `worldmodel collect` collects them again
import  from=FOLDER run=RUN: make RUN/episodes of a Minari dataset, of .npz files with video and actions, or of videos
        or folders of PNG images beside an actions.csv (columns episode,action,reward; one row per step, each leading
        from one frame to the next) or one NAME.csv each. What was exported, or lies behind a URL, comes back unchanged.
        from=minari:ID reads a Minari dataset by its id, and downloads it if it is not on this machine.
        One line names what is missing (rewards become 0) or left out.
export  format=minari, frames or npz to=FOLDER: without loss; to=s3://bucket/folder: the episodes as they are
merge   from=[RUN,RUN,...] run=NEW: all their episodes in one run, with new numbers
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worldmodel.cli.command import RunConfig, command
from worldmodel.data.check.check import check_episodes
from worldmodel.data.convert.convert import export_episodes, import_episodes
from worldmodel.data.episodes.remote import push
from worldmodel.data.episodes.repair import find_damaged, quarantine_damaged
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.merge import merge
from worldmodel.data.open import is_url, open_episodes
from worldmodel.data.summary import episode_sheet, summarize
from worldmodel.io.config import LARGEST, check_range
from worldmodel.io.video import write_png


@dataclass
class DataConfig(RunConfig):
    """Settings of `worldmodel data`."""

    command: Literal["info", "verify", "repair", "import", "export", "merge"] = "info"
    """What to do, also without `command=`: worldmodel data verify."""
    episodes: str = "${run}/episodes"
    """Folder or URL of the episodes."""
    from_: str | tuple[str, ...] | None = None
    """Where `import` and `merge` read from: folders, URLs, or minari:ID."""
    to: str | None = None
    """Where `export` writes to."""
    format: Literal["minari", "frames", "npz"] | None = None
    """Format of `export` (null: the episodes as they are, to a URL)."""
    size: tuple[int, int] | None = None
    """[height,width] of imported frames, such as [64,64] (null: as they are, all of one size)."""
    actions: int | tuple[float, float] | None = None
    """Actions of imported data: how many choices there are, or [least,greatest] of numbers (null: from the data)."""
    workers: int = 2
    """Processes that verify and repair (0 or 1: this one)."""

    def __post_init__(self) -> None:
        check_range(self, 0, LARGEST, "workers")
        check_range(self, 1, LARGEST, "size")


@command(DataConfig)
def main(config: DataConfig) -> None:
    commands = {
        "info": info, "verify": verify, "repair": repair, "import": import_, "export": export, "merge": merge_
    }  # fmt: skip
    commands[config.command](config)


def info(config: DataConfig) -> None:
    store = open_episodes(config.episodes)
    for name, value in summarize(store).items():
        print(f"  {name:14} {format_value(value)}")
    print(f"contact sheet: {write_png(config.run / 'episodes.png', episode_sheet(store))}")


def format_value(value: Any) -> str:
    """A statistic on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {format_value(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def verify(config: DataConfig) -> None:
    store = open_episodes(config.episodes)
    problems = find_damaged(store, config.workers, show=True)
    for problem in problems.values():
        print(problem)
    print(f"{len(store.indices)} episodes, {len(problems)} damaged: {config.episodes}")
    raise SystemExit(1 if problems else 0)


def repair(config: DataConfig) -> None:
    moved = quarantine_damaged(EpisodeStore.open(folder(config)), config.workers, show=True)
    for problem, where in moved.items():
        print(f"{problem}\nmoved to {where}")
    again = "; run the command that made them again: `worldmodel collect` collects just these" if moved else ""
    print(f"{len(moved)} episodes moved to quarantine{again}")


def import_(config: DataConfig) -> None:
    if not isinstance(config.from_, str):
        raise ValueError("from: expected a folder, a URL or minari:ID, such as from=data/mine")
    how = {"size": config.size, "actions": config.actions, "show": True, "say": print}
    store = import_episodes(config.from_, folder(config), **how)
    print(f"{count(store)}; actions {store.info.action_space}")
    for remark in check_episodes(store).remarks:
        print(f"warning: {remark.text}")


def export(config: DataConfig) -> None:
    store = open_episodes(config.episodes)
    if config.to is None or (config.format is None) != is_url(config.to):
        raise ValueError("export: expected to=FOLDER and format=minari, frames or npz, or to=URL alone")
    if config.format is None:
        push(store, config.to, show=True)
    else:
        export_episodes(store, config.to, config.format, show=True)
    print(f"{len(store.indices)} episodes: {config.to}")


def merge_(config: DataConfig) -> None:
    if config.from_ is None:
        raise ValueError("from: expected folders of runs, or URLs of episodes, such as from=[runs/a,runs/b]")
    places = (config.from_,) if isinstance(config.from_, str) else config.from_
    stores = [open_episodes(place if is_url(place) else Path(place) / "episodes") for place in places]
    store = merge(stores, folder(config), show=True, say=print)
    twice = sum(len(each.indices) for each in stores) - len(store.indices)
    print(count(store) + (f"; {twice} were duplicates and are kept once" if twice else ""))


def folder(config: DataConfig) -> Path:
    """The folder in which episodes are written or moved. Raises: ValueError for a URL."""
    if is_url(config.episodes):
        raise ValueError("episodes: expected a folder on this machine; export to=URL puts episodes elsewhere")
    return Path(config.episodes)


def count(store: EpisodeStore) -> str:
    return f"{len(store.indices)} episodes with {sum(store.lengths.values()):,} frames in {store.folder}"
