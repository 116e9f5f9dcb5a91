"""Every ailment that the doctor knows is found where it is, and nowhere else."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sick_datasets import (
    CAPTION,
    Harm,
    added,
    boxes,
    each,
    first,
    harmed,
    healthy,
    healthy_captions,
    renamed,
    without,
    write,
)

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco_file import read_coco_file
from glipkit.data.datasets.grounding_file import read_grounding_file
from glipkit.data.datasets.lvis import LvisDetection, load_lvis
from glipkit.data.doctor.examine import AILMENTS, Examination, examine
from glipkit.data.doctor.pictures import PICTURE_AILMENTS
from glipkit.data.doctor.strangers import STRANGER_AILMENTS
from glipkit.grounding.tokenizer import Tokenizer

NOTHING = {"pictures-unseen"}


def crowded(content: dict[str, Any]) -> None:
    box = content["annotations"][0]
    for number in range(101):
        content["annotations"].append(
            {**box, "id": 100 + number, "bbox": [number % 90, number // 2, 12, 12], "area": 144}
        )


def as_group(content: dict[str, Any]) -> None:
    content["categories"].insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})
    for entry in content["categories"][1:]:
        entry["supercategory"] = "shapes"


def from_zero(content: dict[str, Any]) -> None:
    for entry in content["categories"]:
        entry["id"] -= 1
    for entry in content["annotations"]:
        entry["category_id"] -= 1


def as_sentences(content: dict[str, Any]) -> None:
    """captions_val2017.json: no boxes, no categories."""
    del content["categories"]
    content["annotations"] = [
        {"id": entry["id"], "image_id": entry["image_id"], "caption": "A dog on a sofa."}
        for entry in content["annotations"]
    ]


def as_segments(content: dict[str, Any]) -> None:
    """panoptic_val2017.json: the segments of a picture in one entry."""
    content["annotations"] = [
        {"image_id": image["id"], "file_name": "1.png", "segments_info": [{"id": 1}]}
        for image in content["images"]
    ]


def emptied(key: str) -> Harm:
    return lambda content: content[key].clear()


def dropped(key: str) -> Harm:
    return lambda content: content.pop(key)


def many_names(content: dict[str, Any]) -> None:
    for number in range(300):
        content["categories"].append({"id": 10 + number, "name": f"fish of reef number {number}"})


def as_lvis(*then: Harm) -> Harm:
    """Labelled like LVIS, and something done to that."""

    def harm(content: dict[str, Any]) -> None:
        each("images", neg_category_ids=[2], not_exhaustive_category_ids=[1])(content)
        each("categories", frequency="r")(content)
        for further in then:
            further(content)

    return harm


LABELS = {
    "labels-partial": as_lvis(),
    "labels-missing": as_lvis(without("images", "neg_category_ids")),
    "labels-unknown": as_lvis(first("images", not_exhaustive_category_ids=[9])),
    "frequency-missing": as_lvis(without("categories", "frequency")),
    "name-shared": as_lvis(renamed("bow_(weapon)", "bow_(decorative_ribbons)")),
}
COCO = {
    **LABELS,
    "key-missing": dropped("categories"),
    "key-empty": emptied("annotations"),
    "image-record": without("images", "height"),
    "box-missing": without("annotations", "bbox"),
    "captions-whole": as_sentences,
    "segments-whole": as_segments,
    "reference-missing": first("annotations", category_id="1"),
    "category-record": first("categories", name=7),
    "crowd-flag": first("annotations", iscrowd="0"),
    "area-malformed": first("annotations", area="big"),
    "boxes-corners": boxes(lambda x, y, w, h: [x, y, x + w, y + h]),
    "boxes-centres": boxes(lambda x, y, w, h: [x + w / 2, y + h / 2, w, h]),
    "boxes-normalised": boxes(lambda x, y, w, h: [x / 120, y / 80, w / 120, h / 80]),
    "box-not-finite": first("annotations", bbox=[5, 5, float("nan"), 8]),
    "box-negative": first("annotations", bbox=[50, 50, -10, -10]),
    "box-zero": first("annotations", bbox=[5, 5, 0, 8]),
    "box-outside": first("annotations", bbox=[300, 5, 10, 10], area=100),
    "box-partly-outside": first("annotations", bbox=[100, 5, 30, 10], area=300),
    "box-thin": first("annotations", bbox=[5, 5, 0.4, 10], area=4),
    "boxes-twice": added("annotations", id=99),
    "boxes-many": crowded,
    "image-unknown": first("annotations", image_id=77),
    "area-missing": without("annotations", "area"),
    "area-negative": first("annotations", area=-4),
    "area-differs": first("annotations", area=100_000),
    "crowd-all": each("annotations", iscrowd=1),
    "crowd-most": first("annotations", 20, iscrowd=1),
    "id-zero": first("annotations", id=0),
    "id-missing": without("annotations", "id"),
    "id-twice": first("annotations", id=2),
    "picture-empty": added("images", id=99, file_name="99.png"),
    "category-unknown": first("annotations", category_id=8),
    "category-twice": added("categories", name="owl"),
    "name-empty": renamed("red circle", "(unknown)"),
    "name-twice": renamed("Red_circle", "red circle"),
    "name-plural": renamed("dogs"),
    "name-unknown": renamed("红圆"),
    "name-unread": renamed("\u200b\u200b"),
    "name-long": renamed("very " * 260 + "red"),
    "name-meaningless": renamed("class_3"),
    "name-dotted": renamed("St. Bernard dog. big"),
    "category-unused": added("categories", id=4, name="owl"),
    "category-group": as_group,
    "category-from-zero": from_zero,
    "category-gaps": added("categories", id=9, name="owl"),
    "prompts-many": many_names,
    "file-twice": first("images", file_name="2.png"),
    "image-id-twice": first("images", id=2),
    "pictures-unseen": lambda content: None,
}
CAPTIONS = {
    "words-malformed": first("annotations", tokens_positive=[["a", 3]]),
    "text-broken": first("images", caption=CAPTION + " \ud83d"),
    "caption-blank": first("images", caption="  "),
    "words-none": first("annotations", tokens_positive=[]),
    "words-outside": first("annotations", tokens_positive=[[4, 400]]),
    "words-blank": first("annotations", tokens_positive=[[1, 2]]),
    "words-cut": first("annotations", tokens_positive=[[3, 10]]),
    "caption-long": first("images", caption=CAPTION + " and a dog" * 120),
}
# What follows from a harm, besides what it is there to show.
FOLLOWS = {
    **{code: {"labels-partial"} for code in LABELS},
    "key-missing": {"category-unknown"},
    "key-empty": {"picture-empty", "category-unused"},
    "captions-whole": {"picture-empty"},
    "segments-whole": {"picture-empty", "category-unused"},
    "category-record": {"category-unknown"},
    "box-not-finite": {"area-negative", "area-differs"},
    "box-negative": {"area-differs"},
    "area-malformed": {"area-missing"},
    "name-long": {"prompts-many"},
    "boxes-corners": {"area-differs"},
    "crowd-all": {"category-unused"},
    "category-twice": {"category-unused"},
    "category-gaps": {"category-unused"},
    "prompts-many": {"category-unused", "category-gaps"},
    "name-unread": {"name-meaningless"},
    "image-id-twice": {"picture-empty", "boxes-twice", "image-unknown"},
    "words-malformed": {"words-none"},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load("bert-base-uncased")


def codes(examined: Examination) -> set[str]:
    return {finding.code for finding in examined.findings}


def has_errors(examined: Examination) -> bool:
    return any(finding.severity == "error" for finding in examined.findings)


def is_refused(read: Callable[[Path], Any], path: Path) -> bool:
    try:
        read(path)
    except ValueError:
        return True
    return False


def test_references_may_be_whole_floats(tmp_path: Path) -> None:
    """As pandas writes a column of numbers that had a gap."""
    content = healthy()
    for entry in content["annotations"]:
        entry |= {key: float(entry[key]) for key in ("image_id", "category_id")}
    path = write(tmp_path, content)
    assert codes(examine(path)) == NOTHING
    assert len(read_coco_file(path).annotations) == len(content["annotations"])


def test_healthy_files_have_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for content, form in ((healthy(), "coco"), (healthy_captions(), "captions")):
        examined = examine(write(tmp_path, content), tokenizer=tokenizer)
        assert examined.form == form
        assert codes(examined) == NOTHING


@pytest.mark.parametrize("code", COCO)
def test_found_in_a_coco_file(code: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    examined = examine(write(tmp_path, harmed(COCO[code], healthy())), tokenizer=tokenizer)
    assert code in codes(examined)
    assert codes(examined) <= {code} | NOTHING | FOLLOWS.get(code, set())
    finding = next(each for each in examined.findings if each.code == code)
    assert finding.count >= 1
    assert finding.effect
    assert finding.advice


@pytest.mark.parametrize("code", CAPTIONS)
def test_found_in_a_caption_file(code: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    content = harmed(CAPTIONS[code], healthy_captions())
    examined = examine(write(tmp_path, content), tokenizer=tokenizer)
    assert examined.form == "captions"
    assert codes(examined) - NOTHING - FOLLOWS.get(code, set()) == {code}


@pytest.mark.parametrize("code", LABELS)
def test_errors_in_labels_are_what_lvis_is_refused_for(code: str, tmp_path: Path) -> None:
    def load(path: Path) -> LvisDetection:
        return load_lvis(DatasetSpec("lvis", path, tmp_path, "lvis"))

    path = write(tmp_path, harmed(LABELS[code], healthy()))
    assert has_errors(examine(path)) == is_refused(load, path)


def test_lvis_may_have_pictures_without_boxes_and_with_many(tmp_path: Path) -> None:
    content = harmed(as_lvis(COCO["picture-empty"], crowded), healthy())
    assert codes(examine(write(tmp_path, content))) == {"labels-partial", *NOTHING}


def test_the_same_name_twice_is_an_error_in_lvis_too(tmp_path: Path) -> None:
    content = harmed(as_lvis(renamed("bow", "bow")), healthy())
    assert "name-twice" in codes(examine(write(tmp_path, content)))


def test_every_ailment_is_shown_by_a_test() -> None:
    of_pictures = {*PICTURE_AILMENTS} - {"file-twice", "image-id-twice", "pictures-unseen"}
    elsewhere = {*of_pictures, *STRANGER_AILMENTS, "file-broken"}
    assert {*COCO, *CAPTIONS, *elsewhere} == {*AILMENTS}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"images": [{"id": 1', "ends too early"),
        ('{"images": [{"id": 1,}]}', "not valid JSON at character"),
        ("[1, 2]", "not a JSON object"),
        ("", "empty"),
        ('{"images": {"id": 1}}', "not a list of objects"),
        ('{"images": [1]}', "not a list of objects"),
    ],
)
def test_broken_files_say_where(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    examined = examine(path)
    assert examined.form == "unknown"
    (finding,) = examined.findings
    assert finding.code == "file-broken"
    assert said in finding.examples[0]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no annotation file"):
        examine(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="no folder"):
        examine(write(tmp_path, healthy()), pictures=tmp_path / "none")


@pytest.mark.parametrize("code", COCO)
def test_what_the_reader_refuses_is_an_error(
    code: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    path = write(tmp_path, harmed(COCO[code], healthy()))
    examined = examine(path, tokenizer=tokenizer)
    assert has_errors(examined) or not is_refused(read_coco_file, path)


@pytest.mark.parametrize("code", CAPTIONS)
def test_what_the_caption_reader_refuses_is_an_error(code: str, tmp_path: Path) -> None:
    path = write(tmp_path, harmed(CAPTIONS[code], healthy_captions()))
    assert has_errors(examine(path)) or not is_refused(read_grounding_file, path)


def test_captions_of_whole_pictures_are_called_that(tmp_path: Path) -> None:
    """One finding with the way out, not one for each thing that such a file lacks."""
    content = harmed(as_sentences, healthy())
    (finding, *rest) = examine(write(tmp_path, content, "captions_val2017.json")).findings
    assert finding.code == "captions-whole"
    assert finding.count == len(content["annotations"])
    assert "instances_val2017.json" in finding.advice
    assert all(each.severity == "note" for each in rest)


def test_examples_are_few_and_counts_are_whole(tmp_path: Path) -> None:
    path = write(tmp_path, harmed(each("annotations", bbox=[5, 5, 0, 8], area=0), healthy()))
    finding = next(f for f in examine(path).findings if f.code == "box-zero")
    assert finding.count == 24
    assert len(finding.examples) == 4
    assert "annotation 1 (picture 1 1.png): [5, 5, 0, 8] in 120x80" in finding.examples


def test_large_boxes_from_the_corner_are_not_taken_for_corners(tmp_path: Path) -> None:
    content = healthy()
    for annotation in content["annotations"]:
        annotation.update(bbox=[2, 2, 110, 76], area=110 * 76)
    examined = examine(write(tmp_path, content))
    assert "boxes-corners" not in codes(examined)


def test_corners_without_overshoot_are_told_by_their_area(tmp_path: Path) -> None:
    content = healthy()
    for annotation in content["annotations"]:
        x, y, w, h = 4, 4, 20 + annotation["id"], 20
        annotation.update(bbox=[x, y, x + w, y + h], area=w * h)
    examined = examine(write(tmp_path, content))
    assert "boxes-corners" in codes(examined)


@pytest.mark.parametrize(
    ("name", "is_meaningless"),
    [("Cat", False), ("CAT ", False), ("cat_(animal)", False), ("Class_3", True), ("7", True)],
)
def test_names_that_say_something(name: str, is_meaningless: bool, tmp_path: Path) -> None:
    examined = examine(write(tmp_path, harmed(renamed(name), healthy())))
    assert ("name-meaningless" in codes(examined)) == is_meaningless


def test_words_are_not_judged_without_a_vocabulary(tmp_path: Path) -> None:
    examined = examine(write(tmp_path, harmed(renamed("红圆"), healthy())))
    assert "name-unknown" not in codes(examined)
    assert examined.facts["words_checked"] is False


def test_examination_is_json(tmp_path: Path) -> None:
    path = write(tmp_path, harmed(first("annotations", id=0), healthy()))
    content = json.loads(json.dumps(examine(path).to_json()))
    assert content["form"] == "coco"
    assert {f["code"] for f in content["findings"]} == {"id-zero", "pictures-unseen"}


ODD = (
    *(None, True, "x", "", 0, -1, 1.5, 1e308, 10**400, float("nan"), float("inf"), 2**31, 2**63),
    *([], {}, [1, 2], [[0, 1]], [1e308] * 4, [float("inf")] * 4, [[5, 2**70]]),
    *("\ud83d", "a\u200b", "../../etc/passwd", "/", "\0bad", "n" * 5000),
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(60))
def test_odd_values_are_findings_not_crashes(
    seed: int, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    chance = random.Random(seed)
    content = chance.choice([healthy, healthy_captions])()
    for _ in range(chance.randint(1, 5)):
        entry = chance.choice(content[chance.choice(list(content))])
        entry[chance.choice([*entry, "something"])] = chance.choice(ODD)
    path = write(tmp_path, content)
    examined = examine(path, tokenizer=tokenizer)
    assert json.dumps(examined.to_json())
    read = read_grounding_file if examined.form == "captions" else read_coco_file
    assert has_errors(examined) or not is_refused(read, path)
