"""Laws of training that hold by a single line each: a broken line changes results, not the shape of anything."""

import math
from dataclasses import dataclass
from typing import Any

import h5py
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.helpers_env import counter_info
from tests.helpers_models import (
    REWARDS,
    clip_of,
    quantizer_of,
    random_frames,
    small_prior,
    small_tokenizer,
    some_actions,
    some_tokens,
)
from tests.test_episode_store import make_episode
from tests.test_fit import CONFIG, Batches, Net
from worldmodel.data.episodes.store import EpisodeError, EpisodeStore
from worldmodel.nn.causal_conv import CausalConv3d
from worldmodel.prior import pixelcnn
from worldmodel.prior.noise import plain_uniform, uniform
from worldmodel.tokenizer.vqvae import to_float
from worldmodel.training import fit
from worldmodel.training.optim import Ema, adamw


@pytest.mark.parametrize("time_stride", [1, 2])
def test_a_constant_clip_encodes_to_the_same_vector_at_every_latent(time_stride):
    tokenizer = small_tokenizer(time_stride=time_stride, time_kernel=3)
    frames = random_frames(2, 1).expand(-1, 1 + 4 * time_stride, -1, -1, -1)
    vectors, _ = tokenizer._vectors(to_float(frames), None)
    assert vectors.shape[2] == 5
    torch.testing.assert_close(vectors, vectors[:, :, :1].expand_as(vectors))


def test_before_the_first_frame_stands_the_first_frame():
    layer = CausalConv3d(2, 3, (3, 3))
    x = torch.randn(1, 2, 4, 5, 5)
    padded = torch.cat([x[:, :, :1], x[:, :, :1], x], dim=2)
    torch.testing.assert_close(layer(x)[0], layer.conv(padded))


def test_the_psnr_of_training_is_that_of_the_decoded_clip():
    frames = random_frames(3, 2) // 4 + 96  # decoded values stay inside the range, so nothing is clipped
    tokenizer = small_tokenizer()
    tokenizer.init_from_data(frames)
    _, metrics = tokenizer.loss(clip_frames(frames))
    decoded = tokenizer.decode(tokenizer.encode(frames))
    error = (decoded.double() - frames.double()).square().mean()
    by_hand = 10 * math.log10(255**2 / float(error))
    assert float(metrics["psnr"]) == pytest.approx(by_hand, abs=0.05)  # rounding to uint8 is in one of them only


@pytest.mark.parametrize("learning", ["ema", "loss"])
def test_each_part_of_the_model_learns_from_its_own_terms_of_the_loss(learning):
    """Decoder: the reconstruction alone. Encoder: that and the commitment. Codebook: its own term alone (eq. 3)."""
    tokenizer = small_tokenizer(learning=learning)
    tokenizer.bottleneck.eval()
    x = to_float(random_frames(2, 2))
    z, _ = tokenizer._vectors(x, None)
    quantized = tokenizer.bottleneck(z.movedim(1, -1))
    pixels, _ = tokenizer._pixels(quantized.vectors.movedim(-1, 1), None)
    reconstruction, tied = F.mse_loss(pixels, x), quantized.loss
    encoder, decoder = (next(part.parameters()) for part in (tokenizer.encoder, tokenizer.decoder))
    assert gradient(reconstruction, encoder) and gradient(reconstruction, decoder)
    assert gradient(tied, encoder) and not gradient(tied, decoder)
    if learning == "loss":
        codebook = tokenizer.bottleneck.codebook
        assert not gradient(reconstruction, codebook) and gradient(tied, codebook)


def test_without_commitment_the_codebook_term_moves_the_codebook_alone():
    quantizer = small_tokenizer(learning="loss", commitment=0.0).bottleneck.eval()
    vectors = torch.randn(7, 5, requires_grad=True)
    loss = quantizer(vectors).loss
    assert gradient(loss, quantizer.codebook) and not gradient(loss, vectors)


def gradient(loss, parameter) -> bool:
    """Whether the loss moves the parameter."""
    (found,) = torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)
    return found is not None and bool(found.abs().sum() > 0)


def test_the_average_of_weights_warms_up_as_stated():
    model = nn.Linear(1, 1, bias=False)
    ema, by_hand = Ema(model, decay=0.9), float(model.weight.detach())
    for step in range(100):
        with torch.no_grad():
            model.weight.fill_(math.sin(step))
        ema.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        by_hand = decay * by_hand + (1 - decay) * math.sin(step)
        assert float(ema.model.weight) == pytest.approx(by_hand, abs=1e-5)


def test_a_codebook_that_learns_by_the_loss_is_not_pulled_to_zero():
    tokenizer = small_tokenizer(learning="loss")
    pulled = [p for group in adamw(tokenizer, CONFIG).param_groups if group["weight_decay"] for p in group["params"]]
    assert pulled and all(p is not tokenizer.bottleneck.codebook for p in pulled)


