import logging

import pytest

from glipkit.grounding.captions import class_prompt, class_prompts, clean_name, free_prompt
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import Prompt


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.load("bert-base-uncased")


def words_of(prompt: Prompt) -> list[str]:
    return [prompt.caption[start:end] for p in prompt.phrases for start, end in p.spans]


def names_of(prompts: list[Prompt]) -> list[str]:
    return [phrase.text for prompt in prompts for phrase in prompt.phrases]


def test_names_are_joined_and_marked() -> None:
    prompt = class_prompt(["person", "traffic_light", "cup (tea)"])
    assert prompt.caption == "person. traffic light. cup "
    assert words_of(prompt) == ["person", "traffic light", "cup"]
    assert names_of([prompt]) == ["person", "traffic_light", "cup (tea)"]


def test_another_separator() -> None:
    prompt = class_prompt(["cat", "dog"], separator=" | ")
    assert prompt.caption == "cat | dog"
    assert words_of(prompt) == ["cat", "dog"]


def test_caption_prompts_surround_the_phrase() -> None:
    said = [
        {"prefix": "there is a ", "name": "package", "suffix": " on the porch"},
        {"prefix": " ", "name": "sting_ray", "suffix": ""},
    ]
    prompt = class_prompt(["parcel", "ray"], caption_prompts=said)
    assert prompt.caption == "there is a package on the porch.  sting ray"
    assert words_of(prompt) == ["package", "sting ray"]
    assert names_of([prompt]) == ["parcel", "ray"]


def test_caption_prompts_follow_their_class_into_its_chunk(bert: Tokenizer) -> None:
    said = [{"prefix": f"number {i} ", "name": f"n{i}", "suffix": ""} for i in range(5)]
    prompts = class_prompts(list("abcde"), bert, chunk_size=2, caption_prompts=said)
    assert [prompt.caption for prompt in prompts] == [
        "number 0 n0. number 1 n1",
        "number 2 n2. number 3 n3",
        "number 4 n4",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "emoji 🦝 raccoon",
        "and/or",
        "日本語",
        "собака",
        "الكلب",
        "हिन्दी",
        "naïve café",
        "      many      spaces      ",
        " ".join(f"word{i}" for i in range(80)),
        "a.b, c; d: (e) f",
        "100%",
        "[SEP]",
        "tab\tand\nline",
    ],
)
def test_unusual_names_keep_their_tokens(bert: Tokenizer, name: str) -> None:
    (prompt,) = class_prompts(["first", name, "last"], bert)
    rows = bert(prompt).phrase_tokens
    assert rows.any(dim=1).all()
    expected = bert.token_ids(clean_name(name))[1:-1]
    assert bert(prompt).token_ids[rows[1] > 0].tolist() == expected


@pytest.mark.parametrize("name", ["", "   ", "(x)", "_", "(a) (b)"])
def test_a_name_without_words_is_refused(bert: Tokenizer, name: str) -> None:
    with pytest.raises(ValueError, match=r"class 1 .* has no words to look for: after cleaning"):
        class_prompt(["cat", name])
    with pytest.raises(ValueError, match="class 1"):
        class_prompts(["cat", name], bert)


def test_a_name_the_encoder_cannot_read_is_refused(bert: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"class 0 .* reads none of its characters"):
        class_prompts(["\u200b\u200b", "cat"], bert)
    with pytest.raises(ValueError, match="invisible characters: 'cat"):
        class_prompts(["dog", "cat\u200b\u200b\u200b\u200b"], bert)
    with pytest.raises(ValueError, match="surrogate"):
        class_prompts(["dog", "cat \ud83e"], bert)


def test_names_must_be_text() -> None:
    with pytest.raises(TypeError, match=r"class 1 is 5 \(int\), expected text"):
        class_prompt(["cat", 5])
    with pytest.raises(ValueError, match="no class name"):
        class_prompt([])


def test_malformed_caption_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 classes came with 1 caption prompts"):
        class_prompt(["a", "b"], caption_prompts=[{"prefix": "", "name": "a", "suffix": ""}])
    with pytest.raises(ValueError, match=r"caption prompt 0 .* got \['name'\]"):
        class_prompt(["a"], caption_prompts=[{"name": "a"}])


