"""The cells of a column: numbers, or words. Which one is never guessed from what happens to parse."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)
NO_WORDS = {"na", "null", "nan", "nat", "inf", "infinity"}  # how tables write a value that is missing or no number
# A spreadsheet's errors (#DIV/0!, #WERT!), its formulas (=A1), and numbers in a wrapping (np.int64(1), x=0.5).
NO_WORD = re.compile(r"#[^\Wa-z][^a-z]*|=.*|.*[=:(\[]\s*[+-]?\.?\d.*", re.DOTALL)
LETTERS = 100  # of the longest word


class CellError(ValueError):
    """A cell that is refused: which one, and why."""

    def __init__(self, place: int, text: str):
        super().__init__(text)
        self.place = place


def numbers_or_words(cells: Sequence[str]) -> np.ndarray:
    """Words where every cell is one, else numbers. Words that look the same are the same word.

    Raises:
        CellError: the first cell that is neither, or that differs from most of the others.
    """
    words = [is_word(cell) for cell in cells]
    if cells and all(words):
        return np.array([" ".join(unicodedata.normalize("NFC", cell).split()) for cell in cells], np.str_)
    if 2 * sum(words) > len(words):
        place = words.index(False)
        raise CellError(place, f"expected words in this column, as in most cells, got {_shown(cells[place])}")
    return numbers(cells)


def numbers(cells: Sequence[str]) -> np.ndarray:
    """Integers where all are, else floats.

    Raises:
        CellError: the first cell that is no number, or an integer of more than 64 bits.
    """
    for place, cell in enumerate(cells):
        if not NUMBER.fullmatch(cell):
            raise CellError(place, f"expected numbers in this column, got {_shown(cell)}")
    if all(map(INTEGER.fullmatch, cells)):
        return _integers(cells)
    values = np.array([float(cell) for cell in cells], np.float64)
    for place in np.flatnonzero(np.isinf(values)).tolist():
        if re.search(r"\d", cells[place]):
            raise CellError(place, f"expected numbers of at most 64 bits, got {_shown(cells[place])}")
    return values


def _integers(cells: Sequence[str]) -> np.ndarray:
    kind = np.iinfo(np.uint64 if not any(cell.startswith("-") for cell in cells) else np.int64)
    for place, cell in enumerate(cells):
        if len(cell) > 64 or not kind.min <= int(cell) <= kind.max:
            raise CellError(place, f"expected numbers of at most 64 bits, got {_shown(cell)}")
    values = [int(cell) for cell in cells]
    return np.array(values, np.int64 if max(values, default=0) < 2**63 else np.uint64)


def is_word(cell: str) -> bool:
    """Whether a cell is a name: its first letter or digit is a letter, or it is a sign like an arrow.

    "left", "turn_2", "↑" and "<" are; "", "-", "N/A", "0,5", "1st", "(5)", "#REF!", "x=0.5" and what holds a
    character that cannot be seen are not.
    """
    if len(cell) > LETTERS or NO_WORD.fullmatch(cell) or any(unicodedata.category(sign)[0] == "C" for sign in cell):
        return False
    kinds = [unicodedata.category(sign)[0] for sign in cell if unicodedata.category(sign)[0] in "LN"]
    if kinds:
        plain = "".join(sign for sign in cell if sign.isalnum()).lower()
        return kinds[0] == "L" and plain not in NO_WORDS
    return any(unicodedata.category(sign)[0] == "S" for sign in cell)


def _shown(cell: str) -> str:
    return cell[:40] if cell and cell.isprintable() else repr(cell[:40]) if cell else "an empty cell"
