"""One dream, one hash: whatever the number of threads, the instruction set of the processor, and the batch."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

from tests.helpers_models import outcome_head, pixelcnn_of, random_frames, small_world
from tests.test_world import tensors_of
from worldmodel.backends.cpu.prior import CompiledHead
from worldmodel.backends.cpu.tokenizer import CompiledTokenizer
from worldmodel.kernels import compiled as kernels
from worldmodel.kernels.arrays import affine
from worldmodel.prior import SamplerConfig
from worldmodel.prior.layers import ContextBlock
from worldmodel.world import WorldModel

ROOT = Path(__file__).parents[1]
OTHERS = {  # floats in a vector: how numba, torch, oneDNN, MKL and NumPy are set to use no wider ones
    8: {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+sse4.2,+bmi,+bmi2,+popcnt",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",
    },
    4: {
        "NUMBA_CPU_NAME": "x86-64",
        "NUMBA_CPU_FEATURES": "+sse4.2,+popcnt",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}
PROGRAM = """
import hashlib, itertools, platform, sys, warnings
warnings.simplefilter("ignore")  # NumPy tells of features that the processor lacks anyway
import numba, numpy, torch
if sys.argv[1] == "4":
    platform.machine = lambda: "arm64"  # vectors of 4 floats are for ARM
from tests.test_same_dream import dreams, environment
from worldmodel.kernels import compiled as kernels
from worldmodel.world import WorldModel
worlds = {name: WorldModel.load(name) for name in sys.argv[2:]}
print(kernels.LANES, torch.backends.cpu.get_cpu_capability())
for threads, (name, world) in itertools.product((1, 2, 7), worlds.items()):
    torch.set_num_threads(threads)
    digest = hashlib.sha256()
    world.coder.forget(), world.predictor.forget()
    for array in (*dreams(world, 6), *environment(world, 8)):
        digest.update(numpy.ascontiguousarray(array).tobytes())
    print(name, digest.hexdigest())
