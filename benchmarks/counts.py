"""The arithmetic that an answer needs, and the bytes that must move for it.

What must be done, not what is done: of two exact ways the cheaper one is counted (fusion in its
absorbed form, text as long as it is), every product and sum as one operation each, the larger
parts only (norms, activations and residual sums of the dense layers are left out). Bytes: inputs,
weights and outputs of a stage once, as if everything between stayed in the cache. A bound made of
this cannot be reached, and cannot be beaten by cheating.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

SWIN_T = {"dims": (96, 192, 384, 768), "depths": (2, 2, 6, 2), "window": 7}
TAPS = 9  # of a 3x3 kernel
FLOAT = 4  # bytes


class Work(NamedTuple):
    """Operations and bytes; sums of works are works."""

    flop: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":  # type: ignore[override]
        return Work(self.flop + other.flop, self.bytes + other.bytes)

    def times(self, factor: float) -> "Work":
        """The same work several times."""
        return Work(self.flop * factor, self.bytes * factor)


def linear(rows: int, inputs: int, outputs: int, element: int = FLOAT) -> Work:
    """(rows, inputs) x (inputs, outputs)."""
    moved = rows * (inputs + outputs) + inputs * outputs
    return Work(2 * rows * inputs * outputs, element * moved)


def conv(positions: int, inputs: int, outputs: int, element: int = FLOAT) -> Work:
    """A plain 3x3 convolution with as many output positions as input positions."""
    moved = positions * (inputs + outputs) + TAPS * inputs * outputs
    return Work(2 * TAPS * positions * inputs * outputs, element * moved)


def deform_conv(
    into: int, positions: int, inputs: int, outputs: int, *, element: int = FLOAT
) -> Work:
    """Modulated 3x3: four corners weighted and summed for each (position, tap, channel), product.

    Args:
        into: positions of the input.
        positions: of the output.
        inputs: channels.
        outputs: channels.
        element: bytes of a number.
    """
    sampled = 8 * TAPS * positions * inputs  # 4 products, 3 sums, the mask
    product = 2 * TAPS * positions * inputs * outputs
    moved = into * inputs + positions * (3 * TAPS + outputs) + TAPS * inputs * outputs
    return Work(sampled + product, element * moved)


def deform_conv_backward(
    into: int, positions: int, inputs: int, outputs: int, *, element: int = FLOAT
) -> Work:
    """Two products; columns sampled again; their gradient spread over corners, taps and offsets."""
    products = 2 * 2 * TAPS * positions * inputs * outputs
    # Columns 8, gradient of the input 8, of mask and both offsets 3 x (4 products, 4 sums).
    samples = (8 + 8 + 24) * TAPS * positions * inputs
    moved = 2 * into * inputs + positions * (2 * 3 * TAPS + outputs) + 2 * TAPS * inputs * outputs
    return Work(products + samples, element * moved)


def nms(boxes: int) -> Work:
    """A sort, in comparisons; boxes, scores and classes in, the indices of those kept out."""
    return Work(boxes * max(1, boxes - 1).bit_length(), boxes * (4 * FLOAT + FLOAT + 8 + 8))


def cross_attention(
    pixels: int,
    tokens: int,
    *,
    channels: int = 256,
    text_dim: int = 768,
    embed_dim: int = 2048,
    num_heads: int = 8,
    element: int = FLOAT,
) -> Work:
    """Absorbed: three products over pixels, the rest on the text side (DESIGN 3)."""
    columns = num_heads * tokens
    maps = 3 * 2 * pixels * channels * columns + 10 * pixels * columns  # and two softmaxes
    text = 3 * 2 * tokens * text_dim * embed_dim  # key, value, output
    absorbed = 3 * 2 * tokens * channels * embed_dim  # into key, value and context
    weights = (3 * text_dim + 3 * channels) * embed_dim
    moved = 2 * pixels * channels + 2 * tokens * text_dim + weights
    return Work(maps + text + absorbed, element * moved)


def bert_layer(tokens: int, dim: int = 768) -> Work:
    """Four projections, attention, a perceptron four times as wide."""
    return Work(2 * tokens * 12 * dim * dim + 4 * tokens * tokens * dim,
                FLOAT * (12 * dim * dim + 2 * tokens * dim))  # fmt: skip


def swin_t(height: int, width: int) -> Work:
    """Of `height` x `width` pixels; windows without their padding."""
    rows = height // 4 * (width // 4)
    total = linear(rows, 3 * 16, SWIN_T["dims"][0])
    for index, (dim, depth) in enumerate(zip(SWIN_T["dims"], SWIN_T["depths"])):
        if index:
            rows //= 4
            total += linear(rows, 2 * dim, dim)  # 4 x dim / 2 -> dim
        attention = Work(4 * rows * SWIN_T["window"] ** 2 * dim)
        block = Work(2 * rows * 12 * dim * dim, FLOAT * (12 * dim * dim + 2 * rows * dim))
        total += (block + attention).times(depth)
    return total


def level_positions(height: int, width: int) -> list[int]:
    """Positions of the five levels, strides 8 to 128."""
    return [-(-height // s) * -(-width // s) for s in (8, 16, 32, 64, 128)]


def glip_t(height: int, width: int, tokens: int, *, blocks: int = 6) -> dict[str, Work]:
    """Stage -> work of one picture of GLIP-T, padded to `height` x `width` (stages.STAGES)."""
    levels, C = level_positions(height, width), 256
    pyramid = Work()
    for positions, dim in zip(levels[:3], SWIN_T["dims"][1:]):
        pyramid += linear(positions, dim, C) + conv(positions, C, C)
    pyramid += conv(levels[3], C, C) + conv(levels[4], C, C)
    dyconv = Work()
    for index, positions in enumerate(levels):
        dyconv += conv(positions, C, 3 * TAPS)  # offsets and masks
        dyconv += deform_conv(positions, positions, C, C)
        if index:  # from the finer level, with stride 2
            dyconv += deform_conv(levels[index - 1], positions, C, C)
        if index + 1 < len(levels):  # from the coarser level, at its size
            dyconv += deform_conv(levels[index + 1], levels[index + 1], C, C)
    pixels = sum(levels)
    predictor = linear(pixels, C, 5) + linear(tokens, 768, C) + linear(pixels, C, tokens)
    return {
        "text encoder": bert_layer(tokens).times(12),
        "backbone": swin_t(height, width),
        "pyramid": pyramid,
        "fusion": cross_attention(pixels, tokens).times(blocks),
        "text layers": bert_layer(tokens).times(blocks),
        "DyConv": dyconv.times(blocks),
        "predictor": predictor,
    }


def fields(stages: Mapping[str, Work] | Work) -> dict[str, Any]:
    """Of a row: `gflop`, `gbytes`, and per stage where there are several."""
    if isinstance(stages, Work):
        return {"gflop": stages.flop / 1e9, "gbytes": stages.bytes / 1e9}
    total = sum(stages.values(), Work())
    each = {name: [work.flop / 1e9, work.bytes / 1e9] for name, work in stages.items()}
    return {"gflop": total.flop / 1e9, "gbytes": total.bytes / 1e9, "extra": {"work": each}}


def bound_seconds(row: Mapping[str, Any], ceilings: Mapping[str, float]) -> float | None:
    """The least seconds of a row on a machine: of each stage the longer of working and moving.

    Args:
        row: with the fields that `fields` gives.
        ceilings: `gflops` of the row's precision and `gbytes_per_second`, by as many threads.
    """
    if row.get("gflop") is None or row.get("unit") != "s":
        return None
    stages = row.get("work", {"all": [row["gflop"], row["gbytes"]]}).values()
    return sum(
        max(gflop / ceilings["gflops"], gbytes / ceilings["gbytes_per_second"])
        for gflop, gbytes in stages
    )
