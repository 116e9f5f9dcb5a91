import json
from pathlib import Path

import pytest
from fake_detector import FakeDetector
from PIL import Image

from glipkit.page.door import gradio
from glipkit.page.examples import Example
from glipkit.page.handlers import (
    NUM_LOOKS,
    NUM_VIEWS,
    SLIDERS,
    Handlers,
    compact_json,
    first_noun,
    readable,
)
from glipkit.page.layout import build_page
from glipkit.page.limits import Limits
from glipkit.page.questions import Questions

gr = pytest.importorskip("gradio", reason="needs gradio, the extra glipkit[demo]")

WORDS = "a red circle . a blue star"
BEFORE_SLIDERS = 1 + NUM_VIEWS + 3  # the answer, its views, read as, the panel, the slider for all


@pytest.fixture
def handlers(tmp_path: Path) -> Handlers:
    example = Example(Image.new("RGB", (30, 20)), "a star")
    return Handlers(
        gr,
        Questions(FakeDetector(), limits=Limits(upload_bytes=50_000, pixels=20_000)),
        threshold=0.5,
        examples=[example],
        folder=tmp_path,
    )


@pytest.fixture
def upload(tmp_path: Path) -> dict[str, str]:
    Image.new("RGB", (100, 80), (200, 100, 50)).save(tmp_path / "a.png")
    return {"path": str(tmp_path / "a.png")}


def test_an_answer_fills_the_page(handlers: Handlers, upload: dict[str, str]) -> None:
    values = handlers.on_find(upload, WORDS)
    answer, figure, status, tally, boxes, read_as, panel, everything = values[:BEFORE_SLIDERS]
    assert answer.found.phrases == ("a red circle", "a blue star")
    assert "4 boxes" in figure
    assert 'data-boxes="4" data-forwards="1"' in status
    assert "a blue star" in tally
    assert "Read as" in read_as
    assert panel["visible"]
    assert everything == 0.5
    assert len(json.loads(boxes)) > 0
    sliders = values[BEFORE_SLIDERS : BEFORE_SLIDERS + SLIDERS]
    assert [slider["visible"] for slider in sliders] == [True, True] + [False] * (SLIDERS - 2)
    assert [slider["label"] for slider in sliders[:2]] == ["a red circle", "a blue star"]


def test_sliders_act_without_a_forward(handlers: Handlers, upload: dict[str, str]) -> None:
    answer = handlers.on_find(upload, WORDS)[0]
    _, status, tally, boxes = handlers.on_slider(answer, 0.5, 0.2, 0.95, *[0.5] * (SLIDERS - 2))
    assert 'data-boxes="3" data-forwards="1"' in status
    assert "<b>3</b>" in tally
    assert "<b>0</b>" in tally
    views = handlers.on_all(answer, 0.95)
    assert 'data-boxes="0" data-forwards="1"' in views[1]
    assert views[NUM_VIEWS:] == [0.95] * SLIDERS
    assert handlers.questions.detector.calls == 1
    assert len(boxes) > len(views[3])


def test_phrases_without_a_slider_follow_the_common_one(
    handlers: Handlers, upload: dict[str, str]
) -> None:
    values = handlers.on_find(upload, " . ".join(f"thing {i}" for i in range(SLIDERS + 2)))
    assert "The other 2 follow" in values[BEFORE_SLIDERS + SLIDERS]
    status = handlers.on_slider(values[0], 0.2, *[1.0] * SLIDERS)[1]
    assert 'data-boxes="6"' in status  # three of each of the two


def test_an_empty_number_field_stands_for_the_slider_above(
    handlers: Handlers, upload: dict[str, str]
) -> None:
    """It is empty while somebody types another number."""
    answer = handlers.on_find(upload, WORDS)[0]
    rest = [0.5] * (SLIDERS - 1)
    assert 'data-boxes="2"' in handlers.on_slider(answer, 0.95, None, *rest)[1]
    assert 'data-boxes="4"' in handlers.on_slider(answer, None, None, *rest)[1]
    assert handlers.on_all(answer, None) == [gr.skip()] * (NUM_VIEWS + SLIDERS)
    assert 'data-boxes="4"' in handlers.on_looked(answer, None, None, *rest)


