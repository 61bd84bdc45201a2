"""Models on disk from worldmodel 0.1, in today's words: the names of their settings and weights.

Nothing is written back: a folder stays as it is until its model is saved again.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

V = TypeVar("V")

NAMES = {  # parts of a weight's dotted name in 0.1 → today
    "quantizer": "bottleneck",
    "begun": "initialized",
    "mass": "cluster_size",
    "sums": "embedding_sum",
    "enter": "in_proj",
    "leave": "out_proj",
    "place": "position",
    "start": "first",
    "tell": "shift",
}


def current_names(tensors: Mapping[str, V]) -> dict[str, V]:
    """The same tensors (or shapes) by today's names."""
    return {".".join(NAMES.get(part, part) for part in name.split(".")): value for name, value in tensors.items()}


def current_tokenizer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a tokenizer in today's words."""
    return {"focal_gamma" if key == "focus" else key: value for key, value in settings.items()}


def current_prior(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a prior in today's words.

    Raises: ValueError for a prior that was trained for a feature that is gone.
    """
    if settings.get("action_dropout", 0):
        raise ValueError(
            "prior.action_dropout: this world was trained for action guidance, which is gone; the git tag "
            "before-pruning still reads it"
        )
    return {key: value for key, value in settings.items() if key != "action_dropout"}
