"""The DyConv block as published, tap by tap (BEHAVIOUR 6), under the published names.

Slow and obvious, and without a line of the package.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RENAMED = {
    "DyConv.0.conv": "coarser.conv",
    "DyConv.0.bn": "coarser.norm",
    "DyConv.1.conv": "same.conv",
    "DyConv.1.bn": "same.norm",
    "DyConv.2.conv": "finer.conv",
    "DyConv.2.bn": "finer.norm",
    "AttnConv.1": "level_attention",
    "relu.fc.0": "relu.reduce",
    "relu.fc.2": "relu.expand",
    "offset": "offset",
}


def sample(x: Tensor, y_at: Tensor, x_at: Tensor) -> Tensor:
    """x (B, C, H, W) at (B, OH, OW) positions, bilinear, 0 outside; (B, C, OH, OW)."""
    B, C, H, W = x.shape
    y0, x0 = y_at.floor(), x_at.floor()
    total = 0
    for corner_y in (y0, y0 + 1):
        for corner_x in (x0, x0 + 1):
            inside = (corner_y >= 0) & (corner_y < H) & (corner_x >= 0) & (corner_x < W)
            weight = (1 - (y_at - corner_y).abs()) * (1 - (x_at - corner_x).abs()) * inside
            index = corner_y.clamp(0, H - 1).long() * W + corner_x.clamp(0, W - 1).long()
            index = index.flatten(1).unsqueeze(1).expand(B, C, -1)
            values = x.flatten(2).gather(2, index).view(B, C, *y_at.shape[1:])
            total = total + values * weight.unsqueeze(1)
    return total


class PlainDeformConv(nn.Module):
    """A 3x3 modulated deformable convolution with GroupNorm; reads offsets of any size flat."""

    def __init__(self, channels: int, stride: int, groups: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)  # holds parameters
        self.bn = nn.GroupNorm(groups, channels, eps=1e-5)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        B, C, H, W = x.shape
        OH, OW = (H - 1) // self.stride + 1, (W - 1) // self.stride + 1
        offset = torch.stack([o.contiguous().view(-1)[: 18 * OH * OW] for o in offset])
        offset = offset.view(B, 9, 2, OH, OW)
        mask = torch.stack([m.contiguous().view(-1)[: 9 * OH * OW] for m in mask])
        mask = mask.view(B, 9, OH, OW)
        rows = torch.arange(OH, dtype=x.dtype, device=x.device).view(1, OH, 1) * self.stride
        columns = torch.arange(OW, dtype=x.dtype, device=x.device).view(1, 1, OW) * self.stride
        out = self.conv.bias.view(1, C, 1, 1)
        for ky in range(3):
            for kx in range(3):
                tap = 3 * ky + kx
                y_at = rows - 1 + ky + offset[:, tap, 0]
                x_at = columns - 1 + kx + offset[:, tap, 1]
                values = sample(x, y_at, x_at) * mask[:, tap].unsqueeze(1)
                out = out + torch.einsum("oc,bchw->bohw", self.conv.weight[:, :, ky, kx], values)
        return self.bn(out)


class PlainDyConv(nn.Module):
    def __init__(self, channels: int = 256, groups: int = 16):
        super().__init__()
        self.DyConv = nn.ModuleList(
            [PlainDeformConv(channels, stride, groups) for stride in (1, 1, 2)]
        )
        self.AttnConv = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 1, kernel_size=1), nn.ReLU()
        )
        self.relu = nn.Module()
        self.relu.fc = nn.Sequential(
            nn.Linear(channels, channels // 4), nn.ReLU(), nn.Linear(channels // 4, channels * 4)
        )
        self.offset = nn.Conv2d(channels, 27, 3, padding=1)

    def dyrelu(self, x: Tensor) -> Tensor:
        B, C, _, _ = x.shape
        theta = F.relu6(self.relu.fc(x.mean(dim=(2, 3))) + 3) / 6
        a1, b1, a2, b2 = (part.view(B, C, 1, 1) for part in theta.split(C, dim=1))
        a1, a2 = (a1 - 0.5) * 2 + 1, (a2 - 0.5) * 2
        return torch.max(a1 * x + (b1 - 0.5), a2 * x + (b2 - 0.5))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        outputs = []
        for i, x in enumerate(levels):
            maps = self.offset(x)
            offset, mask = maps[:, :18], maps[:, 18:].sigmoid()
            branches = [self.DyConv[1](x, offset, mask)]
            if i > 0:
                branches.append(self.DyConv[2](levels[i - 1], offset, mask))
            if i < len(levels) - 1:
                seen = self.DyConv[0](levels[i + 1], offset, mask)
                branches.append(
                    F.interpolate(seen, size=x.shape[2:], mode="bilinear", align_corners=True)
                )
            weights = [F.relu6(self.AttnConv(branch) + 3) / 6 for branch in branches]
            y = torch.stack([b * w for b, w in zip(branches, weights)]).mean(dim=0)
            outputs.append(self.dyrelu(y))
        return outputs
