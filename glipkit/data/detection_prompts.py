"""Labels of a picture become a caption to learn from (OD_TO_GROUNDING, procedures A and B)."""

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from glipkit.data.class_draw import ALL_ALLOWED, ClassDraw
from glipkit.data.randomness import SampleRandom
from glipkit.grounding.captions import MAX_TOKENS, NUM_SPECIAL, SEPARATOR
from glipkit.grounding.class_words import ClassWord, class_words, joined
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import Prompt

logger = logging.getLogger(__name__)

PREFIX = "object detection : "  # DATASETS.ADD_DET_PROMPT
PREFIX_ONE_SIDED = "object detection query : "  # ADD_DET_PROMPT_ADVANCED: none present, or all


@dataclass(frozen=True, slots=True)
class DetectionPrompt:
    """A caption of class names, and which phrase stands for which label."""

    prompt: Prompt
    labels: tuple[int, ...]  # phrase i is the class labels[i]

    @property
    def phrase_of(self) -> dict[int, int]:
        """Label -> index of its phrase; a label that the caption does not name is missing."""
        return {label: phrase for phrase, label in enumerate(self.labels)}

    @property
    def name_spans(self) -> tuple[tuple[int, int], ...]:
        """Characters [start, end) of every name: the greenlight map of OD_TO_GROUNDING."""
        return tuple(span for phrase in self.prompt.phrases for span in phrase.spans)


class DetectionPrompts(Protocol):
    """Says what is asked of a picture whose boxes have certain labels."""

    def draw(
        self, labels: Sequence[int], chance: SampleRandom, absent: Sequence[int] | None = None
    ) -> DetectionPrompt:
        """The caption of one picture.

        Args:
            labels: of its boxes in their order, with repetitions; may be empty.
            chance: what is drawn from.
            absent: labels that classes without a box may be drawn from; None allows every class.

        Returns:
            A caption that is never empty. It need not name every label: not all may fit.

        Raises:
            ValueError: a label is not the id of a class.
        """


