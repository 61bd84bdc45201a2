"""Trainings of agents that continue where they were stopped; their state is in OUT/resume until they end."""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from worldmodel.agents.ppo_state import load_ppo_state, ppo_state
from worldmodel.training.run_state import Checkpoint, latest, load_optimizer_tensors, optimizer_tensors, save

FOLDER = "resume"
NEW_EPISODES = "real environments cannot be saved: new episodes start, so the agent differs from an uninterrupted one"


class Resume(BaseCallback):
    """Saves the state of a training before each rollout except the first, and restores it.

    made: all that decides the agent; a state made with anything else is deleted. progress: values of another
    callback, updated in place. seed: for the new episodes of environments that cannot be saved.
    """

    def __init__(self, out: Path, made: dict[str, Any], progress: dict[str, Any], seed: int):
        super().__init__()
        self.folder, self.made, self.kept, self.seed = out / FOLDER, made, progress, seed
        self.steps = 0  # of the newest saved state

    def find(self) -> Checkpoint | None:
        """The newest state of this training, or None.

        Raises: ValueError if there are states and all of them are damaged.
        """
        found = latest(self.folder)
        return found if found is not None and found.progress.get("made_with") == self.made else None

    def take_up(self, model: PPO, found: Checkpoint | None) -> None:
        """Restore a state into a new model, and say so; without one, delete those of other trainings."""
        if found is None:
            self.forget()
            return
        self.steps = found.step
        load_optimizer_tensors(model.policy.optimizer, found.tensors.pop("optimizer"))
        load_ppo_state(model, found.tensors, found.progress["ppo"], self.seed + found.step)
        self.kept.update(found.progress["kept"])
        note = "" if "dreams" in found.tensors else f"; {NEW_EPISODES}"
        print(f"agent: continues from step {found.step}{note}", file=sys.stderr)

    def forget(self) -> None:
        """Delete all states."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _on_rollout_start(self) -> None:
        if self.num_timesteps > self.steps:
            assert isinstance(self.model, PPO)
            tensors, values = ppo_state(self.model)
            tensors["optimizer"] = optimizer_tensors(self.model.policy.optimizer)
            progress = {"made_with": self.made, "ppo": values, "kept": self.kept, "threads": torch.get_num_threads()}
            save(self.folder, Checkpoint(self.num_timesteps, tensors, progress))
            self.steps = self.num_timesteps

    def _on_step(self) -> bool:
        return True
