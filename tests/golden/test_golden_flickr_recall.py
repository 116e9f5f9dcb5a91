"""components/flickr_recall.json: recall of phrases by both protocols, each type of phrase."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from captioned import answer, record, write_captions

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.captioned_pictures import CaptionedPictures, load_captioned
from glipkit.evaluation.evaluator import Judgement
from glipkit.evaluation.phrase_answers import by_group, share_within
from glipkit.evaluation.phrase_recall import PhraseRecall
from glipkit.structures.detections import Detections

PROTOCOLS = pytest.mark.parametrize("protocol", ["any", "merged"])


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "components" / "flickr_recall.json").read_text())


def original_files(reference: dict[str, Any], folder: Path) -> DatasetSpec:
    """As Flickr30K Entities has them."""
    for name in ("Sentences", "Annotations", "pictures"):
        (folder / name).mkdir(parents=True)
    for picture, known in reference["annotations"].items():
        (folder / "Sentences" / f"{picture}.txt").write_text("\n".join(known["sentences"]))
        (folder / "Annotations" / f"{picture}.xml").write_text(reference["xml"][picture])
    (folder / "test.txt").write_text("\n".join(reference["annotations"]))
    return DatasetSpec("original", folder / "test.txt", folder / "pictures", "entities")


def grounding_json(reference: dict[str, Any], folder: Path) -> DatasetSpec:
    """As MDETR has them: phrases without a box are not listed, and nobody says of which type."""
    images, annotations = [], []
    for picture, sentences in reference["parsed_sentences"].items():
        known = reference["annotations"][picture]
        for number, sentence in enumerate(sentences):
            caption, size = sentence["sentence"], known["size"]
            image = record(len(images), f"{picture}.jpg", size[::-1], caption)
            image |= {"original_img_id": int(picture), "sentence_id": number}
            image |= {"dataset_name": "flickr", "tokens_positive_eval": []}
            for phrase in sentence["phrases"]:
                before = caption.split()[: phrase["first_word_index"]]
                start = sum(len(word) + 1 for word in before)
                span = [start, start + len(phrase["phrase"])]
                assert caption[slice(*span)] == phrase["phrase"]
                boxes = known["boxes"].get(phrase["phrase_id"], ())
                for x1, y1, x2, y2 in boxes:
                    box = [x1, y1, x2 - x1, y2 - y1]
                    annotations.append(answer(len(annotations), image["id"], box, [span]))
                if boxes:
                    image["tokens_positive_eval"].append([span])
            images.append(image)
    return write_captions(folder, images, annotations)


def judged(reference: dict[str, Any], dataset: CaptionedPictures) -> tuple[PhraseRecall, Judgement]:
    """The reference's predictions before the judge; they are boxes, best first."""
    judge = PhraseRecall(dataset)
    predictions = {
        (each["image_id"], int(each["sentence_id"])): each["boxes"]
        for each in reference["predictions"]
    }
    for index, image in enumerate(dataset.images):
        found, first = [], 0
        for number, caption in zip(dataset.records[index], dataset.captions(index)):
            extras = dataset.source.file[number].extras
            boxes = predictions[str(extras["original_img_id"]), extras["sentence_id"]]
            assert len(boxes) == len(caption.boxes)  # those with boxes are asked, no others
            found += [(first + phrase, box) for phrase, rows in enumerate(boxes) for box in rows]
            first += len(boxes)
        boxes, phrases = (
            torch.tensor(each) for each in ([b for _, b in found], [p for p, _ in found])
        )
        scores = torch.linspace(1, 0.1, len(found))
        judge.process(image.image_id, Detections(boxes, scores, phrases, image.size))
    return judge, judge.evaluate()


@PROTOCOLS
def test_every_figure_from_the_original_files(
    reference: dict[str, Any], tmp_path: Path, protocol: str
) -> None:
    merged = protocol == "merged"
    dataset = load_captioned(original_files(reference, tmp_path), merged=merged)
    assert [image.file_name for image in dataset.images] == ["100.jpg", "200.jpg"]
    judge, judgement = judged(reference, dataset)
    ranks = by_group(judge.hits())
    for rank, expected in reference["expected_recall"][protocol].items():
        count = None if rank == "-1" else int(rank)
        assert {group: share_within(each, count) for group, each in ranks.items()} == expected
        name = "R@all" if count is None else f"R@{count}"
        assert judgement.metrics[name] == expected["all"]
        for group, figure in expected.items():
            assert group == "all" or judgement.metrics[f"{name}/{group}"] == figure
    assert judgement.counts["phrases"] == 9
    assert judgement.counts["captions"] == 4  # the one without phrases is not asked
    assert judgement.counts["phrases_without_box"] == 1
    assert judgement.counts["captions_not_asked"] == 1
    assert judgement.counts["phrases/people"] == 4
    assert f'"{protocol}" protocol' in judge.metric


@PROTOCOLS
def test_the_same_from_a_grounding_json(
    reference: dict[str, Any], tmp_path: Path, protocol: str
) -> None:
    merged = protocol == "merged"
    spec = grounding_json(reference, tmp_path / "json")
    alone = judged(reference, load_captioned(spec, merged=merged))[1]
    expected = reference["expected_recall"][protocol]
    assert alone.metrics == {
        name: expected[rank]["all"]
        for name, rank in (("R@1", "1"), ("R@5", "5"), ("R@10", "10"), ("R@all", "-1"))
    }
    original = original_files(reference, tmp_path / "original")
    typed = DatasetSpec(
        *(spec.name, spec.ann_file, spec.img_dir, spec.kind), entities=original.ann_file.parent
    )
    with_types = judged(reference, load_captioned(typed, merged=merged))[1]
    assert (
        with_types.metrics == judged(reference, load_captioned(original, merged=merged))[1].metrics
    )
