"""A world needs two contracts and sees nothing behind them; back ends run what they know, and nothing else silently."""

import copy
import pickle
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from torch import nn

from tests.helpers_models import (
    pixelcnn_of,
    quantizer_of,
    random_frames,
    small_prior,
    small_tokenizer,
    small_world,
    some_actions,
    some_tokens,
    vqvae_of,
)
from worldmodel.backends.cpu.layers import WRITERS, compiles
from worldmodel.dream import DreamEnv
from worldmodel.interfaces import Prior, Tokenizer
from worldmodel.prior import Outcome, SampledFrame
from worldmodel.prior.layers import ContextBlock
from worldmodel.world import WorldInfo, WorldModel

FRAME = (4, 6, 3)


class DummyTokenizer(nn.Module):
    """One token for each pixel row and column pair: its brightness in four steps."""

    codes, grid, time_stride, frame_shape = 4, (2, 3), 1, FRAME

    nothing: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1))

    @property
    def device(self) -> torch.device:
        return self.nothing.device

    def encode_chunk(self, frames, past):
        return frames[:, :, ::2, ::2, 0].long() // 64, past

    def decode_chunk(self, tokens, past):
        big = tokens.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return (big * 64).to(torch.uint8)[..., None].expand(-1, -1, -1, -1, 3).contiguous(), past

    def encode(self, frames):
        return self.encode_chunk(frames, None)[0]

    def decode(self, tokens):
        return self.decode_chunk(tokens, None)[0]

    def features(self, frames):
        return frames.float().movedim(-1, 1)

    def embed(self, tokens):
        return tokens[..., None].float()


class DummyPrior(nn.Module):
    """The next token is the last one plus the action, modulo 4; every third latent ends the episode and pays 1."""

    codes, grid, actions, rewards = 4, (2, 3), 2, (0.0, 1.0)

    nothing: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1))

    @property
    def device(self) -> torch.device:
        return self.nothing.device

    def start(self, tokens, actions):
        return (torch.full((len(tokens),), float(tokens.shape[1])),)

    def step(self, state, tokens, action, noise, sampler, temperature=None):
        (age,) = state
        ended = (age % 3 == 2) & sampler.allow_termination
        after = (tokens + action.argmax(1)[:, None, None]) % 4
        zero = torch.zeros(len(tokens), dtype=torch.float64)
        outcome = Outcome(ended.double(), ended, ended.double(), ended.double(), ended.long(), zero)
        return (age + 1,), SampledFrame(after, zero.float(), torch.ones(len(tokens)).long(), outcome)

    def logits(self, tokens, actions):
        return torch.zeros(*tokens.shape, 4)

    def nats(self, tokens, actions):
        return torch.full(tokens.shape, np.log(4))

    def score(self, state, tokens, action, following):
        return (state[0] + 1,), torch.full((len(tokens),), 6 * np.log(4))

    def outcome_probabilities(self, clip):
        return torch.full((*clip.tokens.shape[:2], 2, 2), 0.25)

    def loss(self, clip):
        return torch.zeros(()), {}


def dummy_world() -> WorldModel:
    return WorldModel(DummyTokenizer(), DummyPrior(), WorldInfo(FRAME, Discrete(2), longest=50))


