"""The image encoder of the published pipeline: Swin and FPN as they are ordinarily written.

Pad, roll, cut into windows by view and permute, and all the way back: every copy that the published
code makes is made here (BEHAVIOUR 2, 3). Parameters have the published names. `swin.py` is the
oracle of the attention.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from glipkit.modeling.backbone.drop_block import DropBlock  # plain PyTorch, nothing to gain


def window_partition(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) of whole windows to (B * windows, window, window, C)."""
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window, window, C)


def window_reverse(windows: Tensor, window: int, H: int, W: int) -> Tensor:
    """The way back of `window_partition`."""
    B = windows.shape[0] // (H * W // window**2)
    x = windows.view(B, H // window, W // window, window, window, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(B, H, W, -1)


def shift_mask(H: int, W: int, window: int, like: Tensor) -> Tensor:
    """(windows, window**2, window**2): -100 between regions; H and W are whole windows."""
    shift = window // 2
    regions = torch.zeros(1, H, W, 1, device=like.device, dtype=like.dtype)
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for index, (rows, columns) in enumerate((r, c) for r in parts for c in parts):
        regions[:, rows, columns] = index
    regions = window_partition(regions, window).view(-1, window * window)
    apart = regions.unsqueeze(1) - regions.unsqueeze(2)
    return apart.masked_fill(apart != 0, -100.0)


class WindowAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int, window: int):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * window - 1) ** 2, num_heads)
        )
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        dy = y.reshape(-1, 1) - y.reshape(1, -1) + window - 1
        dx = x.reshape(-1, 1) - x.reshape(1, -1) + window - 1
        index = dy * (2 * window - 1) + dx
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B * windows, S, C) with S = window**2."""
        N, S, C = x.shape
        qkv = self.qkv(x).reshape(N, S, 3, self.num_heads, C // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        scores = scores + bias.view(S, S, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            scores = scores.view(N // len(mask), len(mask), self.num_heads, S, S)
            scores = scores + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.num_heads, S, S)
        read = scores.softmax(dim=-1) @ v
        return self.proj(read.transpose(1, 2).reshape(N, S, C))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(
        self, dim: int, num_heads: int, window: int, shift: int, hidden: int, drop_path: float
    ):
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, H, W, C); the mask is that of the padded, shifted map."""
        H, W = x.shape[1:3]
        window, shift = self.window, self.shift
        y = self.norm1(x)
        y = F.pad(y, (0, 0, 0, -W % window, 0, -H % window))
        tall, wide = y.shape[1:3]
        if shift:
            y = torch.roll(y, shifts=(-shift, -shift), dims=(1, 2))
        windows = window_partition(y, window).view(-1, window * window, x.shape[3])
        windows = self.attn(windows, mask if shift else None)
        y = window_reverse(windows.view(-1, window, window, x.shape[3]), window, tall, wide)
        if shift:
            y = torch.roll(y, shifts=(shift, shift), dims=(1, 2))
        y = y[:, :H, :W].contiguous()
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))
        corners = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class Stage(nn.Module):
    def __init__(self, blocks: Sequence[Block], downsample: PatchMerging | None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """The map before `downsample`; the shift mask is made anew in every pass."""
        window = self.blocks[0].window
        tall, wide = (-(-side // window) * window for side in x.shape[1:3])
        mask = shift_mask(tall, wide, window, x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class PatchEmbed(nn.Module):
    def __init__(self, dim: int, patch: int):
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, pixels: Tensor) -> Tensor:
        H, W = pixels.shape[2:]
        x = self.proj(F.pad(pixels, (0, -W % self.patch, 0, -H % self.patch)))
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        return tokens.view(len(x), *x.shape[2:], -1)


class PlainSwin(nn.Module):
    """Every number of the architecture is given by one entry for each stage and block."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: Sequence[int],
        drop_paths: Sequence[Sequence[float]],
        window: int,
        hidden_ratio: float,
        patch: int = 4,
    ):
        super().__init__()
        self.patch_embed = PatchEmbed(dim, patch)
        stages = []
        for index, (heads, rates) in enumerate(zip(num_heads, drop_paths)):
            width = dim * 2**index
            blocks = [
                Block(width, heads, window, n % 2 * (window // 2), int(hidden_ratio * width), rate)
                for n, rate in enumerate(rates)
            ]
            last = index == len(num_heads) - 1
            stages.append(Stage(blocks, None if last else PatchMerging(width)))
            if index:
                self.add_module(f"norm{index}", nn.LayerNorm(width))
        self.layers = nn.ModuleList(stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps (B, C, H, W) of all stages but the first."""
        x = self.patch_embed(pixels)
        maps = []
        for index, stage in enumerate(self.layers):
            x = stage(x)
            if index:
                norm = getattr(self, f"norm{index}")
                maps.append(norm(x).permute(0, 3, 1, 2).contiguous())
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps


class PlainPyramid(nn.Module):
    def __init__(
        self, widths: Sequence[int], channels: int, drop_block: float, drop_block_size: int
    ):
        super().__init__()
        self.numbers = range(2, 2 + len(widths))
        for number, width in zip(self.numbers, widths):
            self.add_module(f"fpn_inner{number}", nn.Conv2d(width, channels, 1))
            self.add_module(f"fpn_layer{number}", nn.Conv2d(channels, channels, 3, padding=1))
        self.top_blocks = nn.Module()
        self.top_blocks.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.top_blocks.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.drop_block = DropBlock(drop_block, block=drop_block_size)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels, summed = [], None
        for number, x in reversed(list(zip(self.numbers, maps))):
            lateral = getattr(self, f"fpn_inner{number}")(x)
            output = getattr(self, f"fpn_layer{number}")
            if summed is None:
                summed = lateral
                levels.insert(0, output(summed))
            else:
                summed = lateral + F.interpolate(summed, size=lateral.shape[2:], mode="nearest")
                levels.insert(0, output(self.drop_block(summed)))
        p6 = self.top_blocks.p6(levels[-1])
        return [*levels, p6, self.top_blocks.p7(F.relu(p6))]
