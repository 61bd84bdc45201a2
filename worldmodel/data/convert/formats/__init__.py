"""The formats that episodes can be imported from and exported to, by name."""

from pathlib import Path

from worldmodel.data.convert.formats.format import EpisodeSource, Format, ImportedEpisode
from worldmodel.data.convert.formats.frames import FRAMES
from worldmodel.data.convert.formats.minari import MINARI
from worldmodel.data.convert.formats.npz import NPZ

__all__ = ["FORMATS", "EpisodeSource", "Format", "ImportedEpisode", "detect"]

FORMATS = {"minari": MINARI, "frames": FRAMES, "npz": NPZ}  # in the order in which they are looked for


def detect(folder: Path) -> Format:
    """The format of the files in a folder.

    Raises:
        ValueError: no such folder, or files of none of the formats.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name one with episodes in it")
    for format in FORMATS.values():
        if format.matches(folder):
            return format
    raise ValueError(
        f"{folder}: expected a Minari dataset (data/metadata.json), .npz files with video and actions, "
        "or films or folders of PNG pictures beside an actions.csv or a table NAME.csv for each"
    )
