"""The best detections of each class, in little memory, whatever order they come in.

24 bytes a detection. Where a class keeps its best ones only, the rest is dropped while they come:
1,203 classes of 10,000 take 0.4 GB, however many pictures there are.
"""

from collections.abc import Sequence

import numpy as np

# A detection; its class is known from the list it is in.
RECORD = np.dtype([("score", "<f4"), ("image", "<i4"), ("box", "<f4", (4,))])
_WAITING = 1 << 20  # detections that are sorted into their classes together


def canonical(records: np.ndarray) -> np.ndarray:
    """(N,) int64: best first; of equal scores the first picture, then the leftmost, topmost box.

    A full order, so that no figure depends on the order in which detections came.
    """
    box = records["box"]
    return np.lexsort(
        (box[:, 3], box[:, 2], box[:, 1], box[:, 0], records["image"], -records["score"])
    )


def best(records: np.ndarray, limit: int) -> np.ndarray:
    """The first `limit` of them in `canonical` order, themselves in any order."""
    if len(records) <= limit:
        return records
    score = records["score"]
    last = np.partition(score, len(score) - limit)[len(score) - limit]
    certain, tied = records[score > last], records[score == last]
    return np.concatenate([certain, tied[canonical(tied)[: limit - len(certain)]]])


class BestOfClasses:
    """Detections class by class, the best of each if there is a limit.

    Args:
        num_classes: classes are numbered from 0.
        limit: how many detections of a class are kept, over all pictures; None keeps all.
    """

    def __init__(self, num_classes: int, limit: int | None) -> None:
        self.limit = limit
        self._chunks: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
        self._counts = np.zeros(num_classes, dtype=np.int64)
        self._floors = np.full(num_classes, -np.inf, dtype=np.float32)  # worse ones are not kept
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_waiting = 0

    def add(self, classes: np.ndarray, records: np.ndarray) -> None:
        """Take detections.

        Args:
            classes: (N,) integers.
            records: (N,) `RECORD`.
        """
        for start in range(0, len(records), _WAITING):  # another process's all come at once
            part = slice(start, start + _WAITING)
            self._wait(classes[part], records[part])
        if len(records) > _WAITING:
            self._sort_in()  # a part that waits would hold the whole

    def _wait(self, classes: np.ndarray, records: np.ndarray) -> None:
        if self.limit is not None:
            good = records["score"] >= self._floors[classes]
            classes, records = classes[good], records[good]
        self._waiting.append((classes.astype(np.int32), records))
        self._num_waiting += len(records)
        if self._num_waiting >= _WAITING:
            self._sort_in()

    def of_class(self, index: int) -> np.ndarray:
        """The detections kept of a class, (N,) `RECORD` in `canonical` order."""
        records = self._settled(index)
        return records[canonical(records)]

    def counts(self) -> np.ndarray:
        """(classes,) int64: how many detections of each class are kept."""
        self._sort_in()
        if self.limit is None:
            return self._counts.copy()
        return np.minimum(self._counts, self.limit)

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Everything that is kept: classes (N,) int32, ascending, and (N,) `RECORD`."""
        counts = self.counts()
        records = np.empty(int(counts.sum()), dtype=RECORD)
        start = 0
        for index, count in enumerate(counts):
            records[start : start + count] = self._settled(index)
            start += count
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts), records

    def _settled(self, index: int) -> np.ndarray:
        """What is kept of a class, as one array and not more than the limit."""
        self._sort_in()
        chunks = self._chunks[index]
        records = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, RECORD), *chunks])
        if self.limit is not None and len(records) > self.limit:
            records = best(records, self.limit)
            self._floors[index] = records["score"].min()
        self._chunks[index] = [records]
        self._counts[index] = len(records)
        return records

    def _sort_in(self) -> None:
        """Give what waits to its classes, and drop what is too much of one."""
        if not self._num_waiting:
            return
        classes, records = (_joined(parts) for parts in zip(*self._waiting))
        self._waiting, self._num_waiting = [], 0
        order = np.argsort(classes, kind="stable")
        classes, records = classes[order], records[order]
        present, starts = np.unique(classes, return_index=True)
        for index, part in zip(present.tolist(), np.split(records, starts[1:])):
            self._chunks[index].append(part.copy())  # a view would hold the whole array
            self._counts[index] += len(part)
            if self.limit is not None and self._counts[index] > self.limit + self.limit // 4:
                self._settled(index)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
