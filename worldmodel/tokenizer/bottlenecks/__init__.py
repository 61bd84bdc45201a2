"""Bottlenecks of the tokenizer, by the word that `tokenizer.bottleneck` takes. A new one is a file and an entry."""

from worldmodel.tokenizer.bottlenecks.bottleneck import Bottleneck, Quantized, QuantizerConfig
from worldmodel.tokenizer.bottlenecks.fsq import FiniteScalarQuantizer
from worldmodel.tokenizer.bottlenecks.rvq import ResidualVectorQuantizer
from worldmodel.tokenizer.bottlenecks.vq import VectorQuantizer, nearest, perplexity

BOTTLENECKS: dict[str, type[Bottleneck]] = {
    "vq": VectorQuantizer,
    "fsq": FiniteScalarQuantizer,
    "rvq": ResidualVectorQuantizer,
}

__all__ = ["BOTTLENECKS", "Bottleneck", "Quantized", "QuantizerConfig", "VectorQuantizer", "nearest", "perplexity"]
