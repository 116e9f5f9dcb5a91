import base64
import io
import re

from fake_detector import FakeDetector, ask
from PIL import Image

from glipkit.page import markup
from glipkit.visualize import phrase_color

PICTURE = Image.new("RGB", (60, 40), (10, 120, 200))


def color(phrase: int) -> str:
    return "--gk: {} {} {};".format(*phrase_color(phrase))


def test_a_figure_holds_its_picture() -> None:
    text = markup.figure(PICTURE, 'a "blue" <picture>', file_name="a.jpg")
    source = re.search(r'src="data:image/jpeg;base64,([^"]+)"', text)[1]
    assert Image.open(io.BytesIO(base64.b64decode(source))).size == (60, 40)
    assert 'alt="a &quot;blue&quot; &lt;picture&gt;"' in text
    assert 'download="a.jpg"' in text
    assert "60 &times; 40" in text
    assert text.count("base64,") == 1


def test_words_show_which_phrase_they_became() -> None:
    asked = ask("a red circle . a blue star")
    text = markup.read_as(asked, asked.phrases)
    assert f'<mark style="{color(0)}" title="a red circle">a red circle</mark> . ' in text
    assert f'<mark style="{color(1)}" title="a blue star">a blue star</mark>' in text


def test_words_of_the_visitor_are_never_html() -> None:
    evil = "<img src=x onerror=alert(1)>"
    asked = ask(evil)
    for text in (
        markup.read_as(asked, asked.phrases),
        markup.tally([evil], [1], [0.5]),
        markup.heat_legend(evil, peak=0.5, brightest=0.5),
        markup.example_buttons([(PICTURE, evil)]),
        markup.placeholder(evil),
        markup.figure(PICTURE, markup.spoken(FakeDetector()(PICTURE, evil)), file_name="a.jpg"),
    ):
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text


def test_the_tally_counts_by_phrase() -> None:
    text = markup.tally(["cat", "dog", "cow"], [2, 0, 0], [0.9, 0.31, 0.0])
    rows = re.findall(r"<li.*?</li>", text)
    assert color(0) in rows[0]
    assert "<b>2</b><small>best 0.90</small>" in rows[0]
    assert 'class="gk-none"' in rows[1]
    assert "best 0.31" in rows[1]
    assert "nothing like it" in rows[2]


def test_the_status_says_what_it_cost() -> None:
    text = markup.status(count=1, model="nano", device="cpu", seconds=0.256, forwards=2)
    assert 'data-boxes="1" data-forwards="2"' in text
    assert "<b>1 box</b>" in text
    assert "nano on cpu" in text
    assert "0.26 s" in text
    assert "2 forward passes" in text
    assert "lower it" not in text
    assert "lower it" in markup.status(count=0, model="m", device="cpu", seconds=1, forwards=1)


def test_a_screen_reader_hears_the_boxes() -> None:
    detector = FakeDetector()
    assert markup.spoken(detector(PICTURE, "cat")) == (
        "The picture with 2 boxes: cat 0.90, cat 0.60."
    )
    assert markup.spoken(detector(PICTURE, "cat", threshold=1)) == "The picture, with no boxes."
    many = markup.spoken(detector(PICTURE, " . ".join("abcdefg"), threshold=0))
    assert many.endswith(", and 9 more.")


def test_tokens_have_the_colours_of_their_phrases() -> None:
    text = markup.token_colors([-1, 0, 1, 1], element_id="tokens")
    assert "nth-of-type(1)" not in text
    assert f"#tokens label:nth-of-type(2) {{{color(0)}}}" in text
    assert f"#tokens label:nth-of-type(4) {{{color(1)}}}" in text


def test_examples_are_buttons() -> None:
    text = markup.example_buttons([(PICTURE, "a star"), (PICTURE, "a ring")])
    assert re.findall(r'data-example="(\d)".*?<span>(.*?)</span>', text) == [
        ("0", "a star"),
        ("1", "a ring"),
    ]
