"""Names in any script become something that can be read."""

import logging
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from glipkit.visualize.font_shelf import Shelf, find_fonts, this_machine
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


def latin_font() -> bytes:
    """A font file: Pillow's own."""
    return ImageFont.load_default(16).path.getvalue()


def test_fonts_are_the_known_ones_and_all_others_in_their_plain_style(tmp_path: Path) -> None:
    for name in (
        *("b/NotoSans-Regular.ttf", "DejaVuSans.ttf", "Zed.ttf", "a/Any-Regular.OTF"),
        *("Zed-BoldItalic.ttf", "LastResort.ttf", "readme.txt"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(latin_font())
    (tmp_path / "Broken.ttf").write_bytes(b"no font")
    first, others = find_fonts([str(tmp_path), str(tmp_path / "missing")])
    assert [Path(path).name for path in first] == ["DejaVuSans.ttf", "NotoSans-Regular.ttf"]
    assert [Path(path).name for path in others] == ["Any-Regular.OTF", "Zed.ttf"]


def test_any_font_of_the_system_may_have_a_letter(tmp_path: Path) -> None:
    (tmp_path / "Latin.ttf").write_bytes(latin_font())
    latin = str(tmp_path / "Latin.ttf")
    assert Shelf([]).font_of("я") is None
    assert Shelf([latin], [latin]).font_of("я") is None
    assert Shelf([latin], [latin]).font_of("a") == 0
    number = this_machine().font_of("я")
    if number is None:
        pytest.skip("no font on this machine has Cyrillic letters (Debian: fonts-dejavu-core)")
    shelf = Shelf([], [latin, this_machine().font(number, 16).path])
    assert shelf.font_of("я") == 2
    assert shelf.font_of("ж") == 2
    assert shelf.font_of("a") == 0
    assert shelf.font_of("\U0001e805") is None


def test_a_script_without_a_font_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """Mende Kikakui is in hardly any machine's fonts."""
    with caplog.at_level(logging.WARNING, logger="glipkit.visualize.fonts"):
        names = [readable(name, "#1") for name in ("\U0001e801", "\U0001e802\U0001e803")]
        readable("plain \U0001f980", "#2")  # an emoji has a name instead
    said = [record.message for record in caplog.records]
    assert len(said) == (names[0] == "#1")
    assert all("no font on this machine has MENDE letters" in each for each in said)
