"""Reads tables of steps: CSV files with one row per step."""

import csv
import io
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from worldmodel.data.convert.formats.cells import CellError, numbers, numbers_or_words
from worldmodel.io.untrusted import UntrustedFileError, errors_name, read_bytes

OUTCOMES = ("reward", "terminated", "truncated")
BOOLEANS = {"": False, "0": False, "false": False, "1": True, "true": True}
FILE_BYTES = 1 << 28


@dataclass(frozen=True)
class Steps:
    """The rows of one episode: the cells of each column, and each row's line number in the file."""

    path: Path
    name: str
    columns: dict[str, list[str]]
    lines: list[int] = field(default_factory=list)

    def actions(self) -> np.ndarray:
        """Numbers `T` or `T n`, or words `T`."""
        if "action" in self.columns:
            return self._parsed("action", numbers_or_words)
        count = sum(name.startswith("action_") for name in self.columns)
        return np.stack([self._parsed(f"action_{i}", numbers) for i in range(count)], axis=1)

    def rewards(self) -> np.ndarray | None:
        """None if there is no column `reward`."""
        return self._parsed("reward", numbers) if "reward" in self.columns else None

    def last(self, name: str) -> bool:
        """The value of a true/false column in the last row; False if there is no such column.

        Raises:
            UntrustedFileError: a cell is neither true nor false, or one before the last row is true.
        """
        texts = [text.lower() for text in self.columns.get(name, [])]
        for place, text in enumerate(texts):
            if text not in BOOLEANS or (text == "" and place == len(texts) - 1):
                raise self._error(place, name, f"expected 0, 1, true or false, got {text!r}")
        values = [BOOLEANS[text] for text in texts]
        if any(values[:-1]):
            raise self._error(values.index(True), name, "true before the last step; end the episode there")
        return values[-1] if values else False

    def _parsed(self, column: str, parse: Callable[[list[str]], np.ndarray]) -> np.ndarray:
        try:
            return parse(self.columns[column])
        except CellError as error:
            raise self._error(error.place, column, str(error)) from error

    def _error(self, place: int, column: str, text: str) -> UntrustedFileError:
        line, episode = self.lines[place], self.name
        return UntrustedFileError(f"{self.path}, line {line} (episode {episode}): {column}: {text}")


def read_table(path: Path, name: str, named: bool) -> dict[str, Steps]:
    """The steps of each episode in a table.

    Args:
        path: the table: UTF-8, columns separated by commas.
        name: the episode's name, for a table without a column `episode`.
        named: whether the column `episode` is required.

    Raises:
        UntrustedFileError: unknown or missing columns, or a broken line.
    """
    content = read_bytes(path, FILE_BYTES)
    with errors_name(path):
        text = content.decode("utf-8-sig")
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns = [cell.strip() for cell in next(rows, [])]
        _check_columns(path, columns, named)
        episodes: dict[str, Steps] = {}
        for row in rows:
            if row:
                _add(episodes, path, name, rows.line_num, columns, row)
        return episodes


def _add(episodes: dict[str, Steps], path: Path, name: str, line: int, columns: list[str], row: list[str]) -> None:
    if len(row) != len(columns):
        raise ValueError(f"{path}, line {line}: expected {len(columns)} fields, {', '.join(columns)}; got {len(row)}")
    cells = dict(zip(columns, map(str.strip, row), strict=True))
    if not (episode := normalized(cells.get("episode", name))):
        raise ValueError(f"{path}, line {line}: episode: expected a name, got an empty cell; delete empty rows")
    steps = episodes.setdefault(episode, Steps(path, episode, {column: [] for column in columns}))
    steps.lines.append(line)
    for column, cell in cells.items():
        steps.columns[column].append(cell)


def _check_columns(path: Path, columns: list[str], named: bool) -> None:
    actions = sorted(column for column in columns if column not in ("episode", *OUTCOMES))
    several = sorted(f"action_{i}" for i in range(len(actions)))
    allowed = f"episode, action (or action_0, action_1, ...) and optionally {', '.join(OUTCOMES)}"
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path}: expected each column once, got {', '.join(columns)}")
    if not actions or actions not in (["action"], several) or (named and "episode" not in columns):
        hint = "; separate them by commas" if len(columns) == 1 else ""
        got = ", ".join(column or "one without a name" for column in columns) or "none"
        raise ValueError(f"{path}, line 1: expected columns {allowed}, got {got}{hint}")


def normalized(name: str) -> str:
    """A name for comparisons: file systems encode the same letters in several ways."""
    return unicodedata.normalize("NFC", name)
