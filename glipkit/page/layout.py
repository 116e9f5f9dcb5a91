"""The page itself: which parts it has, and which of them answer to which."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glipkit.inference.detector import PhraseDetector
from glipkit.inference.known import KNOWN
from glipkit.page import markup
from glipkit.page.door import gradio
from glipkit.page.examples import Example, drawn_examples
from glipkit.page.handlers import HEAT, SLIDERS, Handlers
from glipkit.page.limits import Limits
from glipkit.page.questions import Questions
from glipkit.page.uploads import KEPT

_ABOUT_NANO = (
    "glip-nano learnt from drawings alone: twelve shapes in ten colours, their sizes, plain from "
    "patterned. On photographs, or for words of another world, its answers mean nothing."
)
_ABOUT_PUBLISHED = (
    "It was trained on photographs and English words: name things, and what tells them apart. What "
    "it does not know it may still mark, with a low score."
)
_ABOUT_OWN = (
    "Ask it with the words it was trained with. What it does not know it may still mark, with a "
    "low score."
)
_WELCOME = (
    "Drop a picture, say what to look for, and press Find: the boxes appear here. Or begin with "
    "one of the drawings."
)
_PICK_EXAMPLE = (
    "element.addEventListener('click', (event) => {"
    " const button = event.target.closest('[data-example]');"
    " if (button) trigger('click', {example: Number(button.dataset.example)}); });"
)
# Where everything is in one column, the answer appears below what can be seen.
_SHOW_ANSWER = (
    "() => { if (window.innerWidth < 700)"
    " document.getElementById('gk-figure').scrollIntoView({behavior: 'smooth'}); }"
)


def build_page(
    detector: PhraseDetector,
    *,
    limits: Limits | None = None,
    threshold: float | None = None,
    examples: Sequence[Example] | None = None,
) -> Any:
    """A page on which one model can be tried.

    Args:
        detector: the model; it answers one visitor at a time.
        limits: on what may be sent and asked.
        threshold: at which the sliders start; None is the model's own.
        examples: to offer; None draws some.

    Returns:
        A gradio.Blocks. `glipkit.page.serve` launches it with the settings it needs: launched by
        itself it has neither its looks nor its limits on what is sent.

    Raises:
        ImportError: gradio is not installed.
        ValueError: the threshold is not between 0 and 1.
    """
    gr = gradio()
    limits = limits or Limits()
    threshold = detector.default_threshold if threshold is None else threshold
    check_threshold(threshold)
    examples = drawn_examples() if examples is None else examples
    questions = Questions(detector, limits=limits)
    return _Layout(gr, questions, threshold=round(threshold, 2), examples=examples).blocks


def check_threshold(threshold: float) -> None:
    """Refuse what no slider can start at.

    Raises:
        ValueError: it is not between 0 and 1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be between 0 and 1, got {threshold}")


