"""Noun phrases of plain English by rules, for machines without a trained tagger.

One walk from left to right. Words that stand in no list (`word_lists`) are nouns, so what matters
is to see where a phrase ends: at a preposition, a verb, a clause. Whether "stands" is a verb or the
plural of a piece of furniture is read off its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from glipkit.grounding import word_lists as lists
from glipkit.grounding.noun_chunks import Chunk, is_plural, things
from glipkit.grounding.words_apart import Kind, Word, apart

_NOMINAL = {Kind.NOUN, Kind.ADJECTIVE, Kind.PARTICIPLE, Kind.ING, Kind.OWNER}
_DETERMINING = {Kind.DETERMINER, Kind.POSSESSIVE}
_AFTER_VERBS = _DETERMINING | {
    Kind.PREPOSITION, Kind.ADVERB, Kind.ING, Kind.NUMERAL, Kind.PRONOUN
}  # fmt: skip
_DESCRIBING = {Kind.ADJECTIVE, Kind.PARTICIPLE}
_JOINING = _DESCRIBING | {Kind.ADVERB, Kind.CONJUNCTION, Kind.COMMA}
_FAR = 30  # words of one phrase that are looked at, so that any text takes linear time
_NO_KIND = Word("", 0, 0, Kind.STOP)


class Role(Enum):
    """What a word is to the noun phrase that is being read."""

    OPENS = auto()  # the first word of a new phrase
    BEFORE_HEAD = auto()  # inside, and no noun
    NOUN = auto()  # the head, until another noun follows
    OUTSIDE = auto()
    VERB = auto()  # outside, too; the text is a sentence then


@dataclass(slots=True)
class Reader:
    """The walk; `chunks` are the phrases in order, `has_verb` whether the text is a sentence."""

    words: Sequence[Word]
    chunks: list[Chunk] = field(default_factory=list)
    has_verb: bool = False
    first: int | None = None  # of the phrase being read
    head: int | None = None
    is_listed: bool = False  # the phrase follows another one and "and"

    def read(self) -> list[Chunk]:
        """All noun phrases, places and contents of cups included."""
        for index, word in enumerate(self.words):
            role = self._role(index, word)
            if role in (Role.OPENS, Role.OUTSIDE, Role.VERB):
                closed = self._close()
                if role is not Role.OPENS:
                    self.is_listed = word.kind is Kind.CONJUNCTION and closed
            if role in (Role.OPENS, Role.BEFORE_HEAD, Role.NOUN):
                self.first = index if self.first is None else self.first
            if role is Role.NOUN or (role is Role.OPENS and word.kind is Kind.NOUN):
                self.head = index
            elif role is Role.BEFORE_HEAD and word.kind is Kind.OWNER:
                self.head = None  # "the man's": the thing he owns is still to come
            self.has_verb |= role is Role.VERB
        self._close()
        return self.chunks

    def _close(self) -> bool:
        """End the phrase being read; whether there was one."""
        was_phrase = self.first is not None and self.head is not None
        if was_phrase:
            self.chunks.append(Chunk(self.words, self.first, self.head))
        self.first = self.head = None
        return was_phrase

    def _kind(self, index: int) -> Kind:
        return self._word(index).kind

    def _word(self, index: int) -> Word:
        return self.words[index] if 0 <= index < len(self.words) else _NO_KIND

    @property
    def _is_open(self) -> bool:
        return self.first is not None

    @property
    def _has_noun(self) -> bool:
        return self.head is not None

    def _inside(self, index: int) -> Sequence[Word]:
        """The first words of the phrase being read, before `index`."""
        if self.first is None:
            return ()
        return self.words[self.first : min(index, self.first + _FAR)]

    def _role(self, index: int, word: Word) -> Role:
        kind = word.kind
        if kind in _DETERMINING:
            return self._determiner(index, word)
        if kind is Kind.NUMERAL:
            return self._numeral(index, word)
        if kind is Kind.ADJECTIVE:
            return self._adjective(index, word)
        if kind is Kind.ADVERB:
            return self._adverb(index)
        if kind is Kind.PARTICIPLE:
            return self._participle(index, word)
        if kind is Kind.ING:
            return self._ing(index, word)
        if kind is Kind.OWNER:
            return Role.BEFORE_HEAD if self._kind(index + 1) in _NOMINAL else Role.NOUN
        if kind is Kind.NOUN:
            return self._noun(index, word)
        if kind in (Kind.CONJUNCTION, Kind.COMMA):
            joins = self._is_open and not self._has_noun and self._joins_adjectives(index)
            return Role.BEFORE_HEAD if joins else Role.OUTSIDE
        return Role.VERB if kind is Kind.AUXILIARY else Role.OUTSIDE

    def _determiner(self, index: int, word: Word) -> Role:
        if word.text == "that" and (self._has_noun or self._kind(index + 1) not in _NOMINAL):
            return Role.OUTSIDE  # "a dog that runs"
        inside = self._inside(index)
        if inside and all(each.text in lists.BEFORE_DETERMINERS for each in inside):
            return Role.BEFORE_HEAD
        if inside and not self._has_noun and word.text in lists.QUANTIFIERS:
            return Role.BEFORE_HEAD  # "a few dogs"
        return Role.OPENS

    def _numeral(self, index: int, word: Word) -> Role:
        if word.text == "one" and self._kind(index + 1) not in _NOMINAL:  # "the red one"
            return Role.NOUN if self._is_open and not self._has_noun else Role.OUTSIDE
        return Role.OPENS if self._has_noun else Role.BEFORE_HEAD

    def _adjective(self, index: int, word: Word) -> Role:
        follows = self._kind(index + 1)
        if word.text in lists.ALSO_NOUNS and follows not in _NOMINAL:
            if self._joins_adjectives(index + 1) and not self._has_noun:
                return Role.BEFORE_HEAD  # "an orange and white cat"
            if self._is_open:  # "an orange", "a street light", but not "a cup orange"
                is_more = self._has_noun and word.text in lists.COLOURS
                return Role.OUTSIDE if is_more else Role.NOUN
            before = self._word(index - 1)
            is_dress = before.text == "in" or before.kind is Kind.AUXILIARY  # "she is in orange"
            return Role.OUTSIDE if is_dress else Role.NOUN
        if self._has_noun and word.text in lists.ALSO_NOUNS and word.text not in lists.COLOURS:
            return Role.NOUN  # "a street light pole"
        if not self._has_noun:
            return Role.BEFORE_HEAD
        return Role.BEFORE_HEAD if self._goes_on(index) else Role.OPENS

    def _adverb(self, index: int) -> Role:
        if self._has_noun:
            return Role.OUTSIDE
        begins = self._kind(index + 1) in (Kind.ADJECTIVE, Kind.PARTICIPLE)
        return Role.BEFORE_HEAD if self._is_open or begins else Role.OUTSIDE

    def _participle(self, index: int, word: Word) -> Role:
        if self._kind(index + 1) not in _NOMINAL or self._kind(index - 1) is Kind.AUXILIARY:
            return Role.OUTSIDE
        if self._has_noun and word.text not in lists.COMPOUND_PARTICIPLES:
            return Role.BEFORE_HEAD if self._goes_on(index) else Role.OUTSIDE
        return Role.BEFORE_HEAD

    def _goes_on(self, index: int) -> bool:
        """Whether an adjective behind a noun still belongs to its phrase, with a noun to come.

        Nouns do not stand before adjectives, so that in "a russet checkered scarf" the noun is an
        adjective that stands in no list; but "two girls red hats" or "guy red shirt" are two.
        """
        head = self.words[self.head].text
        is_thing = not is_plural(head) and head not in lists.PERSONS
        return is_thing and self._kind(index + 1) in _NOMINAL

    def _ing(self, index: int, word: Word) -> Role:
        """A riding man, the riding of a man, a man riding: inside, head, outside."""
        follows = self._kind(index + 1)
        if self._has_noun or self._kind(index - 1) is Kind.AUXILIARY:
            return Role.OUTSIDE
        if self._is_open:
            if _only_counts(self._inside(index)) and follows is not Kind.NOUN:
                return Role.OUTSIDE  # "two riding bikes" stays ambiguous, "two riding a bike" not
            if self._word(index - 1).text == "other":
                return Role.OUTSIDE  # "the other standing"
            return Role.BEFORE_HEAD if follows in _NOMINAL else Role.NOUN
        begins_name = word.text in lists.ING_NAMES or index == 0
        return Role.BEFORE_HEAD if begins_name and follows is Kind.NOUN else Role.OUTSIDE

    def _noun(self, index: int, word: Word) -> Role:
        follows = self._kind(index + 1)
        if self._has_noun:
            if word.text in ("left", "right") and follows not in _NOMINAL:
                return Role.OUTSIDE  # "the circle left of the star"
            if word.text in lists.SOMEBODY:
                return Role.OPENS
            if word.text.endswith("ing") and follows in _DETERMINING:
                return Role.VERB  # "a woman painting a wall"
            return Role.VERB if self._is_verb_after_noun(index, word) else Role.NOUN
        if self._is_open:
            if self._word(index - 1).text in ("one", "this", "each") and is_plural(word.text):
                return Role.VERB  # "one cuts a pizza"
            counted = _only_counts(self._inside(index)) and word.is_verb and not word.with_s
            return Role.VERB if counted and follows in _AFTER_VERBS else Role.NOUN
        return Role.VERB if self._is_verb_alone(index, word) else Role.NOUN

    def _is_verb_alone(self, index: int, word: Word) -> bool:
        """Whether a noun or verb that begins a phrase, if it is a noun, is a verb."""
        before, follows = self._word(index - 1), self._kind(index + 1)
        if before.text == "to" and not word.with_s:
            return word.is_verb or follows in _DETERMINING
        if before.kind is Kind.PREPOSITION:
            return False
        if before.text in ("who", "which", "that") and is_plural(word.text):
            return True
        if before.kind in (Kind.AUXILIARY, Kind.PRONOUN, Kind.CLAUSE) or before.text == "can":
            return word.is_verb or word.text == "can"
        if index == 0 and word.text in lists.IMPERATIVES:
            return follows is not Kind.STOP
        if word.is_strong:
            return word.with_s or self.has_verb or follows not in _NOMINAL
        if word.is_weak and before.kind is Kind.CONJUNCTION:
            return self.has_verb and follows in _AFTER_VERBS
        return word.is_weak and index == 0 and follows in _DETERMINING

    def _is_verb_after_noun(self, index: int, word: Word) -> bool:
        """Whether what follows a noun is its verb, and not one more noun of the same name."""
        inside, follows = self._inside(index), self._kind(index + 1)
        head = self.words[self.head].text
        are_several = any(_is_several(each) for each in inside)
        is_one = any(each.text in lists.SINGULAR_DETERMINERS for each in inside) and not are_several
        if word.text == "can":
            after = self._word(index + 1)
            return after.text in ("be", "not") or (after.is_verb and not after.with_s)
        if word.with_s or is_plural(word.text):
            if is_one:  # "a" asks for a singular head, so that "juggles" is no noun
                return True
            if are_several:
                return False
            if word.text in lists.MOVES and follows is Kind.STOP:
                return inside[0].kind in _DETERMINING
            after_verb = _DETERMINING if not word.is_weak else _AFTER_VERBS
            return word.is_strong or follows in after_verb
        counted = is_plural(head) and (are_several or head in lists.IRREGULAR_PLURALS)
        if word.is_verb and counted:
            return True
        if word.is_strong:
            return is_plural(head) or self.is_listed or not is_one
        if word.is_weak:
            return (is_plural(head) or self.is_listed) and follows in _AFTER_VERBS
        return counted and follows in _DETERMINING

    def _joins_adjectives(self, index: int) -> bool:
        """Whether "and" or a comma at `index` stands between adjectives of one noun."""
        if self._kind(index) not in (Kind.CONJUNCTION, Kind.COMMA):
            return False
        if self._kind(index - 1) not in _DESCRIBING:
            return False
        described = False
        for beyond in range(index + 1, index + _FAR):
            kind = self._kind(beyond)
            described |= kind in _DESCRIBING
            if kind not in _JOINING:
                return described and kind in (Kind.NOUN, Kind.OWNER)
        return False


def rule_chunks(text: str) -> list[Chunk]:
    """The noun phrases that name things, in order; see `noun_phrases`."""
    words = apart(text)
    return things(Reader(words).read(), words)


def is_sentence(text: str) -> bool:
    """Whether the rules see a finite verb: "a dog sits here", but not "a dog sitting here"."""
    reader = Reader(apart(text))
    reader.read()
    return reader.has_verb


def _is_several(word: Word) -> bool:
    if word.kind is Kind.NUMERAL:
        return word.text not in ("one", "1")
    return word.text in lists.PLURAL_DETERMINERS


def _only_counts(words: Sequence[Word]) -> bool:
    """Whether a phrase has nothing but "two" or "several" so far, which may be a phrase alone."""
    return all(
        each.kind is Kind.NUMERAL or _is_several(each) or each.text == "some" for each in words
    )
