"""Residual vector quantization of depth 2: a code, and a second code for the residual.

After SoundStream (Zeghidour et al. 2021, arXiv 2107.03312, section III-C). K + K codes describe K · K vectors.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.tokenizer.bottlenecks.bottleneck import Bottleneck, Quantized, QuantizerConfig
from worldmodel.tokenizer.bottlenecks.vq import VectorQuantizer

DEPTH = 2


class ResidualVectorQuantizer(Bottleneck):
    """Two codebooks. Each vector has two tokens side by side: the coarse one, in [0, K), and the fine one, in [K, 2K).

    If a fine token stands in the place of a coarse one, or the reverse, the code of the same number is used.
    """

    tokens_per_site = DEPTH

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        self.config = config
        self.codes = DEPTH * config.codes
        self.coarse, self.fine = VectorQuantizer(config), VectorQuantizer(config)

    @property
    def quantizers(self) -> tuple[VectorQuantizer, VectorQuantizer]:
        """The two quantizers; the second one quantizes the residual of the first."""
        return self.coarse, self.fine

    def forward(self, z: Float[Tensor, "*n x d"]) -> Quantized:
        rest, tokens, loss = z.float(), [], z.new_zeros((), dtype=torch.float)
        if self.training and not self.quantizers[0].initialized:
            self.init_from_data(rest.detach().flatten(0, -2))
        for quantizer in self.quantizers:
            found = quantizer(rest)
            rest = rest - quantizer.vectors(found.tokens).detach()
            tokens.append(found.tokens)
            loss = loss + found.loss
        side_by_side = self._side_by_side(tokens)
        vectors = self.vectors(side_by_side)
        return Quantized(side_by_side, z + (vectors - z).detach(), loss)

    @torch.no_grad()
    def quantize(self, z: Float[Tensor, "*n x d"]) -> Int[Tensor, "*n x2"]:
        rest, tokens = z.float(), []
        for quantizer in self.quantizers:
            tokens.append(quantizer.quantize(rest))
            rest = rest - quantizer.vectors(tokens[-1])
        return self._side_by_side(tokens)

    def vectors(self, tokens: Int[Tensor, "*n x2"]) -> Float[Tensor, "*n x d"]:
        pairs = tokens.unflatten(-1, (-1, DEPTH)) % self.config.codes
        coarse, fine = pairs.unbind(-1)
        return self.coarse.vectors(coarse) + self.fine.vectors(fine)

    @torch.no_grad()
    def embed(self, tokens: Int[Tensor, "*n x2"]) -> Float[Tensor, "*n x2 e"]:
        every = torch.arange(self.config.codes, device=tokens.device)
        return nn.functional.embedding(tokens, torch.cat([quantizer.embed(every) for quantizer in self.quantizers]))

    @torch.no_grad()
    def init_from_data(self, z: Float[Tensor, "n d"]) -> None:
        for quantizer in self.quantizers:
            quantizer.init_from_data(z)
            z = z - quantizer.vectors(quantizer.quantize(z))

    def _side_by_side(self, tokens: list[Tensor]) -> Int[Tensor, "*n x2"]:
        own = [part + i * self.config.codes for i, part in enumerate(tokens)]
        return torch.stack(own, dim=-1).flatten(-2)
