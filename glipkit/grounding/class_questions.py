"""How the classes of a dataset are asked: in shared captions, or each in its own."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from glipkit.grounding.captions import (
    MAX_TOKENS,
    SEPARATOR,
    check_chunk_size,
    class_prompts,
)
from glipkit.grounding.knowledge import described, plainly
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import AnyPrompt, ParallelPrompt

logger = logging.getLogger(__name__)


class ClassQuestions(NamedTuple):
    """Prompts whose phrases, one prompt after the other, are the classes."""

    prompts: tuple[AnyPrompt, ...]
    captions: tuple[str, ...]  # for each prompt how it reads; lines, where it has several captions


def ask_classes(
    names: Sequence[str],
    tokenizer: Tokenizer,
    *,
    chunk_size: int = -1,
    max_tokens: int = MAX_TOKENS,
    separator: str = SEPARATOR,
    caption_prompts: Sequence[Mapping[str, str]] | None = None,
    descriptions: Sequence[str] | None = None,
    parallel: str | None = None,
) -> ClassQuestions:
    """The prompts that ask for classes, in their order.

    Args:
        names: of the classes.
        tokenizer: of the text encoder that will read the prompts.
        chunk_size: classes per prompt (TEST.CHUNKED_EVALUATION); -1 puts as many into one as it
            holds.
        max_tokens: the text encoder's limit, [CLS] and [SEP] included; also the places of a
            parallel prompt, one of which stands for no object.
        separator: between two classes of a caption.
        caption_prompts: for each class {"prefix", "name", "suffix"}; see `class_prompt`.
        descriptions: of each class, said behind its name: "stingray: a flat fish".
        parallel: None joins classes into captions; "first" or "mean" gives each class a caption of
            its own, and keeps that of it (GLIPKNOW.LAN_FEATURE_AGG_TYPE).

    Raises:
        TypeError, ValueError: as `class_prompts`.
    """
    check_chunk_size(chunk_size)
    if descriptions is not None:
        caption_prompts = described(caption_prompts or plainly(names), descriptions)
    prompts = class_prompts(
        names,
        tokenizer,
        chunk_size=chunk_size if parallel is None else 1,
        max_tokens=max_tokens,
        separator=separator,
        caption_prompts=caption_prompts,
    )
    read = tuple(tokenizer(prompt, max_tokens=max_tokens) for prompt in prompts)
    captions = tuple(prompt.caption for prompt in prompts)
    if parallel is None:
        return ClassQuestions(read, captions)
    places = max_tokens - 1
    wanted = len(names) if chunk_size == -1 else min(chunk_size, len(names))
    step = min(wanted, places)
    if wanted > places:
        logger.warning(
            "a prompt has places for %d classes, not for %d: asked %d at a time",
            *(places, wanted, places),
        )
    starts = range(0, len(names), step)
    return ClassQuestions(
        tuple(ParallelPrompt(read[start : start + step], parallel) for start in starts),
        tuple("\n".join(captions[start : start + step]) for start in starts),
    )
