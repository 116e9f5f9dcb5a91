"""Swin Transformer: attention inside windows that move between blocks.

Liu et al., ICCV 2021, as the published GLIP computes it (BEHAVIOUR 2). It pads a map to whole
windows before it moves them; timm's own block moves first, so only its smaller parts serve here.
Maps are channels last, (B, H, W, C), between the patch embedding and the output norms.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from glipkit.layers.linear import linear_gelu
from glipkit.layers.recompute import run
from glipkit.ops.window_attention import window_attention
from glipkit.runtime.collector import collector_paused

with collector_paused():
    from timm.layers import DropPath, trunc_normal_

# Positions that go through an MLP together in inference on a CPU: the hidden channels of so many
# stay in the last-level cache (6 MB for the first stage of Swin-T, 25 MB for its last).
_ROWS = 4096


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


class WindowAttention(nn.Module):
    """Self-attention inside the windows of a map, with a learned bias for every relative position.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        window: side of a window in positions.
        shift: how far the windows are moved. A map smaller than a window is moved all the same.

    Raises:
        ValueError: `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, *, num_heads: int, window: int, shift: int = 0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got {num_heads} and {dim}")
        self.num_heads = num_heads
        self.window = window
        self.shift = shift
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

    def forward(self, x: Tensor) -> Tensor:
        """What every position reads in its window.

        Args:
            x: (B, H, W, dim), normalised. Only afterwards the map is padded to whole windows.

        Returns:
            (B, H, W, dim).
        """
        _, H, W, _ = x.shape
        qkv = self.qkv(x.flatten(1, 2))  # (B, H*W, 3 * dim)
        bias = self.relative_bias()
        read = window_attention(
            qkv,
            self.qkv.bias.to(qkv.dtype),
            bias if bias.dtype == torch.float64 else bias.float(),
            size=(H, W),
            window=self.window,
            shift=self.shift,
        )
        return self.projection(read).unflatten(1, (H, W))


class Mlp(nn.Module):
    """Two linear layers and a GELU between them.

    Args:
        dim: channels of input and output.
        hidden_dim: channels between.
    """

    def __init__(self, dim: int, *, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> the same shape."""
        return self.fc2(linear_gelu(self.fc1, x))


class SwinBlock(nn.Module):
    """Window attention, then an MLP, each on the normalised input and added to it.

    Args:
        dim: channels.
        num_heads: of the attention.
        window: side of a window in positions.
        shifted: whether the windows are moved by half a window.
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
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(
            dim, num_heads=num_heads, window=window, shift=window // 2 if shifted else 0
        )
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden_dim=int(mlp_ratio * dim))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> the same shape."""
        x = _added(x, self.drop_path(self.attention(self.norm1(x))))
        if self._goes_by_rows(x):
            for rows in x.view(-1, x.shape[-1]).split(_ROWS):
                rows += self.mlp(self.norm2(rows))
            return x
        return _added(x, self.drop_path(self.mlp(self.norm2(x))))

    def _goes_by_rows(self, x: Tensor) -> bool:
        """Whether the MLP takes its input piece by piece, which a CPU's cache is thankful for."""
        return (
            x.device.type == "cpu"
            and not self.training
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
        )


def _added(x: Tensor, update: Tensor) -> Tensor:
    """`x + update`; without gradients in the memory of `update`, which nobody else holds."""
    if torch.is_grad_enabled() or update.dtype != x.dtype:
        return x + update
    return update.add_(x)


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
    """The picture at strides 8, 16 and 32, or at the coarser ones of them.

    The default numbers are Swin-T, the published GLIP-T.

    Args:
        embed_dim: channels of the first stage; every later one has twice those before it.
        depths: blocks of each stage.
        num_heads: of each stage.
        window: side of a window in positions.
        mlp_ratio: hidden channels of the MLPs per channel.
        drop_path: rate of the last block in training; it grows linearly from 0 at the first.
        recompute: run the blocks again in the backward pass instead of keeping their activations.
        num_maps: stages whose maps are handed on, counted from the coarsest; None is all but the
            first.

    Raises:
        ValueError: `depths` and `num_heads` differ in length, or name fewer than two stages; or
            there are not so many maps to hand on.
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
        num_maps: int | None = None,
    ) -> None:
        super().__init__()
        if len(depths) != len(num_heads) or len(depths) < 2:
            raise ValueError(
                f"depths and num_heads must name the same two or more stages, got "
                f"{tuple(depths)} and {tuple(num_heads)}"
            )
        num_maps = len(depths) - 1 if num_maps is None else num_maps
        if not 1 <= num_maps < len(depths):
            raise ValueError(
                f"{len(depths)} stages hand on 1 to {len(depths) - 1} maps, got {num_maps}"
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
        # What the pyramid never reads, the first stage at least, has no norm of its own.
        self.out_channels = tuple(dims[-num_maps:])
        self.output_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in self.out_channels)
        self.apply(_initialise)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The maps that a pyramid builds on.

        Args:
            pixels: (B, 3, H, W) float, normalised, any size.

        Returns:
            (B, C, ceil(H / s), ceil(W / s)) for the strides s = 8, 16, 32, or the last of them,
            with `out_channels` channels, output norms applied; in memory the channels are last.
        """
        return self.all_stages(pixels)[-len(self.out_channels) :]

    def all_stages(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The maps of `forward`, and before them those of earlier stages, without a norm."""
        x = self.patch_embed(pixels)
        maps = []
        unread = len(self.stages) - len(self.output_norms)
        for stage, norm in zip(self.stages, [*[nn.Identity()] * unread, *self.output_norms]):
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
