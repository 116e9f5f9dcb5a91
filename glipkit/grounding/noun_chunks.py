"""Noun phrases that were read, and which of them name a thing to find."""

from collections.abc import Sequence
from dataclasses import dataclass

from glipkit.grounding import word_lists as lists
from glipkit.grounding.words_apart import Kind, Word

_DETERMINING = {Kind.DETERMINER, Kind.POSSESSIVE}
_NAMING = {Kind.NOUN, Kind.ING, Kind.OWNER}  # "a parking lot" is no lot


@dataclass(slots=True)
class Chunk:
    """A noun phrase: `words[first]` to `words[head]`."""

    words: Sequence[Word]
    first: int
    head: int

    @property
    def span(self) -> tuple[int, int]:
        """Its characters."""
        return self.words[self.first].start, self.words[self.head].bare_end

    @property
    def texts(self) -> list[str]:
        """Its words, in lower case."""
        return [word.text for word in self.words[self.first : self.head + 1]]

    @property
    def is_plural(self) -> bool:
        """Whether it speaks of several things, as far as its form tells."""
        return is_plural(self.words[self.head].text)


def is_plural(word: str) -> bool:
    """Whether a noun (in lower case) has the form of a plural."""
    if word in lists.IRREGULAR_PLURALS:
        return True
    is_other = word in lists.NO_PLURALS or word.endswith(("ss", "us", "is"))
    return len(word) > 3 and word.endswith("s") and not is_other


def things(chunks: Sequence[Chunk], words: Sequence[Word]) -> list[Chunk]:
    """Those that name a thing, "a pair of shoes" as one, "a cup of coffee" as the cup.

    Args:
        chunks: all noun phrases of a text, in order.
        words: of the text.
    """
    named = [chunk for number, chunk in enumerate(chunks) if not _is_no_thing(chunk, number)]
    return _with_members(named, words)


def _is_no_thing(chunk: Chunk, number: int) -> bool:
    """Places ("on the left side"), what is not there ("no people"), "a photo" of something."""
    texts = chunk.texts
    if texts[0] in ("no", "neither"):
        return True
    if texts[-1] in lists.PLACES:
        words = chunk.words[chunk.first : chunk.head + 1]
        return all(w.kind in _DETERMINING or w.text in lists.PLACE_WORDS for w in words)
    follows = chunk.words[chunk.head + 1 : chunk.head + 2]
    is_about = bool(follows) and follows[0].text in ("of", "with", "showing")
    return number == 0 and is_about and texts[-1] in lists.PICTURES


def _with_members(chunks: Sequence[Chunk], words: Sequence[Word]) -> list[Chunk]:
    """Make "a pair of shoes" one phrase, and "a cup of coffee" the cup."""
    result: list[Chunk] = []
    for chunk in chunks:
        last = result[-1] if result else None
        if last is not None and last.head + 2 == chunk.first and words[last.head + 1].text == "of":
            head = words[last.head].text
            before = words[last.first : last.head]
            if head in lists.COLLECTIVES and all(w.kind not in _NAMING for w in before):
                result[-1] = Chunk(words, last.first, chunk.head)
                continue
            is_marked = words[chunk.first].kind in (*_DETERMINING, Kind.NUMERAL)
            if head in lists.CONTAINERS and not chunk.is_plural and not is_marked:
                continue
        result.append(chunk)
    return result
