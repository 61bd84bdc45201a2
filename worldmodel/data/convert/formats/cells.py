"""The cells of a table's column: all numbers, or all words. A cell that is neither is refused, never guessed."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)
NO_WORDS = {"na", "null", "nan", "nat", "inf", "infinity"}  # how tables write a missing value or no number
# Errors of spreadsheets (#DIV/0!, #WERT!), formulas (=A1), and numbers inside other text (np.int64(1), x=0.5).
NO_WORD = re.compile(r"#[^\Wa-z][^a-z]*|=.*|.*[=:(\[]\s*[+-]?\.?\d.*", re.DOTALL)
MAX_LETTERS = 100  # of a word


class CellError(ValueError):
    """A refused cell: `place` is its position in the column, the text says why."""

    def __init__(self, place: int, text: str):
        super().__init__(text)
        self.place = place


def numbers_or_words(cells: Sequence[str]) -> np.ndarray:
    """Words if every cell is a word, else numbers. Words that look the same become the same word.

    Raises:
        CellError: the first cell that is neither, or that differs in kind from most of the cells.
    """
    words = [is_word(cell) for cell in cells]
    if cells and all(words):
        return np.array([" ".join(unicodedata.normalize("NFC", cell).split()) for cell in cells], np.str_)
    if 2 * sum(words) > len(words):
        place = words.index(False)
        raise CellError(place, f"expected words in this column, as in most cells, got {_quoted(cells[place])}")
    return numbers(cells)


def numbers(cells: Sequence[str]) -> np.ndarray:
    """Integers if all cells are integers, else floats.

    Raises:
        CellError: the first cell that is not a number, or an integer of more than 64 bits.
    """
    for place, cell in enumerate(cells):
        if not NUMBER.fullmatch(cell):
            raise CellError(place, f"expected numbers in this column, got {_quoted(cell)}")
    if all(map(INTEGER.fullmatch, cells)):
        return _integers(cells)
    values = np.array([float(cell) for cell in cells], np.float64)
    for place in np.flatnonzero(np.isinf(values)).tolist():
        if re.search(r"\d", cells[place]):
            raise CellError(place, f"expected numbers of at most 64 bits, got {_quoted(cells[place])}")
    return values


def _integers(cells: Sequence[str]) -> np.ndarray:
    kind = np.iinfo(np.uint64 if not any(cell.startswith("-") for cell in cells) else np.int64)
    for place, cell in enumerate(cells):
        if len(cell) > 64 or not kind.min <= int(cell) <= kind.max:
            raise CellError(place, f"expected numbers of at most 64 bits, got {_quoted(cell)}")
    values = [int(cell) for cell in cells]
    return np.array(values, np.int64 if max(values, default=0) < 2**63 else np.uint64)


def is_word(cell: str) -> bool:
    """Whether a cell is a word: its first letter or digit is a letter, or it is a symbol such as an arrow.

    "left", "turn_2", "↑" and "<" are words. "", "-", "N/A", "0,5", "1st", "(5)", "#REF!", "x=0.5" and cells with
    invisible characters are not.
    """
    if len(cell) > MAX_LETTERS or NO_WORD.fullmatch(cell) or any(unicodedata.category(sign)[0] == "C" for sign in cell):
        return False
    kinds = [unicodedata.category(sign)[0] for sign in cell if unicodedata.category(sign)[0] in "LN"]
    if kinds:
        plain = "".join(sign for sign in cell if sign.isalnum()).lower()
        return kinds[0] == "L" and plain not in NO_WORDS
    return any(unicodedata.category(sign)[0] == "S" for sign in cell)


def _quoted(cell: str) -> str:
    return cell[:40] if cell and cell.isprintable() else repr(cell[:40]) if cell else "an empty cell"
