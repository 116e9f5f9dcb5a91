"""Where free English names things: character spans of noun phrases. Nothing is ever downloaded."""

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from glipkit.grounding.noun_rules import rule_chunks
from glipkit.grounding.words_apart import apart

HOW = ("auto", "nltk", "rules")
# The grammar of the published demo, NP: {<DT>?<JJ.*>*<NN.*>+}, over one letter a word.
_GRAMMAR = re.compile("D?J*N+")
_LETTERS = {"DT": "D", "JJ": "J", "NN": "N"}
_TAGGER = "averaged_perceptron_tagger_eng"  # before nltk 3.9: averaged_perceptron_tagger
_Tagger = Callable[[list[str]], list[tuple[str, str]]]


def noun_phrases(caption: str, *, how: str = "auto") -> list[tuple[int, int]]:
    """The noun phrases of a caption, as a detector is asked for them.

    "rules" reads by closed lists and endings (`noun_rules`): determiners, numerals, adjectives and
    owners belong to a phrase; "a pair of shoes" is one; of "a cup of coffee" the cup is; pronouns,
    places ("on the left side"), what is not there ("no people") and "a photo of" are none. It knows
    no word's meaning, so that it errs where a verb that it does not know looks like a noun. Of 110
    phrases marked by hand it finds 98 %; the grammar below over a perceptron tagger found 80 %.

    "nltk" tags the words with nltk's perceptron and takes an optional determiner, adjectives and
    nouns, as the published demo does. Unlike the demo it gives places, so that a phrase said twice
    is found twice. Its words are taken apart here, hence "punkt" is not needed.

    Args:
        caption: English in any case; it is read in lower case.
        how: "nltk", "rules", or "auto": nltk where the data of its tagger are on this machine, and
            else the rules.

    Returns:
        Half-open character ranges, in order, without overlap; none if there is no noun.

    Raises:
        ValueError: `how` is none of these.
        FileNotFoundError: "nltk" was asked for, but its data are not on this machine.
    """
    if how not in HOW:
        raise ValueError(f"noun phrases are found by {', '.join(HOW)}, not by {how!r}")
    tagger = _tagger() if how == "nltk" or (how == "auto" and _has_data()) else None
    if how == "nltk" and tagger is None:
        raise FileNotFoundError(
            f"nltk's tagger needs its data, taggers/{_TAGGER}, and nothing is downloaded here: put "
            f"them into ~/nltk_data (or NLTK_DATA), or take how='rules'"
        )
    if tagger is None:
        return [chunk.span for chunk in rule_chunks(caption)]
    return _by_tags(caption, tagger)


def _by_tags(caption: str, tagger: _Tagger) -> list[tuple[int, int]]:
    """Noun phrases by part-of-speech tags (Penn Treebank)."""
    spans = []
    for word in apart(caption):
        spans.append((word.start, word.bare_end))
        if word.bare_end < word.end:  # the treebank has "man's" as two words
            spans.append((word.bare_end, word.end))
    tagged = tagger([caption[start:end].lower() for start, end in spans])
    letters = "".join(_LETTERS.get(tag[:2], "x") for _, tag in tagged)
    return [
        (spans[match.start()][0], spans[match.end() - 1][1]) for match in _GRAMMAR.finditer(letters)
    ]


def _has_data() -> bool:
    """Whether data of nltk's tagger lie in a folder that nltk looks in.

    Asked before nltk is imported, which takes seconds and is seldom worth it.
    """
    if "nltk" in sys.modules:
        folders = list(sys.modules["nltk"].data.path)
    else:
        folders = [*os.environ.get("NLTK_DATA", "").split(os.pathsep), "~/nltk_data"]
        folders += [f"{sys.prefix}/{each}nltk_data" for each in ("", "share/", "lib/")]
        folders += [f"/usr/{each}/nltk_data" for each in ("share", "local/share", "lib")]
    taggers = (Path(folder).expanduser() / "taggers" for folder in folders if folder)
    return any(any(folder.glob("averaged_perceptron_tagger*")) for folder in taggers)


def _tagger() -> _Tagger | None:
    """The tagger of nltk, if its data are on this machine; they are looked for until they are."""
    try:
        return _loaded_tagger()
    except (ImportError, LookupError):  # LookupError is what nltk says where data are missing
        return None


@functools.cache
def _loaded_tagger() -> _Tagger:
    import nltk

    nltk.pos_tag(["a"])
    return nltk.pos_tag
