"""Captions as the text encoder reads them."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from captioned import answer, caption_test_set, draw_captions, record, write_captions

SIZE = (40, 60)


def test_every_picture_is_asked_its_own_captions(tmp_path: Path) -> None:
    test_set = caption_test_set(draw_captions(tmp_path))
    assert test_set.captions == ()  # none that all share
    for index in range(len(test_set)):
        prompts = test_set.prompts_of(index)
        captions = test_set.dataset.captions(index)
        assert [prompt.num_phrases for prompt in prompts] == [len(each.boxes) for each in captions]
        ids = [test_set.tokenizer.token_ids(each.prompt.caption) for each in captions]
        assert [prompt.token_ids.tolist() for prompt in prompts] == ids
    assert [len(test_set.prompts_of(index)) for index in range(3)] == [1, 2, 3]


def test_a_shared_token_counts_once(tmp_path: Path) -> None:
    """Unlike with classes: a positive map of phrases has ones (BEHAVIOUR 11)."""
    image = {**record(7, "a.png", SIZE, "a red ball"), "tokens_positive_eval": [[[0, 5], [2, 10]]]}
    spec = write_captions(tmp_path, [image], [answer(1, 7, [1, 2, 3, 4], [[0, 5]])])
    (prompt,) = caption_test_set(spec).prompts_of(0)
    assert prompt.phrase_tokens.tolist() == [[0, 1, 1, 1, 0]]


def test_what_is_cut_off_counts_as_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = record(7, "a.png", SIZE, "one two three four five six seven")
    spans = [[[0, 3]], [[4, 7]], [[29, 33]]]
    boxes = [answer(n, 7, [1, 2, 3, 4], span) for n, span in enumerate(spans)]
    with caplog.at_level(logging.WARNING):
        test_set = caption_test_set(write_captions(tmp_path, [image], boxes), max_tokens=5)
    (prompt,) = test_set.prompts_of(0)
    assert len(prompt.token_ids) == 5
    assert prompt.phrase_tokens.any(dim=1).tolist() == [True, True, False]
    assert "1 captions are longer than 5 tokens and cut; 1 phrases have no token" in caplog.text


def test_a_caption_of_just_the_limit_is_not_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = write_captions(
        tmp_path, [record(7, "a.png", SIZE, "one two")], [answer(1, 7, [1, 2, 3, 4], [[0, 3]])]
    )
    with caplog.at_level(logging.WARNING):
        caption_test_set(spec, max_tokens=4)
    assert caplog.text == ""


def test_a_caption_without_words_is_named(tmp_path: Path) -> None:
    images = [record(7, "a.png", SIZE, "a dog"), record(8, "a.png", SIZE, "\u200b\u200b")]
    boxes = [answer(n, n, [1, 2, 3, 4], [[0, 2]]) for n in (7, 8)]
    with pytest.raises(ValueError, match=r"image record 8: .* has no words"):
        caption_test_set(write_captions(tmp_path, images, boxes))


def test_fingerprint_knows_captions_and_phrases(tmp_path: Path) -> None:
    spec = draw_captions(tmp_path)
    first = caption_test_set(spec).fingerprint()
    json.dumps(first)  # plain data
    assert first["num_captions"] == 15
    assert first["image_folder"] == str(tmp_path / "pictures")
    content = json.loads(spec.ann_file.read_text())
    content["images"][0]["tokens_positive_eval"].reverse()
    spec.ann_file.write_text(json.dumps(content))
    again = caption_test_set(spec).fingerprint()
    assert again["prompts_sha256"] != first["prompts_sha256"]
    smaller = replace(caption_test_set(spec), dataset=caption_test_set(spec).dataset.first(2))
    assert smaller.fingerprint()["num_captions"] == 3
