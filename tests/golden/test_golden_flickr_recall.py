"""components/flickr_recall.json: recall of phrases by the "any" protocol."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from captioned import answer, record, write_captions

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.captioned_pictures import load_captioned
from glipkit.evaluation.phrase_recall import PhraseRecall, first_hit, recall_at
from glipkit.structures.detections import Detections


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "components" / "flickr_recall.json").read_text())


def judged_phrases(reference: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(picture, sentence, phrase) of all phrases with boxes, in the order of the predictions."""
    return [
        (picture, str(number), phrase)
        for picture, sentences in reference["parsed_sentences"].items()
        for number, sentence in enumerate(sentences)
        for phrase in sentence["phrases"]
        if phrase["phrase_id"] in reference["annotations"][picture]["boxes"]
    ]


def test_every_figure_of_the_reference(reference: dict[str, Any]) -> None:
    predictions = [boxes for each in reference["predictions"] for boxes in each["boxes"]]
    phrases = judged_phrases(reference)
    assert len(predictions) == len(phrases)
    hits = []
    for boxes, (picture, _, phrase) in zip(predictions, phrases):
        truth = reference["annotations"][picture]["boxes"][phrase["phrase_id"]]
        hits.append(
            first_hit(
                torch.tensor(boxes, dtype=torch.float64), torch.tensor(truth, dtype=torch.float64)
            )
        )
    for rank, expected in reference["expected_recall"]["any"].items():
        count = None if rank == "-1" else int(rank)
        found = {
            kind: recall_at(
                [hit for hit, (_, _, phrase) in zip(hits, phrases)
                 if kind in ("all", *phrase["phrase_type"])], count
            )
            for kind in expected
        }  # fmt: skip
        assert found == expected  # exactly


def write_as_grounding_json(reference: dict[str, Any], folder: Path) -> DatasetSpec:
    images, annotations = [], []
    for picture, sentences in reference["parsed_sentences"].items():
        known = reference["annotations"][picture]
        for number, sentence in enumerate(sentences):
            caption, size = sentence["sentence"], known["size"]
            image = record(1000 * int(picture) + number, f"{picture}.jpg", size[::-1], caption)
            image["tokens_positive_eval"] = []
            for phrase in sentence["phrases"]:
                before = caption.split()[: phrase["first_word_index"]]
                start = sum(len(word) + 1 for word in before)
                span = [start, start + len(phrase["phrase"])]
                assert caption[slice(*span)] == phrase["phrase"]
                image["tokens_positive_eval"].append([span])
                for x1, y1, x2, y2 in known["boxes"].get(phrase["phrase_id"], ()):
                    box = [x1, y1, x2 - x1, y2 - y1]
                    annotations.append(answer(len(annotations), image["id"], box, [span]))
            images.append(image)
    return write_captions(folder, images, annotations)


def test_the_judge_finds_it_from_a_grounding_json(
    reference: dict[str, Any], tmp_path: Path
) -> None:
    dataset = load_captioned(write_as_grounding_json(reference, tmp_path))
    assert [image.file_name for image in dataset.images] == ["100.jpg", "200.jpg"]
    assert dataset.num_captions == 4  # the one without phrases is not asked
    judge = PhraseRecall(dataset)
    for index, image in enumerate(dataset.images):
        found, first = [], 0
        for caption in dataset.captions(index):
            (boxes,) = (
                each["boxes"] for each in reference["predictions"]
                if 1000 * int(each["image_id"]) + int(each["sentence_id"]) == caption.record_id
            )  # fmt: skip
            judged = [phrase for phrase, truth in enumerate(caption.boxes) if len(truth)]
            found += [(first + phrase, box) for phrase, rows in zip(judged, boxes) for box in rows]
            first += len(caption.boxes)
        order = torch.linspace(1, 0.1, len(found))  # the reference gives boxes, best first
        judge.process(
            image.image_id,
            Detections(
                torch.tensor([box for _, box in found]),
                order,
                torch.tensor([phrase for phrase, _ in found]),
                image.size,
            ),
        )
    judgement = judge.evaluate()
    expected = reference["expected_recall"]["any"]
    assert judgement.metrics == {f"R@{rank}": expected[rank]["all"] for rank in ("1", "5", "10")}
    assert judgement.counts == {"phrases": 9, "captions": 4}
