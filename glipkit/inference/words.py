"""Words in: what people type becomes prompts that the text encoder can read."""

import logging
from collections.abc import Callable, Sequence

from glipkit.grounding.captions import (
    MAX_TOKENS,
    SEPARATOR,
    class_prompt,
    class_prompts,
    clean_name,
)
from glipkit.grounding.noun_phrases import noun_phrases
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.inference.asked import Asked, Texts
from glipkit.inference.known_words import word_notes
from glipkit.inference.marks import Marks, marked_prompt
from glipkit.inference.plain_text import (
    bare,
    checked_names,
    checked_text,
    has_words,
    pieces,
    plain,
    short,
)
from glipkit.structures.prompts import Phrase, Prompt

__all__ = ["Asked", "Texts", "phrases_of", "pieces", "read_words"]

logger = logging.getLogger(__name__)


def read_words(
    text: str | Sequence[str],
    tokenizer: Tokenizer,
    *,
    spans: Marks | None = None,
    negative_prompts: Sequence[str] = (),
    max_tokens: int = MAX_TOKENS,
    separator: str = SEPARATOR,
    chunk_size: int = -1,
) -> Asked:
    """What a text asks for.

    * A list of class names: one phrase per name, as in evaluation.
    * A listing, "a red circle . the small star on the left": one phrase per piece. The label is the
      piece, the words that are looked for are its first noun phrase ("the small star"), else all of
      it. Pieces end at " . " and at line ends; at ". " only if no piece is a sentence.
    * Other text: one phrase per noun phrase ("a man", "a horse" in "a man riding a horse"). If
      there is none the whole text is one, and the log says so.
    * A text with `spans`: exactly these phrases; the text is used as it stands.

    Names and listings are spread over as many prompts as they need; free text must fit one. The
    same phrase twice is asked once: in names and listings the second is left out, in free text it
    owns both places. Phrases given as `spans` are left as they are.

    Args:
        text: as above. Line ends and tabs are spaces, control characters too (not with `spans`).
        tokenizer: of the text encoder that will read the prompts.
        spans: for each phrase its half-open character range (start, end), or a list of them.
        negative_prompts: names of what is not wanted; beside a text, listings of them too. They
            follow as further phrases, whose boxes compete and are not reported.
        max_tokens: the text encoder's limit, [CLS] and [SEP] included.
        separator: between names.
        chunk_size: names per prompt; -1 puts as many into one as it holds.

    Raises:
        TypeError: the text is neither text nor a sequence of it; says what came.
        ValueError: nothing to look for, words the text encoder does not know at all, a text too
            long for a prompt, a span that marks nothing, or something both wanted and unwanted.
    """
    reader = _Reader(
        tokenizer,
        _unwanted(negative_prompts, is_free=isinstance(text, str)),
        max_tokens=max_tokens,
        separator=separator,
        chunk_size=chunk_size,
    )
    if spans is not None:
        prompts = reader.marked(checked_text(text), spans)
    elif not isinstance(text, str):
        prompts = reader.listed(checked_names(text, "text"), is_free=False)
    elif len(listing := pieces(checked_text(text))) > 1:
        prompts = reader.listed(listing, is_free=True)
    else:
        prompts = reader.free(plain(text))
    asked = reader.asked(prompts)
    for note in asked.notes:
        logger.warning("%s", note)
    return asked


