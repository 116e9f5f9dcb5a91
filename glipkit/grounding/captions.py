"""From words to prompts: class names joined into captions that fit the text encoder."""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import Phrase, Prompt

logger = logging.getLogger(__name__)

SEPARATOR = ". "  # DATASETS.SEPARATION_TOKENS in every published YAML file
MAX_TOKENS = 256  # of a caption, [CLS] and [SEP] included (MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN)
NUM_SPECIAL = 2  # [CLS] and [SEP]


class Spoken(NamedTuple):
    """How a caption says a class; only `name` is the phrase."""

    prefix: str
    name: str
    suffix: str


def clean_name(name: str) -> str:
    """A class name as it stands in the caption (BEHAVIOUR 11).

    Everything from the first "(" to the last ")" goes, underscores become spaces, and double spaces
    become one, once. Case and outer spaces stay: "bow_(weapon)" is "bow ".
    """
    without_remark = re.sub(r"\(.*\)", "", name)
    return without_remark.replace("_", " ").replace("  ", " ")


def class_prompt(
    names: Sequence[str],
    *,
    separator: str = SEPARATOR,
    caption_prompts: Sequence[Mapping[str, str]] | None = None,
) -> Prompt:
    """All names in one caption, with nothing after the last.

    Args:
        names: of the classes. Phrase i of the prompt is `names[i]`.
        separator: between two names.
        caption_prompts: for each class {"prefix", "name", "suffix"}, how the caption says it
            (DATASETS.CAPTION_PROMPT). The phrase is the name alone, not what surrounds it.

    Returns:
        A prompt of any length; `class_prompts` makes prompts that fit a text encoder.

    Raises:
        TypeError: a name is not text.
        ValueError: there is no name, a name has nothing left after cleaning, or `caption_prompts`
            is malformed.
    """
    pieces = []
    phrases = []
    length = 0
    for name, said in zip(names, _spoken_names(names, caption_prompts)):
        # The span leaves out spaces at the ends: alignment looks past two of them, not more.
        start = length + len(said.prefix) + len(said.name) - len(said.name.lstrip())
        phrases.append(Phrase(name, ((start, start + len(said.name.strip())),)))
        pieces.append("".join(said))
        length += len(pieces[-1]) + len(separator)
    return Prompt(separator.join(pieces), tuple(phrases))


def class_prompts(
    names: Sequence[str],
    tokenizer: Tokenizer,
    *,
    chunk_size: int = -1,
    max_tokens: int = MAX_TOKENS,
    separator: str = SEPARATOR,
    caption_prompts: Sequence[Mapping[str, str]] | None = None,
    name_unknown: bool = True,
) -> list[Prompt]:
    """The names in as many prompts as needed, in order; none is ever cut.

    A log line says so when names had to be spread over more prompts than `chunk_size` asks for,
    when several classes have the same words, and when a class has only words that the text encoder
    does not know: neither kind can be told apart from its likes.

    Args:
        names: of the classes, any number.
        tokenizer: of the text encoder that will read the prompts.
        chunk_size: names per prompt (TEST.CHUNKED_EVALUATION); -1 puts all into one.
        max_tokens: the text encoder's limit, [CLS] and [SEP] included.
        separator: between two names.
        caption_prompts: as in `class_prompt`.
        name_unknown: name the classes of unknown words in the log.

    Returns:
        Prompts whose phrases, one prompt after the other, are `names`.

    Raises:
        TypeError: a name is not text.
        ValueError: as `class_prompt`; a name has no tokens or more than fit a prompt (both named);
            or `chunk_size` is neither -1 nor above 0.
    """
    check_chunk_size(chunk_size)
    spoken = _spoken_names(names, caption_prompts)
    lengths, unknown = _token_counts(names, spoken, tokenizer, max_tokens)
    if unknown and name_unknown:
        logger.warning(
            "%d classes have only words that the text encoder does not know, so it cannot tell "
            "them apart: %s",
            len(unknown),
            _listed(unknown),
        )
    _warn_about_twins(names, spoken)
    gap = tokenizer.count(separator) - NUM_SPECIAL

    def fitting(chunk: range) -> list[Prompt]:
        part = slice(chunk.start, chunk.stop)
        said = None if caption_prompts is None else caption_prompts[part]
        prompt = class_prompt(names[part], separator=separator, caption_prompts=said)
        if tokenizer.count(prompt.caption) <= max_tokens:
            return [prompt]
        smaller = _split(chunk, lengths, gap, max_tokens - NUM_SPECIAL)
        return [prompt for chunk in smaller for prompt in fitting(chunk)]

    step = len(names) if chunk_size == -1 else chunk_size
    chunks = [range(i, min(i + step, len(names))) for i in range(0, len(names), step)]
    prompts = [prompt for chunk in chunks for prompt in fitting(chunk)]
    if len(prompts) > len(chunks):
        sizes = [len(prompt.phrases) for prompt in prompts]
        logger.warning(
            "%d names in %d prompt(s) would be longer than %d tokens: asked in %d prompts of %d to "
            "%d names instead",
            len(names),
            len(chunks),
            max_tokens,
            len(prompts),
            min(sizes),
            max(sizes),
        )
    _check_findable(prompts, tokenizer, max_tokens)
    return prompts


