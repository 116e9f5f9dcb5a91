"""Deterministic weights and pictures made from names alone: whole models without a download.

Every value depends on a name, a shape and a seed, by the rule of the golden numbers
(`golden/WEIGHT_FILL.md`). The reference was run on these weights, so a model filled here can be
compared with it; the demo and the benchmarks use them as well.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from glipkit.modeling.official import has_fusion, published_name

# (suffix, offset, scale): value = offset + scale * noise. First match wins, whatever the shape.
_AFFINE = (
    (".relative_position_bias_table", 0.0, 0.5),
    (".gamma_v", 0.5, 0.1),
    (".gamma_l", 0.25, 0.05),
    (".log_scale", 0.0, 0.2),
    (".bias_lang", 0.0, 0.7),
    (".bias0", -3.5, 0.1),
    (".scale", 1.0, 0.1),
    ("rpn.head.centerness.bias", 0.5, 0.1),
    ("rpn.head.cls_logits.bias", -3.0, 0.1),
    ("rpn.tunable_linear.weight", 0.0, 0.0),  # no published model has one: a learned prompt of none
)

# (fragment, suffix, gain): value = gain / sqrt(fan in) * noise. First match wins, otherwise gain 1.
_GAINS = (
    ("language_backbone.", ".token_type_embeddings.weight", 0.1),
    ("language_backbone.", ".attention.self.query.weight", 2.0),
    ("language_backbone.", ".attention.self.key.weight", 2.0),
    ("language_backbone.", ".attention.output.dense.weight", 0.2),
    ("language_backbone.", ".output.dense.weight", 0.25),
    ("dyhead_tower.", ".attention.self.query.weight", 2.0),
    ("dyhead_tower.", ".attention.self.key.weight", 2.0),
    ("dyhead_tower.", ".output.dense.weight", 0.25),  # of the attention and of the MLP
    ("", ".attn.v_proj.weight", 2.0),
    ("", ".attn.l_proj.weight", 2.0),
    ("", ".AttnConv.1.weight", 3.0),
    ("", ".relu.fc.0.weight", 3.0),
    ("", ".relu.fc.2.weight", 2.0),
    ("", "rpn.head.bbox_pred.weight", 3.0),
    ("", "rpn.head.centerness.weight", 3.0),
    ("", "rpn.head.dot_product_projection_text.weight", 16.0),
)


def unit_noise(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """Uniform noise of unit variance, in (-sqrt 3, sqrt 3).

    Args:
        name: what the noise is for; another name gives other noise.
        shape: of the result.
        seed: at least 0, below 2**32.

    Returns:
        float64 array of `shape`.
    """
    count = math.prod(shape)
    key = zlib.crc32(name.encode()) | (seed << 32)
    words = np.random.Philox(key=key).random_raw((count + 1) // 2)  # uint64
    # The low half of every word comes before its high half, on machines of either byte order.
    noise = words.astype("<u8").view("<u4")[:count].astype(np.float64)
    noise += 0.5
    noise *= 2.0**-31
    noise -= 1.0
    noise *= math.sqrt(3.0)
    return noise.reshape(shape)


def fill_value(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """The value of one parameter.

    Args:
        name: the published name, without "module.".
        shape: of the parameter.
        seed: at least 0, below 2**32.

    Returns:
        float32 array of `shape`.
    """
    values = unit_noise(name, shape, seed)
    offset, scale = _offset_and_scale(name, shape)
    values *= scale
    values += offset
    return values.astype(np.float32)


def _offset_and_scale(name: str, shape: Sequence[int]) -> tuple[float, float]:
    for suffix, offset, scale in _AFFINE:
        if name.endswith(suffix):
            return offset, scale
    if len(shape) >= 2:
        matches = (
            g for fragment, suffix, g in _GAINS if fragment in name and name.endswith(suffix)
        )
        return 0.0, next(matches, 1.0) / math.sqrt(math.prod(shape[1:]))
    return (1.0, 0.1) if name.endswith(".weight") else (0.0, 0.05)  # norm scales, biases


@torch.no_grad()
def fill_model(model: nn.Module, seed: int = 0) -> None:
    """Fill every tensor of a GLIP's state dict, in place, by its published name.

    Args:
        model: a GLIP; its parameters may have any floating point type and device.
        seed: at least 0, below 2**32.
    """
    state = model.state_dict()
    fused = has_fusion(state)
    for name, tensor in state.items():
        values = fill_value(published_name(name, fused=fused), tensor.shape, seed)
        tensor.copy_(torch.from_numpy(values))


def synthetic_image(height: int, width: int, seed: int) -> np.ndarray:
    """A picture of waves, eight tinted boxes and noise.

    Args:
        height: in pixels.
        width: in pixels.
        seed: at least 0, below 2**32. The golden inputs use 100 * seed + index of the picture.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    y, x = np.meshgrid(np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64),
                       indexing="ij")  # fmt: skip
    picture = np.empty((height, width, 3))
    waves = unit_noise("image.params", (3, 5), seed) / math.sqrt(3.0)  # in (-1, 1)
    for channel, (a, b, d, e, f) in enumerate(waves):
        slow = np.sin((0.03 + 0.02 * a) * x + (0.02 + 0.02 * b) * y + 3.0 * d)
        fast = np.cos((0.11 + 0.05 * e) * y - 0.07 * x)
        picture[:, :, channel] = 120.0 + 30.0 * f + 45.0 * slow + 25.0 * fast
    boxes = (unit_noise("image.boxes", (8, 7), seed) / math.sqrt(3.0) + 1.0) / 2.0  # in (0, 1)
    for x_share, y_share, w_share, h_share, *colour in boxes:
        box_width = round((0.06 + 0.34 * w_share) * width)
        box_height = round((0.06 + 0.34 * h_share) * height)
        left = round(x_share * (width - box_width))
        top = round(y_share * (height - box_height))
        inside = picture[top : top + box_height, left : left + box_width]
        inside *= 0.3
        inside += 0.7 * 255.0 * np.array(colour)
    picture += 6.0 * unit_noise("image.noise", (height, width, 3), seed)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def sample_indices(count: int, limit: int) -> np.ndarray:
    """Which elements of a flattened tensor the golden files keep.

    Args:
        count: elements of the tensor.
        limit: elements kept at most.

    Returns:
        int64 indices, evenly spaced from 0 by an odd step, so that they do not all fall on the
        same columns.
    """
    if count <= limit:
        return np.arange(count)
    step = count // limit
    return np.arange(limit) * (step if step % 2 else step - 1)
