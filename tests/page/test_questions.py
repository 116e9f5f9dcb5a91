from dataclasses import replace

import pytest
from fake_detector import FakeDetector
from PIL import Image

from glipkit.page.limits import Limits
from glipkit.page.questions import Questions, shown_size

PICTURE = Image.new("RGB", (100, 80), (90, 90, 90))


def questions(**limits: int) -> Questions:
    return Questions(FakeDetector(), limits=Limits(**limits))


def test_thresholds_need_no_forward() -> None:
    desk = questions()
    answer = desk.ask(PICTURE, "cat . dog")
    assert len(answer.found) == 6  # all of them, whatever their scores
    assert [len(answer.above(levels)) for levels in ([0.5, 0.5], [0.2, 0.8], [1, 1])] == [4, 4, 0]
    assert answer.above([0.2, 0.95]).phrase_ids.tolist() == [0, 0, 0]
    assert desk.detector.calls == answer.forwards == 1


def test_the_best_of_a_phrase() -> None:
    answer = questions().ask(PICTURE, "cat . dog")
    assert answer.best(1) == pytest.approx(0.9)
    assert answer.best(7) == 0


def test_the_alignment_is_computed_once_and_when_asked() -> None:
    desk = questions()
    answer = desk.ask(PICTURE, "cat . dog")
    assert desk.detector.looks == 0
    seen = desk.look(answer)
    assert seen.alignment.tokens == ("cat", ".", "dog")
    assert desk.look(seen) is seen
    assert desk.detector.looks == 1
    assert (answer.forwards, seen.forwards) == (1, 2)
    assert desk.ask(PICTURE, "cow").forwards == 1  # whatever others asked before


def test_each_prompt_is_a_forward() -> None:
    class OfThreePrompts(FakeDetector):
        def __call__(self, *args, **how):
            found = super().__call__(*args, **how)
            return replace(found, asked=replace(found.asked, captions=("cat", "dog", "cow")))

    desk = Questions(OfThreePrompts(), limits=Limits())
    answer = desk.ask(PICTURE, "cat . dog . cow")
    assert answer.forwards == 3
    assert desk.look(answer).forwards == 6


@pytest.mark.parametrize("text", ["", "  \n ", None, 7, ["cat"]])
def test_no_words(text: object) -> None:
    with pytest.raises(ValueError, match="Say what to look for"):
        questions().ask(PICTURE, text)


def test_too_many_words() -> None:
    desk = questions(characters=10)
    with pytest.raises(ValueError, match="11 characters; this page takes 10"):
        desk.ask(PICTURE, "a" * 11)
    assert desk.detector.calls == 0


def test_pictures_are_shown_neither_tiny_nor_huge() -> None:
    assert shown_size(Image.new("RGB", (1000, 500))).size == (1000, 500)
    assert shown_size(Image.new("RGB", (100, 50))).size == (960, 480)
    assert shown_size(Image.new("RGB", (3200, 1600))).size == (1600, 800)
    assert shown_size(Image.new("RGB", (1, 4000))).size == (1, 1600)


def test_boxes_lie_where_they_belong_in_the_shown_picture() -> None:
    answer = questions().ask(PICTURE, "cat")
    drawn = answer.drawn(answer.above([0.85]))  # x 0 to 20, y 0 to 30 of 100 x 80
    assert drawn.size == (960, 768)
    changed = [drawn.getpixel(at) != answer.shown.getpixel(at) for at in ((192, 150), (600, 500))]
    assert changed == [True, False]


def test_no_large_picture_is_remembered() -> None:
    answer = questions().ask(Image.new("RGB", (4000, 2000)), "cat")
    assert answer.found.picture is None
    assert answer.found.size == (4000, 2000)  # boxes are in pixels of what was sent
    assert answer.picture.size == answer.shown.size == (1600, 800)
    assert questions().ask(PICTURE, "cat").picture.size == PICTURE.size
    for long in ((1, 90_000), (90_000, 1), (3, 90_000)):
        assert max(questions().ask(Image.new("RGB", long), "cat").picture.size) == 1600
