"""Tokens: what a tokenizer made of each episode, one file each, and batches of them with the actions between.

A token file is a plain `.npy` with a sha256 behind it, which NumPy ignores and `TokenStore` checks: of its content, its
episode and the key of its store, so that no file stands in for another.
"""

import hashlib
import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, Integer
from torch import Tensor
from torch.utils.data import Dataset

from worldmodel.data.clips.clips import Batch, WindowSampler
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.config import typed
from worldmodel.io.files import Recent, sweep, write_whole
from worldmodel.io.folders import make_folder
from worldmodel.io.lock import lock_file
from worldmodel.io.model_folder import read_sealed, write_sealed
from worldmodel.io.untrusted import open_regular
from worldmodel.nn.actions import ActionEncoder

SCHEMA = 2
FILE = "tokens.json"
NAME = re.compile(r"tokens_(\d{6,})\.npy")
DIGEST_BYTES = 32
HEADER_BYTES = 1024  # more than that of a token file, and its sha256
MOST_BYTES = 1 << 30  # tokens of an episode
OPEN_FILES = 256  # each mapped file keeps a file handle, of which many systems allow 1024
REMEDY = "run scripts/train_prior.py, or whatever makes the tokens, to make them anew"


def token_key(tokenizer: str, fingerprint: str) -> str:
    """The key of tokens: it changes with the tokenizer's own key and with `EpisodeStore.fingerprint()`."""
    return hashlib.sha256(f"{tokenizer}\n{fingerprint}".encode()).hexdigest()


def latent_actions(encoded: Float32[np.ndarray, "T a"], time_stride: int, latents: int) -> np.ndarray:
    """Encoded actions of an episode's beginning, per latent: `s time_stride*a`, those that lead into it.

    Nothing leads into the first latent: its row is zero. Row j has actions stride * (j - 1) up to stride * j.

    Raises:
        ValueError: fewer actions than lead into so many latents.
    """
    steps = time_stride * (latents - 1)
    if latents < 1 or len(encoded) < steps:
        raise ValueError(f"{latents} latents of {time_stride} frames need {steps} actions, got {len(encoded)}")
    rows = encoded[:steps].reshape(latents - 1, time_stride * encoded.shape[1])
    return np.concatenate([np.zeros((1, rows.shape[1]), np.float32), rows])


@dataclass(frozen=True)
class TokenInfo:
    """What all token files of a folder share: where they come from, and their shape."""

    key: str
    codes: int
    grid: tuple[int, int]  # rows y, columns x
    time_stride: int
    schema: int = SCHEMA

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<i2") if self.codes <= 2**15 else np.dtype("<i4")


