"""The formats that episodes can be imported from and exported to, by name."""

from pathlib import Path

from worldmodel.data.convert.formats.format import EpisodeSource, Format, ImportedEpisode
from worldmodel.data.convert.formats.frames import FRAMES
from worldmodel.data.convert.formats.minari import MINARI, NAME
from worldmodel.data.convert.formats.npz import NPZ

__all__ = ["FORMATS", "EpisodeSource", "Format", "ImportedEpisode", "detect"]

FORMATS = {"minari": MINARI, "frames": FRAMES, "npz": NPZ}  # `detect` tries them in this order


def detect(folder: Path) -> Format:
    """The format of the files in a folder.

    Raises:
        ValueError: there is no such folder, or no format matches its files.
    """
    if not folder.is_dir():
        hint = f"; from=minari:{folder} means a dataset of Minari's" if NAME.fullmatch(folder.name) else ""
        raise ValueError(f"{folder} is not a folder; name one with episodes in it{hint}")
    for format in FORMATS.values():
        if format.matches(folder):
            return format
    raise ValueError(
        f"{folder}: expected a Minari dataset (data/metadata.json), .npz files with video and actions, "
        "or videos or folders of PNG images beside an actions.csv or a table NAME.csv for each"
    )
