"""The fusion block as published: every projection made for every image token (BEHAVIOUR 5.1).

Slow and obvious, and without a line of the package. It holds its parameters under the published
names; `RENAMED` says what glipkit calls them.
"""

import torch
from torch import Tensor, nn

RENAMED = {
    "b_attn.gamma_v": "image_scale",
    "b_attn.gamma_l": "text_scale",
    "b_attn.layer_norm_v": "image_norm",
    "b_attn.layer_norm_l": "text_norm",
    "b_attn.attn.v_proj": "attention.image_query",
    "b_attn.attn.l_proj": "attention.text_key",
    "b_attn.attn.values_v_proj": "attention.image_value",
    "b_attn.attn.values_l_proj": "attention.text_value",
    "b_attn.attn.out_v_proj": "attention.image_output",
    "b_attn.attn.out_l_proj": "attention.text_output",
}


class PlainCrossAttention(nn.Module):
    """q, k and both values for all tokens, one (B * heads, N, L) score matrix, two softmaxes."""

    def __init__(self, v_dim: int, l_dim: int, embed_dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.v_proj = nn.Linear(v_dim, embed_dim)
        self.l_proj = nn.Linear(l_dim, embed_dim)
        self.values_v_proj = nn.Linear(v_dim, embed_dim)
        self.values_l_proj = nn.Linear(l_dim, embed_dim)
        self.out_v_proj = nn.Linear(embed_dim, v_dim)
        self.out_l_proj = nn.Linear(embed_dim, l_dim)
        self.v_dropout = nn.Dropout(dropout)  # gets (B, heads, N, L)
        self.l_dropout = nn.Dropout(dropout)  # gets (B, heads, L, N)

    def heads(self, x: Tensor) -> Tensor:
        B, length, _ = x.shape
        return x.view(B, length, self.num_heads, self.head_dim).transpose(1, 2)

    def forward(self, v: Tensor, l: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # noqa: E741
        B, N, _ = v.shape
        L = l.shape[1]
        q = self.heads(self.v_proj(v) * self.head_dim**-0.5)  # (B, heads, N, head_dim)
        k = self.heads(self.l_proj(l))
        vv = self.heads(self.values_v_proj(v))
        vl = self.heads(self.values_l_proj(l))

        A = q @ k.transpose(2, 3)  # (B, heads, N, L)
        A = torch.clamp(A, min=-50000, max=50000)
        T = A.transpose(2, 3)
        T = T - T.max(dim=3, keepdim=True).values
        T = torch.clamp(T, min=-50000, max=50000)
        P_l = self.l_dropout(T.softmax(dim=3))

        m = torch.where(mask.bool(), 1.0, -9e15).to(A.dtype)
        A = A + m.view(B, 1, 1, L)
        P_v = self.v_dropout(A.softmax(dim=3))

        delta_v = (P_v @ vl).transpose(1, 2).reshape(B, N, -1)
        delta_l = (P_l @ vv).transpose(1, 2).reshape(B, L, -1)
        return self.out_v_proj(delta_v), self.out_l_proj(delta_l)


class PlainVLFuse(nn.Module):
    """Norms, attention, and the residual on what the norms returned."""

    def __init__(
        self,
        v_dim: int = 256,
        l_dim: int = 768,
        embed_dim: int = 2048,
        num_heads: int = 8,
        num_blocks: int = 6,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.b_attn = nn.Module()
        self.b_attn.layer_norm_v = nn.LayerNorm(v_dim, eps=1e-5)
        self.b_attn.layer_norm_l = nn.LayerNorm(l_dim, eps=1e-5)
        self.b_attn.attn = PlainCrossAttention(v_dim, l_dim, embed_dim, num_heads, dropout)
        self.b_attn.gamma_v = nn.Parameter(torch.full((v_dim,), 1 / num_blocks))
        self.b_attn.gamma_l = nn.Parameter(torch.full((l_dim,), 1 / num_blocks))

    def forward(
        self, levels: list[Tensor], hidden: Tensor, mask: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        visual = torch.cat([x.flatten(2).transpose(1, 2) for x in levels], dim=1)
        v = self.b_attn.layer_norm_v(visual)
        l = self.b_attn.layer_norm_l(hidden)  # noqa: E741
        delta_v, delta_l = self.b_attn.attn(v, l, mask)
        visual = v + self.b_attn.gamma_v * delta_v
        hidden = l + self.b_attn.gamma_l * delta_l
        outputs, start = [], 0
        for x in levels:
            B, C, H, W = x.shape
            tokens = visual[:, start : start + H * W]
            outputs.append(tokens.transpose(1, 2).reshape(B, C, H, W))
            start += H * W
        return outputs, hidden
