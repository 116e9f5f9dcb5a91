"""From a configuration to pictures and prompts."""

import json
from pathlib import Path

import pytest
from drawn import draw
from drawn import task_config as config

from glipkit.data.build import build_test_sets
from glipkit.grounding.tokenizer import Tokenizer

RENAMED = [{"id": 3, "name": "kitten"}, {"id": 7, "name": "puppy"}, {"id": 11, "name": "owl"}]
SAID = [
    {"prefix": "a ", "name": "cat", "suffix": " that sleeps"},
    {"prefix": "", "name": "dog", "suffix": ""},
    {"prefix": "", "name": "owl", "suffix": ""},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASET", str(tmp_path))
    draw(tmp_path)
    return tmp_path


def test_a_task(folder: Path, tokenizer: Tokenizer) -> None:
    (test_set,) = build_test_sets(config(folder), tokenizer)
    assert test_set.name == "drawn"
    assert test_set.captions == ("cat. dog. owl",)
    assert test_set.category_ids == (3, 7, 11)
    assert test_set.divisor == 32
    assert test_set.transform.resized_size((480, 640)) == (800, 1066)
    assert test_set.transform.pixel_format == "bgr255"
    assert test_set.transform.mean == (103.53, 116.28, 123.675)
    assert test_set.prompts[0].token_ids[:7].tolist() == tokenizer.token_ids("cat. dog. owl")


def test_rgb_from_0_to_1(folder: Path, tokenizer: Tokenizer) -> None:
    overrides = ["INPUT.TO_BGR255", "False", "INPUT.PIXEL_MEAN", "(0.5, 0.4, 0.3)"]
    (test_set,) = build_test_sets(config(folder, *overrides), tokenizer)
    assert test_set.transform.pixel_format == "rgb"
    assert test_set.transform.mean == (0.5, 0.4, 0.3)


def test_chunks(folder: Path, tokenizer: Tokenizer) -> None:
    (test_set,) = build_test_sets(config(folder, "TEST.CHUNKED_EVALUATION", "2"), tokenizer)
    assert test_set.captions == ("cat. dog", "owl")
    assert [prompt.num_phrases for prompt in test_set.prompts] == [2, 1]


def test_subset(folder: Path, tokenizer: Tokenizer) -> None:
    (test_set,) = build_test_sets(config(folder, "TEST.SUBSET", "4"), tokenizer)
    assert len(test_set) == 4


def test_override_category(folder: Path, tokenizer: Tokenizer) -> None:
    renamed = json.dumps(RENAMED)
    (plain,) = build_test_sets(config(folder, OVERRIDE_CATEGORY=renamed), tokenizer)
    assert plain.captions == ("cat. dog. owl",)  # USE_OVERRIDE_CATEGORY decides
    cfg = config(folder, OVERRIDE_CATEGORY=renamed, USE_OVERRIDE_CATEGORY=True)
    (test_set,) = build_test_sets(cfg, tokenizer)
    assert test_set.captions == ("kitten. puppy. owl",)
    assert test_set.dataset.categories[0].name == "kitten"


def test_caption_prompt(folder: Path, tokenizer: Tokenizer) -> None:
    said = json.dumps(SAID)
    (plain,) = build_test_sets(config(folder, CAPTION_PROMPT=said), tokenizer)
    assert plain.captions == ("cat. dog. owl",)  # USE_CAPTION_PROMPT decides
    cfg = config(folder, CAPTION_PROMPT=said, USE_CAPTION_PROMPT=True)
    (test_set,) = build_test_sets(cfg, tokenizer)
    assert test_set.captions == ("a cat that sleeps. dog. owl",)
    assert test_set.dataset.categories[0].name == "cat"


def test_caption_prompts_for_other_classes(folder: Path, tokenizer: Tokenizer) -> None:
    cfg = config(folder, CAPTION_PROMPT=json.dumps(SAID[:2]), USE_CAPTION_PROMPT=True)
    with pytest.raises(ValueError, match="3 classes came with 2 caption prompts"):
        build_test_sets(cfg, tokenizer)


def test_flags_of_the_published_command_line(folder: Path, tokenizer: Tokenizer) -> None:
    overrides = ["DATASETS.TRAIN_DATASETNAME_SUFFIX", "_grounding",
                 "DATASETS.USE_OVERRIDE_CATEGORY", "True", "DATASETS.USE_CAPTION_PROMPT", "True",
                 "DATASETS.TEST_DATASETNAME_SUFFIX", "_grounding"]  # fmt: skip
    (test_set,) = build_test_sets(config(folder, *overrides), tokenizer)
    assert test_set.captions == ("cat. dog. owl",)


def test_nothing_to_test(folder: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"DATASETS\.TEST names no dataset"):
        build_test_sets(config(folder, TEST="()"), tokenizer)


def test_missing_files_show_before_anything_is_read(folder: Path, tokenizer: Tokenizer) -> None:
    (folder / "boxes.json").write_text("not even json")
    cfg = config(folder, TEST='("drawn", "coco_2017_val")')
    with pytest.raises(
        FileNotFoundError, match=r"'coco_2017_val': no annotation file at .*DATASET"
    ):
        build_test_sets(cfg, tokenizer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("objects365_odtsv_val", "name its COCO json"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    folder: Path, tokenizer: Tokenizer, name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_test_sets(config(folder, TEST=f'("{name}",)'), tokenizer)


def test_lvis_and_coco_files_are_not_mixed_up(folder: Path, tokenizer: Tokenizer) -> None:
    def entry(kind: str) -> dict:
        return {"drawn": {"ann_file": "boxes.json", "img_dir": "pictures", "kind": kind}}

    with pytest.raises(ValueError, match=r'no neg_category_ids.*is of kind: "coco"'):
        build_test_sets(config(folder, REGISTER=entry("lvis")), tokenizer)
    content = json.loads((folder / "boxes.json").read_text())
    content["images"][3]["neg_category_ids"] = [3]
    (folder / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'COCO AP would count right boxes as wrong.*"lvis"'):
        build_test_sets(config(folder, REGISTER=entry("coco")), tokenizer)


def test_grounding_needs_captions(folder: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="'drawn' has classes, not captions"):
        build_test_sets(config(folder, "TEST.EVAL_TASK", "grounding"), tokenizer)


def test_captions_are_not_classes(folder: Path, tokenizer: Tokenizer) -> None:
    cfg = config(folder, "TEST.EVAL_TASK", "detection", TEST='("flickr30k_test",)')
    with pytest.raises(ValueError, match="'flickr30k_test' has captions, not classes"):
        build_test_sets(cfg, tokenizer)


def test_a_file_of_merged_boxes_is_not_judged_as_separate_ones(
    folder: Path, tokenizer: Tokenizer
) -> None:
    entry = {"ann_file": "final_flickr_mergedGT_val.json", "img_dir": "b", "kind": "grounding"}
    cfg = config(folder, TEST='("m",)', REGISTER={"m": entry})
    with pytest.raises(ValueError, match=r"mergedGT_val.json has one .*GT_TYPE merged"):
        build_test_sets(cfg, tokenizer)


def test_fingerprint_knows_words_and_sizes(folder: Path, tokenizer: Tokenizer) -> None:
    def fingerprint(*overrides: str) -> dict:
        (test_set,) = build_test_sets(config(folder, *overrides), tokenizer)
        return json.loads(json.dumps(test_set.fingerprint()))

    first = fingerprint()
    assert first == fingerprint("DATALOADER.NUM_WORKERS", "0", "TEST.IMS_PER_BATCH", "3")
    assert first["captions"] != fingerprint("TEST.CHUNKED_EVALUATION", "1")["captions"]
    assert first["input"] != fingerprint("INPUT.MIN_SIZE_TEST", "400")["input"]
    assert first["num_images"] != fingerprint("TEST.SUBSET", "1")["num_images"]