def test_a_restarted_code_stays_where_it_was_put_and_forgets_its_moments():
    tokenizer = small_tokenizer(learning="loss").train()
    quantizer, optimizer = quantizer_of(tokenizer), adamw(tokenizer, CONFIG)
    frames = random_frames(2, 2)
    for _ in range(3):  # all codes that are used have moments now
        tokenizer.loss(clip_frames(frames))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    dead = int(quantizer.cluster_size.argmax())  # a code in use, which would move
    quantizer.cluster_size[dead] = 0
    quantizer.config.decay = 1.0  # its use is not seen in this step
    tokenizer.loss(clip_frames(frames))[0].backward()
    drawn = quantizer.codebook[dead].detach().clone()
    optimizer.step()
    assert torch.equal(quantizer.codebook[dead], drawn)
    state = optimizer.state[quantizer.codebook]
    assert not state["exp_avg"][dead].any() and not state["exp_avg_sq"][dead].any()
    assert state["exp_avg"].any()
    assert quantizer.codebook.fresh_rows is None  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("learning", ["ema", "loss"])
def test_a_whole_tokenizer_learns_with_either_kind_of_codebook(tmp_path, learning):
    frames = random_frames(4, 3) // 8 + torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1, 1) * 32

    class Same(Batches):
        def __getitem__(self, step) -> Any:
            return Movable(frames)

    tokenizer = small_tokenizer(learning=learning)
    before = float(tokenizer.eval().loss(clip_frames(frames))[1]["psnr"])
    settings = {**vars(CONFIG), "steps": 60, "ema_decay": 0.0}
    result = fit(tokenizer, Same(), type(CONFIG)(**settings), tmp_path)
    after = float(result.model.loss(clip_frames(frames))[1]["psnr"])
    assert after > before + 1.0
    assert len(result.model.encode(frames).unique()) >= 3  # four clips, four levels of brightness


@pytest.mark.parametrize(("clip_norm", "clipped"), [(0.01, True), (0, False)])
def test_the_gradient_of_an_update_is_no_longer_than_clip_norm(tmp_path, clip_norm, clipped):
    norms = []

    def record(optimizer, args, kwargs):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    settings = {**vars(CONFIG), "clip_norm": clip_norm, "steps": 5}
    handle = register_optimizer_step_pre_hook(record)
    try:
        fit(Net(), Batches(), type(CONFIG)(**settings), tmp_path)
    finally:
        handle.remove()
    assert len(norms) == 5
    if clipped:
        assert max(norms) == pytest.approx(0.01, rel=1e-3)
    else:
        assert min(norms) > 0.01


def test_the_outcome_has_its_share_of_the_loss():
    prior = small_prior(rewards=REWARDS)
    clip = clip_of(some_tokens(s=4), some_actions(s=4))
    loss, metrics = prior.loss(clip)
    tokens = prior.nats(clip.tokens, clip.actions).mean()
    torch.testing.assert_close(loss, tokens + pixelcnn.OUTCOME_LOSS_WEIGHT * metrics["outcome_loss"])
    assert pixelcnn.OUTCOME_LOSS_WEIGHT > 0 and float(metrics["outcome_loss"]) > 0
    assert prior.outcome is not None and gradient(loss, prior.outcome.out_proj.weight)


def test_while_training_half_of_the_latents_are_conditioned_on_their_outcome():
    prior = small_prior(rewards=REWARDS).train()
    features = torch.zeros(400, 10, 5, 2, 3)
    targets = F.one_hot(torch.zeros(400, 5, dtype=torch.long), 2 * len(REWARDS)).float()
    conditional = (
        prior._with_some_outcomes(features, targets, torch.ones(400, 5, dtype=torch.bool)).abs().sum((1, 3, 4)) > 0
    )
    assert not conditional[:, 0].any()  # nothing leads into the first latent
    assert float(conditional[:, 1:].float().mean()) == pytest.approx(0.5, abs=0.05)
    assert not prior.eval()._with_some_outcomes(features, targets, torch.ones(400, 5, dtype=torch.bool)).any()


@pytest.mark.parametrize("noise", [uniform, plain_uniform])
def test_noise_is_another_for_every_seed_dream_step_and_site(noise):
    keys = [(seed, dream, step) for seed in (0, 1) for dream in (0, 1) for step in (0, 1)]
    drawn = [noise(seed, torch.tensor([dream]), torch.tensor([step]), 5) for seed, dream, step in keys]
    assert len(torch.cat(drawn).flatten().unique()) == 5 * len(keys)


def test_two_chunks_of_frames_that_changed_places_are_noticed(tmp_path):
    store = EpisodeStore.create(tmp_path, counter_info())
    store.write(make_episode(0, steps=47))
    with h5py.File(store.path(0), "r+") as file:
        frames = file["frames"].id
        first, second = (frames.read_direct_chunk((start, 0, 0, 0)) for start in (0, 16))
        for start, (mask, data) in ((0, second), (16, first)):
            frames.write_direct_chunk((start, 0, 0, 0), data, mask)
    swapped = EpisodeStore.open(tmp_path)
    for start, stop in ((0, 3), (17, 19), (0, 48)):
        with pytest.raises(EpisodeError, match="crc32"):
            swapped.frames(0, start, stop)
    assert swapped.frames(0, 32, 48).shape[0] == 16  # the third chunk is where it was


def clip_frames(frames):
    """A batch for the tokenizer's loss."""
    return Movable(frames)


@dataclass(frozen=True)
class Movable:
    """Frames as a batch that `fit` takes."""

    frames: torch.Tensor

    def to(self, device) -> "Movable":
        return Movable(self.frames.to(device))
