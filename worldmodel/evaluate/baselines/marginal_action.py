"""Marginalizes the prior over actions, to measure how many bits the action saves."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium.spaces import Discrete
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.interfaces import Prior
from worldmodel.nn.actions import ActionEncoder

MAX_ACTIONS = 64  # actions into one latent that are summed over; with more of them there is no such metric
COUNT_SMOOTHING = 1.0  # added to the count of each action


@dataclass(frozen=True)
class ActionMarginal:
    """p(z | past) = Σₐ π(a) p(z | past, a): a sum over all actions a into the latent; π(a) is the
    frequency of a.

    It knows the past actions, so it knows more than a prior that was trained without actions.
    """

    vectors: Float[Tensor, "m a"]  # encoded; the actions of a time stride side by side
    share: Float[Tensor, "m"]

    @classmethod
    def learn(cls, store: EpisodeStore, episodes: Sequence[int], stride: int) -> "ActionMarginal | None":
        """With the frequencies in these episodes; None if actions are not discrete, or too many."""
        space = store.info.action_space
        if not isinstance(space, Discrete) or space.n**stride > MAX_ACTIONS:
            return None
        counts = np.full(int(space.n) ** stride, COUNT_SMOOTHING)
        places = int(space.n) ** np.arange(stride)[::-1]
        for index in episodes:
            actions = store.actions(index) - int(space.start)
            whole = actions[: len(actions) // stride * stride].reshape(-1, stride)
            counts += np.bincount(whole @ places, minlength=len(counts))
        choices = np.array(list(itertools.product(range(int(space.n)), repeat=stride))) + int(space.start)
        vectors = ActionEncoder(space).encode(choices).reshape(len(counts), -1)
        return cls(torch.from_numpy(vectors), torch.from_numpy(counts / counts.sum()))

    def entropy(self) -> float:
        """Bits of the actions into a latent.

        As p(z | past) ≥ π(a) p(z | past, a), knowing the actions saves no more on average, if they
        occur as π says."""
        return float(-(self.share * self.share.log2()).sum())

    @torch.no_grad()
    def bits(
        self, prior: Prior, tokens: Int[Tensor, "b s y x"], action_inputs: Float[Tensor, "b s a"]
    ) -> Float[Tensor, "b s1"]:
        """−log2 p of each latent but the first, over all its tokens; the actions before it are the
        true ones."""
        state = prior.start(tokens[:, :1], torch.zeros_like(action_inputs[:, :1]))
        log_shares, found = self.share.log().to(action_inputs.device), []
        for s in range(1, tokens.shape[1]):
            last, newest = tokens[:, s - 1], tokens[:, s]
            under = [vector.to(action_inputs).expand(len(tokens), -1) for vector in self.vectors]
            nats = [prior.score(state, last, action, newest)[1] for action in under]
            found.append(-torch.logsumexp(log_shares - torch.stack(nats, dim=1), dim=1) / math.log(2))
            state, _ = prior.score(state, last, action_inputs[:, s], newest)
        return torch.stack(found, dim=1)