def phrases_of(text: str | Sequence[str], negative_prompts: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels of what is wanted that `read_words` would give, told without a text encoder.

    Raises:
        TypeError: the text is neither text nor a sequence of it.
        ValueError: there is nothing to look for, or something is both wanted and unwanted, as far
            as can be told before a model is loaded.
    """
    unwanted = _unwanted(negative_prompts, is_free=isinstance(text, str))
    if not isinstance(text, str):
        names = checked_names(text, "text")
        class_prompt(names)  # complains about names that say nothing
        _check_apart(names, unwanted, said=clean_name)
        return _each_once(names)
    listing = pieces(checked_text(text))
    wanted = _each_once(listing) if len(listing) > 1 else tuple(_noun_phrases(plain(text))[0])
    _check_apart(wanted, unwanted)
    return wanted


class _Reader:
    """The ways to read a text, with what they share."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        unwanted: tuple[str, ...],
        *,
        max_tokens: int,
        separator: str,
        chunk_size: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.unwanted = _each_once(unwanted)
        self.max_tokens = max_tokens
        self.separator = separator
        self.chunk_size = chunk_size
        self.notes: list[str] = []

    def marked(self, text: str, spans: Marks) -> list[Prompt]:
        """A text whose phrases are given."""
        self._check_length(text)
        prompt = marked_prompt(text, spans, self.tokenizer, self.max_tokens)
        _check_apart([phrase.text for phrase in prompt.phrases], self.unwanted)
        return self._with_unwanted(prompt)

    def listed(self, names: Sequence[str], *, is_free: bool) -> list[Prompt]:
        """One phrase per name; `is_free` names are English, of which the noun phrase counts."""
        kept = _each_once(names)
        if len(kept) < len(names):
            self.notes.append(
                f"{len(names) - len(kept)} of {len(names)} phrases repeat another: asked once"
            )
        _check_apart(kept, self.unwanted, said=str if is_free else clean_name)
        return self._class_prompts([*kept, *self.unwanted], is_free=is_free)

    def free(self, text: str) -> list[Prompt]:
        """A text whose phrases are its noun phrases."""
        self._check_length(text)
        labels, notes = _noun_phrases(text)
        self.notes += notes
        _check_apart(list(labels), self.unwanted)
        phrases = (Phrase(label, tuple(places)) for label, places in labels.items())
        return self._with_unwanted(Prompt(text, tuple(phrases)))

    def asked(self, prompts: Sequence[Prompt]) -> Asked:
        """The prompts as the text encoder reads them.

        Raises:
            ValueError: it knows no word of what is wanted.
        """
        tokenized = tuple(
            self.tokenizer(prompt, max_tokens=self.max_tokens, name_lost=False)
            for prompt in prompts
        )
        phrases = [phrase for prompt in prompts for phrase in prompt.phrases]
        self.notes += word_notes(
            [phrase.text for phrase in phrases],
            tokenized,
            unknown_id=self.tokenizer.unknown_id,
            num_wanted=len(phrases) - len(self.unwanted),
        )
        return Asked(
            prompts=tokenized,
            captions=tuple(prompt.caption for prompt in prompts),
            phrases=tuple(phrase.text for phrase in phrases),
            num_negatives=len(self.unwanted),
            spans=tuple(phrase.spans for phrase in phrases),
            caption_ids=tuple(i for i, prompt in enumerate(prompts) for _ in prompt.phrases),
            tokens=tuple(tuple(self.tokenizer.words(one.token_ids.tolist())) for one in tokenized),
            notes=tuple(self.notes),
        )

    def _class_prompts(self, names: Sequence[str], *, is_free: bool) -> list[Prompt]:
        return class_prompts(
            names,
            self.tokenizer,
            chunk_size=self.chunk_size,
            max_tokens=self.max_tokens,
            separator=self.separator,
            caption_prompts=[_said(name) for name in names] if is_free else None,
            name_unknown=False,  # a note does
        )

    def _with_unwanted(self, prompt: Prompt) -> list[Prompt]:
        """The unwanted phrases behind the caption, or in prompts of their own if it is full."""
        if not self.unwanted:
            return [prompt]
        said = [_said(name) for name in self.unwanted]
        more = class_prompt(self.unwanted, separator=self.separator, caption_prompts=said)
        ends = prompt.caption.rstrip().endswith(".")
        head = prompt.caption + (" " if ends else self.separator)
        if self.tokenizer.count(head + more.caption) > self.max_tokens:
            return [prompt, *self._class_prompts(self.unwanted, is_free=True)]
        moved = (
            Phrase(each.text, tuple((len(head) + a, len(head) + b) for a, b in each.spans))
            for each in more.phrases
        )
        return [Prompt(head + more.caption, (*prompt.phrases, *moved))]

    def _check_length(self, text: str) -> None:
        count = self.tokenizer.count(text)
        if count > self.max_tokens:
            raise ValueError(
                f"the text {short(text)!r} has {count} tokens, and free text must fit into one "
                f"prompt of {self.max_tokens}, [CLS] and [SEP] included: list what to find with "
                f'" . " between ("a cat . a dog"), which is asked in as many prompts as needed'
            )


def _unwanted(names: Sequence[str], *, is_free: bool) -> tuple[str, ...]:
    """`negative_prompts`, checked by themselves: behind what is wanted they have other numbers."""
    checked = [*enumerate(checked_names(names, "negative_prompts"))]
    if is_free:
        checked = [(at, piece) for at, name in checked for piece in (pieces(name) or [name])]
    for index, name in checked:
        said = _said(name)["name"] if is_free else name
        if not (has_words(name) and clean_name(said).strip()):
            raise ValueError(
                f"negative prompt {index}, {short(name)!r}, has no words that can be looked for; "
                "leave it out"
            )
    return tuple(name for _, name in checked)


def _check_apart(
    wanted: Sequence[str], unwanted: Sequence[str], said: Callable[[str], str] = str
) -> None:
    """Refuse what is `said` in the same words on both sides."""
    if both := {_key(said(name)) for name in wanted} & {_key(said(name)) for name in unwanted}:
        raise ValueError(f"both wanted and a negative prompt: {short(', '.join(sorted(both)))}")


def _noun_phrases(text: str) -> tuple[dict[str, list[tuple[int, int]]], list[str]]:
    """What a free text looks for, each phrase with its places, and what is to be said of that."""
    if not has_words(text):
        raise ValueError(
            f"the text {short(text)!r} has no words to look for; say what to find, such as 'a red "
            "ball'"
        )
    spans, notes = noun_phrases(text), []
    if not spans:
        start = text.index(bare(text))
        spans = [(start, start + len(bare(text)))]
        notes = [f"no noun phrase in {short(text)!r}: looked for as a whole"]
    same: dict[str, list[tuple[int, int]]] = {}
    for start, end in spans:
        same.setdefault(text[start:end].casefold(), []).append((start, end))
    return {text[slice(*places[0])]: places for places in same.values()}, notes


def _said(piece: str) -> dict[str, str]:
    """A piece as a caption says it: what is looked for is its first noun phrase."""
    start, end = next(iter(noun_phrases(piece)), (0, len(piece)))
    return {"prefix": piece[:start], "name": piece[start:end], "suffix": piece[end:]}


def _each_once(names: Sequence[str]) -> tuple[str, ...]:
    """Names in their order; of those that differ in case and spaces alone, the first.

    "bow (weapon)" and "bow (ribbon)" stay two, although a caption says "bow" of both: so does the
    evaluation, and each has a number in a dataset.
    """
    kept: dict[str, str] = {}
    for name in names:
        kept.setdefault(_key(name), name)
    return tuple(kept.values())


def _key(name: str) -> str:
    return " ".join(name.casefold().split())
