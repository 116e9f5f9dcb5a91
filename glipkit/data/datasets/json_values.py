"""What every reader of an annotation file asks of JSON values, and how it names offenders."""

import json
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

_SHOWN = 5  # offenders that an error message names


def check_unique(path: Path, what: str, ids: Iterable[Hashable]) -> None:
    """Raise a ValueError that names the ids that occur more than once.

    Args:
        path: of the file, for the error.
        what: the ids are of, for the error.
        ids: that should all differ.
    """
    repeated = [each for each, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{path}: {what} must be unique, but {len(repeated)} occur more than once: "
            f"{first_few(repeated)}"
        )


def is_integer(value: Any) -> bool:
    """A whole number; Python takes true for one, JSON does not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A number that float64 can hold; JSON has integers of any length."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float)


def hashable(value: Any) -> Hashable:
    """What can be looked up in a set, for ids that may be anything."""
    return value if isinstance(value, Hashable) else repr(value)


def first_few(items: Sequence[Any]) -> str:
    """Some of the items, and how many there are."""
    more = f", ... ({len(items)} in all)" if len(items) > _SHOWN else ""
    return ", ".join(map(str, items[:_SHOWN])) + more


def shown(entry: dict[str, Any]) -> str:
    """An entry of a file as it reads there, not endlessly."""
    text = json.dumps(entry, default=str)
    return text if len(text) <= 200 else f"{text[:200]}..."
