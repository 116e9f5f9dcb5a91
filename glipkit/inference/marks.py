"""Phrases that the caller marked himself: character ranges of a text, checked."""

from collections.abc import Sequence
from typing import Any

from glipkit.grounding.captions import free_prompt
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.inference.counts import whole
from glipkit.inference.plain_text import described, has_words
from glipkit.structures.prompts import Prompt

Marks = Sequence[tuple[int, int] | Sequence[tuple[int, int]]]


def marked_prompt(text: str, marks: Marks, tokenizer: Tokenizer, max_tokens: int) -> Prompt:
    """A text as it stands, with a phrase for every mark.

    Args:
        text: fits the text encoder.
        marks: for each phrase its half-open character range (start, end), or a list of them.
        tokenizer: of the text encoder.
        max_tokens: its limit, [CLS] and [SEP] included.

    Raises:
        TypeError: the marks are no such list.
        ValueError: a range is empty, outside the text, without words, or without a token.
    """
    if not isinstance(marks, Sequence) or isinstance(marks, str | bytes):
        raise TypeError(f"spans is a list with a (start, end) per phrase, got {described(marks)}")
    ranges = [_pairs(index, mark) for index, mark in enumerate(marks)]
    for index, pairs in enumerate(ranges):
        _check_pairs(index, pairs, text)
    prompt = free_prompt(text, ranges)
    found = tokenizer(prompt, max_tokens=max_tokens, name_lost=False).phrase_tokens.any(dim=1)
    for index, is_found in enumerate(found.tolist()):
        if not is_found:
            raise ValueError(
                f"spans[{index}] = {marks[index]} marks {prompt.phrases[index].text!r}, where the "
                f"text encoder reads no token"
            )
    return prompt


def _pairs(index: int, mark: Any) -> list[tuple[int, int]]:
    """The ranges of one phrase, from one pair or from a list of them."""
    is_list = isinstance(mark, Sequence) and all(isinstance(each, Sequence) for each in mark)
    try:
        pairs = mark if is_list else [mark]
        return [(whole(start), whole(end)) for start, end in pairs]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"spans[{index}] is (start, end) or a list of such pairs of whole numbers, got "
            f"{described(mark)}"
        ) from error


def _check_pairs(index: int, pairs: Sequence[tuple[int, int]], text: str) -> None:
    if not pairs:
        raise ValueError(f"spans[{index}] is empty: every phrase needs a (start, end)")
    for start, end in pairs:
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f"spans[{index}] = ({start}, {end}) does not lie inside the text, which has "
                f"{len(text)} characters (start < end; the end is not included)"
            )
        if not has_words(text[start:end]):
            raise ValueError(
                f"spans[{index}] = ({start}, {end}) marks no word: {text[start:end]!r}"
            )