@pytest.mark.parametrize("level", [7, -0.1, "0.5", [0.5]])
def test_a_number_that_is_no_threshold_is_said(
    handlers: Handlers, upload: dict[str, str], level: object
) -> None:
    answer = handlers.on_find(upload, WORDS)[0]
    with pytest.raises(gr.Error, match="a threshold"):
        handlers.spoken(handlers.on_all)(answer, level)


def test_gradio_leaves_numbers_of_sliders_to_the_handlers() -> None:
    page = build_page(FakeDetector(), examples=[])
    names = ("on_all", "on_slider", "on_looked", "on_token")
    moved = [fn for fn in page.fns.values() if fn.name in names]
    assert len(moved) == 1 + SLIDERS + 2 + 1
    assert not any(fn.preprocess for fn in moved)


def test_a_look_reads_no_slider_before_it_is_done() -> None:
    """It may wait for a question, which moves them."""
    page = build_page(FakeDetector(), examples=[])
    names = [(fn.name, len(fn.inputs)) for fn in page.fns.values()]
    for look in ("on_tab", "on_look"):
        assert (look, 1) in names
    assert names.count(("on_looked", 2 + SLIDERS)) == 2


def test_heat_maps_are_made_when_asked(handlers: Handlers, upload: dict[str, str]) -> None:
    answer = handlers.on_find(upload, WORDS)[0]
    answer, heat, tokens, _, button = handlers.on_look(answer)
    assert handlers.questions.detector.looks == 1
    assert tokens["choices"][:3] == [("a", 0), ("red", 1), ("circle", 2)]
    assert tokens["value"] == 6  # the fake gives every token to the first phrase
    assert not button["visible"]
    assert 'data-boxes="2" data-forwards="2"' in handlers.on_looked(answer, *[0.9] * (1 + SLIDERS))
    assert "bright where “star” is seen; the highest score is 0.14" in heat
    assert "“circle”" in handlers.on_token(answer, 2)
    assert handlers.on_look(answer) == [gr.skip()] * NUM_LOOKS
    assert handlers.questions.detector.looks == 1


def test_without_an_answer_the_page_says_so(handlers: Handlers) -> None:
    """It remembers those of the last few visitors only, and sliders stay where they are."""
    for touched in (handlers.on_slider, handlers.on_all, handlers.on_token):
        with pytest.raises(gr.Error, match=r"no answer to go on from.*Press Find"):
            handlers.spoken(touched)(None, 0)
    with pytest.raises(gr.Error, match=r"no answer to go on from.*Press Find"):
        handlers.spoken(handlers.on_look)(None)
    assert handlers.on_tab(None) == [gr.skip()] * NUM_LOOKS  # nothing was asked for
    assert handlers.on_looked(None, 0.5) == gr.skip()


def test_words_of_another_question_light_nothing_up(
    handlers: Handlers, upload: dict[str, str]
) -> None:
    answer = handlers.on_find(upload, WORDS)[0]
    assert handlers.on_token(answer, 0) == gr.skip()
    answer = handlers.on_tab(answer)[0]
    assert handlers.on_token(answer, None) == gr.skip()
    for token in (-1, 7):
        with pytest.raises(ValueError, match="of another question"):
            handlers.on_token(answer, token)


def test_examples_fill_the_fields(handlers: Handlers) -> None:
    picture, words = handlers.on_example(0)
    assert (picture.size, words) == ((30, 20), "a star")
    for number in (1, -1, None, "0", 0.0):
        with pytest.raises(ValueError, match="no such drawing"):
            handlers.on_example(number)


def test_a_bad_upload_is_taken_out_again(
    handlers: Handlers, upload: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: said.append(message))
    assert handlers.on_upload(upload) == gr.skip()
    Path(upload["path"]).write_text("words")
    assert handlers.on_upload(upload) is None
    assert "not a picture" in said[0]
    assert handlers.on_upload(None) is None
    assert len(said) == 1


