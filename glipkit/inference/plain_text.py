"""Text as people give it, checked and cleaned, before its words are read."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from glipkit.grounding.noun_rules import is_sentence
from glipkit.inference.asked import Texts

MAX_CHARACTERS = 100_000  # of a text: about 10,000 names, hundreds of prompts a picture
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")  # without what counts as space
_LISTING = re.compile(r"(?:^|(?<=\s))\.+(?=\s|$)")  # " . "
# "- " and "1. " where a line begins
_MARK = re.compile(r"^[^\S\n]*(?:[-*\u2022\u2013]|\d{1,3}[.)])[^\S\n]+(?=\w)", re.MULTILINE)
_STOP = re.compile(  # not after abbreviations: "a St. Bernard dog", "the U.S. flag"
    r"(?<!\b[a-z])(?<!\bst)(?<!\bdr)(?<!\bmr)(?<!\bmrs)(?<!\bno)(?<!\bvs)\.\s+|[\r\n]+",
    re.IGNORECASE,
)


def pieces(text: str) -> list[str]:
    """The pieces of a listing, in order, with single spaces; text that is none is one piece.

    "a cat . a dog ." has two, and so have "a cat. a dog" and two lines; "A cat sits. A dog runs."
    is no listing, because ". " and line ends separate only what holds no finite verb. What marks
    the lines of a list ("- ", "1. ") is no part of them.

    Raises:
        ValueError: a piece has no words.
    """
    parts = [part for part in _LISTING.split(_MARK.sub("", text)) if part.strip()]
    found = [bare(plain(part)) for whole in parts for part in _STOP.split(whole) if part.strip()]
    if len(parts) <= 1 and (len(found) <= 1 or any(map(is_sentence, found))):
        return [plain(part) for part in parts]
    for number, piece in enumerate(found):
        if not has_words(piece):
            raise ValueError(
                f"piece {number} of the text, {piece!r}, has no words to look for; pieces are "
                f'separated by " . "'
            )
    return found


def checked_text(text: Any) -> str:
    """One text, as it stands.

    Raises:
        TypeError: it is none.
        ValueError: it is longer than `MAX_CHARACTERS`.
    """
    if not isinstance(text, str):
        raise TypeError(f"spans mark places in one text, got {described(text)} as the text")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"a text has at most {MAX_CHARACTERS:,} characters, got {len(text):,}")
    return text


def checked_names(names: Any, argument: str) -> list[str]:
    """A sequence of texts, checked by type alone; `class_prompts` checks what they say.

    Args:
        names: what was given.
        argument: how the caller calls it, for the error.

    Raises:
        TypeError: it is something else; says what, and what to do.
    """
    if isinstance(names, Texts):
        raise TypeError(f"Texts holds one text per picture; {argument} is read one by one")
    if isinstance(names, str | bytes | Mapping) or not isinstance(names, Sequence):
        expected = "a list of names" if argument != "text" else "a text or a list of class names"
        raise TypeError(f"{argument} must be {expected}, got {described(names)}")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(
                f"{argument}[{index}] must be text, got {described(name)}. One text per picture is "
                f"said by glipkit.Texts([…])"
            )
    return [plain(name) if _CONTROL.search(name) else name for name in names]


def plain(text: str) -> str:
    """Without control characters, and with single spaces."""
    return " ".join(_CONTROL.sub(" ", text).split())


def bare(piece: str) -> str:
    """Without spaces and full stops at its end, if anything is left."""
    return piece.strip().rstrip(". ") or piece.strip()


def has_words(text: str) -> bool:
    """Whether it holds a letter, a digit, or a sign beyond ASCII, such as an emoji."""
    return any(c.isalnum() or (ord(c) > 127 and c.isprintable()) for c in text)


def is_latin(text: str) -> bool:
    """Whether all its letters are Latin, as those of English are."""
    letters = (c for c in unicodedata.normalize("NFKC", text) if c.isalpha())
    return text.isascii() or all("LATIN" in unicodedata.name(c, "") for c in letters)


def described(value: Any) -> str:
    """What came, for an error: the value, its type, what to do with it."""
    advice = {bytes: ": decode() it", dict: ": pass list(…) of it", set: ": pass sorted(…) of it"}
    return f"{short(repr(value))} ({type(value).__name__}){advice.get(type(value), '')}"


def short(text: str) -> str:
    """At most 80 characters of it."""
    return text if len(text) <= 80 else f"{text[:77]}..."
