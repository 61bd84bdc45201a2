"""The world model: tokenizer and prior joined, stepped in latent space under actions, in memory and on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor, nn

from worldmodel.data.clips.start_contexts import StartContexts
from worldmodel.io.config import to_dict, typed
from worldmodel.io.hub import located
from worldmodel.io.model_folder import Shapes, build, check_kind, check_shapes, load_weights, save_weights
from worldmodel.io.untrusted import errors_name
from worldmodel.nn.actions import ActionEncoder, Scale, check_scale, reach, space_from_json, space_to_json
from worldmodel.nn.causal_conv import Past, join_pasts, map_past
from worldmodel.prior import Draw, Outcome, PixelCNN, PriorConfig, SamplerConfig, resolve, sample, uniform
from worldmodel.tokenizer import VQVAE, TokenizerConfig

PER_DREAM = ("tokens", "frame", "steps", "dreams")  # fields of a DreamState with one entry per dream
STARTS = "starts."  # before the names of their tensors, among the weights


@dataclass
class WorldInfo:
    """What the world imitates: its frames, its actions (None: it has none) and, for the record, its env.

    longest: steps of the longest episode that it learned from. trust_horizon: steps up to which dreams were measured
    to hold. temperature, temperature_until: what they are drawn at unless a sampler says otherwise (as there), and
    what that was measured at. trained: how tokenizer and prior were trained: from which step on with how many steps
    in all, threads and ranks, on which device (see `FitResult.course`). action_scale: by what numbers are scaled whose
    bounds say nothing (see `scale_of`).
    """

    frame_shape: tuple[int, int, int]
    action_space: Space | None
    action_names: tuple[str, ...] = ()
    env: dict[str, Any] = field(default_factory=dict)
    longest: int | None = None
    trust_horizon: int | None = None
    temperature: float = 1.0
    temperature_until: int = 0
    trained: dict[str, Any] = field(default_factory=dict)
    action_scale: Scale | None = None

    def __post_init__(self) -> None:
        check_scale(self.action_space, self.action_scale)
        if min(self.frame_shape) < 1:
            raise ValueError(f"frame_shape: expected numbers of 1 or more, got {self.frame_shape}")
        SamplerConfig(temperature=self.temperature, temperature_until=self.temperature_until)  # or they are wrong

    @property
    def reachable(self) -> Space | None:
        """The actions to draw random ones from: the space, or that part of it where the data lay."""
        return None if self.action_space is None else reach(self.action_space, self.action_scale)

    def to_json(self) -> dict[str, Any]:
        scale = {} if self.action_scale is None else {"action_scale": [x and list(x) for x in self.action_scale]}
        space = None if self.action_space is None else space_to_json(self.action_space)
        return {
            "frame_shape": list(self.frame_shape),
            "action_space": space,
            "action_names": list(self.action_names),
            "env": self.env,
            "longest": self.longest,
            "trust_horizon": self.trust_horizon,
            "temperature": self.temperature,
            "temperature_until": self.temperature_until,
            **({"trained": self.trained} if self.trained else {}),
            **scale,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "WorldInfo":
        space = values["action_space"]
        return typed(cls, {**values, "action_space": None if space is None else space_from_json(space)}, "info")


@dataclass(frozen=True)
class DreamState:
    """Where b dreams stand: a value, never changed in place, so it can be kept, branched and returned to.

    context, decoder: pasts of the prior's context and of the decoder. tokens: the newest latent; frame: what it shows
    (the last of its frames). steps: latents so far. dreams and seed: the keys of the noise; they alone decide what
    chance brings, not the place in the batch.
    """

    context: Past
    decoder: Past
    tokens: Int[Tensor, "b y x"]
    frame: UInt8[Tensor, "b h w c"]
    steps: Int[Tensor, "b"]
    dreams: Int[Tensor, "b"]
    seed: int

    def rows(self, index: Int[Tensor, "m"]) -> "DreamState":
        """The states of the dreams at these places; a place may be named more than once to branch it."""
        past = {name: map_past(lambda x: x[index], getattr(self, name)) for name in ("context", "decoder")}
        return replace(self, **past, **{name: getattr(self, name)[index] for name in PER_DREAM})

    def put(self, index: Int[Tensor, "m"], other: "DreamState") -> "DreamState":
        """The same dreams with those of `other` at these places.

        Raises: ValueError for states of different seeds.
        """
        order = torch.arange(len(self.tokens), device=self.tokens.device)
        order[index] = torch.arange(len(order), len(order) + len(index), device=order.device)
        return DreamState.join([self, other]).rows(order)

    @staticmethod
    def join(states: "Sequence[DreamState]") -> "DreamState":
        """The dreams of these states side by side.

        Raises: ValueError for states of different seeds.
        """
        if len({state.seed for state in states}) != 1:
            raise ValueError(f"expected states of one seed, got {sorted({state.seed for state in states})}")
        past = {name: join_pasts([getattr(s, name) for s in states]) for name in ("context", "decoder")}
        rest = {name: torch.cat([getattr(s, name) for s in states]) for name in PER_DREAM}
        return DreamState(**past, **rest, seed=states[0].seed)


@dataclass(frozen=True)
class Step:
    """What one latent step brought: `time_stride` frames, their tokens, and −log2 p of outcome and tokens under the
    prior.

    passes: how often the sampler did the arithmetic of a frame for it. outcome: reward and end, where the prior
    tells them.
    """

    frames: UInt8[Tensor, "b t h w c"]
    tokens: Int[Tensor, "b y x"]
    bits: Float[Tensor, "b"]
    passes: Int[Tensor, "b"]
    outcome: Outcome | None = None


class WorldModel(nn.Module):
    """Real frames and actions → an imagined future that follows the actions.

    `starts`: contexts to dream from where no frames are given.
    Raises: ValueError when tokenizer, prior, info and starts do not belong together.
    """

    def __init__(self, tokenizer: VQVAE, prior: PixelCNN, info: WorldInfo, starts: StartContexts | None = None):
        super().__init__()
        self.starts = starts
        self.tokenizer = tokenizer
        self.prior = prior
        self.info = info
        self.encoder = ActionEncoder(info.action_space, info.action_scale)
        codes = tokenizer.config.quantizer.codes
        expected = (codes, tokenizer.grid, self.encoder.width * tokenizer.config.time_stride, info.frame_shape)
        got = (prior.codes, prior.grid, prior.actions, tokenizer.frame_shape)
        if expected != got:
            raise ValueError(
                "tokenizer, prior and actions do not belong together: expected (codes, grid, action width, frame "
                f"shape) {expected}, got {got}; train the prior on the tokens of this tokenizer"
            )
        self._check_starts()
        self.eval()

    def _check_starts(self) -> None:
        if (starts := self.starts) is None:
            return
        if (starts.tokens.shape[2:], starts.actions.shape[2]) != (self.prior.grid, self.prior.actions):
            raise ValueError("starts: expected the grid and action width of the prior; train the prior again")
        if len(starts) and not 0 <= int(starts.tokens.min()) <= int(starts.tokens.max()) < self.prior.codes:
            raise ValueError(f"starts: expected tokens in [0, {self.prior.codes}); train the prior again")

    def _check_rewards(self, claimed: Sequence[float]) -> None:
        """The weights have the rewards that decide what dreams pay; config.json has to say the same."""
        known = [] if self.prior.outcome is None else self.prior.outcome.rewards.tolist()
        if list(claimed) != known:
            raise ValueError(
                f"rewards: config.json says {_few(claimed)}, but the weights hold {_few(known)}; put back what the "
                "weights hold, or train the prior again"
            )

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> "WorldModel":
        """The world in `folder`, ready to dream. Those that come with the package go by their names ("maze"), those on
        the Hugging Face Hub by hf://owner/name[@revision].

        Raises: ValueError when the folder is incomplete, damaged, or holds no world, or nothing has that name.
        """
        folder = located(folder)

        def fits(config: dict[str, Any], shapes: Shapes) -> None:
            check_kind(folder, config, "world")
            own = {name: shape for name, shape in shapes.items() if not name.startswith(STARTS)}
            check_shapes(lambda: cls._made(config), own)

        config, tensors = load_weights(folder, fits)
        with errors_name(folder):
            starts = {name[len(STARTS) :]: tensors.pop(name) for name in list(tensors) if name.startswith(STARTS)}
            world = build(lambda: cls._made(config), tensors)
            world._check_rewards(config.get("rewards", []))
            world.starts = StartContexts.from_tensors(starts) if starts else None
            world._check_starts()
        return world.to(device)

    @classmethod
    def _made(cls, config: Mapping[str, Any]) -> "WorldModel":
        """The world that a config.json describes, with new weights."""
        info = WorldInfo.from_json(config["info"])
        tokenizer = VQVAE(typed(TokenizerConfig, config["tokenizer"], "tokenizer"), info.frame_shape)
        actions = ActionEncoder(info.action_space).width * tokenizer.config.time_stride
        rewards, codes = tuple(config.get("rewards", ())), tokenizer.config.quantizer.codes
        prior = PixelCNN(
            typed(PriorConfig, _current(config["prior"]), "prior"), codes, tokenizer.grid, actions, rewards
        )
        return cls(tokenizer, prior, info)

    def save(self, folder: str | Path) -> None:
        """Write weights.safetensors and config.json into `folder`: all that `load` needs, to the last bit.

        What float16 holds without loss, such as all that `round_weights` has rounded, is stored as such.
        """
        config = {
            "kind": "world",
            "info": self.info.to_json(),
            "tokenizer": to_dict(self.tokenizer.config),
            "prior": to_dict(self.prior.config),
            "rewards": [] if self.prior.outcome is None else self.prior.outcome.rewards.tolist(),
        }
        starts = {} if self.starts is None else {f"{STARTS}{k}": v for k, v in self.starts.tensors().items()}
        save_weights(folder, config, {name: compact(x) for name, x in {**self.state_dict(), **starts}.items()})

    @torch.no_grad()
    def round_weights(self) -> None:
        """Round all that was learned to the nearest float16, in place: half the bytes on disk, and what is dreamed and
        measured from here on is what is saved. Sums are made in float32 as before.

        Raises: ValueError for a weight beyond the range of float16.
        """
        learned = {**dict(self.named_parameters()), "codebook": self.tokenizer.quantizer.codebook}
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
        """Look at real frames and the `t - 1` actions (`b t-1 *space`) between them.

        `seed` and the number of each dream (0 … b − 1 by default) decide all chance to come.
        Raises: ValueError for frames that do not fill whole latents, or actions outside the space.
        """
        _check_keys(seed, [] if dreams is None else dreams)
        frames, b = frames.to(self.device), len(frames)
        latents = self.tokenizer.latents(frames.shape[1])
        lead = self._encode(actions, b, latents - 1)
        numbers = torch.as_tensor(range(b) if dreams is None else dreams, device=self.device)
        if len(numbers) != b:
            raise ValueError(f"dreams: expected {b} numbers, one per video, got {len(numbers)}")
        # One by one, where torch's sums might be rounded otherwise beside others.
        share = 1 if self.device.type == "cpu" and not self._begins_compiled() else b
        parts = zip(frames.split(share), lead.split(share), numbers.split(share), strict=True)
        states = [self._start(self._tokens(video), lead, numbers, seed) for video, lead, numbers in parts]
        return DreamState.join(states)

    @torch.no_grad()
    def begin(self, start: int, seed: int = 0, dream: int = 0) -> DreamState:
        """One dream from context number `start` of those that came with the world.

        Raises: ValueError when there is no such context, or for a seed or dream that is no signed 64-bit number.
        """
        _check_keys(seed, [dream])
        if self.starts is None or not 0 <= start < len(self.starts):
            raise ValueError(
                f"start {start}: this world came with {len(self.starts or ())} contexts to begin from; give frames "
                '(WorldModel.start, or reset(options={"frames": ..., "actions": ...})), or train the prior again'
            )
        there = slice(start, start + 1), slice(int(self.starts.lengths[start]))
        tokens, lead = (x[there].to(self.device, copy=True) for x in (self.starts.tokens, self.starts.actions))
        return self._start(tokens, lead[:, 1:], torch.tensor([dream], device=self.device), seed)

    @torch.no_grad()
    def step(
        self, state: DreamState, actions: np.ndarray | Sequence[Any], sampler: SamplerConfig | None = None
    ) -> tuple[DreamState, Step]:
        """Imagine the next latent under one action per dream, or `b time_stride *space` where frames share latents.

        Raises: ValueError for actions outside the space or far from all that was learned.
        """
        b, rows, columns = state.tokens.shape
        config = sampler or SamplerConfig()
        if config.temperature is None:
            own = {"temperature": self.info.temperature, "temperature_until": self.info.temperature_until}
            config = replace(config, **own)
        lead = self._encode(actions, b, 1)[:, 0]
        compiled = self._compiled(config.kind)
        features, context = self._context(state, lead, compiled)
        noise = uniform(state.seed, state.dreams, state.steps, rows * columns + 1)  # the last one for the outcome
        outcome = self._outcome(features, noise[:, -1], config.ends, compiled)
        told = self._told(features, outcome)
        draw = self._draw(state, told, lead, noise[:, :-1], config)
        frames, decoder = self._frames(state, draw.tokens, compiled)
        state = replace(state, context=context, decoder=decoder, tokens=draw.tokens, frame=frames[:, -1].clone())
        state = replace(state, steps=state.steps + 1)
        nats = self._nats(draw, compiled) + (0 if outcome is None else outcome.nats.float())
        if not nats.isfinite().all():
            raise ValueError("this step has no finite probability: its action is far from all that the world has seen")
        return state, Step(frames, draw.tokens.clone(), nats / np.log(2), draw.passes, outcome)

    def imagine(
        self,
        frames: UInt8[Tensor, "b t h w c"],
        actions: np.ndarray | Sequence[Any],
        horizon: int,
        sampler: SamplerConfig | None = None,
        seed: int = 0,
    ) -> UInt8[Tensor, "b n h w c"]:
        """The `horizon` frames after the given ones, on the CPU: of dreams that do not end before.

        `actions`, `b n *space`: the `t - 1` between the given frames, then at least `horizon` to follow.
        Raises: ValueError for too few actions, or a horizon that does not fill whole latents.
        """
        stride, given = self.tokenizer.config.time_stride, frames.shape[1] - 1
        actions = np.asarray(actions)
        if horizon < 1 or horizon % stride:
            raise ValueError(f"horizon: expected a positive multiple of the time stride {stride}, got {horizon}")
        if actions.ndim < 2 or actions.shape[1] < given + horizon:
            raise ValueError(f"expected {given} + {horizon} actions per dream, got shape {actions.shape}")
        state = self.start(frames, actions[:, :given], seed)
        sampler = replace(sampler or SamplerConfig(), ends=False)
        video = []
        for i in range(given, given + horizon, stride):
            state, step = self.step(state, actions[:, i : i + stride], sampler)
            video.append(step.frames.cpu())
        return torch.cat(video, dim=1)

    def whole(self, frames: int) -> int:
        """The largest number of frames up to `frames` that fills whole latents."""
        stride = self.tokenizer.config.time_stride
        return 1 + (frames - 1) // stride * stride

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.prior.start.device

    def _start(
        self, tokens: Int[Tensor, "b s y x"], lead: Float[Tensor, "b s1 a"], dreams: Int[Tensor, "b"], seed: int
    ) -> DreamState:
        """The state after these tokens, and the actions that lead into all latents but the first."""
        lead = torch.cat([lead.new_zeros(len(tokens), 1, lead.shape[2]), lead], dim=1)
        steps = torch.full_like(dreams, tokens.shape[1])
        if self._begins_compiled():
            from worldmodel.backends.cpu.prior import start_context
            from worldmodel.backends.cpu.tokenizer import start_frames

            context, (frame, decoder) = start_context(self.prior, tokens, lead), start_frames(self.tokenizer, tokens)
            return DreamState(context, decoder, tokens[:, -1], frame, steps, dreams, seed)
        _, context = self.prior.context(self.prior.embed_past(tokens[:, :-1], first=True), lead)
        frames, decoder = self.tokenizer.decode_chunk(tokens, None)
        return DreamState(context, decoder, tokens[:, -1], frames[:, -1].clone(), steps, dreams, seed)

    def _compiled(self, kind: str) -> bool:
        """Whether the kernels of the CPU do the arithmetic with a sampler of this kind."""
        return self.device.type == "cpu" and resolve(kind, self.device) == "fused"

    def _begins_compiled(self) -> bool:
        """Whether the kernels of the CPU can do what comes before the first step."""
        if not self._compiled("auto"):
            return False
        from worldmodel.backends.cpu import prior as prior
        from worldmodel.backends.cpu import tokenizer as tokenizer

        return prior.known(self.prior) and tokenizer.known(self.tokenizer)

    def _tokens(self, frames: UInt8[Tensor, "b t h w c"]) -> Int[Tensor, "b s y x"]:
        """Tokens of the frames that a dream is given."""
        if self._begins_compiled():
            from worldmodel.backends.cpu.tokenizer import encode

            return encode(self.tokenizer, frames)
        return self.tokenizer.encode(frames)

    def _nats(self, draw: Draw, compiled: bool) -> Float[Tensor, "b"]:
        """−log p of all tokens of a latent."""
        if compiled:
            from worldmodel.backends.cpu.prior import added

            return added(draw.nats)
        return draw.nats.sum((1, 2))

    def _draw(
        self,
        state: DreamState,
        told: Float[Tensor, "b c y x"],
        lead: Float[Tensor, "b a"],
        noise: Float[Tensor, "b n"],
        config: SamplerConfig,
    ) -> Draw:
        """The tokens of the next latent: by two draws where some dreams are past the temperature and some are not."""
        core = self.prior.core
        if not config.temperature_until:
            return sample(core, told, lead, noise, config, guess=state.tokens)
        late, parts, places = state.steps >= config.temperature_until, [], []
        for side, temperature in ((~late, config.temperature), (late, 1.0)):
            if len(at := side.nonzero()[:, 0]):
                how = replace(config, temperature=temperature)
                parts.append(sample(core, told[at], lead[at], noise[at], how, guess=state.tokens[at]))
                places.append(at)
        order = torch.cat(places).argsort()
        fields = (torch.cat([getattr(part, name) for part in parts])[order] for name in ("tokens", "nats", "passes"))
        return Draw(*fields)

    def _context(self, state: DreamState, lead: Float[Tensor, "b a"], compiled: bool) -> tuple[Tensor, Past]:
        """Features `b c y x` of the next latent from all before it."""
        if compiled:
            from worldmodel.backends.cpu.prior import next_context

            return next_context(self.prior, state.tokens, lead, state.context)
        past_tokens = self.prior.embed_past(state.tokens[:, None], first=False)
        features, past = self.prior.context(past_tokens, lead[:, None], state.context)
        return features[:, :, 0], past

    def _told(self, features: Float[Tensor, "b c y x"], outcome: Outcome | None) -> Float[Tensor, "b c y x"]:
        """What the tokens of the next latent are drawn from: its features, told the outcome where one was drawn."""
        if outcome is None:
            return features
        assert self.prior.outcome is not None
        return self.prior.outcome.told(features, outcome.drawn)

    def _frames(self, state: DreamState, tokens: Int[Tensor, "b y x"], compiled: bool) -> tuple[Tensor, Past]:
        """Frames `b t h w c` of the next latent."""
        if compiled:
            from worldmodel.backends.cpu.tokenizer import next_frames

            return next_frames(self.tokenizer, tokens, state.decoder)
        return self.tokenizer.decode_chunk(tokens[:, None], state.decoder)

    def _outcome(self, features: Tensor, noise: Float[Tensor, "b"], ends: bool, compiled: bool) -> Outcome | None:
        """Reward and end of the next step."""
        if (head := self.prior.outcome) is None:
            return None
        if compiled:
            from worldmodel.backends.cpu.prior import outcome

            return outcome(head, features, noise, ends)
        return head.outcome(head(features), noise, ends)

    def _encode(self, actions: Any, b: int, latents: int) -> Float32[Tensor, "b s a"]:
        """Actions in the env's own terms → one row per latent, the actions of a stride side by side."""
        if not self.encoder.width:
            return torch.zeros(b, latents, 0, device=self.device)
        encoded = self.encoder.encode(np.asarray(actions))
        steps = latents * self.tokenizer.config.time_stride
        if encoded.shape[:-1] != (b, steps) and not (steps == 1 and encoded.shape[:-1] == (b,)):
            raise ValueError(f"expected actions for {b} dreams and {steps} steps, got {encoded.shape[:-1]}")
        return torch.from_numpy(encoded).view(b, latents, self.prior.actions).to(self.device)


def _current(prior: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a prior without those of features that are gone.

    Raises: ValueError for a prior that was trained with such a feature.
    """
    settings = dict(prior)
    if settings.pop("action_dropout", 0):
        raise ValueError(
            "prior.action_dropout: this world was trained for action guidance, which is gone; the git tag "
            "before-pruning still reads it"
        )
    return settings


def _check_keys(seed: int, dreams: Sequence[int]) -> None:
    """Raises ValueError where the keys of the noise are no signed 64-bit numbers."""
    for name, value in (("seed", seed), *(("dreams", each) for each in dreams)):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{name}: expected a signed 64-bit number, got {value}")


def _few(values: Sequence[float]) -> str:
    """The first numbers of many, and how many there are."""
    return f"{len(values)} ({', '.join(f'{value:g}' for value in values[:4])}{', ...' if len(values) > 4 else ''})"


def compact(values: Tensor) -> Tensor:
    """As float16 where nothing is lost by it."""
    half = values.half()
    return half if values.dtype == torch.float32 and torch.equal(half.float(), values) else values