class TokenStore:
    """Tokens `s y x` of each episode, mapped from the disk; copies may travel to other processes."""

    def __init__(self, folder: Path | str, info: TokenInfo):
        self.folder, self.info = Path(folder), info
        self._maps: Recent[np.ndarray] = Recent(OPEN_FILES)
        self._checked: set[int] = set()

    @classmethod
    def create(
        cls, folder: Path | str, *, key: str, codes: int, grid: tuple[int, int], time_stride: int
    ) -> "TokenStore":
        """An empty store, or the one that is there if it was begun with the same; stale tokens are deleted.

        Raises:
            ValueError: the folder holds something else than tokens, which is left alone.
        """
        folder, info = Path(folder), TokenInfo(key, codes, (grid[0], grid[1]), time_stride)
        if folder.is_dir() and any(folder.iterdir()) and _load(folder) != info:
            _clear(folder)
        make_folder(folder)
        write_sealed(folder / FILE, asdict(info))
        sweep(folder)
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path | str, key: str) -> "TokenStore":
        """The finished tokens of this tokenizer and dataset.

        Raises:
            ValueError: there are none, or they were made by another tokenizer or from other episodes.
        """
        info = _load(Path(folder))
        if info is None:
            raise ValueError(f"{folder} holds no readable {FILE}; {REMEDY}")
        if info.key != key:
            raise ValueError(f"{folder} holds tokens of another tokenizer or other episodes (stale); {REMEDY}")
        return cls(folder, info)

    @property
    def indices(self) -> tuple[int, ...]:
        """Episodes whose tokens are finished, in order."""
        matches = (NAME.fullmatch(entry.name) for entry in os.scandir(self.folder))
        return tuple(sorted(int(match[1]) for match in matches if match))

    def path(self, index: int) -> Path:
        return self.folder / f"tokens_{index:06d}.npy"

    def write(self, index: int, tokens: Integer[np.ndarray, "s y x"]) -> None:
        """Stores the tokens of an episode: whole, or after a kill not at all.

        Raises:
            ValueError: another grid than the store's, or a token that is no code.
        """
        if tokens.shape[1:] != self.info.grid or not len(tokens):
            raise ValueError(
                f"tokens: expected shape (s, {self.info.grid[0]}, {self.info.grid[1]}), got {tokens.shape}"
            )
        if tokens.min() < 0 or tokens.max() >= self.info.codes:
            raise ValueError(f"tokens: expected 0 to {self.info.codes - 1}, got {tokens.min()} to {tokens.max()}")
        if (size := tokens.size * self.info.dtype.itemsize) > MOST_BYTES:
            raise ValueError(f"tokens: {size:,} bytes, expected at most {MOST_BYTES:,}; cut the episode")
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(tokens, self.info.dtype))
        write_whole(self.path(index), buffer.getbuffer(), self._digest(index, buffer.getbuffer()))
        self._maps, self._checked = Recent(OPEN_FILES), set()

    def tokens(self, index: int) -> Integer[np.ndarray, "s y x"]:
        """Tokens of an episode, read-only and mapped from the disk; checked when first asked for.

        Raises:
            ValueError: they are missing or damaged.
        """
        return self._maps.get(index, lambda: self._map(index))

    def _map(self, index: int) -> np.ndarray:
        path = self.path(index)
        try:
            with open_regular(path, MOST_BYTES + HEADER_BYTES) as file:
                if index not in self._checked:
                    self._check(index, file.read())
                tokens = self._claimed(file)
        except Exception as error:  # NumPy raises what it likes over a header that is none
            raise ValueError(f"{path}: missing or damaged: {error}; delete it and {REMEDY}") from error
        if index not in self._checked and not (len(tokens) and 0 <= tokens.min() <= tokens.max() < self.info.codes):
            raise ValueError(f"{path}: expected 1 latent or more of tokens in [0, {self.info.codes}); {REMEDY}")
        self._checked.add(index)
        return tokens

    def _claimed(self, file: BinaryIO) -> np.ndarray:
        """A map of the tokens in an open file, which are of this store's kind and fill the file."""
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

    def _check(self, index: int, content: bytes) -> None:
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
        info = typed(TokenInfo, read_sealed(folder / FILE))
    except (OSError, ValueError, TypeError):
        return None
    return info if info.schema == SCHEMA else None


def _clear(folder: Path) -> None:
    """Tokens can be made again, so stale ones may go; anything else in the folder may not."""
    sweep(folder)
    names = sorted(set(os.listdir(folder)) - {lock_file(folder).name})
    strangers = [name for name in names if name != FILE and not NAME.fullmatch(name)]
    if strangers:
        raise ValueError(f"{folder} holds more than tokens ({strangers[0]}); move that away or name another folder")
    for name in sorted(names, key=lambda name: name != FILE):  # the description first: a kill leaves stale tokens
        (folder / name).unlink()  # one by one, because the folder may be a link or a mount point


