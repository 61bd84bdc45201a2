"""How far to trust a world: measurements on held-out episodes."""

from worldmodel.evaluate.measures.images import psnr, squared_error, ssim
from worldmodel.evaluate.metrics import likelihood, reconstruction

__all__ = ["likelihood", "psnr", "reconstruction", "squared_error", "ssim"]