"""


def dreams(world: WorldModel, steps: int = 50):
    """All that is known of dreams at each step: one from a context of the world, two from frames."""
    rng, stride = np.random.default_rng(0), world.tokenizer.time_stride
    assert world.starts is not None and isinstance(world.info.action_space, Discrete)
    choices = world.info.action_space.n
    longest = int(world.starts.lengths.argmax())
    frames = torch.from_numpy(rng.integers(0, 256, (2, 1 + 3 * stride, *world.info.frame_shape), dtype=np.uint8))
    lead = rng.integers(0, choices, (2, 3 * stride))
    started = [world.start_from_context(longest, seed=1, dream=5)], [world.start(frames, lead, seed=1)]
    for (state,) in started:
        for _ in range(steps):
            yield from (each.numpy() for each in (*tensors_of(state), state.frame))
            actions = rng.integers(0, choices, (len(state.tokens), stride))
            state, step = world.step(state, actions, SamplerConfig(temperature=None))
            yield from (each.numpy() for each in (step.frames, step.bits, *vars(step.outcome).values()))


def environment(world: WorldModel, steps: int = 12):
    """What an agent sees of three dreams, resets included."""
    from worldmodel.dream import DreamVectorEnv

    env = DreamVectorEnv(3, world=world, obs="latent", starts="anywhere", horizon=7)
    seen, info = env.reset(seed=3)
    env.action_space.seed(3)
    for _ in range(steps):
        yield from (seen, *(info[name] for name in ("surprise", "end_probability", "tokens")))
        seen, *rest, info = env.step(env.action_space.sample())
        yield from rest


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="tells libraries of x86 processors")
def test_a_dream_has_one_hash_on_any_number_of_threads_and_any_instruction_set(tmp_path):
    small_world(2, memory=3).save(tmp_path / "world")
    widths = [kernels.LANES, *(lanes for lanes in OTHERS if lanes < kernels.LANES)]
    found = [in_a_process(lanes, tmp_path) for lanes in widths]
    assert [int(machine.split()[0]) for machine, *_ in found] == widths
    assert len({machine.split()[1] for machine, *_ in found}) == len(widths)  # torch's instructions differ too
    hashes = [each for _, *hashes in found for each in hashes]
    assert len(hashes) == 3 * (2 * len(widths) - (4 in widths)) and len(set(hashes)) == 2, found


def in_a_process(lanes: int, folder: Path) -> list[str]:
    """What the program prints there: the machine, and each world's hash of dreams with 1, 2 and 7 threads.

    Without fused multiply-adds in the processor, 4 floats at once take minutes for a large world: there it is left out.
    """
    own = {} if lanes == kernels.LANES else {**OTHERS[lanes], "NUMBA_CACHE_DIR": str(folder)}
    env = {**os.environ, **own, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    worlds = [str(folder / "world"), *(["maze"] if lanes > 4 else [])]
    command = [sys.executable, "-c", PROGRAM, str(lanes), *worlds]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_dream_is_the_same_alone_and_in_a_batch_from_its_start_on(stride):
    world, frames = small_world(stride), random_frames(5, 1 + 3 * stride)
    actions = np.random.default_rng(1).integers(0, 4, (5, 20 * stride))
    together = world.start(frames, actions[:, : 3 * stride], seed=4)
    alone = world.start(frames[3:4], actions[3:4, : 3 * stride], seed=4, dreams=[3])
    for n in range(3, 20):
        among = together.select(torch.tensor([3]))
        assert all(torch.equal(a, b) for a, b in zip(tensors_of(alone), tensors_of(among), strict=True))
        chunk = slice(n * stride, (n + 1) * stride)
        together, (alone, step) = world.step(together, actions[:, chunk])[0], world.step(alone, actions[3:4, chunk])
        assert step.outcome is not None


@pytest.mark.parametrize(("space", "stride", "kernel"), [(4, 1, 2), (8, 1, 1), (8, 2, 3), (16, 4, 2), (16, 1, 3)])
def test_the_compiled_encoder_gives_the_tokens_of_the_encoder(space, stride, kernel):
    from tests.helpers_models import small_tokenizer

    tokenizer = small_tokenizer(space, stride, frame=(32, 48, 3), time_kernel=kernel)
    frames = random_frames(3, 1 + 4 * stride, (32, 48, 3))
    encode = lambda frames: CompiledTokenizer(tokenizer).encode_chunk(frames, None)[0]  # noqa: E731
    assert torch.equal(encode(frames), tokenizer.encode(frames))
    assert encode(frames).unique().numel() > 3
    for wrong in (frames[:, :, :16], frames[:, : stride + 2]):
        if wrong.shape[2] == 16 or stride > 1:
            with pytest.raises(ValueError, match="expected"):
                encode(wrong)


@torch.no_grad()
@pytest.mark.parametrize(("stride", "kernel", "memory"), [(1, 2, 3), (2, 3, 0), (4, 1, 5)])
def test_a_compiled_start_is_that_of_the_modules(stride, kernel, memory):
    world, frames = small_world(stride, time_kernel=kernel, memory=memory), random_frames(2, 1 + 3 * stride)
    actions = np.random.default_rng(1).integers(0, 4, (2, 3 * stride))
    plain = WorldModel(world.tokenizer, world.prior, world.info, world.starts, backend="torch")
    for start in (lambda w: w.start(frames, actions, seed=2), lambda w: w.start_from_context(2, seed=2)):
        ours, theirs = start(world), start(plain)
        assert torch.equal(ours.tokens, theirs.tokens) and torch.equal(ours.steps, theirs.steps)
        assert (ours.frame.int() - theirs.frame.int()).abs().max() <= 1
        for one, other in zip(tensors_of(ours), tensors_of(theirs), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("ends", [True, False])
def test_the_compiled_outcome_is_that_of_the_head(ends):
    head = outcome_head(small_world())
    context = 3 * torch.randn(200, 10, 2, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = CompiledHead(head).sample(context, noise, ends), head.sample(head(context), noise, ends)
    assert torch.equal(ours.drawn, theirs.drawn) and ours.drawn.unique().numel() == (6 if ends else 3)
    for name, value in vars(ours).items():
        assert value.dtype == getattr(theirs, name).dtype
        torch.testing.assert_close(value, getattr(theirs, name), rtol=1e-4, atol=1e-5)


def test_layers_that_the_kernels_do_not_know_start_by_their_own_code():
    class Louder(ContextBlock):
        def forward(self, x, actions, past=None):
            y, past = super().forward(x, actions, past)
            return 2 * y, past

    world, frames = small_world(), random_frames(1, 3)
    before = world.start(frames, [[0, 1]])
    pixelcnn_of(world).blocks[0].__class__ = Louder
    with pytest.warns(UserWarning, match=r"blocks\.0 is a layer of type Louder"):
        after = world.start(frames, [[0, 1]])
    assert not torch.allclose(before.context[-1], after.context[-1])


def test_rows_are_mapped_as_torch_maps_them():
    rows, weight, bias = torch.randn(19, 7), torch.randn(5, 7), torch.randn(5)
    torch.testing.assert_close(affine(rows, weight, bias), rows @ weight.T + bias)
