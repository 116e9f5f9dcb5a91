"""Turn a model's chance off, so that training can be compared with numbers."""

from timm.layers import DropPath
from torch import nn

from glipkit.modeling.backbone.drop_block import DropBlock
from glipkit.modeling.head.text_layer import TextLayer


def without_chance(model: nn.Module) -> nn.Module:
    """The model itself in training mode, with every rate of dropping something at 0."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, DropPath):
            part.drop_prob = 0.0
        elif isinstance(part, DropBlock):
            part.probability = 0.0
        elif isinstance(part, TextLayer):
            part.dropout = 0.0
        elif hasattr(part, "dropout_prob"):  # BERT's attention in transformers 4
            part.dropout_prob = 0.0
    return model.train()
