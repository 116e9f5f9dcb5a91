"""Several pictures as one."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from glipkit.visualize.fonts import Face
from glipkit.visualize.labels import font_size
from glipkit.visualize.palette import BACKGROUND, LIGHT


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
    sheet = Image.new("RGB", size, BACKGROUND)
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
