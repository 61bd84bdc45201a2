"""The spatial core of the prior: logits of a frame's tokens, each given the earlier ones in raster order."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.prior.layers import ActionLinear, GatedLayer, shift_down, shift_right


class SpatialCore(nn.Module):
    """A gated PixelCNN over one frame, conditioned on the context and the action.

    Args: codes, the size K of the vocabulary; embed, channels of a token's embedding, which input and output share;
    context and action, the widths of both conditions; width and depth, of the core itself.
    """

    def __init__(self, codes: int, embed: int, context: int, action: int, width: int, depth: int):
        super().__init__()
        self.embedding = nn.Embedding(codes, embed)
        nn.init.normal_(self.embedding.weight, std=embed**-0.5)
        self.in_proj = nn.Conv2d(embed, 2 * width, 1)
        self.condition = nn.Conv2d(context, 4 * width * depth, 1)
        self.action = ActionLinear(action, 4 * width * depth)
        self.layers = nn.ModuleList(GatedLayer(width, last=i == depth - 1) for i in range(depth))
        self.out_proj = nn.Conv2d(width, embed, 1)
        self.shortcut = nn.Conv2d(context, embed, 1)
        self.bias = nn.Parameter(torch.zeros(codes))

    def conditions(
        self, context: Float[Tensor, "n c y x"], action: Float[Tensor, "n a"]
    ) -> list[Float[Tensor, "n w4 y x"]]:
        """What context and action add to the gates of each layer, once per frame."""
        both = self.condition(context) + self.action(action)[:, :, None, None]
        return list(both.chunk(len(self.layers), dim=1))

    def logits(self, features: Float[Tensor, "n e *yx"]) -> Float[Tensor, "n *yx k"]:
        """Logits of all codes: the product with their embeddings."""
        return F.linear(F.silu(features).movedim(1, -1), self.embedding.weight, self.bias)

    def forward(
        self, tokens: Int[Tensor, "n y x"], context: Float[Tensor, "n c y x"], action: Float[Tensor, "n a"]
    ) -> Float[Tensor, "n y x k"]:
        v, h = self.in_proj(self.embedding(tokens).movedim(-1, 1)).chunk(2, dim=1)
        v, h = shift_down(v), shift_right(h)
        for layer, condition in zip(self.layers, self.conditions(context, action), strict=True):
            v, h = layer(v, h, condition)
        return self.logits(self.out_proj(h) + self.shortcut(context))
