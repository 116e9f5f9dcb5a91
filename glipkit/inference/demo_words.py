"""Captions in the forms that `GLIPDemo` takes, as prompts."""

from collections.abc import Sequence

from glipkit.grounding.captions import MAX_TOKENS, free_prompt
from glipkit.grounding.noun_phrases import noun_phrases
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.inference.counts import whole
from glipkit.inference.plain_text import has_words, short
from glipkit.structures.prompts import Phrase, Prompt

AFTER_NAME = " . "  # after every name, the last one too (BEHAVIOUR 1)


def sentence_prompt(caption: str) -> Prompt:
    """A sentence and its noun phrases; all of it where it has none.

    Mentions in the same words are one phrase.

    Raises:
        ValueError: the caption has no words.
    """
    if not has_words(caption):
        raise ValueError(f"the caption {short(caption)!r} has no words to look for")
    mentions: dict[str, list[tuple[int, int]]] = {}
    for start, end in noun_phrases(caption):
        mentions.setdefault(caption[start:end].lower(), []).append((start, end))
    if not mentions:
        words = caption.strip()
        start = caption.find(words)
        return free_prompt(caption, [[(start, start + len(words))]])
    phrases = [
        Phrase(caption[spans[0][0] : spans[0][1]], tuple(spans)) for spans in mentions.values()
    ]
    return Prompt(caption, tuple(phrases))


def custom_prompt(caption: str, entities: Sequence[Sequence[Sequence[int]]]) -> Prompt:
    """A sentence and the phrases that the caller marked in it.

    Args:
        caption: used as it stands.
        entities: for each phrase its character ranges, [[[0, 12]], [[27, 32]]].

    Raises:
        ValueError: not of that form, or a range is not inside the caption.
    """
    try:
        spans = [[(whole(start), whole(end)) for start, end in ranges] for ranges in entities]
    except (TypeError, ValueError) as error:
        raise ValueError(
            "custom_entity must list, for each phrase, its character ranges, like "
            f"[[[0, 12]], [[27, 32]]]; got {entities!r}"
        ) from error
    return free_prompt(caption, spans)


def names_prompts(
    names: Sequence[str], tokenizer: Tokenizer, *, max_tokens: int = MAX_TOKENS
) -> list[Prompt]:
    """Class names as "a . b . c . ", in as many captions as the text encoder's limit asks for.

    Args:
        names: used as they stand. Phrase i over all prompts is `names[i]`.
        tokenizer: of the text encoder.
        max_tokens: its limit, [CLS] and [SEP] included.

    Raises:
        TypeError: a name is not text.
        ValueError: there is no name, or one is blank or too long.
    """
    if not len(names):
        raise ValueError("there is no class name to look for")
    chunks: list[list[str]] = [[]]
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"class {index} is {name!r} ({type(name).__name__}), expected text")
        if not name.strip():
            raise ValueError(f"class {index} is blank: {name!r}")
        if tokenizer.count(_caption([*chunks[-1], name])) > max_tokens:
            chunks.append([])
            if tokenizer.count(_caption([name])) > max_tokens:
                raise ValueError(
                    f"class {index} {name[:40]!r}... does not fit into a caption of {max_tokens} "
                    "tokens; describe it in fewer words"
                )
        chunks[-1].append(name)
    return [_names_prompt(chunk) for chunk in chunks if chunk]


def _caption(names: Sequence[str]) -> str:
    return "".join(name + AFTER_NAME for name in names)


def _names_prompt(names: Sequence[str]) -> Prompt:
    phrases = []
    start = 0
    for name in names:
        left = start + len(name) - len(name.lstrip())
        phrases.append(Phrase(name, ((left, left + len(name.strip())),)))
        start += len(name) + len(AFTER_NAME)
    return Prompt(_caption(names), tuple(phrases))
