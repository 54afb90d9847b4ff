"""Self-attention over a window of time, for generators.

The context is bounded, and the cost is linear in the length.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class WindowedAttention(nn.Module):
    """Residual multi-head self-attention over `reach` steps each side: (B, N, C) -> same.

    heads: must divide width. Positions enter as a learned bias per head and distance. The sequence
    is cut into blocks of `reach` steps, each of which looks at itself and its two neighbours; where
    the blocks begin changes nothing.
    """

    distance: Tensor

    def __init__(self, width: int, heads: int, reach: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"attention_heads {heads} does not divide width {width}")
        self.heads, self.reach = heads, reach
        self.norm = nn.LayerNorm(width)
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, 2 * reach + 1))
        # The distance of each key from each query (reach, 3 reach)
        distance = torch.arange(3 * reach) - reach - torch.arange(reach)[:, None]
        self.register_buffer("distance", distance, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        length, reach = hidden.shape[1], self.reach
        query, key, value = self.project_in(self.norm(hidden)).chunk(3, dim=-1)
        missing = -length % reach
        blocks = (length + missing) // reach
        query = rearrange(
            F.pad(query, (0, 0, 0, missing)),
            "b (n i) (h c) -> (b n) h i c",
            n=blocks,
            i=reach,
            h=self.heads,
        )
        key, value = (
            rearrange(
                F.pad(wave, (0, 0, reach, missing + reach)).unfold(1, 3 * reach, reach),
                "b n (h c) j -> (b n) h j c",
                h=self.heads,
            )
            for wave in (key, value)
        )
        within = self.distance.abs() <= reach
        position = torch.arange(blocks, device=hidden.device)[:, None] * reach - reach
        position = position + torch.arange(3 * reach, device=hidden.device)
        exists = (position >= 0) & (position < length)  # (n, j)
        bias = self.bias[:, self.distance.clamp(-reach, reach) + reach]  # (h, i, j)
        seen = within & exists[:, None, None]  # (n, 1, i, j)
        # A padded query may see nothing: it must not become NaN, and is cut off below
        mask = torch.where(seen, bias, torch.finfo(bias.dtype).min / 2)
        mask = mask.to(query.dtype).repeat(hidden.shape[0], 1, 1, 1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended = rearrange(attended, "(b n) h i c -> b (n i) (h c)", n=blocks)[:, :length]
        return hidden + self.project_out(attended)
