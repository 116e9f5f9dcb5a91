import pytest

from glipkit.grounding.directions import says_left_or_right, says_up_or_down


@pytest.mark.parametrize(
    "caption",
    ["the left dog", "Rightmost car", "his right-hand glove", "lower_left", "the one he LEFT.",
     "cars leftwards of the tree", "left2"],
)  # fmt: skip
def test_sides(caption: str) -> None:
    assert says_left_or_right(caption)


@pytest.mark.parametrize(
    "caption",
    ["a bright light", "upright piano", "copyright", "leftovers on a plate", "alright", "cleft",
     "a playwright", "person. car", "été leftü", ""],
)  # fmt: skip
def test_words_that_only_look_like_sides(caption: str) -> None:
    assert not says_left_or_right(caption)


@pytest.mark.parametrize(
    "caption",
    ["top shelf", "man above the sign", "the lowest step", "upside-down", "Uppermost", "bottom",
     "the lower_left"],
)  # fmt: skip
def test_heights(caption: str) -> None:
    assert says_up_or_down(caption)


@pytest.mark.parametrize("caption", ["a laptop", "rooftops", "overcoat", "slowest", "cupboard"])
def test_words_that_only_look_like_heights(caption: str) -> None:
    assert not says_up_or_down(caption)
