"""The prior on the CPU: the context of the next latent as a program, and its tokens drawn by a kernel."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.backends.cpu.layers import check_known, write_layers
from worldmodel.backends.cpu.program import LayerProgram
from worldmodel.backends.cpu.weights import pack_core, pack_head
from worldmodel.kernels import compiled as kernels
from worldmodel.kernels.arrays import floats, in_threads
from worldmodel.kernels.functions import total
from worldmodel.nn.causal_conv import Past
from worldmodel.prior.categorical import FrameInputs, SampledTokens, SamplerConfig
from worldmodel.prior.core import SpatialCore
from worldmodel.prior.outcome import Outcome, OutcomeHead, SampledFrame
from worldmodel.prior.pixelcnn import PixelCNN


class CompiledPrior:
    """`start` and `step` of a `PixelCNN`, compiled with its present weights.

    Raises: NotCompilable for a network that the kernels do not run.
    """

    def __init__(self, prior: nn.Module):
        check_known(prior, PixelCNN)
        assert isinstance(prior, PixelCNN)
        self.plain = prior
        self.context = LayerProgram(prior.core.embedding.weight, prior.grid, first=prior.first)
        self.context.convolution(prior.in_proj)
        self.context.add_positions(prior.position[:, 0])
        write_layers(self.context, prior.blocks)
        self.core = CompiledCore(prior.core)
        self.outcome = None if prior.outcome is None else CompiledHead(prior.outcome)

    def start(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Past:
        """`PixelCNN.start`.

        Raises: ValueError for tokens or actions that are not this prior's.
        """
        seen = torch.cat([self.context.before_first(len(tokens))[:, None], tokens[:, :-1]], dim=1)
        past = None
        for token, action in zip(seen.unbind(1), actions.unbind(1), strict=True):
            past = self.context.carry(token, action, past)
        return past

    def step(
        self,
        state: Past,
        tokens: Int[Tensor, "b y x"],
        action: Float[Tensor, "b a"],
        noise: Float[Tensor, "b n"],
        sampler: SamplerConfig,
        temperature: Float[Tensor, "b"] | None = None,
    ) -> tuple[Past, SampledFrame]:
        """`PixelCNN.step`; `sampler.kind` may name a sampler in PyTorch instead."""
        if sampler.kind not in ("auto", "compiled"):
            return self.plain.step(state, tokens, action, noise, sampler, temperature)
        features, state = self.context.features(tokens, action, state)
        features, outcome = features[:, :, 0], None
        if self.outcome is not None:
            outcome = self.outcome.sample(features, noise[:, -1], sampler.allow_termination)
            self.outcome.add_outcome(features, outcome.drawn)
        if temperature is None:
            temperature = noise.new_full((len(noise),), sampler.effective_temperature)
        drawn = self.core.sample(FrameInputs(features, action, noise[:, :-1], temperature, tokens), sampler)
        return state, SampledFrame.of(drawn, total(drawn.nats), outcome)


class CompiledCore:
    """`sample` of a `SpatialCore`: computes each activation once, without the overhead of an operator per token."""

    def __init__(self, core: SpatialCore):
        check_known(core, SpatialCore)
        self.weights = pack_core(core)

    def sample(self, inputs: FrameInputs, config: SamplerConfig) -> SampledTokens:
        """The same tokens as the other samplers draw.

        Raises: ValueError for inputs that are not this core's.
        """
        b, c, rows, columns = inputs.context.shape
        weights = self.weights
        expected = (len(weights.condition), (b, len(weights.action)), (b, rows * columns), (b,))
        got = (c, *(tuple(each.shape) for each in (inputs.action, inputs.noise, inputs.temperature)))
        if got != expected:
            raise ValueError(f"expected context width, action, noise and temperature of {expected}, got {got}")
        features = floats(inputs.context.permute(0, 2, 3, 1)).reshape(b, rows * columns, c)
        tokens, nats = torch.empty(b, rows, columns, dtype=torch.long), torch.empty(b, rows, columns)
        numbers = (each.double().contiguous().numpy() for each in (inputs.noise, inputs.temperature))
        given = (weights, features, floats(inputs.action), *numbers, config.top_k, float(config.top_p))
        in_threads(lambda first, last: kernels.sample_tokens(first, last, *given, tokens.numpy(), nats.numpy()), b)
        return SampledTokens(tokens, nats, torch.ones(b, dtype=torch.long))


class CompiledHead:
    """`OutcomeHead`, each dream by itself."""

    def __init__(self, head: OutcomeHead):
        check_known(head, OutcomeHead)
        self.plain, self.weights = head, pack_head(head)
        self.given = floats(head.log_weight), head.rewards.double().numpy()
        self.shift = floats(head.shift)

    def add_outcome(self, context: Float[Tensor, "b c y x"], drawn: Int[Tensor, "b"]) -> None:
        """`OutcomeHead.with_outcome`, in place. In NumPy, as torch would wake its threads for this one sum."""
        sites = context.numpy().transpose(0, 2, 3, 1)
        sites += self.shift[drawn.numpy()][:, None, None]

    def scores(self, context: Float[Tensor, "b c y x"]) -> Float[Tensor, "b o"]:
        """`OutcomeHead.forward`.

        Raises: ValueError for a context that is not this head's.
        """
        b, c, rows, columns = context.shape
        expected = (len(self.weights.context), *self.plain.position.shape[1:])
        if (c, rows, columns) != expected:
            raise ValueError(f"expected context width and grid of {expected}, got {(c, rows, columns)}")
        features = floats(context.permute(0, 2, 3, 1)).reshape(b, rows * columns, c)
        scores = torch.empty(b, self.plain.out_proj.out_features)
        in_threads(lambda first, last: kernels.score_outcomes(first, last, self.weights, features, scores.numpy()), b)
        return scores

    def sample(
        self, context: Float[Tensor, "b c y x"], noise: Float[Tensor, "b"], allow_termination: bool = True
    ) -> Outcome:
        """`OutcomeHead.sample` of its scores."""
        scores, b, r = self.scores(context).numpy(), len(context), len(self.plain.rewards)
        drawn = torch.empty(b, dtype=torch.long)
        nats, expected, end = (torch.empty(b, dtype=torch.float64) for _ in range(3))
        found = (each.numpy() for each in (drawn, nats, expected, end))
        possible = scores.shape[1] if allow_termination else r
        kernels.outcome(scores, *self.given, noise.double().contiguous().numpy(), possible, *found)
        return Outcome(self.plain.rewards[drawn % r], drawn >= r, expected, end, drawn, nats)
