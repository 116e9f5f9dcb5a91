"""Pictures of what was found, for people to look at."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from glipkit.structures.detections import Detections

Color = tuple[int, int, int]

# Told apart by colour-blind eyes too: Okabe & Ito, "Color Universal Design" (2008), without black
# and grey, which pictures are full of; then three of Tol's "muted" scheme for longer prompts.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (136, 34, 85),
    (153, 153, 51),
    (221, 170, 255),
)
_DARK: Color = (20, 20, 20)
_LIGHT: Color = (255, 255, 255)
_BACKGROUND: Color = (38, 38, 38)


class _Box(NamedTuple):
    """Whole pixels, both ends inside."""

    left: int
    top: int
    right: int
    bottom: int

    def overlap(self, other: "_Box") -> int:
        """Pixels in common."""
        width = min(self.right, other.right) - max(self.left, other.left) + 1
        height = min(self.bottom, other.bottom) - max(self.top, other.top) + 1
        return max(width, 0) * max(height, 0)

    def grown(self, by: int) -> "_Box":
        return _Box(self.left - by, self.top - by, self.right + by, self.bottom + by)


def phrase_color(phrase_id: int) -> Color:
    """The colour of a phrase, the same in every picture; there are ten."""
    return PALETTE[phrase_id % len(PALETTE)]


def draw(
    image: Image.Image,
    detections: Detections,
    names: Sequence[str],
    *,
    score_threshold: float = 0.5,
    truth: Detections | None = None,
) -> Image.Image:
    """The picture with boxes in the colour of their phrase, labelled with name and score.

    Where boxes crowd, the better ones get the labels.

    Args:
        image: any mode; it is not changed.
        detections: boxes in a picture of their own `image_size`, scaled here if that differs.
        names: of the phrases; `phrase_ids` index it.
        score_threshold: boxes with a lower score are left out.
        truth: what should have been found; dashed, and labelled where it was missed (no box of
            that phrase shares half of it).

    Returns:
        An RGB picture of the same size.

    Raises:
        ValueError: a phrase id has no name.
    """
    canvas = image.convert("RGB")
    if canvas is image:
        canvas = image.copy()
    kept = [i for i in range(len(detections)) if detections.scores[i] >= score_threshold]
    kept.sort(key=lambda i: -float(detections.scores[i]))
    found = _in_pixels(detections, kept, canvas.size)
    wanted = _in_pixels(truth, range(len(truth)), canvas.size) if truth is not None else []
    _check_names(chain(found, wanted), names)

    pen = ImageDraw.Draw(canvas)
    thickness = max(2, round(min(canvas.size) / 250))
    for phrase, box in wanted:
        _dashed(pen, box, phrase_color(phrase), thickness)
    for phrase, box in reversed(found):  # the best lies on top
        pen.rectangle(box.grown(1), outline=_DARK, width=1)
        pen.rectangle(box, outline=phrase_color(phrase), width=thickness)

    scores = [f"{float(detections.scores[i]):.2f}" for i in kept]
    labels = _Labels(pen, canvas.size)
    for (phrase, box), score in zip(found, scores):
        labels.put(_one_line(names[phrase]), score, box, phrase_color(phrase))
    for phrase, box in wanted:
        if not any(phrase == other and _half_shared(box, near) for other, near in found):
            labels.put(_one_line(names[phrase]), "", box, phrase_color(phrase), missed=True)
    return canvas


def contact_sheet(
    images: Sequence[Image.Image],
    columns: int = 4,
    *,
    cell_size: tuple[int, int] = (360, 480),
    gap: int = 8,
) -> Image.Image:
    """Pictures side by side, row by row, each as large as its cell allows.

    Args:
        images: at least one; smaller ones are not enlarged.
        columns: cells in a row; fewer when there are fewer pictures.
        cell_size: (height, width) of a cell in pixels.
        gap: pixels between cells and around them.

    Raises:
        ValueError: no images, or a number below 1.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture, got none")
    height, width = cell_size
    if min(columns, height, width) < 1 or gap < 0:
        raise ValueError(
            f"columns and cell_size must be at least 1 and gap at least 0, got {columns}, "
            f"{cell_size} and {gap}"
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    size = (columns * (width + gap) + gap, rows * (height + gap) + gap)
    sheet = Image.new("RGB", size, _BACKGROUND)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        scale = min(width / image.width, height / image.height, 1)
        fitted = image.convert("RGB").resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
            Image.Resampling.LANCZOS,
        )
        left = gap + column * (width + gap) + (width - fitted.width) // 2
        top = gap + row * (height + gap) + (height - fitted.height) // 2
        sheet.paste(fitted, (left, top))
    return sheet


