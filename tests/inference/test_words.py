"""What people type, and what is asked."""

import copy
import logging
import pickle
import re

import pytest

from glipkit.grounding.tokenizer import Tokenizer
from glipkit.inference.words import Asked, Texts, phrases_of, pieces, read_words


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.load("bert-base-uncased")


def looked_for(asked: Asked) -> list[list[str]]:
    """The words of each phrase, as its caption has them."""
    return [
        [asked.captions[caption][start:end] for start, end in spans]
        for caption, spans in zip(asked.caption_ids, asked.spans)
    ]


def tokens_of(asked: Asked, phrase: int) -> list[str]:
    """The tokens that spell a phrase."""
    caption = asked.caption_ids[phrase]
    row = phrase - asked.caption_ids.index(caption)
    counts = asked.prompts[caption].phrase_tokens[row].tolist()
    return [token for token, count in zip(asked.tokens[caption], counts) if count]


def test_class_names_are_asked_as_in_evaluation(bert: Tokenizer) -> None:
    asked = read_words(["person", "traffic_light", "cup (tea)"], bert)
    assert asked.captions == ("person. traffic light. cup ",)
    assert asked.phrases == ("person", "traffic_light", "cup (tea)")
    assert looked_for(asked) == [["person"], ["traffic light"], ["cup"]]
    assert tokens_of(asked, 1) == ["traffic", "light"]


@pytest.mark.parametrize(
    "text",
    [
        "a red circle . the small star on the left",
        "a red circle . the small star on the left .",
        " . a red circle\t. the small  star on the left . . ",
        "a red circle. the small star on the left.",
        "a red circle\nthe small star on the left\n",
    ],
)
def test_a_listing_asks_for_its_pieces(bert: Tokenizer, text: str) -> None:
    asked = read_words(text, bert)
    assert asked.phrases == ("a red circle", "the small star on the left")
    assert asked.captions == ("a red circle. the small star on the left",)
    assert looked_for(asked) == [["a red circle"], ["the small star"]]
    assert tokens_of(asked, 1) == ["the", "small", "star"]


def test_a_piece_without_a_noun_is_looked_for_whole(bert: Tokenizer) -> None:
    assert looked_for(read_words("red . running (fast)", bert)) == [["red"], ["running"]]


def test_free_text_asks_for_its_noun_phrases(bert: Tokenizer) -> None:
    asked = read_words("A man in a red hat is\nriding a horse.", bert)
    assert asked.captions == ("A man in a red hat is riding a horse.",)
    assert asked.phrases == ("A man", "a red hat", "a horse")
    assert looked_for(asked) == [["A man"], ["a red hat"], ["a horse"]]
    assert asked.num_negatives == 0
    assert asked.wanted == asked.phrases


def test_sentences_are_no_listing(bert: Tokenizer) -> None:
    asked = read_words("A dog sits on a couch. A cat stands on the table.", bert)
    assert asked.phrases == ("A dog", "a couch", "A cat", "the table")
    assert pieces("St. Bernard dog. a cat") == ["St. Bernard dog", "a cat"]
    assert pieces("the U.S. flag. a cat") == ["the U.S. flag", "a cat"]
    assert pieces("a dog on a couch.") == ["a dog on a couch."]


@pytest.mark.parametrize(
    "text",
    [
        "1. a cat\n2. a dog\n3. no. 5",
        "- a cat\n- a dog\n- no. 5\n",
        " 10) a cat\r\n 11) a dog\r\n 12) no. 5",
        "\u2022 a cat\n* a dog\n\tno. 5",
    ],
)
def test_a_list_of_lines_may_be_marked(text: str) -> None:
    assert pieces(text) == ["a cat", "a dog", "no. 5"]
    assert pieces("2 cats\n-5 degrees\n3.5 apples") == ["2 cats", "-5 degrees", "3.5 apples"]


def test_a_mention_in_the_same_words_is_the_same_phrase(bert: Tokenizer) -> None:
    asked = read_words("a dog looks at a cat, and a dog runs", bert)
    assert asked.phrases == ("a dog", "a cat")
    assert looked_for(asked) == [["a dog", "a dog"], ["a cat"]]


