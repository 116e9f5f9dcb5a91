"""How classes are asked: together, with descriptions, side by side, in chunks."""

import logging

import pytest
import torch

from glipkit.grounding.class_questions import ask_classes
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import ParallelPrompt

NAMES = ["cat", "dog_(pet)", "owl"]
KNOWN = ["a small pet", "it barks", "a bird of the night"]


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.load("bert-base-uncased")


def test_names_alone_are_asked_as_always(bert: Tokenizer) -> None:
    questions = ask_classes(NAMES, bert, chunk_size=2)
    assert questions.captions == ("cat. dog ", "owl")
    assert [prompt.num_phrases for prompt in questions.prompts] == [2, 1]


def test_descriptions_are_said_and_only_names_are_looked_for(bert: Tokenizer) -> None:
    ((prompt,), (caption,)) = ask_classes(NAMES, bert, descriptions=KNOWN)
    assert caption == "cat: a small pet. dog: it barks. owl: a bird of the night"
    words = bert.words(prompt.token_ids.tolist())
    looked_for = [[words[i] for i in row.nonzero()[:, 0]] for row in prompt.phrase_tokens]
    assert looked_for == [["cat"], ["dog"], ["owl"]]


def test_descriptions_too_long_for_one_prompt_are_chunked(
    bert: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    long = ["a thing of which much is known " * 20] * 5
    questions = ask_classes([f"thing {i}" for i in range(5)], bert, descriptions=long)
    assert [prompt.num_phrases for prompt in questions.prompts] == [1] * 5
    assert all(len(prompt.token_ids) <= 256 for prompt in questions.prompts)
    assert "asked in 5 prompts" in caplog.text


@pytest.mark.parametrize("parallel", [None, "mean"])
def test_a_description_too_long_for_any_prompt_names_its_class(
    bert: Tokenizer, parallel: str | None
) -> None:
    with pytest.raises(ValueError, match=r"class 1 'dog' has 3\d\d tokens.*fewer words"):
        ask_classes(["cat", "dog"], bert, descriptions=["a pet", "bark " * 300], parallel=parallel)


def test_every_class_gets_a_caption_and_a_place_of_its_own(bert: Tokenizer) -> None:
    ((prompt,), (caption,)) = ask_classes(NAMES, bert, descriptions=KNOWN, parallel="mean")
    assert isinstance(prompt, ParallelPrompt)
    assert caption.split("\n") == [
        "cat: a small pet",
        "dog: it barks",
        "owl: a bird of the night",
    ]
    assert prompt.aggregation == "mean"
    assert bert.words(prompt.captions[1].token_ids.tolist())[1:-2] == ["dog", ":", "it", "bark"]
    assert torch.equal(prompt.phrase_tokens, torch.eye(3, 4, dtype=torch.int64))


def test_parallel_classes_in_chunks(bert: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"thing {i}" for i in range(10)]
    prompts, captions = ask_classes(names, bert, parallel="first", chunk_size=4)
    assert [prompt.num_phrases for prompt in prompts] == [4, 4, 2]
    assert "\n".join(captions).split("\n") == names
    with caplog.at_level(logging.WARNING):
        prompts, captions = ask_classes(names, bert, parallel="first", max_tokens=8)
    assert [prompt.num_phrases for prompt in prompts] == [7, 3]
    assert len(prompts) == len(captions)
    assert "places for 7 classes, not for 10" in caplog.text
    caplog.clear()
    (prompt,), _ = ask_classes(names[:7], bert, parallel="first", max_tokens=8, chunk_size=40)
    assert prompt.num_phrases == 7  # nobody needs to be told of 40
    assert caplog.text == ""


@pytest.mark.parametrize("chunk_size", [0, -2])
@pytest.mark.parametrize("parallel", [None, "mean"])
def test_a_chunk_without_classes_is_refused(
    bert: Tokenizer, chunk_size: int, parallel: str | None
) -> None:
    with pytest.raises(ValueError, match=f"or at least 1, got {chunk_size}"):
        ask_classes(NAMES, bert, chunk_size=chunk_size, parallel=parallel)
