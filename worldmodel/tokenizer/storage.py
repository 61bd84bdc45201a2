"""A tokenizer on disk, and the tokens it makes of a set of episodes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from worldmodel.data.clips.token_store import TokenStore, token_key
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.interfaces import Tokenizer
from worldmodel.io.model_folder import build_module, check_kind, check_shapes, load_weights, save_weights
from worldmodel.io.progress import progress
from worldmodel.io.tensors_file import Shapes
from worldmodel.io.untrusted import errors_name
from worldmodel.io.upgrades import current_names, current_tokenizer
from worldmodel.tokenizer.kinds import TOKENIZERS
from worldmodel.tokenizer.vqvae import VQVAE

CHUNK = 64  # latents encoded at once: enough to fill the cores, little enough for any memory


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write weights.safetensors and config.json into `folder`."""
    save_weights(folder, {"kind": "tokenizer", **describe_tokenizer(tokenizer)}, tokenizer.state_dict())


def load_tokenizer(folder: str | Path) -> VQVAE:
    """The tokenizer that `save_tokenizer` put there, in evaluation mode on the CPU.

    Raises: ValueError when the folder is incomplete, damaged or holds no tokenizer.
    """

    def fits(config: dict[str, Any], shapes: Shapes) -> None:
        check_kind(folder, config, "tokenizer")
        check_shapes(lambda: new_tokenizer(config), current_names(shapes))

    config, tensors = load_weights(folder, fits)
    with errors_name(folder):
        return build_module(lambda: new_tokenizer(config), current_names(tensors)).eval()


def describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """What `new_tokenizer` needs, as plain values."""
    return {"tokenizer": TOKENIZERS.describe(tokenizer), "frame_shape": list(tokenizer.frame_shape)}


def new_tokenizer(config: Mapping[str, Any]) -> VQVAE:
    """The tokenizer that `describe_tokenizer` describes, with new weights."""
    return TOKENIZERS.build(current_tokenizer(config["tokenizer"]), tuple(config["frame_shape"]))


def fingerprint(tokenizer: Tokenizer) -> str:
    """sha256 of everything that decides a token: settings, frame shape and weights."""
    settings = describe_tokenizer(tokenizer)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(tokenizer.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def tokenize(tokenizer: Tokenizer, store: EpisodeStore, folder: str | Path, show: bool = True) -> TokenStore:
    """Encode every episode into `folder`, unless its tokens are there; stale ones are replaced.

    An episode's last frames that do not fill a latent are left out.
    Raises: EpisodeError, a ValueError, for a damaged episode.
    """
    key = token_key(fingerprint(tokenizer), store.fingerprint())
    shape = {"codes": tokenizer.codes, "grid": tokenizer.grid, "time_stride": tokenizer.time_stride}
    tokens = TokenStore.create(folder, key=key, **shape)
    missing = sorted(set(store.indices) - set(tokens.indices))
    shown = show and bool(missing)
    for index in progress(missing, "tokens", total=len(missing), unit="episode", shown=shown):
        tokens.write(index, encode_episode(tokenizer, store, index).numpy())
    return tokens


def encode_episode(tokenizer: Tokenizer, store: EpisodeStore, index: int) -> torch.Tensor:
    """Tokens `s y x` of one episode, encoded chunk by chunk with the past carried on."""
    stride = tokenizer.time_stride
    frames = 1 + (store.length(index) - 1) // stride * stride
    past, parts, start = None, [], 0
    while start < frames:
        stop = min(frames, start + CHUNK * stride + (start == 0))
        chunk = torch.from_numpy(store.frames(index, start, stop))[None]
        codes, past = tokenizer.encode_chunk(chunk.to(tokenizer.device), past)
        parts.append(codes[0].cpu())
        start = stop
    return torch.cat(parts)
