"""What happens when something on the page is touched."""

import functools
import html
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from glipkit.inference.alignment import NO_PHRASE
from glipkit.page import markup
from glipkit.page.examples import Example
from glipkit.page.heat import brightest, heat_picture
from glipkit.page.questions import Answer, Questions
from glipkit.page.uploads import check_upload, read_upload, uploaded_file
from glipkit.visualize import PALETTE

logger = logging.getLogger(__name__)

SLIDERS = len(PALETTE)  # phrases with a threshold of their own: as many as there are colours
HEAT = "Choose a word, and the picture lights up where the model sees it."

NUM_VIEWS = 4  # figure, status, tally, JSON: what a threshold changes
NUM_LOOKS = 5  # what the first look at the heat maps changes


class Handlers:
    """Values of the page's parts in, new values out; in the order in which layout.py lists them.

    Args:
        gr: gradio.
        questions: what asks the model.
        threshold: at which the sliders start.
        examples: drawings that are offered.
        folder: of uploads.
    """

    def __init__(
        self,
        gr: ModuleType,
        questions: Questions,
        *,
        threshold: float,
        examples: Sequence[Example],
        folder: Path,
    ) -> None:
        self.gr = gr
        self.questions = questions
        self.threshold = threshold
        self.examples = examples
        self.folder = folder

    def on_upload(self, payload: object) -> Any:
        """Refuse at once what cannot be a picture, and empty the field again."""
        if payload is None:
            return None
        try:
            check_upload(uploaded_file(payload, self.folder), self.questions.limits)
        except ValueError as error:
            self.gr.Warning(html.escape(str(error)), title="Not a picture for this page")
            return None
        return self.gr.skip()

    def on_example(self, number: object) -> tuple[Any, str]:
        """A drawing and its words, for the fields.

        Raises:
            ValueError: there is no such drawing.
        """
        if not isinstance(number, int) or not 0 <= number < len(self.examples):
            raise ValueError("There is no such drawing; reload the page.")
        return self.examples[number]

    def on_find(self, payload: object, text: object) -> list[Any]:
        """Ask the model, and show everything anew.

        Returns:
            The answer, its views, how the words were read, the panel of sliders, the slider for
            all, the others, what is said of phrases without a slider; then the heat map, its words,
            their colours and the button that asks for it.

        Raises:
            ValueError: there is no picture or no words, or a limit is passed.
        """
        gr = self.gr
        picture = read_upload(uploaded_file(payload, self.folder), self.questions.limits)
        answer = self.questions.ask(picture, text)
        phrases = answer.found.phrases
        sliders = [
            gr.update(visible=True, label=phrases[index], value=self.threshold)
            if index < len(phrases)
            else gr.update(visible=False, value=self.threshold)
            for index in range(SLIDERS)
        ]
        beyond = len(phrases) - SLIDERS
        rest = f"<p>The other {beyond} follow “All phrases”.</p>" if beyond > 0 else ""
        return [
            *(answer, *self._views(answer, [self.threshold] * len(phrases))),
            *(markup.read_as(answer.found.asked, phrases), gr.update(visible=True)),
            *(self.threshold, *sliders, rest),
            *(markup.placeholder(HEAT), gr.update(visible=False, choices=[], value=None)),
            *("", gr.update(visible=True)),
        ]

    def on_slider(
        self, answer: Answer | None, everything: float | None, *own: float | None
    ) -> list[Any]:
        """The views with each phrase at its own threshold; None where a number field is empty."""
        return self._views(remembered(answer), self._thresholds(answer, everything, own))

    def on_all(self, answer: Answer | None, everything: float | None) -> list[Any]:
        """The views with one threshold for all, and the other sliders moved there."""
        phrases = remembered(answer).found.phrases
        if everything is None:  # about to be typed
            return [self.gr.skip()] * (NUM_VIEWS + SLIDERS)
        views = self._views(answer, [everything] * len(phrases))
        return [*views, *[everything] * SLIDERS]

    def on_look(self, answer: Answer | None) -> list[Any]:
        """Compute the heat maps, unless that has been done, and show that of the first word.

        Returns:
            The answer, the heat map, the words, their colours, the button that asked.
        """
        gr = self.gr
        if remembered(answer).alignment is not None:
            return [gr.skip()] * NUM_LOOKS
        answer = self.questions.look(answer)
        alignment = answer.alignment
        first = first_noun(alignment.phrase_ids)
        choices = [(readable(token), index) for index, token in enumerate(alignment.tokens)]
        return [
            *(answer, self.on_token(answer, first)),
            gr.update(choices=choices, value=first, visible=True),
            markup.token_colors(alignment.phrase_ids, element_id="gk-tokens"),
            gr.update(visible=False),
        ]

    def on_tab(self, answer: Answer | None) -> list[Any]:
        """As `on_look`; but whoever only looks what the tab holds is not told to ask first."""
        return [self.gr.skip()] * NUM_LOOKS if answer is None else self.on_look(answer)

    def on_looked(self, answer: Answer | None, everything: float | None, *own: float | None) -> Any:
        """The status, after the heat maps.

        A look may have waited for a question, which moved the sliders: what they say is asked anew.
        """
        if answer is None:
            return self.gr.skip()
        count = len(answer.above(self._thresholds(answer, everything, own)))
        return self._status(answer, count)

    def on_token(self, answer: Answer | None, token: object) -> Any:
        """The picture, lit up where a token is seen."""
        alignment = remembered(answer).alignment
        if alignment is None or not isinstance(token, int):
            return self.gr.skip()
        if not 0 <= token < len(alignment.tokens):
            raise ValueError("This word is of another question; press Find again.")
        scores = alignment.maps[token]
        name, peak = readable(alignment.tokens[token]), float(scores.max())
        alt = f"The picture, bright where “{name}” is seen; the highest score is {peak:.2f}."
        lit = markup.figure(heat_picture(answer.shown, scores), alt, file_name="glipkit-heat.jpg")
        return lit + markup.heat_legend(name, peak=peak, brightest=brightest(scores))

    def spoken(self, handler: Callable) -> Callable:
        """The handler, whose complaints reach the visitor as advice instead of a traceback."""
        gr = self.gr

        @functools.wraps(handler)
        def speaking(*args: Any) -> Any:
            try:
                return handler(*args)
            except (MemoryError, torch.OutOfMemoryError):
                message = "This picture does not fit the device's memory; take a smaller one."
                raise gr.Error(message, title="Not enough memory", print_exception=False) from None
            except FileNotFoundError:  # driven out by another upload a moment ago
                message = "The picture is no longer here; choose it again."
            except (ValueError, TypeError) as error:
                message = str(error)
                logger.debug("a visitor is told: %s", message, exc_info=True)
            # What is raised has "Error" above it, whatever its title says, and advice is none. The
            # error that nobody sees keeps gradio from going on as if all were well.
            gr.Info(html.escape(message), title="Not yet")
            raise gr.Error(html.escape(message), visible=False, print_exception=False)

        return speaking

    def _thresholds(
        self, answer: Answer, everything: float | None, own: Sequence[float | None]
    ) -> list[float]:
        """What the sliders say for each of the P phrases; those without one follow the common one.

        Args:
            answer: whose phrases.
            everything: what the common slider says; None, its number being deleted, is where it
                started.
            own: what the others say, those that are hidden too; None follows the common one.
        """
        common = self.threshold if everything is None else everything
        count = len(answer.found.phrases)
        filled = [common if level is None else level for level in own[:count]]
        return [*filled, *[common] * (count - len(own))]

    def _views(self, answer: Answer, thresholds: Sequence[float]) -> list[str]:
        """Figure, status, tally and JSON of an answer at some thresholds."""
        found = answer.above(thresholds)
        phrases = answer.found.phrases
        counts = [int((found.phrase_ids == index).sum()) for index in range(len(phrases))]
        return [
            markup.figure(answer.drawn(found), markup.spoken(found), file_name="glipkit.jpg"),
            self._status(answer, len(found)),
            markup.tally(phrases, counts, [answer.best(index) for index in range(len(phrases))]),
            compact_json(found.to_json()),
        ]

    def _status(self, answer: Answer, count: int) -> str:
        detector = self.questions.detector
        return markup.status(
            count=count,
            model=detector.name,
            device=str(detector.device),
            seconds=answer.seconds,
            forwards=answer.forwards,
        )


