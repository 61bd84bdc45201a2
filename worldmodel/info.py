"""What a world imitates: its frames, actions and environment, and how it was trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gymnasium import Space

from worldmodel.io.config import from_mapping
from worldmodel.nn.action_scale import Scale, check_scale, plausible_actions
from worldmodel.nn.actions import space_from_json, space_to_json
from worldmodel.prior.categorical import SamplerConfig


@dataclass
class WorldInfo:
    """What the world imitates: its frames, its actions (None: it has none) and, for the record, its env.

    longest: steps of the longest training episode. max_steps: steps after which the environment, or the collection,
    cuts an episode (None: as `env` says, if it does). trust_horizon: steps up to which dreams were measured to hold.
    temperature, temperature_until: as in `SamplerConfig`, for samplers that do not set them; the trust horizon was
    measured with these. trained: the courses of the trainings of tokenizer and prior (see `FitResult.course`).
    action_scale: center and spread of the axes of a Box whose bounds say nothing (see `fit_action_scale`).
    """

    frame_shape: tuple[int, int, int]
    action_space: Space | None
    action_names: tuple[str, ...] = ()
    env: dict[str, Any] = field(default_factory=dict)
    longest: int | None = None
    trust_horizon: int | None = None
    temperature: float = 1.0
    temperature_until: int = 0
    trained: dict[str, Any] = field(default_factory=dict)
    action_scale: Scale | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        check_scale(self.action_space, self.action_scale)
        if min(self.frame_shape) < 1:
            raise ValueError(f"frame_shape: expected numbers of 1 or more, got {self.frame_shape}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps: expected 1 or more, got {self.max_steps}")
        SamplerConfig(temperature=self.temperature, temperature_until=self.temperature_until)  # checks both

    @property
    def reachable(self) -> Space | None:
        """The space to draw random actions from: the action space, or the part of it near the data."""
        return None if self.action_space is None else plausible_actions(self.action_space, self.action_scale)

    def to_json(self) -> dict[str, Any]:
        scale = {} if self.action_scale is None else {"action_scale": [x and list(x) for x in self.action_scale]}
        space = None if self.action_space is None else space_to_json(self.action_space)
        return {
            "frame_shape": list(self.frame_shape),
            "action_space": space,
            "action_names": list(self.action_names),
            "env": self.env,
            "longest": self.longest,
            **({} if self.max_steps is None else {"max_steps": self.max_steps}),
            "trust_horizon": self.trust_horizon,
            "temperature": self.temperature,
            "temperature_until": self.temperature_until,
            **({"trained": self.trained} if self.trained else {}),
            **scale,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "WorldInfo":
        space = values["action_space"]
        return from_mapping(cls, {**values, "action_space": None if space is None else space_from_json(space)}, "info")