@dataclass(frozen=True, eq=False)
class TokenClip(Batch):
    """s latents; the j-th of `actions`, `rewards` and `terminated` is about the steps that lead into latent j.

    Zero for the first latent of an episode. With a stride, a row has the encoded actions side by side,
    rewards are summed, and an end anywhere in the chunk ends it. `mask` is false behind the end of an episode
    that is shorter than the clip; everything there is zero.
    """

    tokens: Int64[Tensor, "b s y x"]
    actions: Float32[Tensor, "b s a"]
    rewards: Float32[Tensor, "b s"]
    terminated: Bool[Tensor, "b s"]
    mask: Bool[Tensor, "b s"]


class TokenBatches(Dataset):
    """Batches of `length` latents by training step, as `ClipBatches` are of frames; short episodes take part.

    Raises:
        ValueError: tokens that are not those of their episode.
    """

    def __init__(
        self,
        tokens: TokenStore,
        store: EpisodeStore,
        episodes: Sequence[int],
        *,
        length: int,
        batch_size: int,
        seed: int,
        encoder: ActionEncoder | None = None,
    ):
        self.tokens, self.store, self.length, self.batch_size = tokens, store, length, batch_size
        self.stride = tokens.info.time_stride
        lengths = {index: self._latents(index) for index in episodes}
        self.windows = WindowSampler(
            lengths, length, seed, item="latents", setting="the clip length (clip_latents)", cover_ends=True
        )
        self.encoder = encoder or ActionEncoder(store.info.action_space)
        self.episodes = tuple(episodes)

    def _latents(self, index: int) -> int:
        found, frames = len(self.tokens.tokens(index)), self.store.length(index)
        if found != (expected := 1 + (frames - 1) // self.stride):
            raise ValueError(f"{self.tokens.path(index)}: expected {expected} latents for {frames} frames, got {found}")
        return found

    def __getitem__(self, step: int) -> TokenClip:
        places = self.windows.draw(step, self.batch_size)
        columns = zip(*(self._clip(index, start) for index, start in places), strict=True)
        return TokenClip(*(torch.from_numpy(np.stack(column)) for column in columns))

    def all_outcomes(self) -> tuple[Float32[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        """Rewards and ends of the latents of all episodes, without the first ones, into which nothing leads."""
        rewards, ends = zip(*(self.outcomes(index) for index in self.episodes), strict=True)
        return np.concatenate([each[1:] for each in rewards]), np.concatenate([each[1:] for each in ends])

    def outcomes(self, index: int) -> tuple[Float32[np.ndarray, "s"], Bool[np.ndarray, "s"]]:
        """Rewards and ends of all latents of an episode."""
        latents = self._latents(index)
        steps = self.stride * (latents - 1)
        rewards = self.store.rewards(index)[:steps].reshape(latents - 1, self.stride).sum(1)
        ends = np.zeros(latents, bool)
        if latents > 1 and steps == self.store.length(index) - 1:
            ends[-1] = self.store.header(index).terminated
        return np.concatenate([np.zeros(1, np.float32), rewards]).astype(np.float32), ends

    def _clip(self, index: int, start: int) -> tuple[np.ndarray, ...]:
        """Tokens, actions, rewards, ends and reality of `length` latents, the first of them latent `start`."""
        rewards, ends = self.outcomes(index)
        stop, first = min(start + self.length, len(ends)), max(start, 1)  # nothing leads into latent 0
        steps = slice(self.stride * (first - 1), self.stride * (stop - 1))
        actions = self.encoder.encode(self.store.actions(index)[steps])
        actions = actions.reshape(stop - first, self.stride * self.encoder.width)
        here = slice(start, stop)
        columns = (
            self.tokens.tokens(index)[here].astype(np.int64),
            rewards[here],
            ends[here],
            np.ones(stop - start, bool),
        )
        tokens, rewards, ends, real = (_pad(column, 0, self.length) for column in columns)
        return tokens, _pad(actions, first - start, self.length), rewards, ends, real


def _pad(rows: np.ndarray, before: int, length: int) -> np.ndarray:
    """`length` rows, zero before and behind those given."""
    padded = np.zeros((length, *rows.shape[1:]), rows.dtype)
    padded[before : before + len(rows)] = rows
    return padded
