"""The losses of BEHAVIOUR 13 and of MDETR's contrastive alignment, one number at a time.

Slow and obvious, and without a line of the package.
"""

import math

Box = list[float]


def focal(logit: float, matches: bool, alpha: float, gamma: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    y = float(matches)
    entropy = -(y * math.log(p) + (1 - y) * math.log(1 - p))
    right = p * y + (1 - p) * (1 - y)
    return (alpha * y + (1 - alpha) * (1 - y)) * entropy * (1 - right) ** gamma


def giou(predicted: Box, target: Box) -> float:
    x1, y1, x2, y2 = predicted
    x2, y2 = max(x1, x2), max(y1, y2)
    width = min(x2, target[2]) - max(x1, target[0])
    height = min(y2, target[3]) - max(y1, target[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    area = (target[2] - target[0]) * (target[3] - target[1])
    union = (x2 - x1) * (y2 - y1) + area - shared + 1e-7
    around = (max(x2, target[2]) - min(x1, target[0])) * (max(y2, target[3]) - min(y1, target[1]))
    around += 1e-7
    return shared / union - (around - union) / around


def centerness(box: Box, point: tuple[float, float]) -> float:
    left, right = point[0] - box[0], box[2] - point[0]
    top, bottom = point[1] - box[1], box[3] - point[1]
    return math.sqrt(
        min(left, right) / max(left, right) * (min(top, bottom) / max(top, bottom))
    )  # fmt: skip


def contrast(similarity: list[list[float]], pairs: list[list[bool]]) -> float:
    """MDETR, equations 1 and 2: rows are boxes, columns are tokens; the sum of both, halved."""
    total = 0.0
    for rows, belongs in (
        (similarity, pairs),
        (list(zip(*similarity)), list(zip(*pairs))),
    ):
        for row, partners in zip(rows, belongs):
            below = math.log(sum(math.exp(value) for value in row))
            surprises = [below - value for value, partner in zip(row, partners) if partner]
            if surprises:
                total += sum(surprises) / len(surprises)
    return total / 2
