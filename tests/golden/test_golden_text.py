"""components/text.json: cleaned names, captions, token ids, which tokens spell which class."""

import json
from pathlib import Path

import pytest

from glipkit.grounding.captions import class_prompt, class_prompts, clean_name
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import Prompt


@pytest.fixture(scope="module")
def text(golden: Path) -> dict:
    return json.loads((golden / "components" / "text.json").read_text())


def tokens_of(prompt: Prompt, tokenizer: Tokenizer) -> list[list[int]]:
    return [row.nonzero()[:, 0].tolist() for row in tokenizer(prompt).phrase_tokens]


def test_cleaning(text: dict) -> None:
    assert {name: clean_name(name) for name in text["clean_name"]} == text["clean_name"]


@pytest.mark.parametrize("case", ["coco80", "lvis_like", "non_contiguous_labels"])
def test_caption_ids_and_spelling(text: dict, tokenizer: Tokenizer, case: str) -> None:
    expected = text[case]
    prompt = class_prompt(expected["names"])
    assert prompt.caption == expected["caption"]
    assert tokenizer.token_ids(prompt.caption) == expected["ids"]
    assert tokenizer(prompt).token_ids.tolist() == expected["ids"]
    spelling = dict(zip(map(str, expected["labels"]), tokens_of(prompt, tokenizer), strict=True))
    assert spelling == expected["label_to_tokens"]
    assert class_prompts(expected["names"], tokenizer) == [prompt]


def test_chunks_of_forty(text: dict, tokenizer: Tokenizer) -> None:
    prompts = class_prompts(text["coco80"]["names"], tokenizer, chunk_size=40)
    assert_chunks(prompts, range(1, 81), text["chunk40_coco"], tokenizer)


def test_chunks_of_shuffled_ids(text: dict, tokenizer: Tokenizer) -> None:
    expected = text["chunk4_lvis_like_shuffled_ids"]
    categories = {int(label): name for label, name in expected["categories"].items()}
    labels = sorted(categories)
    prompts = class_prompts([categories[label] for label in labels], tokenizer, chunk_size=4)
    assert_chunks(prompts, labels, expected, tokenizer)


def assert_chunks(prompts, labels, expected: dict, tokenizer: Tokenizer) -> None:
    assert [prompt.caption for prompt in prompts] == expected["captions"]
    labels = iter(labels)
    spellings = [
        {str(next(labels)): tokens for tokens in tokens_of(prompt, tokenizer)} for prompt in prompts
    ]
    assert spellings == expected["label_to_tokens"]
