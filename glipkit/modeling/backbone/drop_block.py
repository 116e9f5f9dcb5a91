"""DropBlock: forget small squares of a map while training."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class DropBlock(nn.Module):
    """Zero random squares of a map and scale up what is left; only in training.

    Ghiasi et al., NeurIPS 2018, with the published GLIP's rates (BEHAVIOUR 3): a square starts at a
    position with probability `probability / block**2`; one mask per picture, shared by its
    channels; what is left is scaled by positions / positions left, over the whole batch.

    Args:
        probability: about the share of a map that is dropped, in [0, 1].
        block: side of a square in positions, odd.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, probability: float = 0.3, *, block: int = 3) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {probability}")
        if block < 1 or block % 2 == 0:
            raise ValueError(f"block must be odd and positive, got {block}")
        self.probability = probability
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training or self.probability == 0:
            return x
        B, _, H, W = x.shape
        centres = torch.rand(B, 1, H, W, device=x.device) < self.probability / self.block**2
        dropped = max_pool2d(centres.float(), self.block, stride=1, padding=self.block // 2)
        kept = 1 - dropped
        scale = kept.numel() / kept.sum().clamp(min=1)  # everything dropped: zeros, not NaN
        return x * (kept * scale).to(x.dtype)
