"""Which phrases of which captions are asked, and which boxes answer them."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from captioned import answer, draw_captions, record, write_captions

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.captioned_pictures import CaptionedPictures, load_captioned

SIZE = (40, 60)
CAPTION = "a dog and a red ball"  # 20 characters; the dog is [0, 5), the ball [10, 20)
DOG, BALL = [[0, 5]], [[10, 20]]


def load(folder: Path, images: list[dict], annotations: list[dict]) -> CaptionedPictures:
    return load_captioned(write_captions(folder, images, annotations))


def one(folder: Path, boxes: list[dict], **more: Any) -> Any:
    """The only caption of the only picture."""
    pictures = load(folder, [{**record(7, "a.png", SIZE, CAPTION), **more}], boxes)
    (caption,) = pictures.captions(0)
    return caption


def test_listed_phrases_are_asked_and_those_with_boxes_judged(tmp_path: Path) -> None:
    boxes = [
        answer(1, 7, [1, 2, 3, 4], BALL),
        answer(2, 7, [5, 6, 7, 8], DOG),
        answer(3, 7, [9, 9, 9, 9], [[0, 5], [10, 20]]),  # shows both
        answer(4, 7, [1, 1, 9, 9], [[12, 15]]),  # "red", which nobody asks
        answer(5, 7, [2, 2, 5, 5], DOG, iscrowd=1),
    ]
    caption = one(tmp_path, boxes, tokens_positive_eval=[DOG, [[2, 5], [16, 20]], BALL])
    assert caption.record_id == 7
    assert caption.prompt.caption == CAPTION
    assert [phrase.text for phrase in caption.prompt.phrases] == ["a dog", "dog ball", "a red ball"]
    assert [truth.tolist() for truth in caption.boxes] == [
        [[5, 6, 12, 14], [9, 9, 18, 18]],
        [],
        [[1, 2, 4, 6], [9, 9, 18, 18]],
    ]
    assert caption.boxes[1].shape == (0, 4)
    assert caption.num_judged == 2
    assert caption.num_unasked == 1


def test_without_a_list_boxes_that_share_their_words_are_a_phrase(tmp_path: Path) -> None:
    boxes = [
        answer(1, 7, [1, 2, 3, 4], BALL),
        answer(2, 7, [5, 6, 7, 8], DOG),
        answer(3, 7, [9, 9, 9, 9], BALL),
    ]
    for more in ({}, {"tokens_positive_eval": None}):
        caption = one(tmp_path, boxes, **more)
        assert [phrase.text for phrase in caption.prompt.phrases] == ["a red ball", "a dog"]
        assert [len(truth) for truth in caption.boxes] == [2, 1]


def test_boxes_are_not_cut_to_the_picture_nor_rounded(tmp_path: Path) -> None:
    caption = one(tmp_path, [answer(1, 7, [-5, 0.5, 70, 39.25], DOG)])
    assert caption.boxes[0].tolist() == [[-5, 0.5, 65, 39.75]]


def test_ranges_reach_at_most_to_the_end_of_the_caption(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = [[[10, 22]], [[-1, 3], [30, 40], [5, 5], [10, 23]]]  # of boxes these are left out, too
    caption = one(tmp_path, [answer(1, 7, [1, 2, 3, 4], [[10, 21]])], tokens_positive_eval=listed)
    assert [phrase.spans for phrase in caption.prompt.phrases] == [((10, 20),), ()]
    assert [len(truth) for truth in caption.boxes] == [1, 0]
    assert "1 records of" in caplog.text
    assert "outside their caption, the first record 7" in caplog.text


def test_captions_of_a_file_are_one_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [
        record(1, "a.png", SIZE, CAPTION),
        record(2, "b.png", SIZE, CAPTION),
        record(3, "a.png", SIZE, "the ball"),
        {**record(4, "a.png", SIZE, CAPTION), "tokens_positive_eval": []},
        record(5, "c.png", SIZE, CAPTION),
        {**record(6, "b.png", SIZE, CAPTION), "tokens_positive_eval": [BALL, DOG]},
    ]
    boxes = [answer(n, n, [1, 2, 3, 4], [[0, 5]]) for n in (1, 2, 3, 4, 6)]
    with caplog.at_level(logging.INFO):
        pictures = load(tmp_path, images, boxes)
    assert [(each.image_id, each.file_name) for each in pictures.images] == [
        (1, "a.png"), (2, "b.png")
    ]  # fmt: skip
    ids = [[caption.record_id for caption in pictures.captions(index)] for index in range(2)]
    assert ids == [[1, 3], [2, 6]]
    assert (len(pictures), pictures.num_captions) == (2, 4)
    assert pictures.path(1) == tmp_path / "pictures" / "b.png"
    assert "2 pictures, 4 captions, 4 phrases with boxes" in caplog.text
    assert "not judged are 1 phrases without a box, and 1 boxes whose words" in caplog.text
    assert "not asked are 2 captions" in caplog.text
    assert [len(cut) for cut in (pictures.first(1), pictures.first(9))] == [1, 2]
    assert pictures.first(1).num_captions == 2
    assert pictures.not_judged == {"phrases_without_box": 1, "captions_not_asked": 2}
    assert pictures.first(9).not_judged == pictures.not_judged
    assert pictures.first(1).not_judged == {}  # was counted in the whole file


def test_a_blank_caption_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [record(1, "a.png", SIZE, CAPTION), record(2, "a.png", SIZE, "  ")]
    boxes = [answer(n, n, [1, 2, 3, 4], DOG) for n in (1, 2)]
    pictures = load(tmp_path, images, boxes)
    assert pictures.num_captions == 1
    assert "1  belong to a record whose caption is blank" in caplog.text


def test_workers_get_a_copy(tmp_path: Path) -> None:
    pictures = load_captioned(draw_captions(tmp_path))
    copy = pickle.loads(pickle.dumps(pictures))
    assert copy.path(3) == pictures.path(3)
    assert copy.captions(3)[0].prompt == pictures.captions(3)[0].prompt


def test_folders_of_a_mixture(tmp_path: Path) -> None:
    images = [
        {**record(1, "a.png", SIZE, CAPTION), "data_source": "coco"},
        {**record(2, "a.png", SIZE, CAPTION), "data_source": "vg"},
    ]
    spec = write_captions(tmp_path, images, [answer(n, n, [1, 2, 3, 4], DOG) for n in (1, 2)])
    folders = tuple((source, tmp_path / source) for source in ("coco", "vg"))
    for _, folder in folders:
        folder.mkdir()
    pictures = load_captioned(DatasetSpec("m", spec.ann_file, tmp_path, "grounding", folders))
    assert [pictures.path(index) for index in range(2)] == [
        tmp_path / "coco" / "a.png", tmp_path / "vg" / "a.png"
    ]  # fmt: skip
    assert pictures.folders == (tmp_path / "coco", tmp_path / "vg")


def as_expressions(folder: Path, images: list[dict], boxes: list[dict]) -> CaptionedPictures:
    spec = write_captions(folder, images, boxes)
    return load_captioned(replace(spec, judged="expressions"))


def test_an_expression_asks_the_words_of_its_box(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [{**record(n, "a.png", SIZE, CAPTION), "dataset_name": "refcoco"} for n in (7, 8, 9)]
    boxes = [answer(1, 7, [1, 2, 3, 4], DOG), answer(2, 9, [5, 6, 7, 8], BALL, iscrowd=1)]
    with caplog.at_level(logging.WARNING):
        pictures = as_expressions(tmp_path, images, boxes)
    first, last = pictures.captions(0)
    assert [each.text for each in first.prompt.phrases] == ["a dog"]
    assert first.prompt.caption == CAPTION
    assert [each.tolist() for each in (*first.boxes, *last.boxes)] == [
        [[1, 2, 4, 6]], [[5, 6, 12, 14]]
    ]  # fmt: skip
    assert first.groups == (("refcoco",),)
    assert pictures.not_judged == {"expressions_without_box": 1}
    assert "left out are 1 expressions without a usable box, the first of record 8" in caplog.text


def test_a_collection_is_a_word(tmp_path: Path) -> None:
    """Another value of dataset_name makes no group, least of all one called as every phrase is."""
    for name in ("all", "", None, 3):
        image = {**record(7, "a.png", SIZE, CAPTION), "dataset_name": name}
        image |= {"tokens_positive_eval": None}
        (caption,) = as_expressions(tmp_path, [image], [answer(1, 7, [1, 2, 3, 4], DOG)]).captions(
            0
        )
        assert caption.groups == ((),)


def test_an_expression_means_one_thing(tmp_path: Path) -> None:
    boxes = [answer(1, 7, [1, 2, 3, 4], DOG), answer(2, 7, [5, 6, 7, 8], BALL)]
    with pytest.raises(ValueError, match=r"captions\.json: image record 7 .*has 2 boxes, but a"):
        as_expressions(tmp_path, [record(7, "a.png", SIZE, CAPTION)], boxes)


@pytest.mark.parametrize(
    ("judged", "more", "message"),
    [
        ("expressions", {"tokens_positive_eval": [DOG]}, "a caption with phrases .*: phrases, or"),
        ("expressions", {"dataset_name": "flickr"}, "dataset_name 'flickr'.*: phrases, or"),
        ("phrases", {"dataset_name": "refcoco+"}, "a referring expression .*judged: expressions"),
        ("phrases", {"dataset_name": "flickr"}, "has no tokens_positive_eval.*separateGT"),
    ],
)
def test_files_of_another_protocol_are_refused(
    tmp_path: Path, judged: str, more: dict[str, Any], message: str
) -> None:
    image = {**record(7, "a.png", SIZE, CAPTION), **more}
    spec = write_captions(tmp_path, [image], [answer(1, 7, [1, 2, 3, 4], DOG)])
    with pytest.raises(ValueError, match=rf"captions\.json: image record 7 .*{message}"):
        load_captioned(replace(spec, judged=judged))


@pytest.mark.parametrize(
    "types", ["people", [["people"], []], ["people"], [[1]], [["all"]], [[""]]]
)
def test_types_of_another_form_are_named(tmp_path: Path, types: Any) -> None:
    boxes = [answer(1, 7, [1, 2, 3, 4], DOG)]
    with pytest.raises(ValueError, match=r"phrase_types of image record 7 must give each of its 1"):
        one(tmp_path, boxes, tokens_positive_eval=[DOG], phrase_types=types)


def typed(folder: Path, sentence: str, **more: Any) -> CaptionedPictures:
    """With types from sentences beside it."""
    (folder / "Sentences").mkdir()
    (folder / "Sentences" / "70.txt").write_text(sentence)
    image = {**record(7, "a.png", SIZE, CAPTION), "tokens_positive_eval": [BALL]}
    image |= {"original_img_id": 70, "sentence_id": 0, **more}
    spec = write_captions(folder, [image], [answer(1, 7, [1, 2, 3, 4], BALL)])
    return load_captioned(replace(spec, entities=folder))


def test_types_from_the_original_sentences(tmp_path: Path) -> None:
    pictures = typed(tmp_path, "[/EN#1/animals a dog] and [/EN#2/other/toys a red ball]\n")
    (caption,) = pictures.captions(0)
    assert caption.groups == (("other", "toys"),)


@pytest.mark.parametrize(
    ("sentence", "more", "message"),
    [
        ("[/EN#2/other a dog]", {}, r"sentence 0 of .*70\.txt reads 'a dog'"),
        ("a dog and a red [/EN#2/other ball]", {}, "has no phrase 'a red ball' there"),
        (CAPTION, {"sentence_id": 1}, r"70\.txt has no sentence_id 1"),
        (CAPTION, {"original_img_id": 71}, r"there is no .*71\.txt"),
    ],
)
def test_sentences_of_another_file_are_named(
    tmp_path: Path, sentence: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"captions\.json: the types .* record 7 .*{message}"):
        typed(tmp_path, sentence, **more)


@pytest.mark.parametrize("listed", ["words", [[0, 5]], [[[0]]], [[[0, "5"]]], [0], [[[0, True]]]])
def test_phrases_of_another_form_are_named(tmp_path: Path, listed: Any) -> None:
    with pytest.raises(ValueError, match=r"tokens_positive_eval of image record 7 must .*got"):
        one(tmp_path, [answer(1, 7, [1, 2, 3, 4], DOG)], tokens_positive_eval=listed)


def test_nothing_to_judge(tmp_path: Path) -> None:
    boxes = [answer(1, 7, [1, 2, 3, 4], BALL)]
    with pytest.raises(ValueError, match="none of its 1 captions has a phrase with a box"):
        one(tmp_path, boxes, tokens_positive_eval=[DOG])
