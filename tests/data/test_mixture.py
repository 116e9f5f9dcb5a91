from collections import Counter

import pytest
from drawn_source import DrawnSource

from glipkit.data.mixture import TALL, WIDE, Mixture, Part


def test_every_sample_comes_as_often_as_it_has_copies() -> None:
    first, second = DrawnSource("first", 3), DrawnSource("second", 2)
    mixture = Mixture([Part(first, copies=2), Part(second)])
    assert len(mixture) == 8
    found = [mixture.locate(index) for index in range(8)]
    shown = Counter((part.source.name, index) for part, index in found)
    assert shown == {
        **{("first", index): 2 for index in range(3)},
        **{("second", index): 1 for index in range(2)},
    }
    assert [part.source.name for part, _ in found] == ["first"] * 6 + ["second"] * 2


@pytest.mark.parametrize("index", [-1, 8])
def test_a_number_beyond_the_mixture(index: int) -> None:
    mixture = Mixture([Part(DrawnSource(count=4), copies=2)])
    with pytest.raises(IndexError, match=f"sample {index} of a mixture of 8"):
        mixture.locate(index)


def test_shapes_follow_the_samples() -> None:
    sized = DrawnSource(count=3, sizes=((16, 32), (32, 16), (24, 24)))
    unsized = DrawnSource(count=2, sizes=(None,))
    mixture = Mixture([Part(sized, copies=2), Part(unsized)])
    assert mixture.shapes().tolist() == [WIDE, TALL, TALL] * 2 + [WIDE] * 2


def test_nothing_to_mix() -> None:
    with pytest.raises(ValueError, match=r"at least one source; DATASETS\.TRAIN"):
        Mixture([])
    with pytest.raises(ValueError, match="nothing to learn from in 'empty': no sample is left"):
        Mixture([Part(DrawnSource("full")), Part(DrawnSource("empty", 0))])


def test_a_part_is_shown_at_least_once() -> None:
    with pytest.raises(ValueError, match=r"drawn must be shown at least once.*got 0 copies"):
        Part(DrawnSource(), copies=0)
