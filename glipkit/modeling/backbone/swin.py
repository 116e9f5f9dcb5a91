"""Swin Transformer: attention inside windows that move between blocks.

Liu et al., ICCV 2021, as the published GLIP computes it (BEHAVIOUR 2). It pads a map to whole
windows before it moves them; timm's own block moves first, so only its smaller parts serve here.
Maps are channels last, (B, H, W, C), between the patch embedding and the output norms.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn
from torch.nn.functional import pad

from glipkit.layers.recompute import run

# What is added to the score of two positions that only the cyclic shift brought together. Not
# minus infinity: the published weights were trained with this (BEHAVIOUR 2).
_FAR_APART = -100.0


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut a map of whole windows: (B, H, W, C) -> (B * windows, window**2, C), row by row."""
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.transpose(2, 3).reshape(-1, window * window, C)


class WindowOrder(NamedTuple):
    """How the positions of a map, row by row, become windows, and back."""

    take: Tensor  # (windows * window**2,) int64: which position stands there; any, on padding
    padding: Tensor  # int64: which of them are padding
    put: Tensor  # (H * W,) int64: where each position went
    padded_size: tuple[int, int]  # (H, W) rounded up to whole windows


@lru_cache(maxsize=32)  # of four stages, shifted and not: the last four sizes of pictures
def window_order(
    size: tuple[int, int], window: int, shift: int, device: torch.device
) -> WindowOrder:
    """Pad a map to whole windows, move it cyclically by -shift and cut it, in one permutation.

    One gather instead of a padded, a moved and a cut copy, and one instead of the way back: a
    fifth of Swin's time on a CPU.

    Args:
        size: (H, W) of the map.
        window: side of a window.
        shift: positions that the padded map moves up and left.
        device: where the order is needed.
    """
    with torch.inference_mode(False):  # the memory outlives an inference, and training uses it
        height, width = size
        padded_size = (height + -height % window, width + -width % window)
        y, x = ((torch.arange(side) + shift) % side for side in padded_size)
        positions = torch.where(
            (y < height)[:, None] & (x < width), y[:, None] * width + x, -1
        )  # (padded H, padded W), -1 on padding
        positions = to_windows(positions[None, :, :, None], window).flatten()
        is_real = positions >= 0
        put = torch.empty(height * width, dtype=torch.int64)
        put[positions[is_real]] = is_real.nonzero()[:, 0]
        return WindowOrder(
            take=positions.clamp(min=0).to(device),
            padding=(~is_real).nonzero()[:, 0].to(device),
            put=put.to(device),
            padded_size=padded_size,
        )


@lru_cache(maxsize=16)
def relative_positions(window: int, device: torch.device) -> Tensor:
    """Which row of the bias table belongs to a query and a key of one window.

    Returns:
        (window**2 * window**2,) int64, query by query: (dy + window - 1) * (2 * window - 1) +
        (dx + window - 1), where (dy, dx) is query minus key.
    """
    with torch.inference_mode(False):
        steps = torch.arange(window, device=device)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        y, x = y.flatten(), x.flatten()
        dy = y[:, None] - y[None, :] + window - 1
        dx = x[:, None] - x[None, :] + window - 1
        return (dy * (2 * window - 1) + dx).flatten()


@lru_cache(maxsize=16)  # of four stages: 15 MB for a picture of 800 x 1088
def shift_mask(size: tuple[int, int], window: int, device: torch.device) -> Tensor:
    """What keeps positions apart that are no neighbours before the cyclic shift by window // 2.

    Args:
        size: (H, W) of the padded map, whole windows.
        window: side of a window.
        device: where the mask is needed.

    Returns:
        (windows, 1, window**2, window**2) float32: 0 where query and key are of one region of the
        shifted map, -100 where not. The padding counts as part of the last regions.
    """
    with torch.inference_mode(False):
        shift = window // 2
        regions = []
        for side in size:
            positions = torch.arange(side, device=device)
            regions.append((positions >= side - window).long() + (positions >= side - shift).long())
        numbers = (3 * regions[0][:, None] + regions[1])[None, :, :, None]  # (1, H, W, 1), 0 to 8
        numbers = to_windows(numbers, window).squeeze(2)  # (windows, window**2)
        apart = numbers[:, :, None] != numbers[:, None, :]
        return (apart.float() * _FAR_APART).unsqueeze(1)


