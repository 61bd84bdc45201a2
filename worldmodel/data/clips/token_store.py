"""A folder of tokens, one file per episode, made by one tokenizer from one dataset.

A token file is a plain `.npy` file followed by a sha256, which NumPy ignores and `TokenStore` checks. The sha256
covers the content, the episode's index and the key of the store, so that no file can replace another.
"""

import hashlib
import io
import math
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Integer

from worldmodel.io.config import from_mapping
from worldmodel.io.files import LRUCache, remove_partial, write_atomic
from worldmodel.io.folders import make_folder
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.lock import lock_file
from worldmodel.io.untrusted import open_regular

SCHEMA = 2
FILE = "tokens.json"
NAME = re.compile(r"tokens_(\d{6,})\.npy")
DIGEST_BYTES = 32
HEADER_BYTES = 1024  # room for the header and the sha256 of a token file
MAX_BYTES = 1 << 30  # tokens of one episode
OPEN_FILES = 256  # each mapped file keeps a file handle; many systems allow 1024
REMEDY = "run `worldmodel train-prior` to make the tokens again"


def token_key(tokenizer: str, fingerprint: str) -> str:
    """The key of tokens: it changes with the tokenizer's own key and with `EpisodeStore.fingerprint()`."""
    return hashlib.sha256(f"{tokenizer}\n{fingerprint}".encode()).hexdigest()


@dataclass(frozen=True)
class TokenInfo:
    """What all token files of a folder share: the key of their tokenizer and dataset, and their shape."""

    key: str
    codes: int
    grid: tuple[int, int]  # rows y, columns x
    time_stride: int
    schema: int = SCHEMA

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<i2") if self.codes <= 2**15 else np.dtype("<i4")


