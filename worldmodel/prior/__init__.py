"""Tokens and actions → next tokens: the action-conditioned PixelCNN prior and its samplers."""

from worldmodel.prior.categorical import FrameInputs, SampledTokens, SamplerConfig
from worldmodel.prior.kinds import PRIORS
from worldmodel.prior.noise import uniform
from worldmodel.prior.outcome import Outcome, SampledFrame, reward_values
from worldmodel.prior.pixelcnn import PixelCNN, PriorConfig
from worldmodel.prior.samplers import sample

__all__ = [
    "PRIORS",
    "FrameInputs",
    "Outcome",
    "PixelCNN",
    "PriorConfig",
    "SampledFrame",
    "SampledTokens",
    "SamplerConfig",
    "reward_values",
    "sample",
    "uniform",
]
