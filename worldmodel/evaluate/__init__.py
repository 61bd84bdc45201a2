"""How far to trust a world: measurements on held-out episodes."""

from worldmodel.evaluate.metrics import (
    copy_accuracy,
    event_figures,
    likelihood,
    marginal_bits,
    open_loop,
    outcomes,
    psnr,
    reconstruction,
    squared_error,
)

__all__ = [
    "copy_accuracy",
    "event_figures",
    "likelihood",
    "marginal_bits",
    "open_loop",
    "outcomes",
    "psnr",
    "reconstruction",
    "squared_error",
]