def _in_pixels(
    detections: Detections, indices: Sequence[int], size: tuple[int, int]
) -> list[tuple[int, _Box]]:
    """(phrase, box) with whole pixels inside a picture of `size` (width, height)."""
    width, height = size
    if detections.image_size != (height, width):
        detections = detections.resized((height, width))
    boxes = detections.boxes.cpu()
    result = []
    for i in indices:
        x1, y1, x2, y2 = boxes[i].tolist()
        left, right = sorted(round(min(max(x, 0), width - 1)) for x in (x1, x2))
        top, bottom = sorted(round(min(max(y, 0), height - 1)) for y in (y1, y2))
        result.append((int(detections.phrase_ids[i]), _Box(left, top, right, bottom)))
    return result


def _half_shared(a: _Box, b: _Box) -> bool:
    """Whether the boxes share half of what they cover together (IoU of at least 0.5)."""
    shared = a.overlap(b)
    return 2 * shared >= a.overlap(a) + b.overlap(b) - shared


def _check_names(boxes: chain[tuple[int, _Box]], names: Sequence[str]) -> None:
    wrong = sorted({phrase for phrase, _ in boxes if not 0 <= phrase < len(names)})
    if wrong:
        raise ValueError(f"phrase ids index {len(names)} names, got {wrong}")


def _one_line(name: str) -> str:
    return " ".join(name.split())


def _dashed(pen: ImageDraw.ImageDraw, box: _Box, color: Color, thickness: int) -> None:
    """A rectangle of dashes, dark between them so that it shows on any picture."""
    pen.rectangle(box, outline=_DARK, width=thickness)
    dash = 4 * thickness
    inner = thickness - 1
    for x in range(box.left, box.right + 1, 2 * dash):
        end = min(x + dash, box.right)
        pen.rectangle((x, box.top, end, min(box.top + inner, box.bottom)), fill=color)
        pen.rectangle((x, max(box.bottom - inner, box.top), end, box.bottom), fill=color)
    for y in range(box.top, box.bottom + 1, 2 * dash):
        end = min(y + dash, box.bottom)
        pen.rectangle((box.left, y, min(box.left + inner, box.right), end), fill=color)
        pen.rectangle((max(box.right - inner, box.left), y, box.right, end), fill=color)


class _Labels:
    """Puts labels where they stay inside the picture and off each other."""

    def __init__(self, pen: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
        self.pen = pen
        self.width, self.height = size
        self.taken: list[_Box] = []
        font_size = max(11, round(min(size) / 34))
        self.font = ImageFont.load_default(font_size)
        ascent, descent = self.font.getmetrics()
        self.padding = max(2, font_size // 6)
        self.line = ascent + descent + self.padding

    def put(self, name: str, score: str, box: _Box, color: Color, *, missed: bool = False) -> None:
        """Write a label near its box: on its colour above it, or if `missed` on dark below it."""
        text = self._fitting(name, score)
        width = round(self.pen.textlength(text, font=self.font)) + 2 * self.padding
        if not text or width * self.line * 2 > self.width * self.height:
            return  # it would hide the picture
        place, hidden = self._place(box, width, below=missed)
        if hidden * 4 > width * self.line:
            return  # two labels on one spot cannot be read; the colour still tells the phrase
        self.taken.append(place)
        red, green, blue = color
        is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140  # luma, ITU-R BT.601
        paper, ink = (_DARK, color) if missed else (color, _DARK if is_bright else _LIGHT)
        self.pen.rectangle(place, fill=paper)
        self.pen.text(
            (place.left + self.padding, place.top + self.padding // 2),
            text,
            fill=ink,
            font=self.font,
        )

    def _fitting(self, name: str, score: str) -> str:
        """Name and score, the name shortened until the picture is wide enough; "" if it is not."""
        limit = self.width - 2 * self.padding
        words = f"{name} {score}".strip()
        length = len(name)
        while self.pen.textlength(words, font=self.font) > limit:
            length = min(length - 1, int(length * 0.9))
            if length < 1:
                return ""
            words = f"{name[:length].rstrip()}… {score}".strip()
        return words

    def _place(self, box: _Box, width: int, *, below: bool) -> tuple[_Box, int]:
        """Where a label goes, and how many pixels of other labels it would hide there."""
        outside, inside = [box.top - self.line, box.bottom + 1], [box.top, box.bottom - self.line]
        rows = [outside[0], inside[0], outside[1], inside[1]]
        if below:
            rows = [inside[1], outside[1], inside[0], outside[0]]
        # After the four rows at its edges: further and further down inside the box.
        rows += range(box.top + self.line, box.bottom - self.line, self.line)
        fitting = [row for row in rows if 0 <= row <= self.height - self.line] or [0]
        places = []
        for row in fitting:
            for column in (box.left, box.right - width + 1):
                left = min(max(column, 0), self.width - width)
                place = _Box(left, row, left + width - 1, row + self.line - 1)
                places.append((place, sum(place.overlap(other) for other in self.taken)))
        return min(places, key=lambda found: found[1])  # the first of the least hidden
