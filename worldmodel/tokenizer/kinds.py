"""The kinds of tokenizer that a world may have, by the `kind` of its config.json."""

from worldmodel.nn.kinds import Kinds
from worldmodel.tokenizer.vqvae import VQVAE, TokenizerConfig

TOKENIZERS = Kinds("tokenizer", vqvae=(VQVAE, TokenizerConfig))
