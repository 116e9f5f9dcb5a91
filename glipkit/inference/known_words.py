"""Which words mean nothing to a text encoder that learnt English."""

from collections.abc import Sequence

from glipkit.inference.plain_text import is_latin, short
from glipkit.structures.prompts import TokenizedPrompt


def word_notes(
    phrases: Sequence[str],
    prompts: Sequence[TokenizedPrompt],
    *,
    unknown_id: int,
    num_wanted: int | None = None,
) -> list[str]:
    """What is to be said of phrases that the text encoder does not know; of each phrase once.

    Args:
        phrases: P texts over all prompts, in order.
        prompts: with P phrases together.
        unknown_id: the token that stands for every word it does not know.
        num_wanted: so many of the first phrases are looked for; None for all.

    Raises:
        ValueError: it knows no word of any phrase that is looked for.
    """
    known = [
        bool((prompt.token_ids[row > 0] != unknown_id).any())
        for prompt in prompts
        for row in prompt.phrase_tokens
    ]
    unknown = [phrase for phrase, is_known in zip(phrases, known) if not is_known]
    if not any(known[:num_wanted]):
        raise ValueError(
            f"the text encoder knows no word of {short(', '.join(unknown))!r}; its vocabulary "
            f"is English, without emoji and with little of other scripts: say it in English"
        )
    notes = []
    if unknown:
        shown = short(", ".join(map(repr, unknown)))
        notes.append(f"words unknown to the text encoder, told apart by nothing: {shown}")
    foreign = [
        phrase for phrase, is_known in zip(phrases, known) if is_known and not is_latin(phrase)
    ]
    if foreign:
        shown = short(", ".join(map(repr, foreign)))
        notes.append(f"the text encoder learnt English, say in English: {shown}")
    return notes