def test_dummies_are_all_that_a_world_and_its_dreams_need():
    assert isinstance(DummyTokenizer(), Tokenizer) and isinstance(DummyPrior(), Prior)
    world, frames = dummy_world(), torch.zeros(2, 2, *FRAME, dtype=torch.uint8)
    with pytest.warns(UserWarning, match="the kernels run a (VQVAE|PixelCNN), not a Dummy"):
        world.step(world.start(frames, np.zeros((2, 1), int)), [0, 0])
    video = world.imagine(frames, np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0]]), 4)
    assert (video[0, :, 0, 0, 0] // 64).tolist() == [1, 1, 2, 3] and not video[1].any()
    env = DreamEnv(world=world)
    env.reset(options={"frames": frames[0, :1], "actions": np.zeros(0, int)})
    found = [env.step(1)[1:3] for _ in range(2)]
    assert found == [(0.0, False), (1.0, True)]


def test_a_world_of_dummies_is_not_saved_without_an_entry_in_the_registries(tmp_path):
    with pytest.raises(TypeError, match=r"tokenizer: DummyTokenizer is none of vqvae.*registry"):
        dummy_world().save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_real_parts_fulfil_the_contracts():
    assert isinstance(small_tokenizer(), Tokenizer) and isinstance(small_prior(), Prior)


def test_scores_of_one_latent_after_the_other_are_those_of_the_parallel_pass():
    prior, tokens, actions = small_prior(), some_tokens(2, 5), some_actions(2, 5)
    actions[:, 0] = 0  # nothing leads into the first latent
    state = prior.start(tokens[:, :1], actions[:, :1])
    whole = prior.nats(tokens, actions).double().sum((2, 3))
    for s in range(1, 5):
        state, nats = prior.score(state, tokens[:, s - 1], actions[:, s], tokens[:, s])
        torch.testing.assert_close(nats, whole[:, s].detach(), rtol=1e-4, atol=1e-4)


# --- back ends


class Doubled(ContextBlock):
    """A layer that somebody changed."""

    def forward(self, x, actions, past=None):
        y, past = super().forward(x, actions, past)
        return 2 * y, past


def same_video(world: WorldModel, other: WorldModel) -> bool:
    taken = np.array([[0, 1, 2, 3, 0, 1, 2]])
    first, second = (each.imagine(random_frames(1, 3), taken, 5) for each in (world, other))
    return bool((first.int() - second.int()).abs().max() <= 1)


def plain(world: WorldModel) -> WorldModel:
    """The same networks without a back end."""
    return WorldModel(world.tokenizer, world.prior, world.info, world.starts, backend="torch")


def test_a_subclass_of_a_layer_runs_its_own_forward_with_one_warning():
    world, before = small_world(memory=0), small_world(memory=0)
    for i, block in enumerate(pixelcnn_of(world).blocks):
        changed = Doubled(10, 4, 2)
        changed.load_state_dict(block.state_dict())
        pixelcnn_of(world).blocks[i] = changed
    with pytest.warns(UserWarning, match=r"PixelCNN runs in plain PyTorch.*blocks\.0 is a layer of type Doubled"):
        assert same_video(world, plain(world))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not same_video(world, before) and world.predictor() is world.prior


@pytest.mark.parametrize("change", ["a block", "a layer of the decoder", "the core", "the bottleneck"])
def test_a_part_that_is_exchanged_after_the_first_dream_is_used(change):
    world, other = small_world(), small_world(memory=0)
    assert same_video(world, small_world())
    torch.manual_seed(5)
    with torch.no_grad():
        [parameter.add_(torch.randn_like(parameter)) for parameter in other.parameters()]
        quantizer_of(vqvae_of(other)).codebook.add_(torch.randn(19, 5))
    if change == "a block":
        pixelcnn_of(world).blocks[0] = pixelcnn_of(other).blocks[0]
    elif change == "a layer of the decoder":
        vqvae_of(world).decoder.layers[1] = vqvae_of(other).decoder.layers[1]
    elif change == "the core":
        pixelcnn_of(world).core = pixelcnn_of(other).core
    else:
        vqvae_of(world).bottleneck = vqvae_of(other).bottleneck
    assert same_video(world, plain(world)) and not same_video(world, small_world())


@pytest.mark.parametrize("dreamed", [False, True])
@pytest.mark.parametrize("change", ["a forward of its own", "a hook", "groups"])
def test_what_the_kernels_cannot_see_runs_in_pytorch_also_after_the_first_dream(change, dreamed):
    world, seen = small_world(), []
    if dreamed:
        assert same_video(world, small_world())
    block: Any = pixelcnn_of(world).blocks[0]
    if change == "a forward of its own":
        original = block.forward
        block.forward = lambda x, actions, past=None: (lambda y: (y[0] + 1, y[1]))(original(x, actions, past))
    elif change == "a hook":
        block.register_forward_hook(lambda *_: seen.append(1))
    else:
        block.inner.conv = nn.Conv3d(10, 10, (1, 3, 3), padding=(0, 1, 1), groups=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warned of once in a process, by another of these perhaps
        assert same_video(world, plain(world))
    assert world.predictor() is world.prior and (change != "a hook" or seen)


def test_a_layer_of_ones_own_is_compiled_by_a_function_for_its_type():
    class Mine(ContextBlock):
        pass

    @compiles(Mine)
    def _(program, layer, before, after):
        WRITERS[ContextBlock](program, layer, before, after)

    try:
        world = small_world()
        pixelcnn_of(world).blocks[0].__class__ = Mine
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert same_video(world, small_world()) and world.predictor() is not world.prior
    finally:
        del WRITERS[Mine]


def test_copies_of_a_world_compile_for_themselves():
    world = small_world()
    world.imagine(random_frames(1, 3), [[0, 1, 2]], 1)
    for other in (copy.deepcopy(world), pickle.loads(pickle.dumps(world))):
        assert same_video(world, other)
        with torch.no_grad():
            pixelcnn_of(other).core.bias.copy_(torch.linspace(0, 5000, 19))
        assert not same_video(world, other) and same_video(world, small_world())


def test_a_dream_made_by_name_takes_the_back_end_that_it_can():
    env = gymnasium.make("worldmodel/Dream-v0", world="maze").unwrapped
    assert isinstance(env, DreamEnv) and env.batch.world.predictor() is not env.batch.world.prior
