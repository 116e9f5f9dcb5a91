"""The best of each class, however they come."""

import numpy as np
import pytest

from glipkit.evaluation import lvis_store
from glipkit.evaluation.lvis_store import RECORD, BestOfClasses, canonical


def random_records(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    records = np.empty(count, dtype=RECORD)
    records["score"] = np.round(random.random(count), 2)  # ties
    records["image"] = random.integers(0, 50, count)
    records["box"] = random.integers(0, 9, (count, 4))
    return random.integers(0, 5, count), records


@pytest.mark.parametrize("limit", [1, 20, 250, None])
@pytest.mark.parametrize("piece", [1, 37, 5000])
def test_the_best_are_kept(monkeypatch: pytest.MonkeyPatch, limit: int | None, piece: int) -> None:
    monkeypatch.setattr(lvis_store, "_WAITING", 100)
    classes, records = random_records(2000)
    store = BestOfClasses(6, limit)
    for start in range(0, len(records), piece):
        store.add(classes[start : start + piece], records[start : start + piece])
    for index in range(6):
        own = records[classes == index]
        expected = own[canonical(own)][:limit]
        found = store.of_class(index)
        assert found.tobytes() == expected.tobytes()
        assert store.counts()[index] == len(expected)
    everything, kept = store.all()
    assert len(kept) == store.counts().sum()
    assert (np.bincount(everything, minlength=6) == store.counts()).all()


def test_counts_are_right_before_anything_is_dropped() -> None:
    classes, records = random_records(1000)
    store = BestOfClasses(5, 100)
    store.add(classes, records)
    assert store.counts().tolist() == [100] * 5
    store.add(classes, records)  # the same again: still the best hundred
    assert store.counts().tolist() == [100] * 5


def test_little_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvis_store, "_WAITING", 1000)
    store = BestOfClasses(5, 100)
    for seed in range(60):
        store.add(*random_records(1000, seed))
        held = sum(len(chunk) for chunks in store._chunks for chunk in chunks)
        assert held <= 5 * 125
