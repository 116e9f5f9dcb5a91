"""Columns for people to read."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Rows of equal length under each other; the first column to the left, the others to the right.

    Args:
        rows: the first one is the heading.
        indent: what stands before each line.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        indent + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    )
