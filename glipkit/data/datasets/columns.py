"""Millions of small records as a few flat buffers.

A Python object for every box of a large annotation file costs kilobytes a picture, and loader
processes copy the pages of every object they so much as look at. Flat buffers do neither.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


class Texts(Sequence[str]):
    """Strings one behind the other in one buffer."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a string at the end.

        Raises:
            UnicodeEncodeError: it holds half of a surrogate pair.
        """
        self._bytes += text.encode()
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode()

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return len(self._bytes) + self._ends.itemsize * len(self._ends)


@dataclass(frozen=True, slots=True)
class SpanLists:
    """A list of [start, end) for each row, the lists of any length."""

    spans: np.ndarray  # (S, 2) int32, those of row 0 first
    starts: np.ndarray  # (rows + 1,) int64: row i has spans[starts[i] : starts[i + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> tuple[tuple[int, int], ...]:
        return tuple(map(tuple, self.spans[self.starts[row] : self.starts[row + 1]].tolist()))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.spans.nbytes + self.starts.nbytes

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) int64, spans of each row."""
        return np.diff(self.starts)

    def row_of_span(self) -> np.ndarray:
        """(S,) int64, the row that each span belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def only(self, kept: np.ndarray) -> "SpanLists":
        """The same rows without the spans that `kept` (S,) bool says no to."""
        before = np.concatenate([[0], np.cumsum(kept)])  # kept spans before each span
        return SpanLists(self.spans[kept], before[self.starts])

    def take(self, rows: np.ndarray) -> "SpanLists":
        """The rows of these numbers, in this order."""
        lengths = self.lengths[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        return SpanLists(self.spans[np.repeat(self.starts[rows], lengths) + within], starts)


class SpanListBuilder:
    """Collects the rows of `SpanLists`."""

    def __init__(self) -> None:
        self._numbers = array("i")
        self._starts = array("q", [0])

    def append(self, spans: Iterable[Sequence[int]]) -> None:
        """Add a row.

        Raises:
            TypeError, ValueError, OverflowError: it is no list of pairs of integers of 32 bits.
        """
        for start, end in spans:
            self._numbers.append(start)
            self._numbers.append(end)
        self._starts.append(len(self._numbers) // 2)

    def done(self) -> SpanLists:
        """All rows."""
        return SpanLists(
            np.array(self._numbers, dtype=np.int32).reshape(-1, 2),
            np.array(self._starts, dtype=np.int64),
        )


def positions(wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """For each wanted id where it stands in `ids`, or -1; both are int64 of one dimension."""
    if not len(ids):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(ids)
    nearest = np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)
    found = order[nearest]
    return np.where(ids[found] == wanted, found, -1)
