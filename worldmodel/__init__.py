"""Learn an environment from pixels, then dream it: a causal VQ-VAE tokenizer and a PixelCNN prior over its tokens.

world = WorldModel.load("runs/demo/world")
video = world.imagine(frames, actions, horizon=500)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldmodel.prior import SamplerConfig
    from worldmodel.world import WorldModel

__version__ = "0.1.0"
__all__ = ["SamplerConfig", "WorldModel", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the public classes when they are asked for: the processes that collect episodes need no PyTorch."""
    if name == "WorldModel":
        from worldmodel.world import WorldModel

        return WorldModel
    if name == "SamplerConfig":
        from worldmodel.prior import SamplerConfig

        return SamplerConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
