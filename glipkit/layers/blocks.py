"""Small parts that need no file of their own."""

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """A learned factor for everything that passes.

    Args:
        initial: the factor before training.
    """

    def __init__(self, initial: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([initial]))

    def forward(self, values: Tensor) -> Tensor:
        """`values` times the factor, any shape."""
        return values * self.scale
