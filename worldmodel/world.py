"""The world model: tokenizer and prior joined, stepped in latent space under actions, in memory and on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8
from torch import Tensor, nn

from worldmodel.backends import BackendKind, compiled_prior, compiled_tokenizer
from worldmodel.data.clips.start_contexts import StartContexts
from worldmodel.info import WorldInfo
from worldmodel.interfaces import Prior, Tokenizer
from worldmodel.io.hub.names import resolve_world
from worldmodel.io.model_folder import (
    build_module,
    check_finite,
    check_kind,
    check_shapes,
    load_weights,
    save_weights,
)
from worldmodel.io.tensors_file import Shapes
from worldmodel.io.untrusted import errors_name
from worldmodel.io.upgrades import current_names, current_prior, current_tokenizer
from worldmodel.nn.actions import ActionEncoder
from worldmodel.prior import PRIORS, SamplerConfig, uniform
from worldmodel.state import DreamState, Step
from worldmodel.tokenizer import TOKENIZERS, latents_of

STARTS = "starts."  # before the names of the start contexts' tensors, among the weights

__all__ = ["DreamState", "Step", "WorldInfo", "WorldModel"]


class WorldModel(nn.Module):
    """Imagines frames after real ones, under given actions.

    Args: starts, contexts to dream from if no frames are given; backend, "auto" for kernels where the device has
    them and they know both networks, "torch" for plain PyTorch.

    Raises: ValueError when tokenizer, prior, info and starts do not belong together.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prior: Prior,
        info: WorldInfo,
        starts: StartContexts | None = None,
        backend: BackendKind = "auto",
    ):
        super().__init__()
        self.starts = starts
        self.tokenizer = tokenizer
        self.prior = prior
        self.info = info
        self.encoder = ActionEncoder(info.action_space, info.action_scale)
        expected = (tokenizer.codes, tokenizer.grid, self.encoder.width * tokenizer.time_stride, info.frame_shape)
        got = (prior.codes, prior.grid, prior.actions, tokenizer.frame_shape)
        if expected != got:
            raise ValueError(
                "tokenizer, prior and actions do not belong together: expected (codes, grid, action width, frame "
                f"shape) {expected}, got {got}; train the prior on the tokens of this tokenizer"
            )
        self._check_starts()
        self.eval()
        self.coder = compiled_tokenizer(tokenizer, backend)
        self.predictor = compiled_prior(prior, backend)

    @classmethod
    def load(
        cls, folder: str | Path, device: torch.device | str = "cpu", backend: BackendKind = "auto"
    ) -> "WorldModel":
        """The world in `folder`, ready to dream. The bundled ones have names ("maze"), those on the Hugging Face Hub
        addresses hf://owner/name[@revision].

        Raises: ValueError when the folder is incomplete, damaged, or holds no world, or nothing has that name.
        """
        folder = resolve_world(folder)

        def fits(config: dict[str, Any], shapes: Shapes) -> None:
            check_kind(folder, config, "world")
            own = {name: shape for name, shape in shapes.items() if not name.startswith(STARTS)}
            check_shapes(lambda: cls._from_config(config, backend), current_names(own))

        config, tensors = load_weights(folder, fits)
        with errors_name(folder):
            starts = {name[len(STARTS) :]: tensors.pop(name) for name in list(tensors) if name.startswith(STARTS)}
            world = build_module(lambda: cls._from_config(config, backend), current_names(tensors))
            world.starts = StartContexts.from_tensors(starts) if starts else None
            world._check_starts()
        return world.to(device)

    @classmethod
    def _from_config(cls, config: Mapping[str, Any], backend: BackendKind = "auto") -> "WorldModel":
        """The world that a config.json describes, with new weights."""
        info = WorldInfo.from_json(config["info"])
        tokenizer = TOKENIZERS.build(current_tokenizer(config["tokenizer"]), info.frame_shape)
        actions = ActionEncoder(info.action_space).width * tokenizer.time_stride
        rewards = tuple(config.get("rewards", ()))
        if not all(isinstance(value, float | int) for value in rewards):
            raise ValueError(f"rewards: config.json says {rewards}, expected numbers")
        prior = PRIORS.build(current_prior(config["prior"]), tokenizer.codes, tokenizer.grid, actions, rewards)
        if rewards and not prior.rewards:
            raise ValueError(f"rewards: config.json says {len(rewards)}, but its prior has no head for them")
        return cls(tokenizer, prior, info, backend=backend)

    def save(self, folder: str | Path) -> None:
        """Write weights.safetensors and config.json into `folder`: all that `load` needs, to the last bit.

        Weights that float16 holds without loss, such as those that `round_weights` has rounded, are stored as float16.
        """
        config = {
            "kind": "world",
            "info": self.info.to_json(),
            "tokenizer": TOKENIZERS.describe(self.tokenizer),
            "prior": PRIORS.describe(self.prior),
            "rewards": list(self.prior.rewards),
        }
        starts = {} if self.starts is None else {f"{STARTS}{k}": v for k, v in self.starts.tensors().items()}
        tensors = {**self.state_dict(), **starts}
        check_finite(tensors)
        save_weights(folder, config, {name: to_float16_if_lossless(x) for name, x in tensors.items()})

    @torch.no_grad()
    def round_weights(self) -> None:
        """Round all that was learned to the nearest float16, in place: half the bytes on disk, and everything that is
        dreamed and measured from here on is as it is saved. Sums are still made in float32.

        Raises: ValueError for a weight beyond the range of float16.
        """
        codebooks = {name: x for name, x in self.named_buffers() if name.endswith("codebook")}
        learned = {**dict(self.named_parameters()), **codebooks}
        if wrong := [name for name, weight in learned.items() if not weight.half().isfinite().all()]:
            raise ValueError(
                f"float16 cannot hold {', '.join(wrong)}: values up to {torch.finfo(torch.half).max:g} fit"
            )
        for weight in learned.values():
            weight.copy_(weight.half())

    @torch.no_grad()
    def start(
        self,
        frames: UInt8[Tensor, "b t h w c"],
        actions: np.ndarray | Sequence[Any],
        seed: int = 0,
        dreams: Sequence[int] | None = None,
    ) -> DreamState:
        """The state after real frames and the `t - 1` actions (`b t-1 *space`) between them.

        `seed` and the number of each dream (0 … b − 1 by default) determine all later randomness.
        Raises: ValueError for frames that do not fill whole latents, or actions outside the space.
        """
        _check_keys(seed, [] if dreams is None else dreams)
        frames, b = frames.to(self.device), len(frames)
        latents = latents_of(frames.shape[1], self.tokenizer.time_stride)
        inputs = self._encode(actions, b, latents - 1)
        numbers = torch.tensor(range(b) if dreams is None else [int(each) for each in dreams], device=self.device)
        if len(numbers) != b:
            raise ValueError(f"dreams: expected {b} numbers, one per video, got {len(numbers)}")
        # On a CPU, torch's rounding may depend on the batch, so each dream starts alone.
        plain = self.coder() is self.tokenizer or self.predictor() is self.prior
        share = 1 if self.device.type == "cpu" and plain else b
        parts = zip(frames.split(share), inputs.split(share), numbers.split(share), strict=True)
        encode = self.coder().encode_chunk
        states = [self._start(encode(video, None)[0], row, number, seed) for video, row, number in parts]
        return DreamState.join(states)

    @torch.no_grad()
    def start_from_context(self, start: int, seed: int = 0, dream: int = 0) -> DreamState:
        """One dream from context number `start` of those that came with the world.

        Raises: ValueError when there is no such context, or for a seed or dream that is not a signed 64-bit number.
        """
        _check_keys(seed, [dream])
        if self.starts is None or not 0 <= start < len(self.starts):
            raise ValueError(
                f"start {start}: this world came with {len(self.starts or ())} contexts to start from; give frames "
                '(WorldModel.start, or reset(options={"frames": ..., "actions": ...})), or train the prior again'
            )
        there = slice(start, start + 1), slice(int(self.starts.lengths[start]))
        tokens, inputs = (x[there].to(self.device, copy=True) for x in (self.starts.tokens, self.starts.actions))
        return self._start(tokens, inputs[:, 1:], torch.tensor([dream], device=self.device), seed)

    @torch.no_grad()
    def step(
        self, state: DreamState, actions: np.ndarray | Sequence[Any], sampler: SamplerConfig | None = None
    ) -> tuple[DreamState, Step]:
        """Imagine the next latent under one action per dream, or `b time_stride *space` where frames share latents.

        Raises: ValueError for actions outside the space, or too far from the training data.
        """
        b, rows, columns = state.tokens.shape
        config = self._with_own_temperature(sampler or SamplerConfig())
        action = self._encode(actions, b, 1)[:, 0]
        noise = uniform(state.seed, state.dreams, state.steps, rows * columns + 1)  # the last one for the outcome
        temperatures = config.temperatures(state.steps)
        context, drawn = self.predictor().step(state.context, state.tokens, action, noise, config, temperatures)
        if not drawn.nats.isfinite().all():
            raise ValueError("this step has no finite probability: its action is far from all that the world has seen")
        frames, decoder = self.coder().decode_chunk(drawn.tokens[:, None], state.decoder)
        after = (context, decoder, drawn.tokens, copied(frames[:, -1]), state.steps + 1, state.dreams, state.seed)
        bits = drawn.nats / np.log(2)
        return DreamState(*after), Step(frames, drawn.tokens.clone(), bits, drawn.passes, drawn.outcome)

    def imagine(
        self,
        frames: UInt8[Tensor, "b t h w c"],
        actions: np.ndarray | Sequence[Any],
        horizon: int,
        sampler: SamplerConfig | None = None,
        seed: int = 0,
    ) -> UInt8[Tensor, "b n h w c"]:
        """The `horizon` frames after the given ones, on the CPU. Dreams do not end before.

        `actions`, `b n *space`: the `t - 1` between the given frames, then at least `horizon` to follow.
        Raises: ValueError for too few actions, or a horizon that does not fill whole latents.
        """
        stride, given = self.tokenizer.time_stride, frames.shape[1] - 1
        actions = np.asarray(actions)
        if horizon < 1 or horizon % stride:
            raise ValueError(f"horizon: expected a positive multiple of the time stride {stride}, got {horizon}")
        if actions.ndim < 2 or actions.shape[1] < given + horizon:
            raise ValueError(f"expected {given} + {horizon} actions per dream, got shape {actions.shape}")
        state = self.start(frames, actions[:, :given], seed)
        sampler = replace(sampler or SamplerConfig(), allow_termination=False)
        video = []
        for i in range(given, given + horizon, stride):
            state, step = self.step(state, actions[:, i : i + stride], sampler)
            video.append(step.frames.cpu())
        return torch.cat(video, dim=1)

    def whole_latents(self, frames: int) -> int:
        """The largest number of frames up to `frames` that fills whole latents."""
        stride = self.tokenizer.time_stride
        return 1 + (frames - 1) // stride * stride

    @property
    def frames_per_step(self) -> int:
        """Frames that a step adds to a dream."""
        return self.tokenizer.time_stride

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.prior.device

    def _start(
        self, tokens: Int[Tensor, "b s y x"], inputs: Float32[Tensor, "b s1 a"], dreams: Int[Tensor, "b"], seed: int
    ) -> DreamState:
        """The state after these tokens, and the actions that lead into all latents but the first."""
        inputs = torch.cat([inputs.new_zeros(len(tokens), 1, inputs.shape[2]), inputs], dim=1)
        context = self.predictor().start(tokens, inputs)
        frames, decoder = self.coder().decode_chunk(tokens, None)
        steps = torch.full_like(dreams, tokens.shape[1])
        return DreamState(context, decoder, tokens[:, -1], copied(frames[:, -1]), steps, dreams, seed)

    def _with_own_temperature(self, config: SamplerConfig) -> SamplerConfig:
        """The settings, with the world's own temperature where they leave it open."""
        if config.temperature is not None:
            return config
        return replace(config, temperature=self.info.temperature, temperature_until=self.info.temperature_until)

    def _encode(self, actions: Any, b: int, latents: int) -> Float32[Tensor, "b s a"]:
        """Actions of the environment → one row per latent, the actions of a stride side by side."""
        if not self.encoder.width:
            return torch.zeros(b, latents, 0, device=self.device)
        encoded = self.encoder.encode(actions)
        steps = latents * self.tokenizer.time_stride
        if encoded.shape[:-1] != (b, steps) and not (steps == 1 and encoded.shape[:-1] == (b,)):
            raise ValueError(f"expected actions for {b} dreams and {steps} steps, got {encoded.shape[:-1]}")
        return torch.from_numpy(encoded).view(b, latents, self.prior.actions).to(self.device)

    def _check_starts(self) -> None:
        if (starts := self.starts) is None:
            return
        if (starts.tokens.shape[2:], starts.actions.shape[2]) != (self.prior.grid, self.prior.actions):
            raise ValueError("starts: expected the grid and action width of the prior; train the prior again")
        if len(starts) and not 0 <= int(starts.tokens.min()) <= int(starts.tokens.max()) < self.prior.codes:
            raise ValueError(f"starts: expected tokens in [0, {self.prior.codes}); train the prior again")


def copied(values: Tensor) -> Tensor:
    """A copy; on a CPU made by one thread. Torch would use several, and these spin for a while afterwards on the cores
    that the kernels of the next step need."""
    return torch.from_numpy(values.numpy().copy()) if values.device.type == "cpu" else values.clone()


def _check_keys(seed: int, dreams: Sequence[int]) -> None:
    """Raises ValueError if the keys of the noise are not signed 64-bit numbers."""
    for name, value in (("seed", seed), *(("dreams", each) for each in dreams)):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{name}: expected a signed 64-bit number, got {value}")


def to_float16_if_lossless(values: Tensor) -> Tensor:
    """The values as float16 if it holds them exactly."""
    half = values.half()
    return half if values.dtype == torch.float32 and torch.equal(half.float(), values) else values
