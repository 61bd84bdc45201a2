"""The prior on the CPU, compiled: the context of the next latent, noise, and a frame's tokens drawn with both."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from worldmodel.backends.cpu import kernels
from worldmodel.backends.cpu.packed_weights import packed
from worldmodel.backends.cpu.program import Tape, affine, bias_of, floats, in_threads, pack, padded
from worldmodel.nn.causal_conv import Past
from worldmodel.prior.categorical import Draw, Given, SamplerConfig
from worldmodel.prior.layers import ContextBlock, GatedLayer, Memory
from worldmodel.prior.outcome import Outcome, OutcomeHead
from worldmodel.prior.pixelcnn import PixelCNN, SpatialCore


def next_context(
    prior: PixelCNN, tokens: Int[Tensor, "b y x"], actions: Float[Tensor, "b a"], past: Past
) -> tuple[Float[Tensor, "b c y x"], Past]:
    """`PixelCNN.context` of one more latent, after these tokens and under these actions."""
    features, past = packed(prior, "context", lambda: _context(prior)).features(tokens, actions, past)
    return features[:, :, 0], past


def known(prior: PixelCNN) -> bool:
    """Whether the context has no layers but those that the kernels run; what is derived from these may differ."""
    return all(type(block) in (ContextBlock, Memory) for block in prior.blocks)


def start_context(prior: PixelCNN, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Past:
    """The past of `PixelCNN.context` that has seen all of these tokens but the last, and the actions into each latent.

    Raises: ValueError for tokens or actions that are not this prior's.
    """
    tape = packed(prior, "context", lambda: _context(prior))
    seen = torch.cat([tape.begin(len(tokens))[:, None], tokens[:, :-1]], dim=1)
    past = None
    for token, action in zip(seen.unbind(1), actions.unbind(1), strict=True):
        past = tape.carry(token, action, past)
    return past


def _context(prior: PixelCNN) -> Tape:
    tape = Tape(prior.core.embedding.weight, prior.grid, first=prior.start)
    tape.convolution(prior.enter)
    tape.places(prior.place[:, 0])
    for block in prior.blocks:
        if isinstance(block, Memory):
            tape.convolution(block.enter, silu=True, keep=True)
            tape.memory()
            tape.convolution(block.leave, add=True)
        else:
            assert isinstance(block, ContextBlock)
            tape.convolution(block.inner, silu=True, keep=True)
            tape.film(block.film.weight, block.film.bias)
            tape.convolution(block.outer, silu=True, add=True)
        tape.layer()
    return tape


def draw(core: SpatialCore, given: Given, config: SamplerConfig) -> Draw:
    """Tokens of a frame, the same as other samplers draw.

    Raises: ValueError for inputs that are not this core's.
    """
    b, c, rows, columns = given.context.shape
    weights = packed(core, "core", lambda: pack_core(core))
    expected = (len(weights.condition), (b, len(weights.action)), (b, rows * columns))
    if (got := (c, tuple(given.actions.shape), tuple(given.noise.shape))) != expected:
        raise ValueError(f"expected context width, actions and noise of shapes {expected}, got {got}")
    features = floats(given.context.permute(0, 2, 3, 1)).reshape(b, rows * columns, c)
    tokens, nats = torch.empty(b, rows, columns, dtype=torch.long), torch.empty(b, rows, columns)
    shaping = (config.divisor, config.top_k, float(config.top_p))
    inputs = (weights, features, floats(given.actions), given.noise.double().contiguous().numpy(), *shaping)
    in_threads(lambda first, last: kernels.draw(first, last, *inputs, tokens.numpy(), nats.numpy()), b)
    return Draw(tokens, nats, torch.ones(b, dtype=torch.long))


def judge(head: OutcomeHead, context: Float[Tensor, "b c y x"]) -> Float[Tensor, "b o"]:
    """What `head` says, each dream by itself.

    Raises: ValueError for a context that is not this head's.
    """
    weights = packed(head, "head", lambda: pack_head(head))
    b, c, rows, columns = context.shape
    expected = (len(weights.context), *head.place.shape[1:])
    if (c, rows, columns) != expected:
        raise ValueError(f"expected context width and grid of {expected}, got {(c, rows, columns)}")
    features = floats(context.permute(0, 2, 3, 1)).reshape(b, rows * columns, c)
    scores = torch.empty(b, head.leave.out_features)
    in_threads(lambda first, last: kernels.judge(first, last, weights, features, scores.numpy()), b)
    return scores


def outcome(
    head: OutcomeHead, context: Float[Tensor, "b c y x"], noise: Float[Tensor, "b"], ends: bool = True
) -> Outcome:
    """`OutcomeHead.outcome` of what `judge` says."""
    scores, b = judge(head, context).numpy(), len(context)
    drawn = torch.empty(b, dtype=torch.long)
    nats, expected, end = (torch.empty(b, dtype=torch.float64) for _ in range(3))
    known = floats(head.log_weight), head.rewards.double().numpy(), noise.double().contiguous().numpy()
    r = len(head.rewards)
    told = (each.numpy() for each in (drawn, nats, expected, end))
    kernels.outcome(scores, *known, scores.shape[1] if ends else r, *told)
    return Outcome(head.rewards[drawn % r], drawn >= r, expected, end, drawn, nats)


def added(nats: Float[Tensor, "b y x"]) -> Float[Tensor, "b"]:
    """The sum of each dream, site by site: torch's own `sum` adds in an order that depends on the processor."""
    return nats.double().flatten(1).cumsum(1)[:, -1].float()


