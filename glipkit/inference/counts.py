"""Whole numbers as people mean them: Python takes True for 1, and rounds 1.5 where nobody looks."""

import operator
from typing import Any


def whole(value: Any) -> int:
    """A whole number of Python, numpy or torch.

    Raises:
        TypeError: it is none: 1.5, "2", True.
    """
    if isinstance(value, bool):
        raise TypeError(f"expected a whole number, got {value}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"expected a whole number, got {value!r}") from None


def check_count(value: Any, name: str, least: int = 1) -> None:
    """Refuse what is no number of things.

    Args:
        value: what was given.
        name: how the caller calls it.
        least: the smallest that makes sense.

    Raises:
        ValueError: it is no whole number, or below `least`.
    """
    try:
        is_count = whole(value) >= least
    except TypeError:
        is_count = False
    if not is_count:
        raise ValueError(f"{name} is a whole number from {least} on, got {value!r}")
