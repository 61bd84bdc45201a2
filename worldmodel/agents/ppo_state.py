"""The state of a PPO training between two rollouts, as tensors and JSON, without pickle.

In dreams the state is complete: policy, optimizer, statistics of rewards, random generators, and the dreams. A training
that continues from it on the same machine and on the CPU equals one that never stopped, to the last bit. Real
environments cannot be saved, so with them the training continues with new episodes.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize
from torch import Tensor

from worldmodel.agents.sb3 import DreamVecEnv
from worldmodel.dream.batch import Snapshot
from worldmodel.nn.causal_conv import Past
from worldmodel.state import PER_DREAM, DreamState

Groups = dict[str, dict[str, Tensor]]  # named tensors, a group for each file


def ppo_state(model: PPO) -> tuple[Groups, dict[str, Any]]:
    """The state for `load_ppo_state`, without the optimizer's: groups of tensors, and values for JSON.

    Call it between two rollouts: after PPO has trained on one, and before it starts the next.
    """
    venvs = _venvs(model)
    tensors: Groups = {
        "policy": dict(model.policy.state_dict()),
        "chance": _random_states(),
        "rollout": _rollout(model),
    }
    values: dict[str, Any] = {"steps": model.num_timesteps, "updates": model._n_updates}
    values["episodes"] = [[float(each["r"]), int(each["l"]), float(each["t"])] for each in model.ep_info_buffer or ()]
    tensors["rewards"] = _reward_statistics(venvs)
    if isinstance(dream := venvs[-1], DreamVecEnv):
        tensors["dreams"], values["dreams"] = _dream_state(dream.dreams.snapshot())
    return tensors, values


def load_ppo_state(model: PPO, tensors: Groups, values: Mapping[str, Any], seed: int) -> None:
    """Load the state into a PPO with the same settings; its next `learn` must not reset the number of steps.

    Real environments are reset with `seed` and start new episodes.

    Raises: ValueError, KeyError or RuntimeError if the state belongs to another training.
    """
    venvs = _venvs(model)
    model.policy.load_state_dict(tensors["policy"])
    model.num_timesteps, model._n_updates = int(values["steps"]), int(values["updates"])
    episodes = [dict(zip("rlt", each, strict=True)) for each in values["episodes"]]
    model.ep_info_buffer = deque(episodes, maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    _load_reward_statistics(venvs, tensors["rewards"])
    if isinstance(dream := venvs[-1], DreamVecEnv):
        dream.dreams.restore(_snapshot(tensors["dreams"], values["dreams"]))
        _load_rollout(model, tensors["rollout"])
    else:
        model.env.seed(seed)  # pyright: ignore[reportOptionalMemberAccess]
        model._last_obs = model.env.reset()  # pyright: ignore
        model._last_episode_starts = np.ones(model.n_envs, bool)
    _load_random_states(tensors["chance"])  # last, as the lines above may draw random numbers


def _venvs(model: PPO) -> list[VecEnv]:
    """The environment and all that it wraps, the innermost last."""
    found: list[VecEnv] = [model.env]  # pyright: ignore[reportAssignmentType]
    while (inner := getattr(found[-1], "venv", None)) is not None:
        found.append(inner)
    return found


def _rollout(model: PPO) -> dict[str, Tensor]:
    """The observations and flags that the next rollout starts with."""
    return {"seen": _tensor(model._last_obs), "starts": _tensor(model._last_episode_starts)}


def _load_rollout(model: PPO, tensors: Mapping[str, Tensor]) -> None:
    model._last_obs, model._last_episode_starts = tensors["seen"].numpy(), tensors["starts"].numpy()


def _reward_statistics(venvs: Sequence[VecEnv]) -> dict[str, Tensor]:
    """The running statistics of VecNormalize and VecMonitor."""
    found = {}
    for venv in venvs:
        if isinstance(venv, VecNormalize):
            spread = venv.ret_rms
            found |= {"mean": _tensor(spread.mean), "var": _tensor(spread.var), "count": _tensor(spread.count)}
            found["returns"] = _tensor(venv.returns)
        if isinstance(venv, VecMonitor):
            found |= {"episode_returns": _tensor(venv.episode_returns), "lengths": _tensor(venv.episode_lengths)}
    return found


def _load_reward_statistics(venvs: Sequence[VecEnv], tensors: Mapping[str, Tensor]) -> None:
    """Load the running statistics. Those of unfinished episodes matter in dreams alone, as a real reset clears them."""
    for venv in venvs:
        if isinstance(venv, VecNormalize):
            venv.ret_rms.mean, venv.ret_rms.var = tensors["mean"].numpy(), tensors["var"].numpy()
            venv.ret_rms.count, venv.returns = float(tensors["count"]), tensors["returns"].numpy()
        if isinstance(venv, VecMonitor):
            venv.episode_returns = tensors["episode_returns"].numpy()
            venv.episode_lengths = tensors["lengths"].numpy()


def _random_states() -> dict[str, Tensor]:
    """The state of the three generators that Stable-Baselines3 seeds."""
    name, keys, *rest = np.random.get_state()
    assert name == "MT19937"
    version, words, normal = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": _tensor(np.asarray(keys, np.int64)),
        "numpy_rest": torch.tensor([float(value) for value in rest], dtype=torch.float64),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_normal": torch.tensor([] if normal is None else [normal], dtype=torch.float64),
    }


def _load_random_states(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["torch"])
    place, has_normal, normal = tensors["numpy_rest"].tolist()
    np.random.set_state(("MT19937", tensors["numpy"].numpy().astype(np.uint32), int(place), int(has_normal), normal))
    version, *words = tensors["python"].tolist()
    rest = tensors["python_normal"].tolist()
    random.setstate((version, tuple(words), rest[0] if rest else None))


def _dream_state(moment: Snapshot) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A snapshot of dreams as tensors, and the structure of what is nested in it."""
    tensors = {name: getattr(moment.state, name) for name in PER_DREAM}
    tensors |= {"elapsed": _tensor(moment.elapsed), "over": _tensor(moment.over)}
    values: dict[str, Any] = {"seed": moment.state.seed, "seeds": [int(seed) for seed in moment.seeds]}
    values["generators"] = [generator.bit_generator.state for generator in moment.generators]
    for part in ("context", "decoder"):
        leaves = dict(_leaves(getattr(moment.state, part), part))
        tensors |= leaves
        values[part] = _structure(getattr(moment.state, part), iter(leaves))
    return tensors, values


