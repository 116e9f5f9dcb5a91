"""Columns for people to read."""

import unicodedata
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Rows of equal length under each other; the first column to the left, the others to the right.

    Args:
        rows: the first one is the heading.
        indent: what stands before each line.
    """
    widths = [max(map(columns, column)) for column in zip(*rows)]
    return "\n".join(
        indent
        + "  ".join(
            [_padded(row[0], widths[0], left=True), *map(_padded, row[1:], widths[1:])]
        ).rstrip()
        for row in rows
    )


def columns(text: str) -> int:
    """How many columns of a terminal the text takes: two for a Chinese letter, none for accents."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def _padded(text: str, width: int, *, left: bool = False) -> str:
    space = " " * (width - columns(text))
    return text + space if left else space + text
