"""Class names ready to be joined: what they say, where, and how long they are."""

import pytest

from glipkit.grounding.class_words import class_words, joined
from glipkit.grounding.tokenizer import Tokenizer


@pytest.mark.parametrize("separator", [". ", " ", ", ", " and "])
def test_lengths_add_up_to_the_caption(tokenizer: Tokenizer, separator: str) -> None:
    names = {4: "hot-air_balloon", 2: "bow_(weapon)", 9: "T-shirt", 5: "naïve café", 7: "猫"}
    words = class_words(names, tokenizer, separator=separator)
    assert list(words) == list(names)
    caption = joined(list(words.values()), separator, "find : ").caption
    whole = tokenizer.count("find : ") + sum(word.num_tokens for word in words.values())
    assert tokenizer.count(caption + separator) == whole


def test_spans_hold_outer_spaces_as_long_as_the_words_are_found(tokenizer: Tokenizer) -> None:
    words = class_words({1: "_bow_(weapon)", 2: "_____x"}, tokenizer)
    assert [word.text for word in words.values()] == [" bow ", "   x"]
    assert [word.span for word in words.values()] == [(0, 5), (3, 4)]
    prompt = joined([words[2], words[1]], ". ")
    assert prompt.caption == "   x.  bow "
    assert [phrase.text for phrase in prompt.phrases] == ["_____x", "_bow_(weapon)"]
    assert tokenizer(prompt).phrase_tokens.sum(dim=1).tolist() == [1, 1]


def test_separators_that_glue_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="does not keep two names apart"):
        class_words({1: "cat"}, tokenizer, separator="-s")
