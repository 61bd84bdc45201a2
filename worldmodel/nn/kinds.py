"""Registries of model classes, by the word `kind` in a model's config.json."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from worldmodel.io.config import from_mapping, to_dict

M = TypeVar("M")


class Kinds(Generic[M]):
    """Maps each kind to a class and the dataclass of its settings.

    `Kinds("prior", pixelcnn=(PixelCNN, PriorConfig))`: a model of that class has its settings in `config`, and its
    class takes them as the first argument. A new kind is one more entry.
    """

    def __init__(self, part: str, default: str = "", **kinds: tuple[Callable[..., M], type]):
        self.part, self.default, self.kinds = part, default or next(iter(kinds)), kinds

    def describe(self, model: Any) -> dict[str, Any]:
        """The settings of a model and the word for its kind, as plain values for JSON.

        Raises: TypeError for a class that is not registered; subclasses need an entry of their own.
        """
        for kind, (made, _) in self.kinds.items():
            if type(model) is made:
                return {"kind": kind, **to_dict(model.config)}
        raise TypeError(
            f"{self.part}: {type(model).__name__} is none of {', '.join(self.kinds)}, so it cannot be saved; give its "
            "class an entry in the registry"
        )

    def build(self, values: Mapping[str, Any], *args: Any) -> M:
        """A new model from `describe`'s values; `args` go to its class after the settings.

        Raises: ValueError for an unknown kind or settings; TypeError for settings of a wrong type.
        """
        made, schema = self[values.get("kind", self.default)]
        settings = {key: value for key, value in values.items() if key != "kind"}
        return made(from_mapping(schema, settings, self.part), *args)

    def __getitem__(self, kind: Any) -> tuple[Callable[..., M], type]:
        if not isinstance(kind, str) or kind not in self.kinds:
            raise ValueError(f"{self.part}.kind: expected one of {', '.join(self.kinds)}, got {kind!r}")
        return self.kinds[kind]
