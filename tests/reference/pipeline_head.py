"""The head of the published pipeline: torchvision's deformable convolutions, and the predictions.

The tower is one flat list, [fusion, text layer, DyConv] over and over, or DyConv alone (BEHAVIOUR
5 to 7). Parameters have the published names.
"""

from collections.abc import Sequence

import torch
from reference.dyconv import PlainDeformConv, PlainDyConv
from reference.fusion import PlainVLFuse
from reference.pipeline_text import EagerTextLayer
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class TorchvisionDeformConv(PlainDeformConv):
    """`PlainDeformConv` through torchvision, which refuses offsets of another size."""

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        B, _, H, W = x.shape
        OH, OW = (H - 1) // self.stride + 1, (W - 1) // self.stride + 1
        if offset.shape[2:] != (OH, OW):  # the published operator walks the memory (BEHAVIOUR 6.3)
            offset = offset.reshape(B, -1)[:, : 18 * OH * OW].reshape(B, 18, OH, OW)
            mask = mask.reshape(B, -1)[:, : 9 * OH * OW].reshape(B, 9, OH, OW)
        weight, bias = self.conv.weight, self.conv.bias
        stride = self.stride
        return self.bn(deform_conv2d(x, offset, weight, bias, stride, padding=1, mask=mask))


class TorchvisionDyConv(PlainDyConv):
    """`PlainDyConv`, whose convolutions are torchvision's."""

    def __init__(self, channels: int, groups: int):
        super().__init__(channels, groups)
        self.DyConv = nn.ModuleList(
            TorchvisionDeformConv(channels, stride, groups) for stride in (1, 1, 2)
        )


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class PlainHead(nn.Module):
    """Tower and predictions.

    Args:
        tower: the flat list.
        num_levels: of the pyramid.
        uses_fused_text: whether positions are aligned with the text that left the tower.
    """

    def __init__(
        self,
        tower: Sequence[nn.Module],
        *,
        channels: int,
        text_dim: int,
        num_classes: int,
        num_levels: int,
        uses_fused_text: bool,
    ):
        super().__init__()
        self.uses_fused_text = uses_fused_text
        self.dyhead_tower = nn.ModuleList(tower)
        self.cls_logits = nn.Conv2d(channels, num_classes, 1)
        self.bbox_pred = nn.Conv2d(channels, 4, 1)
        self.centerness = nn.Conv2d(channels, 1, 1)
        self.scales = nn.ModuleList(Scale() for _ in range(num_levels))
        self.dot_product_projection_text = nn.Linear(text_dim, channels)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias_lang = nn.Parameter(torch.zeros(text_dim))
        self.bias0 = nn.Parameter(torch.zeros(1))

    def run_tower(
        self, levels: list[Tensor], hidden: Tensor, mask: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        for part in self.dyhead_tower:
            if isinstance(part, PlainVLFuse):
                levels, hidden = part(levels, hidden, mask)
            elif isinstance(part, EagerTextLayer):
                hidden = part(hidden, mask)
            else:
                levels = part(levels)
        return levels, hidden

    def predict(self, levels: list[Tensor], text: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Per level: token logits (B, HW, T), box deltas (B, HW, 4), centerness (B, HW)."""
        e = nn.functional.normalize(text, p=2, dim=-1)
        t = self.dot_product_projection_text(e / 2.0)
        token_bias = (e @ self.bias_lang + self.bias0).unsqueeze(1)  # (B, 1, T)
        answers = []
        for x, scale in zip(levels, self.scales):
            self.cls_logits(x)  # computed, and never read (BEHAVIOUR 7)
            B, C, H, W = x.shape
            queries = x.permute(0, 2, 3, 1).reshape(B, H * W, C)
            logits = queries @ t.transpose(-1, -2) / self.log_scale.exp()
            logits = logits + token_bias.repeat(1, H * W, 1)
            logits = torch.clamp(torch.clamp(logits, max=50000), min=-50000)
            deltas = scale(self.bbox_pred(x)).permute(0, 2, 3, 1).reshape(B, H * W, 4)
            central = self.centerness(x).permute(0, 2, 3, 1).reshape(B, H * W)
            answers.append((logits, deltas, central))
        return answers