class WindowAttention(nn.Module):
    """Self-attention inside each window, with a learned bias for every relative position.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        window: side of a window in positions.

    Raises:
        ValueError: `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, *, num_heads: int, window: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got {num_heads} and {dim}")
        self.num_heads = num_heads
        self.window = window
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * window - 1) ** 2, num_heads)
        )
        trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)

    def relative_bias(self) -> Tensor:
        """(num_heads, window**2, window**2), added to the scores of every window."""
        table = self.relative_position_bias_table
        rows = table[relative_positions(self.window, table.device)]
        return rows.view(self.window**2, self.window**2, self.num_heads).permute(2, 0, 1)

    def forward(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """What every position reads in its window.

        Args:
            windows: (B * windows, window**2, dim), the windows of one picture after another.
            mask: (windows, 1, window**2, window**2), added to the scores; None adds nothing.

        Returns:
            (B * windows, window**2, dim).
        """
        N, S, C = windows.shape
        qkv = self.qkv(windows).view(N, S, 3, self.num_heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, S, C / heads)
        # Written out because PyTorch's fused attention was 10 to 30 % slower on windows this small.
        scores = (query * self.scale) @ key.mT + self.relative_bias()
        if mask is not None:
            scores = (scores.unflatten(0, (-1, len(mask))) + mask).flatten(0, 1)
        read = scores.softmax(dim=-1).to(value.dtype) @ value  # the mask made them float32
        return self.projection(read.transpose(1, 2).reshape(N, S, C))


class SwinBlock(nn.Module):
    """Window attention, then an MLP, each on the normalised input and added to it.

    Args:
        dim: channels.
        num_heads: of the attention.
        window: side of a window in positions.
        shifted: whether the windows are moved by half a window. A map smaller than a window is
            moved all the same.
        mlp_ratio: hidden channels of the MLP per channel.
        drop_path: probability in [0, 1) of leaving a branch out, per picture, in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        window: int,
        shifted: bool,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, num_heads=num_heads, window=window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden_features=int(mlp_ratio * dim))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> the same shape."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        order = window_order((H, W), self.window, self.shift, x.device)
        windows = x.flatten(1, 2).index_select(1, order.take)  # (B, windows * window**2, C)
        if len(order.padding):
            # Zero here, after the norm; in its window, padding is a key like any other.
            windows = windows.index_fill(1, order.padding, 0)
        mask = shift_mask(order.padded_size, self.window, x.device) if self.shift else None
        windows = self.attention(windows.view(-1, self.window**2, C), mask)
        return windows.view(B, -1, C).index_select(1, order.put).view(B, H, W, C)


class PatchMerging(nn.Module):
    """Halve a map: four neighbours become one position with twice the channels.

    Args:
        dim: channels of the input.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> (B, ceil(H / 2), ceil(W / 2), 2 * dim); an odd side gets zeros."""
        _, H, W, _ = x.shape
        x = pad(x, (0, 0, 0, W % 2, 0, H % 2))
        corners = [x[:, y::2, x0::2] for x0 in (0, 1) for y in (0, 1)]  # y moves first
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class PatchEmbedding(nn.Module):
    """Pictures cut into patches, each of them one position.

    Args:
        dim: channels of a position.
        patch: side of a patch in pixels.
    """

    def __init__(self, dim: int, *, patch: int = 4) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(3, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, ceil(H / patch), ceil(W / patch), dim)."""
        _, _, H, W = pixels.shape
        pixels = pad(pixels, (0, -W % self.patch, 0, -H % self.patch))
        return self.norm(self.projection(pixels).permute(0, 2, 3, 1))


class SwinStage(nn.Module):
    """Blocks of one resolution, and the step to the next.

    Args:
        dim: channels.
        num_heads: of every block.
        window: side of a window in positions.
        drop_paths: one rate for each block; every second block is shifted.
        mlp_ratio: hidden channels of the MLPs per channel.
        downsample: whether another stage follows.
        recompute: run the blocks again in the backward pass instead of keeping their activations.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        window: int,
        drop_paths: Sequence[float],
        mlp_ratio: float,
        downsample: bool,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.blocks = nn.ModuleList(
            SwinBlock(
                dim,
                num_heads=num_heads,
                window=window,
                shifted=index % 2 == 1,
                mlp_ratio=mlp_ratio,
                drop_path=rate,
            )
            for index, rate in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(dim) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> the same shape, before `downsample`, which the caller applies."""
        for block in self.blocks:
            x = run(block, x, recompute=self.recompute)
        return x


class SwinTransformer(nn.Module):
    """The picture at strides 8, 16 and 32.

    The default numbers are Swin-T, the published GLIP-T.

    Args:
        embed_dim: channels of the first stage; every later one has twice those before it.
        depths: blocks of each stage.
        num_heads: of each stage.
        window: side of a window in positions.
        mlp_ratio: hidden channels of the MLPs per channel.
        drop_path: rate of the last block in training; it grows linearly from 0 at the first.
        recompute: run the blocks again in the backward pass instead of keeping their activations.

    Raises:
        ValueError: `depths` and `num_heads` differ in length, or name fewer than two stages.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.2,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if len(depths) != len(num_heads) or len(depths) < 2:
            raise ValueError(
                f"depths and num_heads must name the same two or more stages, got "
                f"{tuple(depths)} and {tuple(num_heads)}"
            )
        dims = [embed_dim * 2**stage for stage in range(len(depths))]
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.patch_embed = PatchEmbedding(embed_dim)
        self.stages = nn.ModuleList(
            SwinStage(
                dim,
                num_heads=heads,
                window=window,
                drop_paths=[next(rates) for _ in range(depth)],
                mlp_ratio=mlp_ratio,
                downsample=dim != dims[-1],
                recompute=recompute,
            )
            for dim, depth, heads in zip(dims, depths, num_heads)
        )
        # The pyramid never reads the first stage, so that one has no norm of its own.
        self.output_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims[1:])
        self.out_channels = tuple(dims[1:])
        self.apply(_initialise)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The maps that a pyramid builds on.

        Args:
            pixels: (B, 3, H, W) float, normalised, any size.

        Returns:
            (B, C, ceil(H / s), ceil(W / s)) for the strides s = 8, 16, 32 with `out_channels`
            channels, output norms applied; in memory the channels are last.
        """
        return self.all_stages(pixels)[1:]

    def all_stages(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The maps of `forward`, and before them the first stage's at stride 4, without a norm."""
        x = self.patch_embed(pixels)
        maps = []
        for stage, norm in zip(self.stages, [nn.Identity(), *self.output_norms]):
            x = stage(x)
            maps.append(norm(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)  # of the map itself, not of its normed copy
        return tuple(maps)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
