"""Several sources, each shown so many times an epoch, numbered through as one."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from glipkit.data.sources import TrainSource

TALL, WIDE = 1, 0  # groups of pictures by shape; a square is tall, as published


@dataclass(frozen=True, slots=True)
class Part:
    """One source of a mixture."""

    source: TrainSource
    copies: int = 1  # times an epoch shows each of its samples
    maskable: bool = True  # whether the masked-language loss may hide its words at all

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(
                f"{self.source.name} must be shown at least once an epoch, got {self.copies} "
                "copies; to leave it out, take it off DATASETS.TRAIN"
            )

    def __len__(self) -> int:
        return self.copies * len(self.source)


class Mixture:
    """Parts laid end to end, each as often as it has copies.

    Args:
        parts: in the order of DATASETS.TRAIN.

    Raises:
        ValueError: there is no part, or one of them is empty.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        if not parts:
            raise ValueError("a mixture needs at least one source; DATASETS.TRAIN names none")
        empty = [part.source.name for part in parts if len(part.source) == 0]
        if empty:
            raise ValueError(
                f"nothing to learn from in {', '.join(map(repr, empty))}: no sample is left of "
                "its annotations; take it off DATASETS.TRAIN, or look at the warnings above"
            )
        self.parts = tuple(parts)
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def locate(self, index: int) -> tuple[Part, int]:
        """The part that number `index` of the mixture belongs to, and its sample there.

        Raises:
            IndexError: the mixture is shorter.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a mixture of {len(self)}")
        which = bisect_right(self._ends, index)
        part = self.parts[which]
        start = self._ends[which] - len(part)
        return part, (index - start) % len(part.source)

    def shapes(self) -> np.ndarray:
        """(len(self),) int8, TALL or WIDE, as far as the annotations claim sizes; else WIDE."""
        return np.concatenate([np.tile(_shapes(part.source), part.copies) for part in self.parts])


def _shapes(source: TrainSource) -> np.ndarray:
    sizes = (source.size(index) for index in range(len(source)))
    return np.fromiter(
        (TALL if size and size[0] >= size[1] else WIDE for size in sizes),
        dtype=np.int8,
        count=len(source),
    )
