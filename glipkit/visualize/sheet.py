"""Several pictures as one."""

import math
import statistics
from collections.abc import Sequence

from PIL import Image, ImageDraw

from glipkit.visualize.fonts import Face
from glipkit.visualize.labels import font_size
from glipkit.visualize.palette import BACKGROUND, LIGHT

_CELL = 360 * 480  # pixels of a cell
_SHEET = 24_000_000  # of all cells together: the more pictures, the smaller
_ENLARGED = 2  # times at most: letters in small pictures become readable, pixels do not yet show
_SLENDER = 3.0  # a cell's longer side by its shorter one, at most
_WIDTH = 1.2  # of a sheet by its height, about


def contact_sheet(
    images: Sequence[Image.Image], columns: int | None = None, *, gap: int = 8
) -> Image.Image:
    """Pictures side by side, row by row, each as large as its cell allows.

    All cells are of one size, and of the shape that most of the pictures have; they shrink where
    there are very many.

    Args:
        images: at least one; small ones are enlarged, twice at most.
        columns: cells in a row; fewer when there are fewer pictures. None makes the sheet somewhat
            wider than high.
        gap: pixels between cells and around them.

    Raises:
        ValueError: no images, one without pixels, or a number is too small.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture, got none")
    for index, image in enumerate(images):
        if 0 in image.size:
            width, height = image.size
            raise ValueError(f"picture {index} has no pixels: it is {width}x{height}")
    if gap < 0 or (columns is not None and columns < 1):
        raise ValueError(f"columns must be at least 1 and gap at least 0, got {columns} and {gap}")
    fitted = _fitted([image.size for image in images])
    width, height = (max(sides) for sides in zip(*fitted))
    columns = min(columns or _columns(len(images), width, height), len(images))
    rows = -(-len(images) // columns)
    size = (columns * (width + gap) + gap, rows * (height + gap) + gap)
    sheet = Image.new("RGB", size, BACKGROUND)
    for index, (image, new_size) in enumerate(zip(images, fitted)):
        row, column = divmod(index, columns)
        left = gap + column * (width + gap) + (width - new_size[0]) // 2
        top = gap + row * (height + gap) + (height - new_size[1]) // 2
        resized = image.convert("RGB").resize(new_size, Image.Resampling.LANCZOS)
        sheet.paste(resized, (left, top))
    return sheet


def side_by_side(
    truth: Image.Image,
    prediction: Image.Image,
    *,
    titles: tuple[str, str] = ("truth", "prediction"),
    gap: int = 8,
) -> Image.Image:
    """Two drawings of one picture beside each other, or above each other if they are wide.

    Args:
        truth: what should have been found, as `draw` drew it.
        prediction: what was found.
        titles: what stands above the two.
        gap: pixels around and between them.

    Raises:
        ValueError: the gap is negative.
    """
    if gap < 0:
        raise ValueError(f"gap must be at least 0, got {gap}")
    face = Face(max(font_size(truth.size), font_size(prediction.size)))
    cell = (max(truth.width, prediction.width), max(truth.height, prediction.height) + face.line)
    step = (0, cell[1] + gap) if cell[0] > 2 * cell[1] else (cell[0] + gap, 0)
    size = (cell[0] + step[0] + 2 * gap, cell[1] + step[1] + 2 * gap)
    sheet = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for index, (title, picture) in enumerate(zip(titles, (truth, prediction))):
        left, top = gap + index * step[0], gap + index * step[1]
        face.write(pen, (left, top), face.shortened(title, cell[0]), LIGHT)
        sheet.paste(picture, (left, top + face.line))
    return sheet


def _fitted(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """How large each picture becomes in a cell that suits most of them; (width, height)."""
    usual = statistics.median(math.log(width / height) for width, height in sizes)
    shape = min(max(math.exp(usual), 1 / _SLENDER), _SLENDER)
    area = min(_CELL, _SHEET / len(sizes))
    cell = ((area * shape) ** 0.5, (area / shape) ** 0.5)
    scales = [min(cell[0] / width, cell[1] / height, _ENLARGED) for width, height in sizes]
    return [
        (max(1, round(width * scale)), max(1, round(height * scale)))
        for (width, height), scale in zip(sizes, scales)
    ]


def _columns(count: int, width: int, height: int) -> int:
    """Cells in a row: of the two numbers that suit, the one that leaves fewer cells empty."""
    wanted = (_WIDTH * count * height / width) ** 0.5
    return min((math.ceil(wanted), max(1, math.floor(wanted))), key=lambda number: -count % number)