def test_a_single_class_beyond_the_limit_is_named_with_its_length(bert: Tokenizer) -> None:
    name = "very " * 254 + "long"
    with pytest.raises(
        ValueError, match=r"class 1 'very .* has 255 tokens; a prompt holds 254"
    ) as e:
        class_prompts(["cat", name], bert)
    assert len(str(e.value)) < 200  # a message, not the name over and over
    (first, second) = class_prompts(["cat", name.removeprefix("very ")], bert)
    assert names_of([first]) == ["cat"]
    assert bert.count(second.caption) == 256


def test_chunk_sizes(bert: Tokenizer) -> None:
    names = [f"thing {i}" for i in range(10)]
    assert [len(p.phrases) for p in class_prompts(names, bert, chunk_size=4)] == [4, 4, 2]
    assert class_prompts(names, bert) == [class_prompt(names)]
    assert class_prompts(names, bert, chunk_size=99) == [class_prompt(names)]
    for wrong in (0, -2):
        with pytest.raises(ValueError, match=f"at least 1, got {wrong}"):
            class_prompts(names, bert, chunk_size=wrong)


def test_1203_names_are_split_and_said_so(
    bert: Tokenizer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    count = bert.token_ids
    monkeypatch.setattr(bert, "token_ids", lambda text: read.append(len(text)) or count(text))
    words = ["owl", "crock_pot", "hot-air_balloon", "saucepan_(steel)", "Band_Aid"]
    names = [f"{words[i % 5]} {i}" for i in range(1203)]
    with caplog.at_level(logging.WARNING):
        prompts = class_prompts(names, bert)
    assert names_of(prompts) == names
    assert sum(read) < 10 * sum(map(len, names))  # no caption is tokenised over and over
    counts = [bert.count(prompt.caption) for prompt in prompts]
    assert max(counts) <= 256
    assert min(counts[:-1]) > 245  # greedy: the next name would not have fitted
    assert (
        f"1203 names in 1 prompt(s) would be longer than 256 tokens: asked in {len(prompts)}"
        in (caplog.text)
    )
    assert len(caplog.records) == 1


def test_a_chunk_too_long_is_split_where_it_is(
    bert: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"short {i}" for i in range(40)] + [f"{'wordy ' * 10}{i}" for i in range(40)]
    with caplog.at_level(logging.WARNING):
        prompts = class_prompts(names, bert, chunk_size=40)
    assert names_of(prompts) == names
    assert len(prompts[0].phrases) == 40
    assert len(prompts) > 2
    assert "80 names in 2 prompt(s)" in caplog.text


def test_a_separator_that_glues_names_still_ends_in_prompts_that_fit(bert: Tokenizer) -> None:
    prompts = class_prompts(["x"] * 60, bert, separator="", max_tokens=10)
    assert len(names_of(prompts)) == 60
    assert all(bert.count(prompt.caption) <= 10 for prompt in prompts)


def test_twins_are_legal_but_logged(bert: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    names = ["bow_(weapon)", "cat", "Cat", "bow_(ribbon)", "dog"]
    with caplog.at_level(logging.WARNING):
        (prompt,) = class_prompts(names, bert)
    assert bert(prompt).phrase_tokens.sum(dim=0).max() == 1  # each its own span
    assert len(caplog.records) == 1
    assert "2 groups of classes" in caplog.text
    assert "'bow_(weapon)' = 'bow_(ribbon)', 'cat' = 'Cat'" in caplog.text


def test_unknown_words_are_logged(bert: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        class_prompts(["🦝", "🦊", "raccoon 🦝"], bert)
    assert "2 classes have only words that the text encoder does not know" in caplog.text


def test_free_captions() -> None:
    prompt = free_prompt("bobble heads on top of the shelf", [[(0, 12)], [(27, 32), (0, 6)]])
    assert names_of([prompt]) == ["bobble heads", "shelf bobble"]
    for caption in ("", "  \n"):
        with pytest.raises(ValueError, match="no words"):
            free_prompt(caption, [[(0, 1)]])
    with pytest.raises(ValueError, match="without phrases"):
        free_prompt("a cat", [])
    with pytest.raises(ValueError, match=r"\[2, 9\) of a caption with 5 characters"):
        free_prompt("a cat", [[(2, 9)]])