class TokenStore:
    """Tokens `s y x` of each episode, memory-mapped; a copy in another process opens files of its own."""

    def __init__(self, folder: Path | str, info: TokenInfo):
        self.folder, self.info = Path(folder), info
        self._maps: LRUCache[np.ndarray] = LRUCache(OPEN_FILES)
        self._checked: set[int] = set()

    @classmethod
    def create(
        cls, folder: Path | str, *, key: str, codes: int, grid: tuple[int, int], time_stride: int
    ) -> "TokenStore":
        """An empty store, or the existing one if it has the same key and shape. Stale tokens are deleted.

        Raises:
            ValueError: the folder holds files that are not tokens; nothing is deleted.
        """
        folder, info = Path(folder), TokenInfo(key, codes, (grid[0], grid[1]), time_stride)
        if folder.is_dir() and any(folder.iterdir()) and _load(folder) != info:
            _clear(folder)
        make_folder(folder)
        write_checked_json(folder / FILE, asdict(info))
        remove_partial(folder)
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path | str, key: str) -> "TokenStore":
        """The finished tokens of the tokenizer and the dataset that `key` stands for.

        Raises:
            ValueError: there are none, or another tokenizer or other episodes made them.
        """
        info = _load(Path(folder))
        if info is None:
            raise ValueError(f"{folder} holds no readable {FILE}; {REMEDY}")
        if info.key != key:
            raise ValueError(f"{folder} holds tokens of another tokenizer or other episodes (stale); {REMEDY}")
        return cls(folder, info)

    @property
    def indices(self) -> tuple[int, ...]:
        """The episodes with finished tokens, in order."""
        matches = (NAME.fullmatch(entry.name) for entry in os.scandir(self.folder))
        return tuple(sorted(int(match[1]) for match in matches if match))

    def path(self, index: int) -> Path:
        return self.folder / f"tokens_{index:06d}.npy"

    def write(self, index: int, tokens: Integer[np.ndarray, "s y x"]) -> None:
        """Store the tokens of an episode atomically: after a kill, the file is complete or absent.

        Raises:
            ValueError: tokens on another grid, or outside the codebook.
        """
        if tokens.shape[1:] != self.info.grid or not len(tokens):
            raise ValueError(
                f"tokens: expected shape (s, {self.info.grid[0]}, {self.info.grid[1]}), got {tokens.shape}"
            )
        if tokens.min() < 0 or tokens.max() >= self.info.codes:
            raise ValueError(f"tokens: expected 0 to {self.info.codes - 1}, got {tokens.min()} to {tokens.max()}")
        if (size := tokens.size * self.info.dtype.itemsize) > MAX_BYTES:
            raise ValueError(f"tokens: {size:,} bytes, expected at most {MAX_BYTES:,}; cut the episode")
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(tokens, self.info.dtype))
        write_atomic(self.path(index), buffer.getbuffer(), self._digest(index, buffer.getbuffer()))
        self._maps, self._checked = LRUCache(OPEN_FILES), set()

    def tokens(self, index: int) -> Integer[np.ndarray, "s y x"]:
        """Tokens of an episode, read-only and memory-mapped; the sha256 is checked at the first read.

        Raises:
            ValueError: they are missing or damaged.
        """
        return self._maps.get(index, lambda: self._map(index))

    def _map(self, index: int) -> np.ndarray:
        path = self.path(index)
        try:
            with open_regular(path, MAX_BYTES + HEADER_BYTES) as file:
                if index not in self._checked:
                    self._check_digest(index, file.read())
                tokens = self._mapped(file)
        except Exception as error:  # NumPy raises many kinds of errors for a broken header
            raise ValueError(f"{path}: missing or damaged: {error}; delete it and {REMEDY}") from error
        if index not in self._checked and not (len(tokens) and 0 <= tokens.min() <= tokens.max() < self.info.codes):
            raise ValueError(f"{path}: expected 1 latent or more of tokens in [0, {self.info.codes}); {REMEDY}")
        self._checked.add(index)
        return tokens

    def _mapped(self, file: BinaryIO) -> np.ndarray:
        """A map of the tokens in an open file. Raises ValueError unless they have this store's type and grid."""
        file.seek(0)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("expected version 1.0 of the .npy format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if shape[1:] != self.info.grid or dtype != self.info.dtype or fortran:
            raise ValueError(f"expected {self.info.dtype} s {self.info.grid}, got {dtype} {shape}")
        size, at = math.prod(shape) * dtype.itemsize + DIGEST_BYTES, file.tell()
        if at + size != (found := os.fstat(file.fileno()).st_size) or not shape[0]:
            raise ValueError(f"{found:,} bytes, expected {at + size:,} by its header")
        return np.memmap(file, dtype, "r", at, shape)

    def _check_digest(self, index: int, content: bytes) -> None:
        if self._digest(index, memoryview(content)[:-DIGEST_BYTES]) != content[-DIGEST_BYTES:]:
            raise ValueError("the content does not match its sha256")

    def _digest(self, index: int, content: memoryview) -> bytes:
        digest = hashlib.sha256(f"{self.info.key}\n{index}\n".encode())
        digest.update(content)
        return digest.digest()

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "info": self.info}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)


def _load(folder: Path) -> TokenInfo | None:
    try:
        info = from_mapping(TokenInfo, read_checked_json(folder / FILE))
    except (OSError, ValueError, TypeError):
        return None
    return info if info.schema == SCHEMA else None


def _clear(folder: Path) -> None:
    """Delete stale tokens, which can be made again. Raises ValueError if the folder holds anything else."""
    remove_partial(folder)
    names = sorted(set(os.listdir(folder)) - {lock_file(folder).name})
    if others := [name for name in names if name != FILE and not NAME.fullmatch(name)]:
        raise ValueError(f"{folder} holds more than tokens ({others[0]}); move that away or name another folder")
    for name in sorted(names, key=lambda name: name != FILE):  # the description first: a kill leaves stale tokens
        (folder / name).unlink()  # one by one, because the folder may be a link or a mount point
