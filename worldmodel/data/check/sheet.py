"""Eight moments in one picture: what the environment shows above, what the world gets below."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodel.data.check.observer import Shot
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.io.video import GAP, LINE, PAPER, text_image
from worldmodel.nn.actions import action_words

COLUMNS = 8
CELL = 184  # pixels of a side: eight columns and the labels are less than 1,600 pixels wide
LABEL = 72


def sheet(shots: Sequence[Shot], info: DatasetInfo) -> UInt8[np.ndarray, "H W 3"]:
    """Eight of the moments, evenly spread, with the steps, actions and rewards that led to them.

    Raises:
        ValueError: there is no moment.
    """
    if not shots:
        raise ValueError("expected a moment or more, got none")
    chosen = [shots[i] for i in np.unique(np.linspace(0, len(shots) - 1, COLUMNS).round().astype(int))]
    rows = [
        [text_image("", LABEL, 3 * LINE), *(text_image(_caption(shot, info), CELL + GAP, 3 * LINE) for shot in chosen)],
        _row("pictures\n" + _size(chosen[0].picture), [shot.picture for shot in chosen]),
        _row("frames\n" + _size(chosen[0].frame), [shot.frame for shot in chosen]),
    ]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)


def _caption(shot: Shot, info: DatasetInfo) -> str:
    moment = f"episode {shot.episode}, step {shot.step}"
    if shot.action is None:
        return f"{moment}\nstart"
    return f"{moment}\n{action_words(shot.action, info.action_space, info.action_names)}\nreward {shot.reward:g}"


def _size(picture: np.ndarray) -> str:
    return "x".join(map(str, picture.shape[:2]))  # the font has no ×


def _row(label: str, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    fitted = [_fit(picture) for picture in pictures]
    height = max(len(picture) for picture in fitted)
    cells = [np.full((height + GAP, CELL + GAP, 3), PAPER, np.uint8) for _ in fitted]
    for cell, picture in zip(cells, fitted, strict=True):
        cell[: picture.shape[0], : picture.shape[1]] = picture
    return [text_image(label, LABEL, height + GAP), *cells]


def _fit(picture: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture as large as a cell: larger ones are averaged, the pixels of smaller ones repeated."""
    colors = picture[..., :3] if picture.shape[2] >= 3 else picture[..., :1].repeat(3, axis=2)
    height, width = colors.shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.ascontiguousarray(colors)).resize(size, how))