def remembered(answer: Answer | None) -> Answer:
    """The answer that what was touched is about.

    Raises:
        ValueError: there is none, because nothing was asked, or because it was forgotten.
    """
    if answer is None:
        raise ValueError(
            "This page has no answer to go on from: nothing was asked yet, or others asked since "
            "and it was forgotten. Press Find."
        )
    return answer


def first_noun(phrase_ids: Sequence[int]) -> int:
    """The last token of the first phrase, which in English says what the thing is; else 0."""
    first = next((phrase for phrase in phrase_ids if phrase != NO_PHRASE), None)
    return max((i for i, phrase in enumerate(phrase_ids) if phrase == first), default=0)


def readable(token: str) -> str:
    """A piece of a word, as the vocabulary writes it, for people: "##son" is "…son"."""
    return f"…{token[2:]}" if token.startswith("##") else token


def compact_json(content: Any, *, width: int = 92, indent: int = 0) -> str:
    """JSON whose lists and objects stay on one line where they fit.

    Args:
        content: plain data.
        width: columns of a line, at most, where it can be broken.
        indent: columns before the first line.
    """
    line = json.dumps(content, ensure_ascii=False)
    if not isinstance(content, dict | list) or not content or len(line) + indent <= width:
        return line
    inner = indent + 2
    if isinstance(content, dict):
        rows = [
            f"{json.dumps(key, ensure_ascii=False)}: "
            f"{compact_json(value, width=width, indent=inner)}"
            for key, value in content.items()
        ]
    else:
        rows = [compact_json(value, width=width, indent=inner) for value in content]
    opening, closing = "{}" if isinstance(content, dict) else "[]"
    body = ",\n".join(" " * inner + row for row in rows)
    return f"{opening}\n{body}\n{' ' * indent}{closing}"
