"""Clips ⇄ tokens: the causal 3-D VQ-VAE."""

from worldmodel.tokenizer.quantizer import QuantizerConfig, nearest, perplexity
from worldmodel.tokenizer.storage import fingerprint, load_tokenizer, save_tokenizer, tokenize
from worldmodel.tokenizer.vqvae import VQVAE, TokenizerConfig

__all__ = [
    "VQVAE",
    "QuantizerConfig",
    "TokenizerConfig",
    "fingerprint",
    "load_tokenizer",
    "nearest",
    "perplexity",
    "save_tokenizer",
    "tokenize",
]
