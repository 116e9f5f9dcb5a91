"""What a run learns from, as a table for people."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

_NUM_TEXTS = 2  # columns to the left; the others hold numbers, to the right


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source; the fields are the columns. Text stands where there is no number."""

    name: str
    kind: str
    images: int  # or pairs of a picture and a caption
    boxes: int | str  # in the annotations, before any is dropped
    classes: int | str
    copies: int


def source_table(rows: Sequence[SourceRow]) -> str:
    """A line for each source, below one that names the columns."""
    head = tuple(field.name for field in fields(SourceRow))
    lines = [head, *(tuple(map(_cell, astuple(row))) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(_aligned(line, widths) for line in lines)


def _cell(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    texts = [cell.ljust(width) for cell, width in zip(line[:_NUM_TEXTS], widths)]
    numbers = [cell.rjust(width) for cell, width in zip(line[_NUM_TEXTS:], widths[_NUM_TEXTS:])]
    return "  " + "  ".join(texts + numbers)
