"""Objects keep their numbers through motion, occlusion and crossings."""

from dataclasses import replace

import pytest
import torch
from films import answer
from PIL import Image

from glipkit.inference.found import Found
from glipkit.inference.tracking import IouTracker
from glipkit.visualize import phrase_color


def at(x: float, y: float = 50, side: float = 20) -> list[float]:
    return [x, y, x + side, y + side]


def ids(found: Found) -> dict[str, int]:
    return {box.label: box.track_id for box in found}


def test_numbers_stay_with_moving_objects() -> None:
    tracker = IouTracker()
    for step in range(20):
        found = tracker.update(answer([at(5 * step), at(150 - 5 * step, 100)], ["cat", "dog"]))
        assert ids(found) == {"cat": 0, "dog": 1}
    assert found.track_ids.dtype == torch.int64


def test_objects_of_other_phrases_cross_without_swapping() -> None:
    tracker = IouTracker()
    for step in range(25):  # they run through each other in the middle
        found = tracker.update(answer([at(4 * step), at(100 - 4 * step)], ["cat", "dog"]))
        assert ids(found) == {"cat": 0, "dog": 1}


def test_objects_of_one_phrase_cross_without_swapping() -> None:
    tracker = IouTracker()
    boxes = lambda step: [at(6 * step), at(120 - 6 * step)]  # noqa: E731
    first = tracker.update(answer(boxes(0), ["cat", "cat"]))
    assert first.track_ids.tolist() == [0, 1]
    for step in range(1, 21):
        if step == 10:  # on one spot: one box is all that suppression leaves
            tracker.update(answer([at(60)], ["cat"]))
            continue
        found = tracker.update(answer(boxes(step), ["cat", "cat"]))
    assert found.boxes[:, 0].tolist() == [120, 0]
    assert found.track_ids.tolist() == [0, 1]


def test_number_survives_a_short_occlusion_on_the_move() -> None:
    tracker = IouTracker(max_age=5)
    for step in range(10):
        tracker.update(answer([at(5 * step)], ["cat"]))
    for _ in range(4):  # it would have moved by its whole width
        tracker.update(answer([], []))
    found = tracker.update(answer([at(5 * 14)], ["cat"]))
    assert found.track_ids.tolist() == [0]


def test_number_is_lost_when_hidden_too_long_and_never_used_again() -> None:
    tracker = IouTracker(max_age=2)
    tracker.update(answer([at(50)], ["cat"]))
    for _ in range(3):
        tracker.update(answer([], []))
    found = tracker.update(answer([at(50)], ["cat"]))
    assert found.track_ids.tolist() == [1]
    tracker.cut()
    assert tracker.update(answer([at(50)], ["cat"])).track_ids.tolist() == [2]


def test_same_place_with_another_phrase_is_another_object() -> None:
    tracker = IouTracker()
    tracker.update(answer([at(50)], ["cat"]))
    assert tracker.update(answer([at(50)], ["dog"])).track_ids.tolist() == [1]


def test_what_was_seen_too_seldom_has_no_number() -> None:
    tracker = IouTracker(min_hits=3)
    numbers = [
        tracker.update(answer([at(50), at(10 + 60 * (step % 2), 150)], ["cat", "cat"])).track_ids
        for step in range(5)
    ]
    assert [row.tolist() for row in numbers] == [[-1, -1], [-1, -1], [0, -1], [0, -1], [0, -1]]


def test_better_boxes_choose_first() -> None:
    tracker = IouTracker()
    tracker.update(answer([at(50)], ["cat"]))
    found = tracker.update(answer([at(54), at(46)], ["cat", "cat"], scores=[0.5, 0.9]))
    by_place = dict(zip(found.boxes[:, 0].tolist(), found.track_ids.tolist()))
    assert by_place == {46.0: 0, 54.0: 1}


def test_nothing_found_is_fine() -> None:
    found = IouTracker().update(answer([], []))
    assert found.track_ids.shape == (0,)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"min_iou": 0}, "min_iou"),
        ({"max_age": -1}, "max_age is a whole number from 0 on, got -1"),
        ({"max_age": float("nan")}, "max_age"),  # which would forget everything at once
        ({"min_hits": 0}, "min_hits is a whole number from 1 on, got 0"),
        ({"min_hits": True}, "min_hits"),
        ({"smoothing": 1}, "smoothing"),
    ],
)
def test_settings_are_checked(wrong: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        IouTracker(**wrong)


def test_objects_are_drawn_in_a_colour_each() -> None:
    found = replace(
        answer([at(20, 20), at(100, 20), at(20, 120)], ["cat", "cat", "dog"]),
        picture=Image.new("RGB", (200, 200)),
    )
    one, two, three = (
        replace(found, track_ids=torch.tensor(ids)) for ids in ([4, 7, 9], [7, 4, 9], [-1, -1, -1])
    )
    assert one.draw().getpixel((20, 30)) == two.draw().getpixel((100, 30)) == phrase_color(4)
    assert one.draw().getpixel((100, 30)) == two.draw().getpixel((20, 30)) == phrase_color(7)
    assert three.draw().tobytes() == found.draw().tobytes()  # unsure ones as if not tracked
