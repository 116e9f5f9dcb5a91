"""The files of a world: the same bytes every time, and read by the ordinary loaders."""

import json
import logging
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from torch.testing import assert_close

from glipkit.config.load import load_config
from glipkit.data.build import build_train_loader
from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.captioned_pictures import load_captioned
from glipkit.data.datasets.coco import load_coco
from glipkit.data.datasets.grounding import load_grounding
from glipkit.data.shapeworld.lessons import LESSONS
from glipkit.data.shapeworld.vocabulary import HELD_OUT, SEEN, pair_name
from glipkit.data.shapeworld.world import World
from glipkit.data.shapeworld.writing import write_world
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.shapeworld import main

GLIP_T = Path(__file__).parents[3] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
WORLD = World(seed=7, size=160)
COUNTS = {"train": 24, "val": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "small"
    write_world(folder, WORLD, **COUNTS)
    return folder


def content(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / "annotations" / f"{name}.json").read_text())


def every_file(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_is_there(folder: Path) -> None:
    made = every_file(folder)
    assert sum(name.startswith("train/") for name in made) == 24
    assert sum(name.startswith("val/") for name in made) == 40
    assert {name for name in made if "/" not in name or name.startswith("annotations/")} == {
        "world.json",
        *(f"annotations/train_{name}.json" for name in ("captions", "detection")),
        *(
            f"annotations/val_{name}.json"
            for name in ("captions", "detection", "relations", "synonyms", "words")
        ),
    }
    told = json.loads((folder / "world.json").read_text())
    assert (told["seed"], told["size"], told["train"], told["complete"]) == (7, 160, 24, True)
    assert told["files"]["train_captions"]["images"] == 48
    assert len(told["held_out"]) == len(HELD_OUT)


def test_workers_change_nothing(folder: Path, tmp_path: Path) -> None:
    write_world(tmp_path / "again", WORLD, **COUNTS, workers=2)
    assert every_file(tmp_path / "again") == every_file(folder)


def test_any_picture_can_be_redrawn_alone(folder: Path, tmp_path: Path) -> None:
    picture, scene = WORLD.draw("train", 17)
    picture.save(tmp_path / "alone.jpg", quality=scene.quality)
    drawn = (folder / "train" / "000017.jpg").read_bytes()
    assert (tmp_path / "alone.jpg").read_bytes() == drawn


def test_what_is_held_out(folder: Path) -> None:
    unseen = {pair_name(pair) for pair in HELD_OUT}
    train, val = content(folder, "train_detection"), content(folder, "val_detection")
    assert set(val["info"]["held_out"]) == unseen
    train_names = {each["id"]: each["name"] for each in train["categories"]}
    val_names = {each["id"]: each["name"] for each in val["categories"]}
    assert set(train_names.values()) == set(map(pair_name, SEEN))
    assert train_names.items() <= val_names.items()
    assert set(val_names.values()) - set(train_names.values()) == unseen
    assert {val_names[each["category_id"]] for each in val["annotations"]} & unseen


def test_pycocotools_and_the_loaders_read_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for name in ("train_detection", "val_detection", "val_synonyms", "val_words"):
        path = folder / "annotations" / f"{name}.json"
        coco = COCO(str(path))
        spec = DatasetSpec(name, path, folder / name.split("_")[0])
        dataset = load_coco(spec)
        assert len(dataset.ground_truth()) == len(coco.anns) == len(dataset.annotations)
        assert all(dataset.path(index).is_file() for index in range(len(dataset)))
    for name in ("train_captions", "val_captions", "val_relations"):
        path = folder / "annotations" / f"{name}.json"
        source = load_grounding(DatasetSpec(name, path, folder / name.split("_")[0], "grounding"))
        assert source.file.faults == {}
        assert sum(source.num_boxes(index) > 0 for index in range(len(source))) > 0
    for name in ("val_captions", "val_relations"):
        path = folder / "annotations" / f"{name}.json"
        judged = load_captioned(DatasetSpec(name, path, folder / "val", "grounding"))
        for index in range(len(judged)):
            for caption in judged.captions(index):
                assert caption.num_judged == len(caption.prompt.phrases) > 0
                assert caption.num_unasked == 0
    assert caplog.records == []


def test_boxes_arrive_where_they_were_drawn(folder: Path) -> None:
    path = folder / "annotations" / "val_captions.json"
    source = load_grounding(DatasetSpec("val", path, folder / "val", "grounding"))
    for index in range(len(source)):
        _, scene = WORLD.draw("val", index)
        caption = WORLD.val_caption(index, scene)
        sample = source.load(index)
        assert sample.prompt.caption == caption.text
        owned = [mention for mention in caption.mentions if mention.objects]
        told = content_of_judged(folder)[index]["tokens_positive_eval"]
        assert told == [[[mention.start, mention.end]] for mention in owned]
        assert {phrase.spans for phrase in sample.prompt.phrases} == {
            (mention.span,) for mention in owned
        }
        for box, phrases in zip(sample.boxes, sample.box_phrases):
            (phrase,) = (each for each, is_it in zip(sample.prompt.phrases, phrases) if is_it)
            (mention,) = (each for each in owned if each.span == phrase.spans[0])
            things = [scene.objects[number].box for number in mention.objects]
            x1, y1, x2, y2 = box.tolist()
            assert (x1, y1, x2 - x1 + 1, y2 - y1 + 1) in things


def content_of_judged(folder: Path) -> list[dict[str, Any]]:
    return content(folder, "val_captions")["images"]


def test_training_batches(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATASET", str(folder))
    names = {
        "shapes_captions": {
            "kind": "grounding",
            "ann_file": "annotations/train_captions.json",
            "img_dir": "train",
        },
        "shapes": {"ann_file": "annotations/train_detection.json", "img_dir": "train"},
    }
    task = {
        "DATASETS": {"REGISTER": names, "TRAIN": '("shapes_captions", "shapes")'},
        "AUGMENT": {"MULT_MIN_SIZE_TRAIN": "(160,)", "FLIP_PROB_TRAIN": 0.5},
        "DATALOADER": {"NUM_WORKERS": 0},
        "SOLVER": {"IMS_PER_BATCH": 4},
    }
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    cfg = load_config([GLIP_T, tmp_path / "task.yaml"])
    loader = build_train_loader(cfg, Tokenizer.load("bert-base-uncased"), rank=0, world_size=1)
    assert loader.num_images == 3 * COUNTS["train"]
    boxes = Counter()
    for batch in islice(loader.batches(), loader.steps_per_epoch):
        assert tuple(batch.images.pixels.shape) == (4, 3, 160, 160)
        for target in batch.targets:
            boxes[bool(len(target))] += 1
            assert target.box_phrases.any(dim=1).all()
    assert loader.num_lost_boxes == 0
    assert boxes[True] > 5 * boxes[False]


def test_relations_have_a_chance_level(folder: Path) -> None:
    told = content(folder, "val_relations")
    counts = [each["candidates"] for each in told["images"]]
    assert counts
    assert min(counts) >= 2
    chance = sum(1 / count for count in counts) / len(counts)
    assert_close(told["info"]["chance"], chance, atol=1e-4, rtol=0)
    asked = Counter(each["image_id"] for each in told["annotations"])
    assert asked == {each["id"]: 1 for each in told["images"]}


def test_synonyms_stand_for_the_same_boxes(folder: Path) -> None:
    plain, said = content(folder, "val_detection"), content(folder, "val_synonyms")
    assert said["images"] == plain["images"]
    assert said["annotations"] == plain["annotations"]
    for before, after in zip(plain["categories"], said["categories"]):
        assert before["id"] == after["id"]
        assert said["info"]["said_for"][after["name"]] == before["name"]


def test_words_stand_for_the_same_boxes(folder: Path) -> None:
    words = content(folder, "val_words")
    boxes: dict[int, set[tuple[int, ...]]] = {each["id"]: set() for each in words["categories"]}
    for each in words["annotations"]:
        boxes[each["category_id"]].add((each["image_id"], *each["bbox"]))
    for test in words["info"]["tests"]:
        first, *others = [boxes[word["category_id"]] for word in test["words"]]
        assert all(other == first for other in others)
    by_id = {each["id"]: each["file_name"] for each in words["images"]}
    assert by_id
    for image_id in by_id:
        assert not WORLD.draw("val", image_id - 1)[1].distractors
    names = {each["id"]: each["name"] for each in words["categories"]}
    red = {tuple(each["bbox"]) for each in words["annotations"]
           if names[each["category_id"]] == "red thing"}  # fmt: skip
    drawn = {
        thing.box
        for image_id in by_id
        for thing in WORLD.draw("val", image_id - 1)[1].objects
        if thing.colour == "red"
    }
    assert red == drawn


def test_the_same_world_again_is_left_alone(folder: Path) -> None:
    before = (folder / "world.json").stat().st_mtime_ns
    write_world(folder, WORLD, **COUNTS)
    assert (folder / "world.json").stat().st_mtime_ns == before


def test_an_interrupted_world_is_drawn_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_world(out, WORLD, train=0, val=2)
    whole = every_file(out)
    told = json.loads((out / "world.json").read_text())
    (out / "world.json").write_text(json.dumps({**told, "complete": False}))
    (out / "val" / "000001.jpg").write_bytes(b"half a pic")
    write_world(out, WORLD, train=0, val=2)
    assert every_file(out) == whole


def test_another_world_is_refused(folder: Path) -> None:
    with pytest.raises(FileExistsError, match=r"another world: seed 7 \(asked: 8\)"):
        write_world(folder, World(seed=8, size=160), **COUNTS)
    with pytest.raises(FileExistsError, match=r"train 24 \(asked: 25\)"):
        write_world(folder, WORLD, train=25, val=40)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(FileExistsError, match="not empty and holds no world"):
        write_world(tmp_path, WORLD, train=1, val=0)
    (tmp_path / "world.json").write_text("[]")
    with pytest.raises(FileExistsError, match="no description of a world"):
        write_world(tmp_path, WORLD, train=1, val=0)
    with pytest.raises(FileExistsError, match="not empty and holds no world"):
        write_world(tmp_path / "letter.txt", WORLD, train=1, val=0)


@pytest.mark.parametrize(("train", "val"), [(0, 0), (-1, 5), (5, -1)])
def test_no_pictures(tmp_path: Path, train: int, val: int) -> None:
    with pytest.raises(ValueError, match="some training or some val pictures"):
        write_world(tmp_path / "out", WORLD, train=train, val=val)
    assert not (tmp_path / "out").exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    asked = [str(out), "--train", "2", "--val", "1", "--size", "160", "--workers", "0"]
    assert main(asked) == 0
    assert f"wrote {out / 'world.json'}" in capsys.readouterr().out
    assert main([*asked, "--seed", "1"]) == 2
    assert "another world" in capsys.readouterr().err
    assert main([str(tmp_path / "tiny"), "--size", "20"]) == 2
    assert "160 to 1024 pixels" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), "--train", "0", "--val", "0"]) == 2
    assert "some training or some val pictures" in capsys.readouterr().err


def test_an_interrupt_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(world: World, split: str, index: int) -> None:
        raise KeyboardInterrupt

    asked = [str(tmp_path / "world"), "--train", "0", "--val", "1", "--workers", "0"]
    with monkeypatch.context() as patched:
        patched.setattr(World, "draw", interrupted)
        assert main(asked) == 130
    assert "the same command draws" in capsys.readouterr().err
    assert main(asked) == 0


def test_help_says_how_long_lessons_last(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"grow harder until training picture {LESSONS[-1][0]:,}" in said
