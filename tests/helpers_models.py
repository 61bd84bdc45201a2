"""Small models with weights that are far from their start, on odd sizes, for the tests of the core."""

from typing import TypeVar

import torch
from gymnasium import Space
from gymnasium.spaces import Discrete
from torch import nn

from worldmodel.data.clips.start_contexts import StartContexts
from worldmodel.data.clips.token_batches import TokenClip
from worldmodel.nn.actions import ActionEncoder
from worldmodel.prior import PixelCNN, PriorConfig
from worldmodel.prior.outcome import OutcomeHead
from worldmodel.tokenizer import VQVAE, QuantizerConfig, TokenizerConfig
from worldmodel.tokenizer.bottlenecks import VectorQuantizer
from worldmodel.tokenizer.vqvae import to_float
from worldmodel.world import WorldInfo, WorldModel

M = TypeVar("M", bound=nn.Module)


def perturbed(model: M, amount: float = 0.1) -> M:
    """The model with noise on all parameters: what starts at zero would hide mistakes."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * amount)
    return model.eval()


def small_tokenizer(space_stride=8, time_stride=1, frame=(16, 24, 3), codes=19, time_kernel=2, **quantizer) -> VQVAE:
    torch.manual_seed(3)
    settings = QuantizerConfig(codes=codes, code_width=5, **quantizer)
    shape = {"width": 6, "time_kernel": time_kernel, "focal_gamma": 0.0}
    config = TokenizerConfig(space_stride, time_stride, quantizer=settings, **shape)
    tokenizer = perturbed(VQVAE(config, frame))
    with torch.no_grad():  # codes where the encoder's outputs are, or all frames would have the same token
        z, _ = tokenizer._vectors(to_float(random_frames(8, 1 + 2 * time_stride, frame)), None)
        tokenizer.bottleneck.init_from_data(z.movedim(1, -1).flatten(0, -2))
    return tokenizer


def small_prior(codes=19, grid=(2, 3), actions=4, noise=0.0, time_kernel=2, rewards=(), **settings) -> PixelCNN:
    torch.manual_seed(3)
    config = PriorConfig(
        8,
        width=10,
        layers=2,
        time_kernel=time_kernel,
        core_width=6,
        core_layers=2,
        context_noise=noise,
        outcome_width=7,
        **{"memory": 3, **settings},
    )
    return perturbed(PixelCNN(config, codes, grid, actions, rewards), 0.3)


REWARDS = (-1.0, 0.0, 0.5)


def small_world(time_stride=1, actions=4, rewards=REWARDS, starts=5, longest=9, **settings) -> WorldModel:
    space = Discrete(actions) if actions else None
    info = WorldInfo((16, 24, 3), space, ("noop", "forward", "left", "right")[:actions], longest=longest)
    tokenizer = small_tokenizer(time_stride=time_stride)
    prior = small_prior(actions=actions * time_stride, rewards=rewards, **settings)
    return WorldModel(tokenizer, prior, info, small_starts(starts, actions * time_stride) if starts else None)


def space_world(space: Space, time_stride=1, longest=5, action_scale=None) -> WorldModel:
    """A small world of these actions; about one step in five ends a dream, whatever is done."""
    info = WorldInfo((16, 24, 3), space, longest=longest, action_scale=action_scale)
    actions = ActionEncoder(space).width * time_stride
    tokenizer = small_tokenizer(time_stride=time_stride)
    world = WorldModel(tokenizer, small_prior(actions=actions, rewards=REWARDS), info, small_starts(5, actions))
    out_proj = outcome_head(world).out_proj
    with torch.no_grad():
        for part in (out_proj.weight, out_proj.bias):
            goes_on, ends = part.chunk(2)
            ends.copy_(goes_on)
        out_proj.bias[len(REWARDS) :] -= 1.4
    return world


def vqvae_of(world: WorldModel) -> VQVAE:
    """The tokenizer of a world, for tests that look inside it."""
    assert isinstance(world.tokenizer, VQVAE)
    return world.tokenizer


def quantizer_of(tokenizer: VQVAE) -> VectorQuantizer:
    """The bottleneck of a tokenizer, for tests that look inside it."""
    assert isinstance(tokenizer.bottleneck, VectorQuantizer)
    return tokenizer.bottleneck


def pixelcnn_of(world: WorldModel) -> PixelCNN:
    """The prior of a world, for tests that look inside it."""
    assert isinstance(world.prior, PixelCNN)
    return world.prior


def outcome_head(world: WorldModel) -> OutcomeHead:
    """The part of a world's prior that predicts rewards and ends."""
    head = pixelcnn_of(world).outcome
    assert head is not None
    return head


def small_starts(count: int, actions: int) -> StartContexts:
    """The first two are beginnings of episodes; the others have up to four latents."""
    lengths = torch.tensor([1, 1, 4, 2, 3, 4][:count])
    return StartContexts(some_tokens(count, 4), some_actions(count, 4, actions), lengths, resets=min(2, count))


def random_frames(b: int, t: int, frame=(16, 24, 3), seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (b, t, *frame), generator=generator, dtype=torch.uint8)


def some_tokens(b=2, s=3, grid=(2, 3), codes=19, seed=0) -> torch.Tensor:
    return torch.randint(0, codes, (b, s, *grid), generator=torch.Generator().manual_seed(seed))


def some_actions(b=2, s=3, a=4, seed=0) -> torch.Tensor:
    return torch.randn(b, s, a, generator=torch.Generator().manual_seed(seed))


def clip_of(tokens, actions, rewards=None, terminated=None, mask=None) -> TokenClip:
    """A batch; without more, nothing is earned, nothing terminated and all of it is part of the episode."""
    b, s = tokens.shape[:2]
    rewards = torch.zeros(b, s) if rewards is None else rewards
    terminated = torch.zeros(b, s, dtype=torch.bool) if terminated is None else terminated
    return TokenClip(tokens, actions, rewards, terminated, torch.ones(b, s, dtype=torch.bool) if mask is None else mask)