def _snapshot(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Snapshot:
    parts = {part: _rebuilt(values[part], tensors) for part in ("context", "decoder")}
    state = DreamState(**parts, **{name: tensors[name] for name in PER_DREAM}, seed=int(values["seed"]))
    generators = tuple(_generator(each) for each in values["generators"])
    elapsed, over = (tensors[name].numpy() for name in ("elapsed", "over"))
    return Snapshot(state, elapsed, over, generators, tuple(values["seeds"]))


def _leaves(past: Past, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a nested past, each by its place in it."""
    if isinstance(past, tuple):
        for number, part in enumerate(past):
            yield from _leaves(part, f"{name}.{number}")
    elif past is not None:
        yield name, past


def _structure(past: Past, names: Iterator[str]) -> Any:
    """The same nesting as JSON: lists, the names of tensors, and null."""
    if isinstance(past, tuple):
        return [_structure(part, names) for part in past]
    return None if past is None else next(names)


def _rebuilt(structure: Any, tensors: Mapping[str, Tensor]) -> Past:
    if isinstance(structure, list):
        return tuple(_rebuilt(part, tensors) for part in structure)
    return None if structure is None else tensors[structure]


def _generator(state: dict[str, Any]) -> np.random.Generator:
    """Gymnasium's generators are PCG64."""
    bits = np.random.PCG64()
    bits.state = state  # pyright: ignore[reportAttributeAccessIssue]
    return np.random.Generator(bits)


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values))
