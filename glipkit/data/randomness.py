"""Chance that can be repeated: every sample draws from generators of its own."""

import random
from collections.abc import Sequence

import numpy as np


class SampleRandom:
    """The two generators that one sample draws from.

    The published conversion of labels to captions draws from Python's and from numpy's generator
    (OD_TO_GROUNDING), so both are here; everything else of a sample (flips, sizes, masked words)
    draws from `python`. What a sample becomes depends on its key alone: not on worker processes, on
    ranks, or on what was drawn before, so a run can be repeated and resumed.

    Args:
        python: draws uniform numbers and shuffles.
        numpy: numpy's legacy generator.
    """

    def __init__(self, python: random.Random, numpy: np.random.RandomState) -> None:
        self.python = python
        self.numpy = numpy

    @classmethod
    def of(cls, key: Sequence[int]) -> "SampleRandom":
        """Generators that depend on `key` alone.

        Args:
            key: non-negative integers: the run's seed, the epoch, the sample.
        """
        first, second = np.random.SeedSequence(list(key)).generate_state(2)
        return cls(random.Random(int(first)), np.random.RandomState(int(second)))
