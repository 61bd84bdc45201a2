"""Training: one loop, `fit`, for any module with `loss(batch)`, and the checkpoints that it resumes from."""

from worldmodel.training.fit import FitResult, fit
from worldmodel.training.interrupt import Interrupted
from worldmodel.training.optim import FitConfig

__all__ = ["FitConfig", "FitResult", "Interrupted", "fit"]
