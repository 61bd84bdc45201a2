"""How good agents are: returns in real environments and in dreams, with intervals, and whether both
agree."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import gymnasium
import numpy as np
from jaxtyping import Float

from worldmodel.agents import Agent
from worldmodel.dream.spaces import Observation
from worldmodel.dream.vector_env import DreamVectorEnv
from worldmodel.evaluate.statistics.nested import nested_bootstrap
from worldmodel.world import WorldModel

EXPLOITED = 2.0  # widths of the real interval by which a dream return must exceed it to count as an exploit


@runtime_checkable
class DreamAgent(Protocol):
    """An agent that can act in many dreams at once."""

    @property
    def obs(self) -> Observation: ...

    def act(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...


def returns(
    make_env: Callable[[], gymnasium.Env], agent: Agent, episodes: int, seed: int, max_steps: int | None = None
) -> Float[np.ndarray, "n"]:
    """The return of each of `episodes` episodes: episode i is a function of (seed, i) and the
    agent."""
    env = make_env()
    try:
        return np.array([_play(env, agent, (seed, i), max_steps) for i in range(episodes)])
    finally:
        env.close()


def _play(env: gymnasium.Env, agent: Agent, key: tuple[int, int], max_steps: int | None) -> float:
    sequence = np.random.SeedSequence(key)
    frame, _ = env.reset(seed=int(sequence.generate_state(1)[0] >> 1))
    policy, total, steps, over = agent.episode(np.random.default_rng(sequence.spawn(1)[0])), 0.0, 0, False
    while not over and (max_steps is None or steps < max_steps):
        frame, reward, terminated, truncated, _ = env.step(policy(frame))
        total, steps, over = total + float(reward), steps + 1, bool(terminated or truncated)
    return total


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation; ties share their mean rank. NaN if all values of one side are equal."""
    ranks = [_ranks(np.asarray(x, np.float64)) for x in (a, b)]
    centered = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt(np.square(centered[0]).sum() * np.square(centered[1]).sum())
    return float((centered[0] * centered[1]).sum() / scale) if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    below = (values[None] < values[:, None]).sum(1)
    return below + ((values[None] == values[:, None]).sum(1) - 1) / 2


def ranking(
    real: Mapping[str, Sequence[float] | np.ndarray], dreamed: Mapping[str, Sequence[float] | np.ndarray]
) -> dict[str, float | None]:
    """Whether dreams rank policies as the real environment does, from the returns of each in both.

    spearman: of the mean returns. regret_at_1: the real return lost by choosing the policy that is
    best in dreams, as a share of the difference between the best and the worst. exploited/NAME: 1
    if a policy's dream return is above its real interval by more than twice the width of the
    interval, so the policy exploits errors of the world. None: not applicable, as all policies have
    the same return.

    Raises: ValueError if both do not name the same policies, or fewer than two.
    """
    if set(real) != set(dreamed) or len(real) < 2:
        raise ValueError(f"ranking: expected the same two policies or more, got {sorted(real)} and {sorted(dreamed)}")
    names = list(real)
    means = {name: (nested_bootstrap([real[name]]), float(np.mean(dreamed[name]))) for name in names}
    truth, dream = [means[n][0].mean for n in names], [means[n][1] for n in names]
    spread = max(truth) - min(truth)
    chosen = truth[int(np.argmax(dream))]
    rank = spearman(truth, dream)
    found: dict[str, float | None] = {"spearman": rank if math.isfinite(rank) else None}
    found["regret_at_1"] = (max(truth) - chosen) / spread if spread else None
    for name, (interval, dreamed_mean) in means.items():
        over = dreamed_mean - interval.high > EXPLOITED * (interval.high - interval.low)
        found[f"exploited/{name}"] = float(over)
    return found


def dream_returns(agent: DreamAgent, world: WorldModel, episodes: int, seed: int) -> Float[np.ndarray, "n"]:
    """The return of each of `episodes` dreams that start where real episodes start.

    They last as long as real episodes do, like dreams by default."""
    dreams = DreamVectorEnv(episodes, world=world, obs=agent.obs, autoreset_mode="Disabled")
    rng = np.random.default_rng(seed)
    seen, _ = dreams.reset(seed=seed)
    total, going = np.zeros(episodes), np.ones(episodes, bool)
    while going.any():
        seen, rewards, terminated, truncated, _ = dreams.step(agent.act(seen, rng))
        total += rewards * going
        over = terminated | truncated
        going &= ~over
        if over.any() and going.any():  # these start again beside the others, but no longer count
            seen, _ = dreams.reset(options={"reset_mask": over})
    return total