def test_a_name_twice_is_asked_once_and_said(
    bert: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("a cat . a dog . A  Cat", ["a cat", "a dog", "A cat"]):
        caplog.clear()
        assert read_words(text, bert).phrases == ("a cat", "a dog")
        assert "1 of 3 phrases repeat another" in caplog.text


def test_names_that_differ_in_a_remark_are_several(bert: Tokenizer) -> None:
    """A dataset may have both, each with a number of its own."""
    names = ["bow_(weapon)", "bow_(ribbon)", "cup"]
    asked = read_words(names, bert)
    assert asked.phrases == tuple(names)
    assert looked_for(asked) == [["bow"], ["bow"], ["cup"]]
    listing = read_words("a cup (of tea) . a cup (empty)", bert, negative_prompts=["a cup (red)"])
    assert listing.wanted == ("a cup (of tea)", "a cup (empty)")
    assert listing.unwanted == ("a cup (red)",)
    with pytest.raises(ValueError, match="both wanted and a negative prompt: bow"):
        read_words(names, bert, negative_prompts=["bow (red)"])


def test_no_noun_at_all_takes_the_whole_text(
    bert: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    asked = read_words(" striped .", bert)
    assert looked_for(asked) == [["striped"]]
    assert "no noun phrase in 'striped .'" in caplog.text
    assert asked.notes


def test_marked_phrases_are_taken_as_they_are(bert: Tokenizer) -> None:
    text = "  bobble heads on top of the shelf"
    asked = read_words(text, bert, spans=[(2, 14), [(29, 34)], [(2, 8), (29, 34)]])
    assert asked.captions == (text,)
    assert asked.phrases == ("bobble heads", "shelf", "bobble shelf")
    assert tokens_of(asked, 2) == ["bob", "##ble", "shelf"]


@pytest.mark.parametrize(
    ("spans", "error", "message"),
    [
        ([(0, 4)], ValueError, "does not lie inside the text, which has 3 characters"),
        ([(2, 2)], ValueError, "does not lie inside"),
        ([(-1, 2)], ValueError, "does not lie inside"),
        ([()], ValueError, r"spans\[0\] is empty"),
        ([], ValueError, "came without phrases"),
        ([(0, 1.5)], TypeError, r"spans\[0\] is \(start, end\)"),
        ([(False, True)], TypeError, "whole numbers"),
        ([(0, 1, 2)], TypeError, "whole numbers"),
        ([3], TypeError, "whole numbers"),
        ("0-3", TypeError, "spans is a list"),
        ([[(0, 3), "ab"]], TypeError, "whole numbers"),
    ],
)
def test_wrong_spans_are_named(bert: Tokenizer, spans, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        read_words("cat", bert, spans=spans)


def test_spans_must_lie_on_words(bert: Tokenizer) -> None:
    with pytest.raises(ValueError, match="marks no word: '  '"):
        read_words("cat    dog", bert, spans=[(4, 6)])
    with pytest.raises(ValueError, match="reads no token"):
        read_words("cat " + "\u0301" * 5 + " dog", bert, spans=[(0, 3), (4, 9)])
    with pytest.raises(TypeError, match="spans mark places in one text"):
        read_words(["cat"], bert, spans=[(0, 3)])


def test_unwanted_words_come_last(bert: Tokenizer) -> None:
    asked = read_words("a cat . a dog", bert, negative_prompts=["the gray wolf over there"])
    assert asked.captions == ("a cat. a dog. the gray wolf over there",)
    assert asked.wanted == ("a cat", "a dog")
    assert asked.unwanted == ("the gray wolf over there",)
    assert looked_for(asked)[-1] == ["the gray wolf"]

    asked = read_words("a cat", bert, negative_prompts=["the dog . a wolf.", "a fox"])
    assert asked.phrases == ("a cat", "the dog", "a wolf", "a fox")
    assert (asked.captions, asked.num_negatives) == (("a cat. the dog. a wolf. a fox",), 3)
    with pytest.raises(ValueError, match="both wanted and a negative prompt: a cat"):
        phrases_of("a cat . a bird", ["a dog . a cat"])
    asked = read_words(["cat"], bert, negative_prompts=["dog", "wolf"])
    assert (asked.captions, asked.num_negatives) == (("cat. dog. wolf",), 2)

    asked = read_words("A man rides a horse.", bert, negative_prompts=["wolf"])
    assert asked.captions == ("A man rides a horse. wolf",)
    assert looked_for(asked) == [["A man"], ["a horse"], ["wolf"]]

    asked = read_words("cat here", bert, spans=[(0, 3)], negative_prompts=["wolf"])
    assert asked.captions == ("cat here. wolf",)
    assert tokens_of(asked, 1) == ["wolf"]


def test_unwanted_words_get_prompts_of_their_own_if_there_is_no_room(bert: Tokenizer) -> None:
    asked = read_words("a man on a horse", bert, negative_prompts=["wolf", "fox"], max_tokens=8)
    assert asked.captions == ("a man on a horse", "wolf. fox")
    assert asked.wanted == ("a man", "a horse")
    assert asked.caption_ids == (0, 0, 1, 1)


def test_nothing_can_be_wanted_and_unwanted(bert: Tokenizer) -> None:
    for text, spans in (("a cat . a dog", None), (["A  Dog"], None), ("a dog", [(0, 5)])):
        with pytest.raises(ValueError, match="both wanted and a negative prompt: a dog"):
            read_words(text, bert, spans=spans, negative_prompts=["a dog"])
    with pytest.raises(TypeError, match="negative_prompts must be a list of names, got 'dog'"):
        read_words("a cat", bert, negative_prompts="dog")
    for nothing in ("", " ", "."):
        with pytest.raises(ValueError, match=r"negative prompt 1, '.*', has no words"):
            read_words(["a cat"], bert, negative_prompts=["dog", nothing])


def test_three_hundred_names_are_spread_over_prompts(bert: Tokenizer) -> None:
    names = [f"a small thing number {i}" for i in range(300)]
    for text in (names, " . ".join(names)):
        asked = read_words(text, bert)
        assert asked.phrases == tuple(names)
        assert len(asked.captions) > 5
        assert all(len(prompt.token_ids) <= 256 for prompt in asked.prompts)
        assert sum(prompt.num_phrases for prompt in asked.prompts) == 300
    assert len(read_words(names[:10], bert, chunk_size=3).captions) == 4


def test_free_text_too_long_for_a_prompt_is_refused(bert: Tokenizer) -> None:
    text = "a man rides a horse and " * 417  # 10,000 characters
    with pytest.raises(ValueError, match=r'has 2504 tokens.*prompt of 256.*" \. " between'):
        read_words(text, bert)
    with pytest.raises(ValueError, match="has 2504 tokens"):
        read_words(text, bert, spans=[(0, 5)])
    with pytest.raises(ValueError, match="at most 100,000 characters, got 120,000"):
        read_words("cat . " * 20_000, bert)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "...", " . . ", "?!", "\x00\x07", "_"])
def test_nothing_to_look_for_is_refused(bert: Tokenizer, text: str) -> None:
    with pytest.raises(ValueError, match="no words to look for"):
        read_words(text, bert)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"text must be a text or a list of class names, got None \(NoneType\)"),
        (b"cat", r"\(bytes\): decode\(\) it"),
        (3, r"got 3 \(int\)"),
        ({"cat": 1}, r"\(dict\): pass list"),
        ({"cat"}, r"\(set\): pass sorted"),
        (["cat", 3], r"text\[1\] must be text, got 3 \(int\)"),
        ([["cat"], ["dog"]], r"text\[0\] must be text, got \['cat'\] \(list\).*Texts"),
        (Texts(["a cat", "a dog"]), "one text per picture"),
    ],
)
def test_other_types_are_named(bert: Tokenizer, text, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        read_words(text, bert)


def test_an_empty_list_or_piece_is_refused(bert: Tokenizer) -> None:
    with pytest.raises(ValueError, match="no class name"):
        read_words([], bert)
    with pytest.raises(ValueError, match="class 1 '  ' has no words"):
        read_words(["cat", "  "], bert)
    with pytest.raises(ValueError, match="piece 1 of the text, '-', has no words"):
        read_words("cat . - . dog", bert)


def test_words_that_nobody_knows(bert: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    balloon, thai = "\U0001f388", "\u0e41\u0e21\u0e27"
    for text in (balloon, f"{balloon} . {thai}", [thai]):
        with pytest.raises(ValueError, match="the text encoder knows no word of"):
            read_words(text, bert)
    with pytest.raises(ValueError, match="knows no word"):  # the unwanted do not count
        read_words([thai], bert, negative_prompts=["cat"])
    asked = read_words(f"a cat . {balloon}", bert)
    assert asked.phrases == ("a cat", balloon)
    assert f"unknown to the text encoder, told apart by nothing: '{balloon}'" in caplog.text
    for text in (f"a cat . {thai}", ["cat", thai], f"a cat and {thai}"):  # each is noted once
        caplog.clear()
        asked = read_words(text, bert)
        assert [record.message for record in caplog.records] == list(asked.notes)
        assert [thai in note for note in asked.notes] == [True]


def test_other_scripts_are_said_to_mean_little(bert: Tokenizer) -> None:
    russian = "\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \u043a\u0440\u0443\u0433"
    assert read_words(russian, bert).notes[-1].endswith(f"say in English: {russian!r}")
    assert read_words(["a caf\u00e9", "no. 5 \u00bd"], bert).notes == ()


def test_control_characters_are_spaces(bert: Tokenizer) -> None:
    assert read_words("red\x00car\x07 . a\tdog", bert).phrases == ("red car", "a dog")
    assert read_words(["red\x00car"], bert).phrases == ("red car",)


def test_half_an_emoji_is_no_text(bert: Tokenizer) -> None:
    with pytest.raises(ValueError, match="not valid text"):
        read_words("a cat \ud83c", bert)


def test_the_reading_can_be_explained(bert: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    asked = read_words("a cat . the dog on the left . a cat", bert, negative_prompts=["wolf"])
    assert asked.explain().splitlines() == [
        "prompt 1 of 1, 12 tokens: 'a cat. the dog on the left. wolf'",
        "    0 'a cat': 'a cat' [0, 5), tokens a cat",
        "    1 'the dog on the left': 'the dog' [7, 14), tokens the dog",
        "    - 'wolf': 'wolf' [28, 32), tokens wolf (unwanted)",
        "note: 1 of 3 phrases repeat another: asked once",
    ]


def test_what_is_asked_survives_copies_and_json(bert: Tokenizer) -> None:
    asked = read_words("a cat . a dog", bert, negative_prompts=["wolf"])
    for twin in (copy.deepcopy(asked), pickle.loads(pickle.dumps(asked))):
        assert twin == asked
        assert twin.prompts[0].token_ids.equal(asked.prompts[0].token_ids)
    back = Asked.from_json(asked.to_json())
    assert back == asked
    assert back.prompts == ()
    assert "'wolf'" in back.explain()
    with pytest.raises(ValueError, match="captions"):
        Asked.from_json({"phrases": []})


def test_texts_are_several() -> None:
    texts = Texts(["a cat", ["dog", "wolf"]])
    assert list(texts) == ["a cat", ["dog", "wolf"]]
    assert pickle.loads(pickle.dumps(texts)) == texts
    assert isinstance(copy.deepcopy(texts), Texts)
    with pytest.raises(TypeError, match="one text per picture"):
        Texts("a cat")


@pytest.mark.parametrize(
    "text",
    [
        "a red circle . the small star on the left . A red circle",
        "a man riding a horse beside a man",
        "two lines\nof names",
        ["traffic light", "bow (ribbon)", "bow (weapon)", "Traffic Light"],
    ],
)
def test_labels_can_be_told_without_an_encoder(text: str | list[str], bert: Tokenizer) -> None:
    assert phrases_of(text) == read_words(text, bert).phrases


@pytest.mark.parametrize("text", ["a cat . a dog", "a man and a cat", ["dog", "A  cat"]])
def test_wanted_and_unwanted_is_refused_without_an_encoder(text: str | list[str]) -> None:
    with pytest.raises(ValueError, match="both wanted and a negative prompt: a cat"):
        phrases_of(text, ["a bird", "a Cat"])


@pytest.mark.parametrize("negative", ["(of)", "(12)", "(very)", "_"])
@pytest.mark.parametrize("text", ["a cat . a dog", "a man and a cat", ["dog", "dog", "cat"]])
def test_unwanted_without_words_is_refused_without_an_encoder(
    text: str | list[str], negative: str
) -> None:
    with pytest.raises(ValueError, match=rf"negative prompt 1, '{re.escape(negative)}', has no"):
        phrases_of(text, ["a bird . a fox", negative])


@pytest.mark.parametrize("text", ["", " \n", "...", "a cat . ?", [], [""], ["(x)"]])
def test_texts_without_words_need_no_encoder_to_be_refused(text: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"no words to look for|no class name to look for"):
        phrases_of(text)