class _Layout:
    """The parts by name, and their connections."""

    def __init__(
        self, gr: Any, questions: Questions, *, threshold: float, examples: Sequence[Example]
    ) -> None:
        self.gr = gr
        self.threshold = threshold
        detector, limits = questions.detector, questions.limits
        with gr.Blocks(
            title=f"glipkit: {detector.name}", analytics_enabled=False, delete_cache=(600, KEPT)
        ) as self.blocks:
            self.answer = gr.State(None)
            self._html(_heading(detector), elem_classes=["gk", "gk-head"])
            with gr.Row(equal_height=False):
                with gr.Column(scale=5, min_width=300):
                    self._add_question(limits, examples)
                with gr.Column(scale=8, min_width=300):
                    self._add_answer()
            handlers = Handlers(
                gr,
                questions,
                threshold=threshold,
                examples=examples,
                folder=Path(self.picture.GRADIO_CACHE),
            )
            self._connect(handlers)
        self.blocks.queue(max_size=limits.waiting, default_concurrency_limit=1, api_open=False)

    def _add_question(self, limits: Limits, examples: Sequence[Example]) -> None:
        gr = self.gr
        self.picture = gr.Image(
            label="Picture",
            type="filepath",
            format="png",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=300,
            buttons=[],
            elem_id="gk-picture",
            placeholder=f"Drop a picture here, or click to choose one\n(up to "
            f"{limits.upload_bytes / 1e6:g} MB)",
        )
        self.picture.async_move_resource_to_block_cache = _leave_there
        self.text = gr.Textbox(
            label="What to look for",
            info="One thing, or several with a full stop between them.",
            placeholder="a red circle . the small star",
            lines=1,
            max_lines=5,  # no max_length: browsers cut what is pasted without a word
            elem_id="gk-text",
        )
        self.find = gr.Button("Find", variant="primary", elem_id="gk-find")
        self.drawings = self._html(
            markup.example_buttons(examples),
            visible=bool(examples),
            elem_id="gk-drawings",
            js_on_load=_PICK_EXAMPLE,
        )

    def _add_answer(self) -> None:
        gr = self.gr
        with gr.Tabs():
            with gr.Tab("Boxes"):
                self.figure = self._html(markup.placeholder(_WELCOME), elem_id="gk-figure")
                self.status = self._html("", elem_id="gk-status")
                self.tally = self._html("", elem_id="gk-tally")
                with gr.Accordion(
                    "Thresholds", open=True, visible=False, elem_id="gk-panel"
                ) as self.panel:
                    self.all = self._slider("All phrases", elem_id="gk-all")
                    self.sliders = [
                        self._slider(f"Phrase {i + 1}", elem_id=f"gk-slider-{i}", phrase=i)
                        for i in range(SLIDERS)
                    ]
                    self.rest = self._html("", elem_id="gk-rest")
                self.read_as = self._html("", elem_id="gk-read")
            with gr.Tab("Heat map") as self.heat_tab:
                self.look = gr.Button("Show where each word is seen", elem_id="gk-look")
                self.tokens = gr.Radio([], label="Word", visible=False, elem_id="gk-tokens")
                self.token_style = self._html("", elem_id="gk-token-style")
                self.heat = self._html(markup.placeholder(HEAT), elem_id="gk-heat")
            with gr.Tab("JSON"):
                self.json = gr.Code(
                    label="Boxes as x1, y1, x2, y2 in pixels of the picture",
                    language="json",
                    interactive=False,
                    lines=8,
                    max_lines=28,
                    show_line_numbers=False,
                    buttons=["copy", "download"],
                    elem_id="gk-json",
                )

    def _html(self, value: str, **settings: Any) -> Any:
        settings = {"elem_classes": ["gk"], "js_on_load": None, **settings}
        return self.gr.HTML(value, apply_default_css=False, padding=False, **settings)

    def _slider(self, label: str, *, elem_id: str, phrase: int | None = None) -> Any:
        own = [] if phrase is None else [f"gk-phrase-{phrase}"]
        return self.gr.Slider(
            *(0, 1, self.threshold),
            step=0.01,
            label=label,
            visible=phrase is None,
            buttons=[],
            elem_id=elem_id,
            elem_classes=["gk-slider", *own],
        )

    def _connect(self, do: Handlers) -> None:
        views = [self.figure, self.status, self.tally, self.json]
        model = {"concurrency_id": "model", "concurrency_limit": 1}
        # While a slider moves, only its newest place matters.
        light = {
            "concurrency_id": "drawing",
            "concurrency_limit": 2,
            "trigger_mode": "always_last",
            "show_progress": "hidden",
        }
        ask = {
            "inputs": [self.picture, self.text],
            "outputs": [
                *(self.answer, *views, self.read_as, self.panel),
                *(self.all, *self.sliders, self.rest),
                *(self.heat, self.tokens, self.token_style, self.look),
            ],
            "preprocess": False,  # gradio's own would decode an upload before its size is known
            "show_progress_on": [self.figure],
            **model,
        }
        listen = self._listener(do)
        asked = [listen(event, do.on_find, **ask) for event in (self.find.click, self.text.submit)]
        field = [self.picture]
        listen(
            self.picture.upload,
            do.on_upload,
            inputs=field,
            outputs=field,
            preprocess=False,
            **light,
        )
        fields = [self.picture, self.text]
        pressed = listen(
            self.drawings.click, self._picker(do), inputs=None, outputs=fields, **light
        )
        asked.append(listen(pressed.success, do.on_find, **ask))
        for answered in asked:
            answered.success(None, js=_SHOW_ANSWER)

        thresholds = [self.answer, self.all, *self.sliders]
        moved = [*views, *self.sliders]
        # gradio's own look at a slider breaks off where its number has just been deleted, and that
        # at a word where the answer it is of was forgotten.
        slid = {"preprocess": False, **light}
        listen(self.all.input, do.on_all, inputs=thresholds[:2], outputs=moved, **slid)
        for slider in self.sliders:
            listen(slider.input, do.on_slider, inputs=thresholds, outputs=views, **slid)

        look = {
            "inputs": [self.answer],
            "outputs": [self.answer, self.heat, self.tokens, self.token_style, self.look],
            "show_progress_on": [self.heat],
            **model,
        }
        for looked in (
            listen(self.heat_tab.select, do.on_tab, **look),
            listen(self.look.click, do.on_look, **look),
        ):
            listen(looked.success, do.on_looked, inputs=thresholds, outputs=[self.status], **slid)
        token = [self.answer, self.tokens]
        listen(self.tokens.input, do.on_token, inputs=token, outputs=[self.heat], **slid)

    def _listener(self, do: Handlers) -> Callable:
        def listen(event: Callable, handler: Callable, **settings: Any) -> Any:
            return event(do.spoken(handler), api_visibility="private", **settings)

        return listen

    def _picker(self, do: Handlers) -> Callable:
        gr = self.gr

        def pick(event: gr.EventData) -> tuple[Any, str]:
            data = event._data
            return do.on_example(data.get("example") if isinstance(data, dict) else None)

        return pick


def _heading(detector: PhraseDetector) -> str:
    published = _ABOUT_PUBLISHED if detector.name in KNOWN else _ABOUT_OWN
    about = _ABOUT_NANO if detector.name == "nano" else published
    return (
        "<h1>glipkit <span>words find things in pictures</span></h1>"
        f"<p>{html.escape(about)}</p>"
        f"<p>Model: {html.escape(detector.name)} on {html.escape(str(detector.device))}. Pictures "
        "and words stay on the machine that serves this page.</p>"
    )


async def _leave_there(path: Any) -> Any:
    """What gradio does with an upload's path: nothing. Its own would fetch any address it is given.

    `uploaded_file` checks that the path is that of an upload.
    """
    return path
