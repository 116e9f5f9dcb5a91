"""Text taken apart into words, each with what it is by itself, before its neighbours are asked."""

import re
from dataclasses import dataclass, replace
from enum import Enum, auto

from glipkit.grounding import word_lists as lists

# Everything but spaces, "_" and punctuation belongs to words, so that other scripts with their
# combining marks stay whole. Hyphens and apostrophes do inside a word.
_MARKS = (
    r"!-/:-@\[-`{-~\u00ab\u00bb\u2010-\u205e\u3001-\u3003\u3008-\u3011\uff01-\uff0f\uff1a-\uff20"
)
_LETTER = rf"[^\s_{_MARKS}]"
_APOSTROPHE = "\u2019"
_IN_WORD = rf"[-'{_APOSTROPHE}]"
_SHORTENED = r"(?i:\b(?:(?:[a-z]\.){2,}|(?:st|mr|mrs|dr)\.(?=\s)))"  # "U.S.", "St."
_WORD = re.compile(
    rf"\d+[.,]\d+|{_SHORTENED}|"
    rf"{_LETTER}+(?:{_IN_WORD}{_LETTER}+)*(?:(?<=s)['{_APOSTROPHE}](?=\s))?|[^\s_]"
)
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_VOWEL = re.compile(r"[aeiouy]")


class Kind(Enum):
    """What a word is by itself; NOUN is whatever stands in no list."""

    DETERMINER = auto()
    POSSESSIVE = auto()
    NUMERAL = auto()
    ADJECTIVE = auto()
    ADVERB = auto()
    PARTICIPLE = auto()  # parked, broken
    ING = auto()
    OWNER = auto()  # man's
    NOUN = auto()  # or a verb, see Word.is_verb
    PREPOSITION = auto()
    CONJUNCTION = auto()  # and, or
    COMMA = auto()
    AUXILIARY = auto()
    PRONOUN = auto()
    CLAUSE = auto()  # who, while
    STOP = auto()  # other punctuation, and nothing


@dataclass(frozen=True, slots=True)
class Word:
    """A word or a punctuation mark, `text` in lower case, and its characters [start, end)."""

    text: str
    start: int
    end: int
    kind: Kind

    @property
    def bare_end(self) -> int:
        """Where it ends without 's."""
        if self.kind is not Kind.OWNER:
            return self.end
        return self.end - (2 if self.text.endswith("'s") else 1)

    @property
    def is_strong(self) -> bool:
        """A verb wherever a noun stands before it."""
        return self.text in lists.STRONG_VERBS or self.text in lists.STRONG_WITH_S

    @property
    def is_weak(self) -> bool:
        """A verb where its neighbours say so."""
        return self.text in lists.WEAK_VERBS or self.text in lists.WEAK_WITH_S

    @property
    def is_verb(self) -> bool:
        """A known verb, which may be a noun as well."""
        return self.is_strong or self.is_weak

    @property
    def with_s(self) -> bool:
        """A known verb in the third person: stands, watches."""
        return self.text in lists.STRONG_WITH_S or self.text in lists.WEAK_WITH_S


def apart(text: str) -> list[Word]:
    """The words and punctuation marks of a text; an underscore counts as a space."""
    words = []
    for match in _WORD.finditer(text):
        lower = match[0].lower().replace(_APOSTROPHE, "'")
        words.append(Word(lower, match.start(), match.end(), _kind(lower)))
    return [_beside(word, words[i + 1 : i + 2]) for i, word in enumerate(words)]


_LISTED = (
    (lists.POSSESSIVES, Kind.POSSESSIVE),
    (lists.AUXILIARIES, Kind.AUXILIARY),
    (lists.PRONOUNS, Kind.PRONOUN),
    (lists.CLAUSE_WORDS, Kind.CLAUSE),
    (lists.DETERMINERS, Kind.DETERMINER),
    (lists.NUMERALS, Kind.NUMERAL),
    (lists.CONJUNCTIONS, Kind.CONJUNCTION),
    (lists.PREPOSITIONS, Kind.PREPOSITION),
    (lists.ADVERBS, Kind.ADVERB),
    (lists.PARTICIPLES, Kind.PARTICIPLE),
    (lists.ING_NOUNS, Kind.NOUN),
    (lists.ED_NOUNS, Kind.NOUN),
)

_ENDS_OF_ADJECTIVES = lists.PARTICIPLES | lists.PREPOSITIONS | lists.ADVERBS

# With the next word they are prepositions, as is any adjective before "than".
_PAIRED = {(each, "to") for each in ("next", "close", "closer", "closest")}
_PAIRED |= {("left", "of"), ("right", "of")}


def _kind(word: str) -> Kind:
    for words, kind in _LISTED:
        if word in words:
            return kind
    if not any(character.isalnum() for character in word):
        return Kind.COMMA if word in ",\u3001\uff0c" else Kind.STOP
    if not any(character.isalpha() for character in word):
        return Kind.NUMERAL
    if lists.is_adjective(word) or _ORDINAL.fullmatch(word):
        return Kind.ADJECTIVE
    if word.endswith(("'s", "s'")):
        return Kind.OWNER
    if word.endswith("n't"):
        return Kind.AUXILIARY
    if "'" in word and word.endswith(("'re", "'ve", "'ll", "'d", "'m")):
        return Kind.PRONOUN
    return _kind_by_ending(word)


def _kind_by_ending(word: str) -> Kind:
    last = word.rsplit("-", 1)[-1]
    if last != word and (lists.is_adjective(last) or last in _ENDS_OF_ADJECTIVES):
        return Kind.ADJECTIVE  # "black-and-white", "walk-in"
    if len(word) > 4 and word.endswith("ly") and word not in lists.NO_ADVERBS:
        return Kind.ADVERB
    if last.endswith("ing") and last not in lists.ING_NOUNS and _VOWEL.search(last[:-3]):
        return Kind.ING if last == word else Kind.ADJECTIVE  # "good-looking"
    is_past = last.endswith("ed") and not last.endswith("eed") and last not in lists.ED_NOUNS
    if is_past and _VOWEL.search(last[:-2]):
        return Kind.PARTICIPLE if last == word else Kind.ADJECTIVE
    return Kind.NOUN


def _beside(word: Word, follows: list[Word]) -> Word:
    """What the next word decides: "navy" is an adjective before "blue", "next to" a preposition."""
    after = follows[0].text if follows else ""
    kind = word.kind
    if kind is Kind.NOUN and word.text in lists.SHADES and after in lists.COLOURS:
        kind = Kind.ADJECTIVE
    elif (word.text, after) in _PAIRED or (kind is Kind.ADJECTIVE and after == "than"):
        kind = Kind.PREPOSITION
    return replace(word, kind=kind)
