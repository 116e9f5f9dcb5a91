"""Published checkpoints in miniature: every name of a manifest, each tensor a few numbers long."""

import json
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.official import has_fusion, our_name

MODELS = ("glip_Swin_T_O365_GoldG", "glip_Swin_T_O365", "glip_A_Swin_T_O365", "glip_Swin_L")


def entries(golden: Path, model: str) -> list[dict]:
    return json.loads((golden / "manifests" / f"{model}.json").read_text())["entries"]


def window_index(window: int) -> Tensor:
    """BEHAVIOUR 2, by its definition: (dy + w - 1) * (2 w - 1) + (dx + w - 1), query - key."""
    places = [(y, x) for y in range(window) for x in range(window)]
    rows = [
        [(qy - ky + window - 1) * (2 * window - 1) + qx - kx + window - 1 for ky, kx in places]
        for qy, qx in places
    ]
    return torch.tensor(rows)


def cell(level: int) -> Tensor:
    """BEHAVIOUR 8: side 64 at stride 8, centred on pixel (s - 1) / 2, +1 convention."""
    stride, size = 8 * 2**level, 64 * 2**level
    low, high = (stride - 1) / 2 - (size - 1) / 2, (stride - 1) / 2 + (size - 1) / 2
    return torch.tensor([[low, low, high, high]])


def _small(shape: list[int]) -> tuple[int, ...]:
    # A fifth keeps widths apart from each other: 96 and 192 channels stay two different models.
    return tuple(size if size < 8 else math.ceil(size / 96) + 1 for size in shape)


def checkpoint(golden: Path, model: str, *, window: int = 2) -> dict[str, Tensor]:
    """Random weights under all published names of a model, with the buffers they imply."""
    tensors: dict[str, Tensor] = {}
    for entry in entries(golden, model):
        name, shape = entry["name"], entry["shape"]
        if name.endswith(".relative_position_index"):
            tensors[name] = window_index(window)
        elif "cell_anchors" in name:
            tensors[name] = cell(int(name.rsplit(".", 1)[1]))
        elif name.endswith(".relative_position_bias_table"):
            tensors[name] = torch.randn((2 * window - 1) ** 2, shape[1])
        else:
            tensors[name] = torch.randn(_small(shape))
    return tensors


def model_for(tensors: dict[str, Tensor]) -> nn.Module:
    """A module with exactly the parameters of a published checkpoint, by our names, all zero."""
    model = nn.Module()
    model.anchors = AnchorGenerator()
    fused = has_fusion(tensors)
    for name, tensor in tensors.items():
        ours = our_name(name, fused=fused)
        if ours is None:
            continue
        *path, last = ours.split(".")
        module = model
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, nn.Parameter(torch.zeros_like(tensor)))
    return model
