"""Clips ⇄ tokens: the causal 3-D VQ-VAE and its bottlenecks."""

from worldmodel.tokenizer.bottlenecks import QuantizerConfig, nearest, perplexity
from worldmodel.tokenizer.kinds import TOKENIZERS
from worldmodel.tokenizer.storage import fingerprint, load_tokenizer, save_tokenizer, tokenize
from worldmodel.tokenizer.vqvae import VQVAE, TokenizerConfig, latents_of

__all__ = [
    "TOKENIZERS",
    "VQVAE",
    "QuantizerConfig",
    "TokenizerConfig",
    "fingerprint",
    "latents_of",
    "load_tokenizer",
    "nearest",
    "perplexity",
    "save_tokenizer",
    "tokenize",
]
