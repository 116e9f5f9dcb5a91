"""Boxes and names drawn into a picture."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from glipkit.structures.detections import Detections
from glipkit.visualize.fonts import readable
from glipkit.visualize.geometry import Marked, in_pixels
from glipkit.visualize.labels import Label, write
from glipkit.visualize.outlines import fill, line_thickness, outline, outline_truth


def draw(
    image: Image.Image,
    detections: Detections,
    names: Sequence[str],
    *,
    score_threshold: float = 0.5,
    truth: Detections | None = None,
    scores: bool = True,
) -> Image.Image:
    """The picture with boxes in the colour of their phrase, labelled with name and score.

    Labels stay off each other and off small boxes; where too many boxes crowd for that, boxes carry
    the number of their phrase, and a corner of the picture says what the numbers mean. Lines and
    letters grow with the picture.

    Args:
        image: any mode of 8 bits (of 16, Pillow clips values at 255); it is not changed.
        detections: boxes in a picture of their own `image_size`, scaled here if that differs.
        names: of the phrases; `phrase_ids` index it.
        score_threshold: boxes with a lower score are left out.
        truth: what should have been found; dashed, and labelled where it was missed (no box of
            that phrase shares half of it).
        scores: write them behind the names.

    Returns:
        An RGB picture of the same size.

    Raises:
        ValueError: a phrase id has no name, or the threshold is not a number (NaN).
    """
    if score_threshold != score_threshold:
        raise ValueError("score_threshold is not a number (NaN): no score would reach it")
    canvas = _copy(image)
    kept = [i for i in range(len(detections)) if detections.scores[i] >= score_threshold]
    kept.sort(key=lambda i: -float(detections.scores[i]))
    found = in_pixels(detections, kept, canvas.size)
    wanted = in_pixels(truth, range(len(truth)), canvas.size) if truth is not None else []
    _check_names([*found, *wanted], names)

    pen = ImageDraw.Draw(canvas)
    thickness = line_thickness(canvas.size, len(found) + len(wanted))
    for marked in wanted:
        outline_truth(pen, marked, thickness)
    for marked in reversed(found):  # the best lies on top
        outline(pen, marked, thickness)

    labels = _labels(found, [float(detections.scores[i]) for i in kept], names, scores=scores)
    for phrase, box in wanted:
        if not any(phrase == other and box.half_shared(near) for other, near in found):
            labels.append(Label(phrase, _name(names, phrase), "", box, missed=True))
    write(canvas, labels)
    return canvas


def outline_boxes(
    image: Image.Image,
    detections: Detections,
    *,
    opacity: float = 0.0,
    thickness: int | None = None,
) -> Image.Image:
    """The picture with boxes in the colour of their phrase, and no words.

    Args:
        image: any mode of 8 bits (of 16, Pillow clips values at 255); it is not changed.
        detections: all of them are drawn, the first ones on top.
        opacity: how much of its colour is laid over the inside of each box, in [0, 1].
        thickness: of the lines, in pixels; None chooses it by the size of the picture.

    Raises:
        ValueError: the opacity is outside [0, 1], or the thickness below 1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    if thickness is not None and thickness < 1:
        raise ValueError(f"thickness must be at least 1 pixel, got {thickness}")
    canvas = _copy(image)
    found = in_pixels(detections, range(len(detections)), canvas.size)
    if opacity > 0:
        fill(canvas, found, opacity)
    pen = ImageDraw.Draw(canvas)
    for marked in reversed(found):
        outline(pen, marked, thickness or line_thickness(canvas.size, len(found)))
    return canvas


def write_labels(
    image: Image.Image,
    detections: Detections,
    names: Sequence[str],
    *,
    scores: bool = True,
    text_size: float = 1.0,
) -> Image.Image:
    """The picture with the names that belong to boxes, and no lines; see `draw`.

    Args:
        image: any mode of 8 bits (of 16, Pillow clips values at 255); it is not changed.
        detections: all of them are named, the first ones at the best places.
        names: of the phrases; `phrase_ids` index it.
        scores: write them behind the names.
        text_size: factor of the letters' size, which is chosen by the size of the picture.

    Raises:
        ValueError: a phrase id has no name, or the factor is not above 0.
    """
    if not text_size > 0:
        raise ValueError(f"text_size must be above 0, got {text_size}")
    canvas = _copy(image)
    found = in_pixels(detections, range(len(detections)), canvas.size)
    _check_names(found, names)
    labels = _labels(found, detections.scores.tolist(), names, scores=scores)
    write(canvas, labels, text_size=text_size)
    return canvas


def _copy(image: Image.Image) -> Image.Image:
    canvas = image.convert("RGB")
    return canvas.copy() if canvas is image else canvas


def _labels(
    found: Sequence[Marked], values: Sequence[float], names: Sequence[str], *, scores: bool
) -> list[Label]:
    return [
        Label(phrase, _name(names, phrase), f"{value:.2f}" if scores else "", box)
        for (phrase, box), value in zip(found, values)
    ]


def _name(names: Sequence[str], phrase: int) -> str:
    return readable(names[phrase], f"#{phrase + 1}")


def _check_names(boxes: Sequence[Marked], names: Sequence[str]) -> None:
    wrong = sorted({phrase for phrase, _ in boxes if not 0 <= phrase < len(names)})
    if wrong:
        raise ValueError(f"phrase ids index {len(names)} names, got {wrong}")