def uniform(seed: int, dreams: Int[Tensor, "b"], steps: Int[Tensor, "b"], sites: int) -> Float[Tensor, "b n"]:
    """The numbers of `noise.uniform`."""
    found = torch.empty(len(dreams), sites, dtype=torch.float64)
    kernels.uniform(seed, dreams.contiguous().numpy(), steps.contiguous().numpy(), found.numpy())
    return found


@torch.no_grad()
def pack_core(core: SpatialCore) -> kernels.Core:
    """Weights with every width padded, halves of gates each by itself, and biases that meet added up."""
    layers = [layer for layer in core.layers if isinstance(layer, GatedLayer)]
    width, w = layers[0].width, padded(layers[0].width)

    def halves(weight: Tensor, rows: int = 0) -> np.ndarray:
        """Both halves of the last axis, padded each."""
        return np.concatenate([pack(half, rows) for half in weight.chunk(2, dim=-1)], axis=-1)

    def quarters(weight: Tensor) -> np.ndarray:
        """The gates of both stacks of each layer, `l*4w` in the last axis."""
        return np.concatenate([halves(part) for part in weight.chunk(2 * len(layers), dim=-1)], axis=-1)

    def taps(weight: Float[Tensor, "o i y x"]) -> Float[Tensor, "y x i o"]:
        return weight.permute(2, 3, 1, 0)

    def stack(parts: list[np.ndarray]) -> np.ndarray:
        return np.ascontiguousarray(np.stack(parts))

    both = [F.pad(layer.down.weight[:, :, 0, 0].T.unflatten(0, (2, width)), (0, 0, 0, w - width)) for layer in layers]
    biases = [torch.cat([bias_of(layer.vertical), bias_of(layer.horizontal) + bias_of(layer.down)]) for layer in layers]
    ends = [layer.vertical_out for layer in layers]
    none = np.zeros((w, w), np.float32)
    embedding = core.embedding.weight
    head_bias = pack(core.bias)
    head_bias[len(core.bias) :] = -np.inf
    entered = affine(embedding, core.enter.weight[:, :, 0, 0], bias_of(core.enter))
    return kernels.Core(
        table=halves(F.pad(entered, (0, 0, 0, 1))),
        condition=quarters(core.condition.weight[:, :, 0, 0].T),
        condition_bias=quarters(bias_of(core.condition) + core.action.bias + torch.cat(biases)),
        action=quarters(core.action.weight.T),
        vertical=stack([halves(taps(each.vertical.weight), w).reshape(each.ROWS, 3 * w, 2 * w) for each in layers]),
        down=stack([halves(each.flatten(0, 1)) for each in both]),
        vertical_out=stack([none if end is None else pack(end.weight[:, :, 0, 0].T, w) for end in ends]),
        vertical_bias=stack([none[0] if end is None else pack(bias_of(end)) for end in ends]),
        horizontal=stack([halves(taps(each.horizontal.weight)[0], w).reshape(-1, 2 * w) for each in layers]),
        horizontal_out=stack([pack(each.horizontal_out.weight[:, :, 0, 0].T, w) for each in layers]),
        horizontal_bias=stack([pack(bias_of(each.horizontal_out)) for each in layers]),
        shortcut=pack(core.shortcut.weight[:, :, 0, 0].T),
        shortcut_bias=pack(bias_of(core.shortcut) + bias_of(core.leave)),
        leave=pack(core.leave.weight[:, :, 0, 0].T, w),
        head=pack(embedding.T, padded(embedding.shape[1])),
        head_bias=head_bias,
    )


@torch.no_grad()
def pack_head(head: OutcomeHead) -> kernels.Head:
    """Weights with every width padded; what fills up adds nothing, as zeros leave it."""
    hidden = padded(head.leave.in_features)
    mean, largest = head.inner.weight.T.chunk(2)
    place = head.place.flatten(1).T + bias_of(head.context)
    return kernels.Head(
        context=pack(head.context.weight[:, :, 0, 0].T),
        place=pack(place),
        inner=np.concatenate([pack(mean, hidden), pack(largest, hidden)]),
        inner_bias=pack(head.inner.bias),
        leave=pack(head.leave.weight.T, hidden),
        leave_bias=pack(head.leave.bias),
    )
