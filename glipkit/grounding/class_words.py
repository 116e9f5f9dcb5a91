"""Class names made ready once, to be joined into a new caption for every training picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glipkit.grounding.captions import MAX_TOKENS, NUM_SPECIAL, SEPARATOR, class_prompts, clean_name
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import Phrase, Prompt

_PAST_SPACES = 2  # alignment looks past so many spaces at the ends of a span


@dataclass(frozen=True, slots=True)
class ClassWord:
    """One class as a caption says it."""

    name: str  # as the annotations have it
    text: str  # as the caption has it
    span: tuple[int, int]  # characters [start, end) of `text` that are the name
    num_tokens: int  # of the text and the separator behind it


def class_words(
    classes: Mapping[int, str],
    tokenizer: Tokenizer,
    *,
    separator: str = SEPARATOR,
    caption_prompts: Sequence[Mapping[str, str]] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> dict[int, ClassWord]:
    """How each class is said, checked once and counted once.

    The log names classes that have the same words, or only words that the text encoder does not
    know. Spans are the published ones: they hold the spaces that cleaning leaves at the ends of a
    name ("bow_(weapon)" is "bow "), unless there are more than alignment looks past.

    Args:
        classes: id -> name.
        tokenizer: of the text encoder.
        separator: between two names.
        caption_prompts: for each class {"prefix", "name", "suffix"}, see `class_prompt`.
        max_tokens: the text encoder's limit, [CLS] and [SEP] included.

    Raises:
        TypeError: a name is not text.
        ValueError: there is no class, a name has no words or too many, the separator does not keep
            names apart, or `caption_prompts` is malformed.
    """
    _check_separator(separator, tokenizer)
    prompts = class_prompts(
        list(classes.values()),
        tokenizer,
        chunk_size=1,
        max_tokens=max_tokens,
        separator=separator,
        caption_prompts=caption_prompts,
    )
    said = caption_prompts or [{"prefix": "", "name": name} for name in classes.values()]
    words = {}
    for label, prompt, each in zip(classes, prompts, said):
        words[label] = ClassWord(
            name=classes[label],
            text=prompt.caption,
            span=_published_span(prompt.phrases[0].spans[0], each["prefix"], each["name"]),
            num_tokens=tokenizer.count(prompt.caption + separator) - NUM_SPECIAL,
        )
    return words


def joined(words: Sequence[ClassWord], separator: str, prefix: str = "") -> Prompt:
    """One caption of several classes; phrase i is `words[i]`, and nothing follows the last.

    Args:
        words: of the classes.
        separator: between two of them.
        prefix: before the first.
    """
    phrases = []
    at = len(prefix)
    for word in words:
        start, end = word.span
        phrases.append(Phrase(word.name, ((at + start, at + end),)))
        at += len(word.text) + len(separator)
    return Prompt(prefix + separator.join(word.text for word in words), tuple(phrases))


def _published_span(bare: tuple[int, int], prefix: str, name: str) -> tuple[int, int]:
    """The span of the cleaned name with its outer spaces, if alignment finds its words there."""
    start = len(prefix)
    end = start + len(clean_name(name))
    return (start, end) if max(bare[0] - start, end - bare[1]) <= _PAST_SPACES else bare


def _check_separator(separator: str, tokenizer: Tokenizer) -> None:
    """Names must keep their tokens, or neither lengths nor spans mean anything."""

    def tokens(text: str) -> list[int]:
        return tokenizer.token_ids(text)[1:-1]

    if tokens(f"cat{separator}dog") != [*tokens("cat"), *tokens(separator), *tokens("dog")]:
        raise ValueError(
            f"the separator {separator!r} (DATASETS.SEPARATION_TOKENS) does not keep two names "
            f"apart; begin and end it with a space or a punctuation mark, e.g. {SEPARATOR!r}"
        )
