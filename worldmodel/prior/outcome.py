"""The outcome of a step: its reward and whether the episode ended. The frame is then sampled given the outcome.

p(outcome, frame | past, action) = p(outcome | past, action) · p(frame | past, action, outcome) is exact, and the frame
of a kill or a goal agrees with its reward. The reverse order would have to recognize a rewarded step by its imagined
frame, so single tokens among hundreds would have to carry this information (docs/experiments.md).

Reward and termination are one sample from a table of probabilities: a column for each reward, a row for going on and
a row for ending. So events that coincide in the data (the goal and its reward) coincide in a dream. The columns are
the reward values of the data if these are few, as in most games: a dream then pays exactly the rewards of the
environment. Otherwise they are spread evenly in symlog, and a reward is split between its two neighbors (two-hot,
DreamerV3, arXiv 2301.04104, section "Robust predictions"), which needs no tuning to the scale of the rewards.

Rare outcomes weigh more in training, by the inverse square root of their frequency, and the scores are corrected for
this afterwards (logit adjustment, arXiv 2007.07314). So they are learned sooner, and probabilities stay calibrated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.prior.categorical import SampledTokens

MAX_REWARD_COLUMNS = 64  # up to this many distinct rewards, each has a column; with more, there are this many columns


def reward_values(rewards: Float32[np.ndarray, "n"]) -> tuple[float, ...]:
    """The columns for rewards like these, in order: the values themselves, or even in symlog from least to largest.

    Raises: ValueError for a reward that is not finite.
    """
    if not np.isfinite(rewards).all():
        raise ValueError("rewards: expected finite numbers in all episodes; clip them in the environment")
    values = np.unique(rewards).astype(np.float64)
    if len(values) > MAX_REWARD_COLUMNS:
        low, high = (np.sign(x) * np.log1p(np.abs(x)) for x in (values[0], values[-1]))
        even = np.linspace(low, high, MAX_REWARD_COLUMNS)
        values = np.sign(even) * np.expm1(np.abs(even))
    return tuple(values.tolist())


@dataclass(frozen=True)
class Outcome:
    """Reward and termination of one latent step, as drawn, and their probabilities.

    reward, ended: as drawn. expected: the mean reward. end: the probability of the end. drawn: its index
    in the table of outcomes; nats: −log of its probability.
    """

    reward: Float[Tensor, "b"]
    ended: Bool[Tensor, "b"]
    expected: Float[Tensor, "b"]
    end: Float[Tensor, "b"]
    drawn: Int[Tensor, "b"]
    nats: Float[Tensor, "b"]


@dataclass(frozen=True)
class SampledFrame:
    """The tokens of one latent, −log p of them and of the outcome in nats, and the outcome (None: not predicted).

    passes: how many passes over the frame the sampler made.
    """

    tokens: Int[Tensor, "b y x"]
    nats: Float[Tensor, "b"]
    passes: Int[Tensor, "b"]
    outcome: Outcome | None = None

    @classmethod
    def of(cls, drawn: SampledTokens, nats: Float[Tensor, "b"], outcome: Outcome | None) -> "SampledFrame":
        """Tokens with the sum of their nats, joined with the outcome."""
        joint = nats if outcome is None else nats + outcome.nats.float()
        return cls(drawn.tokens, joint, drawn.passes, outcome)


class OutcomeHead(nn.Module):
    """Context features of a latent → scores of its outcomes, `2 * r`: rewards if it goes on, then if it ends.

    Each site looks at its context and its position; the mean and the maximum over sites decide. `shift` holds what
    each outcome adds to the context from which the frame's tokens are drawn.
    """

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], rewards: tuple[float, ...]):
        super().__init__()
        self.context = nn.Conv2d(width, hidden, 1)
        self.position = nn.Parameter(torch.randn(hidden, *grid) * 0.1)
        self.inner = nn.Linear(2 * hidden, hidden)
        self.out_proj = nn.Linear(hidden, 2 * len(rewards))
        self.shift = nn.Parameter(torch.randn(2 * len(rewards), width) * 0.1)
        nn.init.zeros_(self.out_proj.weight)
        self.values = tuple(float(value) for value in rewards)
        self.rewards: Tensor
        self.log_weight: Tensor
        self.register_buffer("rewards", torch.tensor(rewards, dtype=torch.float64))
        self.register_buffer("log_weight", torch.zeros(2 * len(rewards)))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **more: Any) -> None:
        """Raises: ValueError for weights of other rewards: these decide what dreams pay."""
        found = state_dict.get(f"{prefix}rewards")
        if found is not None and not found.is_meta and found.tolist() != list(self.values):
            raise ValueError(
                f"rewards: config.json says {_few(self.values)}, but the weights hold {_few(found.tolist())}; put "
                "back what the weights hold, or train the prior again"
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **more)

    def forward(self, context: Float[Tensor, "n c y x"]) -> Float[Tensor, "n o"]:
        """Scores as they are trained; `probabilities` turns them into the probabilities that a dream samples from."""
        sites = F.silu(self.context(context) + self.position)
        seen = torch.cat([sites.mean((2, 3)), sites.amax((2, 3))], dim=1)
        return self.out_proj(F.silu(self.inner(seen)))

    def with_outcome(self, context: Float[Tensor, "n c y x"], drawn: Int[Tensor, "n"]) -> Float[Tensor, "n c y x"]:
        """The context of a frame, conditioned on the outcome of its step."""
        return context + F.embedding(drawn, self.shift)[:, :, None, None]

    def probabilities(self, scores: Float[Tensor, "*n o"]) -> Float[Tensor, "*n 2 r"]:
        """Probabilities, in float64, with the weights of training taken out again."""
        share = (scores.double() - self.log_weight.double()).softmax(-1)
        return share.unflatten(-1, (2, len(self.rewards)))

    def targets(self, rewards: Float[Tensor, "n"], ends: Bool[Tensor, "n"]) -> Float[Tensor, "n o"]:
        """Target probabilities: 1 for one outcome, or two shares for a reward between two columns."""
        n, values = len(rewards), self.rewards.to(rewards)
        above = torch.searchsorted(values, rewards.contiguous()).clamp(0, len(values) - 1)
        below = (above - 1).clamp_min(0)
        gap = (values[above] - values[below]).clamp_min(1e-12)
        share = ((rewards - values[below]) / gap).clamp(0, 1)
        share = torch.where(above == below, torch.ones_like(share), share)
        table = rewards.new_zeros(n, 2, len(values))
        row, place = ends.long(), torch.arange(n, device=rewards.device)
        table.index_put_((place, row, below), 1 - share, accumulate=True)
        table.index_put_((place, row, above), share, accumulate=True)
        return table.flatten(1)

    def loss(self, scores: Float[Tensor, "n o"], targets: Float[Tensor, "n o"]) -> Float[Tensor, ""]:
        """Weighted mean −log p, in nats."""
        return -(targets * self.log_weight.exp() * scores.float().log_softmax(-1)).sum(-1).mean()

    @torch.no_grad()
    def set_frequencies(self, frequencies: Float[Tensor, "o"]) -> None:
        """Set the weights from how often each outcome occurs in the training data; their mean over the data is 1."""
        share = (frequencies + 0.5) / (frequencies + 0.5).sum()
        weight = share.rsqrt()
        self.log_weight.copy_((weight / (weight * share).sum()).log())
        self.out_proj.bias.copy_((share * self.log_weight.exp()).log())

    def sample(
        self, scores: Float[Tensor, "n o"], uniform: Float[Tensor, "n"], allow_termination: bool = True
    ) -> Outcome:
        """One draw for each uniform number in [0, 1), and the probabilities."""
        share = self.probabilities(scores)
        flat = share[:, : 1 + allow_termination].flatten(1)
        reached = flat.cumsum(-1)
        index = torch.searchsorted(reached, (uniform * reached[:, -1])[:, None], right=True)
        index = index.clamp_max(flat.shape[1] - 1)
        nats, drawn = (reached[:, -1:] / flat.gather(1, index))[:, 0].log(), index[:, 0]
        r = len(self.rewards)
        expected = (share.sum(1) * self.rewards).sum(-1)
        return Outcome(self.rewards[drawn % r], drawn >= r, expected, share[:, 1].sum(-1), drawn, nats)


def _few(values: Sequence[float]) -> str:
    """The first numbers of many, and how many there are."""
    return f"{len(values)} ({', '.join(f'{value:g}' for value in values[:4])}{', ...' if len(values) > 4 else ''})"