def check_chunk_size(chunk_size: int) -> None:
    """Refuse a number of names per prompt that is neither -1, for all, nor above 0.

    Raises:
        ValueError: it is neither.
    """
    if chunk_size != -1 and chunk_size < 1:
        raise ValueError(f"chunk_size is -1 (all in one prompt) or at least 1, got {chunk_size}")


def free_prompt(caption: str, spans: Sequence[Sequence[tuple[int, int]]]) -> Prompt:
    """A caption in free words, and where it names the things to find.

    `free_prompt("bobble heads on top of the shelf", [[(0, 12)], [(27, 32)]])` asks for the heads
    and for the shelf.

    Args:
        caption: used as it stands.
        spans: for each phrase its half-open character ranges, one or more (`tokens_positive`).

    Raises:
        ValueError: the caption is blank, there is no phrase, or a range is not inside the caption.
    """
    if not caption.strip():
        raise ValueError(f"the caption {caption!r} has no words to look for")
    if not spans:
        raise ValueError(f"the caption {caption!r} came without phrases: mark what to find in it")
    phrases = []
    for ranges in spans:
        ranges = tuple((int(start), int(end)) for start, end in ranges)
        phrases.append(Phrase(" ".join(caption[start:end] for start, end in ranges), ranges))
    return Prompt(caption, tuple(phrases))


def _spoken_names(
    names: Sequence[str], caption_prompts: Sequence[Mapping[str, str]] | None
) -> list[Spoken]:
    """How the caption says each class; complains about those it cannot say."""
    if not names:
        raise ValueError("there is no class name to look for")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"class {index} is {name!r} ({type(name).__name__}), expected text")
    if caption_prompts is None:
        spoken = [Spoken("", clean_name(name), "") for name in names]
    else:
        if len(caption_prompts) != len(names):
            raise ValueError(
                f"{len(names)} classes came with {len(caption_prompts)} caption prompts"
            )
        spoken = [_said(index, said) for index, said in enumerate(caption_prompts)]
    for index, (name, said) in enumerate(zip(names, spoken)):
        if not said.name.strip():
            raise ValueError(
                f"class {index} {_quoted(name)} has no words to look for: after cleaning "
                f"(parentheses go, underscores become spaces) {said.name!r} is left. Rename it"
            )
    return spoken


def _said(index: int, said: Mapping[str, str]) -> Spoken:
    if set(said) != set(Spoken._fields):
        raise ValueError(
            f"caption prompt {index} must have the keys prefix, name and suffix, got {sorted(said)}"
        )
    return Spoken(said["prefix"], clean_name(said["name"]), said["suffix"])


def _token_counts(
    names: Sequence[str], spoken: Sequence[Spoken], tokenizer: Tokenizer, max_tokens: int
) -> tuple[list[int], list[str]]:
    """Tokens that each class adds to a caption, and the classes of which none is known."""
    lengths = []
    unknown = []
    for index, (name, said) in enumerate(zip(names, spoken)):
        ids = tokenizer.token_ids(said.name)[1:-1]
        if not ids:
            raise ValueError(
                f"class {index} {_quoted(name)} has no words to look for: the text encoder reads "
                f"none of its characters. Rename it"
            )
        if set(ids) == {tokenizer.unknown_id}:
            unknown.append(name)
        lengths.append(tokenizer.count("".join(said)) - NUM_SPECIAL)
        if lengths[-1] > max_tokens - NUM_SPECIAL:
            raise ValueError(
                f"class {index} {_quoted(name)} has {lengths[-1]} tokens; a prompt holds "
                f"{max_tokens - NUM_SPECIAL} besides [CLS] and [SEP]. Describe it in fewer words"
            )
    return lengths, unknown


def _warn_about_twins(names: Sequence[str], spoken: Sequence[Spoken]) -> None:
    """Different classes with the same words are legal, but never what somebody wants."""
    by_words = defaultdict(list)
    for name, said in zip(names, spoken):
        by_words["".join(said).lower().strip()].append(name)
    twins = [" = ".join(map(repr, same)) for same in by_words.values() if len(same) > 1]
    if twins:
        logger.warning(
            "%d groups of classes have the same words and can never be told apart: %s",
            len(twins),
            _listed(twins, quote=False),
        )


def _split(chunk: range, lengths: Sequence[int], gap: int, budget: int) -> list[range]:
    """At least two smaller chunks, each as long as the budget allows by the counts of its names."""
    starts = [chunk.start]
    used = lengths[chunk.start]
    for index in chunk[1:]:
        used += gap + lengths[index]
        if used > budget:
            starts.append(index)
            used = lengths[index]
    if len(starts) == 1:  # the separator glues names together, so that the sum was too low
        starts.append((chunk.start + chunk.stop) // 2)
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], chunk.stop])]


def _check_findable(prompts: Sequence[Prompt], tokenizer: Tokenizer, max_tokens: int) -> None:
    for prompt in prompts:
        found = tokenizer(prompt, max_tokens=max_tokens).phrase_tokens.any(dim=1).tolist()
        lost = [phrase.text for phrase, is_found in zip(prompt.phrases, found) if not is_found]
        if lost:
            raise ValueError(
                f"no token stands where these class names begin or end, probably because of "
                f"invisible characters: {_listed(lost)}. Rename them"
            )


def _listed(names: Sequence[str], *, quote: bool = True, limit: int = 5) -> str:
    shown = ", ".join(_quoted(name) if quote else name for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _quoted(name: str) -> str:
    """A name as messages say it: of one that is longer than a line, its beginning."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