class SampledPrompts:
    """Procedure A: the classes that are there, and a draw of those that are not (`ClassDraw`).

    For more classes than a caption holds, and for captions that differ each time.

    Departures from the published code that change no draw, only what fits: the prefix counts
    against `max_tokens` (there it pushes the last names out of the caption), and so does the
    separator as it is (there always ". ").

    Args:
        classes: id -> name by ascending id, background included where the data has one.
        tokenizer: of the text encoder; asked once per class, not when drawing.
        separator: between two names (DATASETS.SEPARATION_TOKENS).
        num_negatives: see `ClassDraw`, also for the next two.
        control: DATASETS.CONTROL_PROB.
        max_labels: TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM.
        prefixes: what the caption begins with, and with what when all or none of the classes that
            it names are present.
        max_tokens: the text encoder's limit, [CLS] and [SEP] included.

    Raises:
        TypeError: a name is not text.
        ValueError: there is no class, a name has no words or too many, the separator does not keep
            names apart, or `control` is not four probabilities.
    """

    def __init__(
        self,
        classes: Mapping[int, str],
        tokenizer: Tokenizer,
        *,
        separator: str = SEPARATOR,
        num_negatives: int = -1,
        control: Sequence[float] = (),
        max_labels: int = -1,
        prefixes: tuple[str, str] = ("", ""),
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._words = class_words(classes, tokenizer, separator=separator, max_tokens=max_tokens)
        self._separator = separator
        self._prefixes = prefixes
        longest_prefix = max(tokenizer.count(prefix) - NUM_SPECIAL for prefix in prefixes)
        budget = max_tokens - NUM_SPECIAL - longest_prefix
        _check_lengths(self._words, budget)
        self._draw_classes = ClassDraw(
            {label: word.num_tokens for label, word in self._words.items()},
            budget,
            num_negatives=num_negatives,
            control=control,
            max_labels=max_labels,
        )

    def draw(
        self, labels: Sequence[int], chance: SampleRandom, absent: Sequence[int] | None = None
    ) -> DetectionPrompt:
        """See `DetectionPrompts.draw`."""
        _check_known([*labels, *(absent or ())], self._words)
        drawn = self._draw_classes(labels, chance, absent)
        words = [self._words[label] for label in drawn.labels]
        prompt = joined(words, self._separator, self._prefixes[drawn.one_sided])
        return DetectionPrompt(prompt, drawn.labels)


class CompletePrompts:
    """Procedure B: all classes in every caption, by ascending id or in drawn order.

    What does not fit the text encoder is cut off, as published: the caption stays, but the prompt
    has no phrase for a class beyond the cut. The log says so once.

    Args:
        classes: id -> name by ascending id.
        tokenizer: of the text encoder.
        separator: between two names (DATASETS.SEPARATION_TOKENS).
        shuffle: draw the order of the names (not DATASETS.DISABLE_SHUFFLE).
        caption_prompts: for each class {"prefix", "name", "suffix"} (DATASETS.CAPTION_PROMPT). Also
            used with `shuffle`, where the published code ignores them: a detector should be taught
            with the words it will be asked with.
        prefix: what the caption begins with.
        max_tokens: the text encoder's limit, [CLS] and [SEP] included.

    Raises:
        TypeError: a name is not text.
        ValueError: there is no class, a name has no words or too many, the separator does not keep
            names apart, or `caption_prompts` is malformed.
    """

    def __init__(
        self,
        classes: Mapping[int, str],
        tokenizer: Tokenizer,
        *,
        separator: str = SEPARATOR,
        shuffle: bool = True,
        caption_prompts: Sequence[Mapping[str, str]] | None = None,
        prefix: str = "",
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._words = class_words(
            classes,
            tokenizer,
            separator=separator,
            caption_prompts=caption_prompts,
            max_tokens=max_tokens,
        )
        self._separator = separator
        self._shuffle = shuffle
        self._prefix = prefix
        self._max_tokens = max_tokens
        # Before the first name, and behind the last one, where no separator follows.
        self._outer_tokens = tokenizer.count(prefix) - (tokenizer.count(separator) - NUM_SPECIAL)
        self._in_order = self._caption(list(classes))
        if len(self._in_order.labels) < len(classes):
            self._warn()

    def draw(
        self, labels: Sequence[int], chance: SampleRandom, absent: Sequence[int] | None = None
    ) -> DetectionPrompt:
        """See `DetectionPrompts.draw`; `absent` restricts nothing, for all classes are named."""
        _check_known(labels, self._words)
        if not self._shuffle:
            return self._in_order
        order = list(self._words)
        chance.python.shuffle(order)
        return self._caption(order)

    def _caption(self, order: Sequence[int]) -> DetectionPrompt:
        """All names, and phrases for those that end before the text encoder's limit."""
        prompt = joined([self._words[label] for label in order], self._separator, self._prefix)
        lengths = accumulate(self._words[label].num_tokens for label in order)
        kept = sum(self._outer_tokens + length <= self._max_tokens for length in lengths)
        return DetectionPrompt(Prompt(prompt.caption, prompt.phrases[:kept]), tuple(order[:kept]))

    def _warn(self) -> None:
        num_lost = len(self._words) - len(self._in_order.labels)
        logger.warning(
            "The names of all %d classes (%r, ...) are longer than the %d tokens that the text "
            "encoder reads: %s %d of them are cut off from %s caption, and their boxes are not "
            "learnt from. To draw names that fit for each picture, set "
            "DATASETS.SPECIAL_SAFEGUARD_FOR_COCO_GROUNDING True and DATASETS.DISABLE_SHUFFLE False",
            len(self._words),
            next(iter(self._words.values())).name,
            self._max_tokens,
            "about" if self._shuffle else "the last",
            num_lost,
            "each" if self._shuffle else "every",
        )


def draws_classes(kind: str, family: str) -> bool:
    """Whether captions of a dataset are made by procedure A: are there too many names for one?

    TSV data and Objects365 are published so. LVIS is decided here: its 1,203 names take some 4,000
    tokens. COCO, ODinW and whatever else a user registers as COCO json go by procedure B.

    Args:
        kind: of `DatasetSpec`.
        family: see `catalog.family`.
    """
    return kind in ("tsv", "lvis") or family in ("lvis", "object365")


def make_detection_prompts(
    classes: Mapping[int, str],
    tokenizer: Tokenizer,
    *,
    sampled: bool,
    safeguard: bool = False,
    disable_shuffle: bool = False,
    separator: str = SEPARATOR,
    num_negatives: int = -1,
    control: Sequence[float] = (),
    max_labels: int = -1,
    add_prefix: bool = False,
    add_prefix_advanced: bool = False,
    caption_prompts: Sequence[Mapping[str, str]] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> DetectionPrompts:
    """The way captions are made from one kind of detection data.

    Args:
        classes: id -> name by ascending id.
        tokenizer: of the text encoder.
        sampled: procedure A; otherwise B (see `draws_classes`).
        safeguard: procedure A for the latter too, with all absent classes that fit, without prefix
            and limit (DATASETS.SPECIAL_SAFEGUARD_FOR_COCO_GROUNDING).
        disable_shuffle: all names by ascending id, nothing drawn (DATASETS.DISABLE_SHUFFLE).
            Procedure A then leaves the background class out. (The published code leaves out the
            first class, which it takes for the background; a real one is kept here.)
        separator: see `SampledPrompts`, also for the next three.
        num_negatives: DATASETS.RANDOM_SAMPLE_NEG.
        control: DATASETS.CONTROL_PROB.
        max_labels: TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM.
        add_prefix: DATASETS.ADD_DET_PROMPT.
        add_prefix_advanced: DATASETS.ADD_DET_PROMPT_ADVANCED; needs `add_prefix`.
        caption_prompts: DATASETS.CAPTION_PROMPT if it is to be used; procedure B only.
        max_tokens: the text encoder's limit, [CLS] and [SEP] included.

    Raises:
        TypeError: a name is not text.
        ValueError: as `SampledPrompts` and `CompletePrompts`.
    """
    draws_classes = sampled or safeguard
    if draws_classes and caption_prompts is not None:
        logger.warning(
            "DATASETS.CAPTION_PROMPT is not used where the classes of a caption are drawn: %d "
            "classes go by their names",
            len(classes),
        )
        caption_prompts = None
    if add_prefix_advanced and not add_prefix:
        raise ValueError(
            "DATASETS.ADD_DET_PROMPT_ADVANCED chooses between two beginnings of a caption, but "
            "DATASETS.ADD_DET_PROMPT is False; set it True"
        )
    if draws_classes and not disable_shuffle:
        prefix = PREFIX if add_prefix and not safeguard else ""
        one_sided = PREFIX_ONE_SIDED if prefix and add_prefix_advanced else prefix
        return SampledPrompts(
            classes,
            tokenizer,
            separator=separator,
            num_negatives=num_negatives,
            control=ALL_ALLOWED if safeguard else control,
            max_labels=-1 if safeguard else max_labels,
            prefixes=(prefix, one_sided),
            max_tokens=max_tokens,
        )
    if draws_classes:
        classes = {label: name for label, name in classes.items() if not _is_background(name)}
    return CompletePrompts(
        classes,
        tokenizer,
        separator=separator,
        shuffle=not disable_shuffle,
        caption_prompts=caption_prompts,
        prefix=PREFIX if add_prefix else "",
        max_tokens=max_tokens,
    )


def _check_lengths(words: Mapping[int, ClassWord], budget: int) -> None:
    for label, word in words.items():
        if word.num_tokens >= budget:
            raise ValueError(
                f"class {label} {word.name!r} has {word.num_tokens} tokens with its separator; a "
                f"caption has room for {budget - 1}. Describe it in fewer words"
            )


def _check_known(labels: Iterable[int], known: Container[int]) -> None:
    unknown = {label for label in labels if label not in known}
    if unknown:
        raise ValueError(f"the labels {sorted(unknown)} are not ids of the classes")


def _is_background(name: str) -> bool:
    return name.strip("_ ").lower() == "background"
