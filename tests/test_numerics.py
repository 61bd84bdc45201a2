"""Numbers that must not depend on how they are computed: precision, ranks, and batches taken one after the other."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tests.helpers_models import quantizer_of, small_prior, small_tokenizer
from tests.torture.ranks import CONFIG, Clips, Tokens, seen_by, torchrun, train
from worldmodel.data.clips.clips import Clip
from worldmodel.tokenizer import VQVAE, QuantizerConfig, perplexity
from worldmodel.tokenizer.bottlenecks.vq import VectorQuantizer
from worldmodel.training import FitConfig, fit


class Joined(Dataset):
    """Two batches of clips as one."""

    def __getitem__(self, step: int) -> Clip:
        parts = [Clips()[2 * step + i] for i in range(2)]
        return Clip(
            *(torch.cat(x) for x in zip(*((p.frames, p.actions, p.rewards, p.terminated) for p in parts), strict=True))
        )


def fitted(batches: Dataset, folder: Path, **settings) -> VQVAE:
    tokenizer = small_tokenizer(restart_below=0.0)
    fit(tokenizer, batches, replace(CONFIG, **settings), folder)
    return tokenizer


def test_batches_one_after_the_other_teach_what_one_large_batch_teaches_also_the_codebook(tmp_path):
    large = fitted(Joined(), tmp_path / "large", steps=12)
    parts = fitted(Clips(), tmp_path / "parts", steps=12, accumulate=2)
    untrained = small_tokenizer(restart_below=0.0)
    for name, ours in parts.state_dict().items():
        torch.testing.assert_close(ours, large.state_dict()[name], rtol=1e-3, atol=1e-4, msg=name)
    assert not torch.allclose(quantizer_of(untrained).codebook, quantizer_of(parts).codebook, atol=1e-3)


def test_a_codebook_learns_with_the_last_part_of_a_step_and_from_all_of_them():
    torch.manual_seed(0)
    whole, parted = (VectorQuantizer(QuantizerConfig(codes=5, code_width=3)) for _ in range(2))
    whole.init_from_data(torch.randn(30, 3))
    parted.load_state_dict(whole.state_dict())
    z, before = torch.randn(40, 3), parted.codebook.clone()
    whole(z)
    for index, half in enumerate(z.split(20)):
        parted.set_microbatch(index, 2)
        assert torch.equal(parted.codebook, before)
        parted(half)
    torch.testing.assert_close(parted.state_dict(), whole.state_dict())


def test_a_run_that_accumulates_takes_its_batches_in_order_and_is_another_run(tmp_path):
    seen: list[int] = []

    class Seen(Clips):
        def __getitem__(self, step: int) -> Clip:
            seen.append(step)
            return super().__getitem__(step)

    fitted(Seen(), tmp_path, steps=3, accumulate=2)
    assert seen == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"fit\.batches_per_step: 2 there, 1 here"):
        fitted(Clips(), tmp_path, steps=6)


def test_accumulating_can_be_stopped_between_two_parts_without_a_trace(tmp_path):
    class Struck(Clips):
        def __getitem__(self, step: int) -> Clip:
            if step == 5:
                raise KeyboardInterrupt
            return super().__getitem__(step)

    whole = fitted(Clips(), tmp_path / "whole", steps=5, accumulate=2)
    with pytest.raises(SystemExit):
        fitted(Struck(), tmp_path / "cut", steps=5, accumulate=2)
    resumed = fitted(Clips(), tmp_path / "cut", steps=5, accumulate=2)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_vectors_are_quantised_in_float32_whatever_surrounds_them():
    quantizer = VectorQuantizer(QuantizerConfig(codes=64, code_width=4)).eval()
    z = quantizer.codebook[:, None] + 1e-3 * torch.randn(64, 5, 4)  # near ties, which bfloat16 would decide otherwise
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(z)
    assert torch.equal(found.tokens, quantizer(z).tokens) and found.loss.dtype == found.vectors.dtype == torch.float32


@pytest.mark.parametrize("learning", ["ema", "loss"])
def test_a_codebook_that_learns_under_autocast_stays_float32_and_learns_the_same(learning):
    settings = QuantizerConfig(codes=8, code_width=3, learning=learning)
    states = []
    for enabled in (False, True):
        torch.manual_seed(0)
        quantizer = VectorQuantizer(settings)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for _ in range(5):
                quantizer(torch.randn(50, 3))
        states.append(quantizer.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert states[0]["codebook"].dtype == torch.float32


def losses(model: nn.Module, batches: Dataset, folder: Path, precision: str) -> Tensor:
    seen = seen_by(model)
    fit(model, batches, replace(CONFIG, steps=60, precision=precision), folder)
    return torch.tensor([each["loss"] for each in seen])


def test_bf16_trains_a_tokenizer_as_float32_does(tmp_path):
    """Loss of the last 20 steps within 5 %, codes in effective use within a quarter: weights and codebook are float32,
    so what differs is the rounding of activations, 3 digits, averaged over the batch."""
    ends, uses = [], []
    for precision in ("32-true", "bf16-mixed"):
        tokenizer = small_tokenizer()
        quantizer_of(tokenizer).initialized.fill_(False)  # so that the codebook starts from these clips
        found = losses(tokenizer, Clips(4), tmp_path / precision, precision)
        assert found[-20:].mean() < found[:10].mean()
        codes = tokenizer.eval().encode(torch.cat([Clips(4)[i].frames for i in range(100, 108)]))
        uses.append(perplexity(torch.bincount(codes.flatten(), minlength=19).float()))
        ends.append(float(found[-20:].mean()))
    assert ends[1] == pytest.approx(ends[0], rel=0.05) and uses[1] == pytest.approx(uses[0], rel=0.25) and uses[1] > 3


def test_bf16_trains_a_prior_as_float32_does(tmp_path):
    """Loss of the last 20 steps within 1 %."""
    ends = []
    for precision in ("32-true", "bf16-mixed"):
        prior = small_prior(noise=0.1, rewards=(-1.0, 0.0, 0.5))
        found = losses(prior, Tokens(), tmp_path / precision, precision)
        assert found[-20:].mean() < found[:10].mean()
        ends.append(float(found[-20:].mean()))
    assert ends[1] == pytest.approx(ends[0], rel=0.01)


def test_what_is_compared_of_ranks_depends_on_the_batches(tmp_path):
    one, two = (train(2, tmp_path / str(n), accumulate=n) for n in (1, 2))
    assert one["tokenizer"][0]["loss"] == two["tokenizer"][0]["loss"]
    assert one["tokenizer"][1]["loss"] != two["tokenizer"][2]["loss"]


@pytest.mark.slow
def test_scripts_under_torchrun_make_one_world(tmp_path):
    from tests.helpers_scripts import run
    from tests.test_scripts import TINY, WORLDS

    run("collect", *WORLDS["maze"][0], *TINY["collect"], folder=tmp_path)
    for script in ("train_tokenizer", "train_prior"):
        done = torchrun(f"scripts/{script}.py", f"run={tmp_path}", *TINY[script])
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("parameters") == 1  # one rank tells
    assert run("rollout", "actions=random", *TINY["rollout"], folder=tmp_path)


def test_accumulate_below_one_is_refused():
    with pytest.raises(ValueError, match="accumulate"):
        FitConfig(accumulate=0)


def test_first_rank_works_at_once_where_there_is_one(tmp_path):
    from worldmodel.training.fit import on_rank_zero

    done: list[int] = []
    on_rank_zero(lambda: done.append(1), CONFIG)
    assert done == [1]
