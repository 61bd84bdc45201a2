"""Tokens and actions → next tokens: the action-conditioned PixelCNN prior and its samplers."""

from worldmodel.prior.categorical import Draw, SamplerConfig
from worldmodel.prior.noise import uniform
from worldmodel.prior.outcome import Outcome, reward_values
from worldmodel.prior.pixelcnn import PixelCNN, PriorConfig
from worldmodel.prior.samplers import resolve, sample

__all__ = [
    "Draw",
    "Outcome",
    "PixelCNN",
    "PriorConfig",
    "SamplerConfig",
    "resolve",
    "reward_values",
    "sample",
    "uniform",
]
