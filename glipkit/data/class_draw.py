"""Which classes a training caption names: the published draw (OD_TO_GROUNDING, procedure A)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from glipkit.data.randomness import SampleRandom

# Probabilities of (one absent class, no absent class, as many as are allowed, dropping present
# ones); otherwise their number is drawn. The empty default of DATASETS.CONTROL_PROB stands for it.
ALL_ALLOWED = (0.0, 0.0, 1.0, 0.0)


class DrawnClasses(NamedTuple):
    """The classes of one caption."""

    labels: tuple[int, ...]  # in the order of the caption, at least one
    one_sided: bool  # all of them are present, or none is


class ClassDraw:
    """The classes that are there, and a draw of those that are not.

    Draws come in the published order, so a seeded run of the published code is replayed to the
    letter. Its details stay: present classes may be drawn among the absent ones and are then
    discarded, and the class that overflows the caption counts in its length.

    One departure, which changes no draw that the published code makes: a picture without boxes is
    asked for one class at least, of all classes if need be; its published caption can be empty.

    Args:
        num_tokens: label -> tokens of its name with separator, for every class by ascending id,
            background included where the data has one.
        budget: tokens of a caption at most.
        num_negatives: absent classes at most (DATASETS.RANDOM_SAMPLE_NEG); -1 allows all.
        control: DATASETS.CONTROL_PROB, four probabilities (see `ALL_ALLOWED`); () is that.
        max_labels: classes of a caption at most (TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM), but
            present ones are never dropped for it. -1: any number.

    Raises:
        ValueError: `control` is not four such probabilities.
    """

    def __init__(
        self,
        num_tokens: Mapping[int, int],
        budget: int,
        *,
        num_negatives: int = -1,
        control: Sequence[float] = (),
        max_labels: int = -1,
    ) -> None:
        self._num_tokens = dict(num_tokens)
        self._every_class = np.array(list(num_tokens), dtype=np.int64)
        self._budget = budget
        self._num_negatives = num_negatives
        self._control = _checked_control(control)
        self._max_labels = max_labels

    def __call__(
        self, labels: Sequence[int], chance: SampleRandom, absent: Sequence[int] | None = None
    ) -> DrawnClasses:
        """The classes to name beside a picture; the steps are those of OD_TO_GROUNDING.

        Args:
            labels: of its boxes in their order, with repetitions; may be empty.
            chance: what is drawn from.
            absent: labels that absent classes may be drawn from; None allows every class.
        """
        kept, used = self._fitting(labels, chance)  # step 1
        pool = self._every_class if absent is None else np.array(absent, dtype=np.int64)
        if not kept and not len(pool):
            pool = self._every_class
        count = self._num_drawn(len(kept), len(pool), chance)  # steps 2 and 3
        if not kept:
            count = max(count, 1)
        drawn = chance.numpy.choice(pool, size=min(count, len(pool)), replace=False).tolist()
        negatives = list({label for label in drawn if label not in kept})  # step 4
        positives = list({label for label in labels if label in kept})
        chance.python.shuffle(positives)  # step 5
        chance.python.shuffle(negatives)
        negatives = self._screened(negatives, self._budget - used)  # step 6
        chosen = negatives + positives
        chance.python.shuffle(chosen)  # step 7
        return DrawnClasses(tuple(chosen), not (negatives and positives))

    def _fitting(self, labels: Sequence[int], chance: SampleRandom) -> tuple[set[int], int]:
        """The present classes that fit, and their length with the first one that does not."""
        distinct = list(set(labels))
        chance.python.shuffle(distinct)
        kept: set[int] = set()
        used = 0
        for label in distinct:
            used += self._num_tokens[label]
            if used > self._budget:
                break
            kept.add(label)
        return kept, used

    def _num_drawn(self, num_present: int, pool_size: int, chance: SampleRandom) -> int:
        most = pool_size if self._num_negatives < 0 else min(self._num_negatives, pool_size)
        if self._max_labels > 0:
            most = max(min(self._max_labels - num_present, most), 0)
        one, none, all_allowed, _ = self._control
        draw = chance.python.random()
        if draw < one:
            return 1
        if draw < one + none:
            return 0
        if draw < one + none + all_allowed:
            return most
        chance.python.random()  # published: decides nothing
        count = int(chance.numpy.choice(max(1, most))) + 1
        chance.python.random()  # published: would drop present classes, with probability 0
        return count

    def _screened(self, negatives: Sequence[int], budget: int) -> list[int]:
        """As many as fit into what the present classes leave of the caption."""
        kept = []
        for label in negatives:
            budget -= self._num_tokens[label]
            if budget <= 0:
                break
            kept.append(label)
        return kept


def _checked_control(control: Sequence[float]) -> tuple[float, ...]:
    if len(control) == 0:
        return ALL_ALLOWED
    asked = (
        "DATASETS.CONTROL_PROB is four probabilities (one absent class, none, as many as are "
        f"allowed, dropping present ones), got {tuple(control)}"
    )
    if len(control) != 4:
        raise ValueError(f"{asked}: {len(control)} numbers")
    if not all(0 <= each <= 1 for each in control) or sum(control[:3]) > 1 + 1e-9:
        raise ValueError(f"{asked}: each lies in [0, 1], and the first three sum to 1 at most")
    if control[3] != 0:
        raise ValueError(
            f"{asked}: dropping classes that are present would teach that they are absent; the "
            "last one must be 0"
        )
    return tuple(control)
