"""Flat buffers give back what was put in."""

import pickle

import numpy as np
import pytest

from glipkit.data.datasets.columns import SpanListBuilder, Texts

ROWS = [((0, 3),), (), ((1, 2), (5, 9), (5, 9)), ((7, 8),), ()]


def test_texts() -> None:
    words = ["", "a dog", "Füße 😀", ""]
    texts = Texts(words)
    assert list(texts) == words
    assert texts[-2] == words[-2]
    assert list(pickle.loads(pickle.dumps(texts))) == words
    with pytest.raises(IndexError):
        texts[4]
    with pytest.raises(UnicodeEncodeError):
        texts.append("\ud800")


def test_span_lists() -> None:
    builder = SpanListBuilder()
    for row in ROWS:
        builder.append(row)
    spans = builder.done()
    assert [spans[row] for row in range(len(spans))] == ROWS
    assert spans.lengths.tolist() == [1, 0, 3, 1, 0]
    assert spans.row_of_span().tolist() == [0, 2, 2, 2, 3]

    taken = spans.take(np.array([2, 2, 0, 1]))
    assert [taken[row] for row in range(4)] == [ROWS[2], ROWS[2], ROWS[0], ROWS[1]]
    only = spans.only(np.array([False, True, False, True, True]))
    assert [only[row] for row in range(5)] == [(), (), ((1, 2), (5, 9)), ((7, 8),), ()]
    assert len(spans.take(np.array([], dtype=np.int64))) == 0


@pytest.mark.parametrize("row", [3, [3], [[1, 2, 3]], [["a", 2]], [[1.5, 2]], [[0, 2**40]], "ab"])
def test_no_spans(row: object) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        SpanListBuilder().append(row)