def test_complaints_become_messages(handlers: Handlers, upload: dict[str, str]) -> None:
    ask = handlers.spoken(handlers.on_find)
    for payload, text, message in (
        (None, WORDS, "Choose a picture first"),
        (upload, " ", "Say what to look for"),
        (upload, "a" * 1001, "1,001 characters"),
        ({"path": "/etc/passwd"}, WORDS, "Only pictures that were uploaded"),
    ):
        with pytest.raises(gr.Error, match=message):
            ask(payload, text)
    assert handlers.questions.detector.calls == 0


def test_advice_is_no_error(handlers: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    """gradio heads every error with the word, whatever title it was given."""
    said = []
    monkeypatch.setattr(gr, "Info", lambda message, **_: said.append(message))
    with pytest.raises(gr.Error) as hidden:
        handlers.spoken(handlers.on_find)(None, WORDS)
    assert not hidden.value.visible
    assert "Choose a picture first" in said[0]

    def fails() -> None:
        raise MemoryError

    with pytest.raises(gr.Error, match="memory") as shown:
        handlers.spoken(fails)()
    assert shown.value.visible
    assert len(said) == 1


def test_a_picture_that_was_driven_out_is_asked_for_again(handlers: Handlers) -> None:
    def fails() -> None:
        Path("/tmp/glipkit-page-x/uploads/secret.png").stat()

    with pytest.raises(gr.Error, match="no longer here; choose it again"):
        handlers.spoken(fails)()


def test_messages_are_not_html(handlers: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ValueError("<b>")

    said = []
    monkeypatch.setattr(gr, "Info", lambda message, **_: said.append(message))
    with pytest.raises(gr.Error, match="&lt;b&gt;"):
        handlers.spoken(fails)()
    assert said == ["&lt;b&gt;"]


def test_the_page_is_put_together() -> None:
    page = build_page(FakeDetector(), examples=[], limits=Limits(waiting=3))
    visible = {fn.api_visibility for fn in page.fns.values()}
    assert visible == {"private"}
    assert page._queue.max_size == 3  # gradio says it nowhere else
    assert page.analytics_enabled is False
    (words,) = (part for part in page.blocks.values() if part.elem_id == "gk-text")
    assert words.max_length is None  # a browser would cut a long text unsaid; `ask` refuses it


@pytest.mark.parametrize(
    ("name", "said"),
    [("nano", "drawings alone"), ("glip-t", "photographs"), ("mine", "words it was trained with")],
)
def test_the_page_claims_nothing_of_a_model_it_does_not_know(name: str, said: str) -> None:
    detector = FakeDetector()
    detector.name = name
    page = build_page(detector, examples=[])
    values = [getattr(part, "value", None) for part in page.blocks.values()]
    (head,) = (value for value in values if isinstance(value, str) and "<h1>" in value)
    assert f"Model: {name} on cpu" in head
    assert said in head


def test_a_threshold_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        build_page(FakeDetector(), threshold=1.5, examples=[])


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'glipkit\[demo\]'"):
        gradio()


def test_the_first_heat_map_is_that_of_a_noun() -> None:
    assert first_noun([-1, 0, 0, 0, -1, 1, 1]) == 3
    assert first_noun([-1, -1]) == 0
    assert first_noun([]) == 0


def test_pieces_of_words_are_readable() -> None:
    assert readable("##son") == "…son"
    assert readable("star") == "star"


def test_boxes_stay_on_one_line() -> None:
    box = {"label": "a red circle", "score": 0.5, "box": [1.5, 2, -3, 4e-05]}
    content = {"size": [640, 480], "boxes": [box, box], "none": [], "words": "é" * 100}
    text = compact_json(content)
    assert json.loads(text) == content
    assert text.splitlines()[1:4] == [
        '  "size": [640, 480],',
        '  "boxes": [',
        f"    {json.dumps(box)},",
    ]
