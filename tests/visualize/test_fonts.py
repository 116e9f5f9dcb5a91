"""Names in any script become something that can be read."""

import pytest
from PIL import Image, ImageDraw

from glipkit.visualize.fonts import Face, readable


def test_latin_names_stay_as_they_are() -> None:
    assert readable("crème brûlée_(x)", "#1") == "crème brûlée_(x)"
    assert readable("two\nlines\tand  a tab", "#1") == "two lines and a tab"
    assert readable("e\u0301", "#1") == "é"  # composed
    assert readable("", "#1") == ""


def test_emoji_are_drawn_or_named() -> None:
    name = readable("crab 🦀\ufe0f", "#1")
    assert name in ("crab 🦀", "crab :crab:")
    assert "\ufe0f" not in name


def test_a_name_without_a_font_becomes_its_number() -> None:
    """The Gothic alphabet is in hardly any machine's fonts."""
    assert readable("\U00010330\U00010331\U00010332", "#7") in (
        "#7",
        "\U00010330\U00010331\U00010332",
    )
    assert readable("\U000e0041\u200b\u202e", "#7") == ""  # invisible


def test_width_is_what_is_written() -> None:
    face = Face(20)
    for text in ("cat", "кошка", "Ελληνικά", "mixed кот cat"):
        canvas = Image.new("L", (400, 60))
        face.write(ImageDraw.Draw(canvas), (10, 10), text, 255)
        left, top, right, bottom = canvas.getbbox()
        assert abs((right - left) - face.length(text)) <= 4
        assert left >= 9
        assert top >= 10
        assert bottom <= 10 + face.line + 2


@pytest.mark.parametrize("limit", [200, 100, 40, 5])
def test_shortened_fits(limit: int) -> None:
    face = Face(12)
    text = face.shortened("a name that is really rather long", limit, "0.93")
    assert face.length(text) <= limit
    assert text == "" or text.endswith("0.93")
