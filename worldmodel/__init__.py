"""Learn an environment from pixels, then dream it: a causal VQ-VAE tokenizer and a PixelCNN prior over its tokens.

world = WorldModel.load("runs/demo/world")
video = world.imagine(frames, actions, horizon=500)
env = gymnasium.make("worldmodel/Dream-v0", world="runs/demo/world")
"""

from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from worldmodel.api import collect, train
    from worldmodel.dream import DreamEnv, DreamVectorEnv
    from worldmodel.prior import SamplerConfig
    from worldmodel.world import WorldModel

__version__ = "0.3.0"
__all__ = ["DreamEnv", "DreamVectorEnv", "SamplerConfig", "WorldModel", "__version__", "collect", "train"]

gymnasium.register(
    "worldmodel/Dream-v0",
    entry_point="worldmodel.dream:DreamEnv",
    vector_entry_point="worldmodel.dream:DreamVectorEnv",
)


def __getattr__(name: str) -> Any:
    """Import the public classes when they are asked for: the processes that collect episodes need no PyTorch."""
    if name == "WorldModel":
        from worldmodel.world import WorldModel

        return WorldModel
    if name == "SamplerConfig":
        from worldmodel.prior import SamplerConfig

        return SamplerConfig
    if name in ("DreamEnv", "DreamVectorEnv"):
        from worldmodel import dream

        return getattr(dream, name)
    if name in ("collect", "train"):
        from worldmodel import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
