"""From a configuration to training batches: drawn data by hand, real data against its labels."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import draw
from torch import Tensor
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.data.build import build_train_loader
from glipkit.data.train_batch import TrainBatch
from glipkit.data.train_loader import TrainLoader
from glipkit.data.training.build import build_train_transform
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.tsv_convert import convert

CONFIGS = Path(__file__).parents[3] / "configs"
GLIP_T = CONFIGS / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
SMALL = {"AUGMENT": {"MULT_MIN_SIZE_TRAIN": "(64, 80)", "FLIP_PROB_TRAIN": 0.0}}


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.load("bert-base-uncased")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASET", str(tmp_path))
    draw(tmp_path)
    return tmp_path


def config(folder: Path, overrides: Sequence[str] = (), **datasets: object) -> CfgNode:
    task = {
        "DATASETS": {
            "REGISTER": {"drawn": {"ann_file": "boxes.json", "img_dir": "pictures"}},
            "TRAIN": '("drawn",)',
            **datasets,
        },
        "SOLVER": {"IMS_PER_BATCH": 4},
        "DATALOADER": {"NUM_WORKERS": 0},
        **SMALL,
    }
    (folder / "task.yaml").write_text(json.dumps(task))
    return load_config([GLIP_T, folder / "task.yaml"], list(overrides))


def build(cfg: CfgNode, bert: Tokenizer, *, rank: int = 0, world_size: int = 1) -> TrainLoader:
    return build_train_loader(cfg, bert, rank=rank, world_size=world_size)


def epoch(loader: TrainLoader) -> list[TrainBatch]:
    return list(islice(loader.batches(), loader.steps_per_epoch))


def spelled(batch: TrainBatch, number: int, box: int) -> list[list[int]]:
    """The token ids of each phrase that a box answers."""
    phrases = batch.prompts.phrase_tokens[number][batch.targets[number].box_phrases[box]]
    return [batch.prompts.token_ids[number][row > 0].tolist() for row in phrases]


def test_a_task(folder: Path, bert: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    loader = build(config(folder), bert)
    assert (loader.num_images, loader.steps_per_epoch, loader.batch_size) == (20, 5, 4)
    table = [line.split() for line in loader.describe().splitlines()]
    assert table == [
        ["name", "kind", "images", "boxes", "classes", "copies"],
        ["drawn", "coco", "20", "40", "3", "1"],
    ]
    assert "20 samples an epoch, 4 a step, 5 steps" in caplog.text
    assert loader.describe() in caplog.text
    batches = epoch(loader)
    assert sorted(i for batch in batches for i in batch.image_ids) == sorted(
        1000 - 7 * number for number in range(20)
    )
    assert sum(len(target) for batch in batches for target in batch.targets) == 40
    for batch in batches:
        assert {min(size) for size in batch.images.sizes} <= {64, 80}
        assert all(side % 32 == 0 for side in batch.images.pixels.shape[2:])
        assert batch.hidden_words is None


def test_the_published_transform(folder: Path) -> None:
    transform = build_train_transform(load_config([GLIP_T]))
    assert transform.min_sizes == (480, 560, 640, 720, 800)
    assert (transform.max_size, transform.flip, transform.vertical_flip) == (1333, 0.5, 0.0)
    assert transform.pixel_format == "bgr255"
    assert transform.flip_safe
    cfg = config(
        folder,
        ["AUGMENT.MULT_MIN_SIZE_TRAIN", "()", "AUGMENT.VERTICAL_FLIP_PROB_TRAIN", "0.25",
         "AUGMENT.HUE", "0.1", "INPUT.TO_BGR255", "False", "DATASETS.FLIP_SAFE", "False",
         "INPUT.MIN_SIZE_TRAIN", "333"],
    )  # fmt: skip
    transform = build_train_transform(cfg)
    assert transform.min_sizes == (333,)
    assert (transform.vertical_flip, transform.colours.hue) == (0.25, 0.1)
    assert (transform.pixel_format, transform.flip_safe) == ("rgb", False)


def test_words_are_the_tasks(folder: Path, bert: Tokenizer) -> None:
    said = [
        {"prefix": "a ", "name": "kitten", "suffix": ""},
        {"prefix": "", "name": "dog", "suffix": " that barks"},
        {"prefix": "", "name": "owl", "suffix": ""},
    ]
    cfg = config(
        folder, CAPTION_PROMPT=json.dumps(said), USE_CAPTION_PROMPT=True, DISABLE_SHUFFLE=True
    )
    for batch in epoch(build(cfg, bert)):
        for ids, mask in zip(batch.prompts.token_ids, batch.prompts.token_mask):
            assert ids[mask].tolist() == bert.token_ids("a kitten. dog that barks. owl")


def test_copies(folder: Path, bert: Tokenizer) -> None:
    entry = {"ann_file": "boxes.json", "img_dir": "pictures"}
    cfg = config(
        folder,
        REGISTER={"coco_drawn": entry, "drawn": entry},
        TRAIN='("coco_drawn", "drawn")',
        COCO_COPY=2,
        GENERAL_COPY=3,
    )
    loader = build(cfg, bert)
    assert loader.num_images == 100
    assert [line.split()[-1] for line in loader.describe().splitlines()] == ["copies", "2", "3"]
    shown = Counter(i for batch in epoch(loader) for i in batch.image_ids)
    assert set(shown.values()) == {5}


def test_tsv_data_teaches_what_its_json_does(folder: Path, bert: Tokenizer) -> None:
    convert(folder / "boxes.json", folder / "pictures", folder / "tsv", name="drawn")
    in_tsv = {
        "REGISTER": {"object365_drawn": {"yaml_path": "tsv/drawn.yaml"}},
        "TRAIN": '("object365_drawn",)',
    }
    one_size = ("AUGMENT.MULT_MIN_SIZE_TRAIN", "(64,)")
    loader = build(config(folder, one_size, **in_tsv), bert)
    assert loader.describe().split()[-6:] == ["object365_drawn", "tsv", "20", "-", "4", "1"]
    rows = {target.image_id: target for batch in epoch(loader) for target in batch.targets}
    for batch in epoch(build(config(folder, one_size), bert)):
        for target in batch.targets:
            found = rows[(1000 - target.image_id) // 7]  # rows are its ids
            torch.testing.assert_close(found.boxes, target.boxes)
            assert found.box_phrases.sum(dim=1).tolist() == [1] * len(target)


def test_few_shot(folder: Path, bert: Tokenizer) -> None:
    loader = build(config(folder, FEW_SHOT=1, SHUFFLE_SEED=3), bert)
    assert 1 <= loader.num_images <= 3
    ids = {i for batch in epoch(loader) for i in batch.image_ids}
    again = build(config(folder, FEW_SHOT=1, SHUFFLE_SEED=3), bert)
    assert {i for batch in epoch(again) for i in batch.image_ids} == ids


def test_prepared_few_shot_files_come_first(folder: Path, bert: Tokenizer) -> None:
    content = json.loads((folder / "boxes.json").read_text())
    content["images"] = content["images"][1:2]
    content["annotations"] = [
        each for each in content["annotations"] if each["image_id"] == content["images"][0]["id"]
    ]
    (folder / "chosen.json").write_text(json.dumps(content))
    register = {
        "drawn": {"ann_file": "boxes.json", "img_dir": "pictures"},
        "drawn_1_3": {"ann_file": "chosen.json", "img_dir": "pictures"},
    }
    loader = build(config(folder, FEW_SHOT=1, SHUFFLE_SEED=3, REGISTER=register), bert)
    assert {i for batch in epoch(loader) for i in batch.image_ids} == {993}
    assert "drawn_1_3" in loader.describe()


def test_hidden_words_of_captions(
    shared_data: Path, folder: Path, bert: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET", str(shared_data))
    ann_file, img_dir = REAL["flickr30k_train"]
    register = {"flickr30k_train": {"ann_file": ann_file, "img_dir": img_dir}}
    for protected in ("False", "True"):
        fuse = "MODEL.DYHEAD.FUSE_CONFIG."
        overrides = [fuse + "MLM_LOSS", "True", fuse + "NO_MASK_FOR_GOLD", protected]
        cfg = config(folder, overrides, REGISTER=register, TRAIN='("flickr30k_train",)')
        labels = [batch.hidden_words for batch in epoch(build(cfg, bert))]
        assert all((each == -100).all() for each in labels) is (protected == "True")


@pytest.mark.parametrize(
    ("changes", "hidden"),
    [
        ((), None),
        (("MLM_LOSS", "True"), True),
        (("MLM_LOSS", "True", "MLM_LOSS_FOR_ONLY_POSITIVES", "False"), True),
        (("MLM_LOSS", "True", "NO_MASK_FOR_OD", "True"), False),
    ],
)
def test_hidden_words_of_detection_data(
    folder: Path, bert: Tokenizer, changes: tuple[str, ...], hidden: bool | None
) -> None:
    fuse = "MODEL.DYHEAD.FUSE_CONFIG."
    overrides = [text if i % 2 else fuse + text for i, text in enumerate(changes)]
    labels = [batch.hidden_words for batch in epoch(build(config(folder, overrides), bert))]
    if hidden is None:
        assert labels == [None] * 5
        return
    asked = torch.cat([each[each != -100] for each in labels])
    assert bool(len(asked)) is hidden
    assert set(asked.tolist()) <= {bert.token_ids(word)[1] for word in ("cat", "dog", "owl")}


def test_ranks_get_pieces_of_the_same_batches(folder: Path, bert: Tokenizer) -> None:
    cfg = config(folder, ["SOLVER.ACCUMULATION", "2"])
    whole = epoch(build(cfg, bert))
    halves = [epoch(build(cfg, bert, rank=rank, world_size=2)) for rank in (0, 1)]
    for batch, first, second in zip(whole, *halves):
        assert batch.image_ids == first.image_ids + second.image_ids


def test_batches_of_a_shape_where_asked(folder: Path, bert: Tokenizer) -> None:
    for grouped in (True, False):
        cfg = config(folder, ["DATALOADER.ASPECT_RATIO_GROUPING", str(grouped)])
        kinds = [{h >= w for h, w in batch.images.sizes} for batch in epoch(build(cfg, bert))]
        # 12 wide and 8 tall pictures in batches of 4
        assert all(len(kind) == 1 for kind in kinds) is grouped


@pytest.mark.parametrize(
    ("overrides", "datasets", "world_size", "message"),
    [
        ((), {"TRAIN": "()"}, 1, r"DATASETS\.TRAIN names no dataset"),
        ((), {"TRAIN": '("drawm",)'}, 1, "unknown dataset 'drawm'; did you mean drawn"),
        ((), {}, 3, r"SOLVER\.IMS_PER_BATCH is 4 .* 3 processes"),
        (("SOLVER.ACCUMULATION", "3"), {}, 1, r"SOLVER\.ACCUMULATION is 3"),
    ],
)
def test_what_cannot_be_learnt_from(
    folder: Path, bert: Tokenizer, overrides: tuple[str, ...], datasets: dict[str, Any],
    world_size: int, message: str,
) -> None:  # fmt: skip
    with pytest.raises(ValueError, match=message):
        build(config(folder, overrides, **datasets), bert, world_size=world_size)


def test_missing_training_files_show_before_anything_is_read(folder: Path, bert: Tokenizer) -> None:
    (folder / "boxes.json").write_text("not even json")
    cfg = config(folder, TRAIN='("drawn", "flickr30k_train")')
    with pytest.raises(FileNotFoundError, match="'flickr30k_train': no annotation file at"):
        build(cfg, bert)


def test_shots_of_captions_mean_nothing(folder: Path, bert: Tokenizer) -> None:
    register = {"gold": {"ann_file": "boxes.json", "img_dir": "pictures", "kind": "grounding"}}
    cfg = config(folder, FEW_SHOT=3, REGISTER=register, TRAIN='("gold",)')
    with pytest.raises(ValueError, match=r"FEW_SHOT is 3 .*'gold' has captions, not classes"):
        build(cfg, bert)


def test_a_dataset_without_boxes(folder: Path, bert: Tokenizer) -> None:
    content = json.loads((folder / "boxes.json").read_text())
    (folder / "boxes.json").write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(ValueError, match="none of the 20 pictures of dataset 'drawn' has a box"):
        build(config(folder), bert)


REAL = {
    "raccoon": ("raccoon/train/_annotations.coco.json", "raccoon/train"),
    "coco_mini": ("coco_mini/annotations/instances_train.json", "coco_mini/train"),
    "flickr30k_train": (
        "grounding_mini/mdetr_annotations/final_flickr_separateGT_train.json",
        "grounding_mini/images",
    ),
}


def real_config(folder: Path, *overrides: str) -> CfgNode:
    register = {name: {"ann_file": a, "img_dir": b} for name, (a, b) in REAL.items()}
    return config(
        folder, ["SOLVER.IMS_PER_BATCH", "8", *overrides], REGISTER=register, TRAIN=str(tuple(REAL))
    )


def words_of_boxes(path: Path) -> dict[int, list[tuple[Tensor, list[str]]]]:
    """Image id -> its boxes (x1 y1 x2 y2, pixels of the file) and the words that name each."""
    content = json.loads(path.read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    captions = {each["id"]: each.get("caption") for each in content["images"]}
    found = {image_id: [] for image_id in captions}
    for each in content["annotations"]:
        if each["iscrowd"]:
            continue
        x, y, w, h = each["bbox"]
        caption = captions[each["image_id"]]
        if caption is None:
            words = [names[each["category_id"]]]
        else:
            words = [caption[start:end] for start, end in each["tokens_positive"]]
        box = torch.tensor([x, y, x + w - 1, y + h - 1])
        found[each["image_id"]].append((box, words))
    return found


def shown_with_sources(loader: TrainLoader) -> Iterator[tuple[TrainBatch, int]]:
    for batch in epoch(loader):
        yield from ((batch, number) for number in range(len(batch)))


def test_every_box_of_real_data_is_spelled_by_its_words(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bert: Tokenizer
) -> None:
    monkeypatch.setenv("DATASET", str(shared_data))
    labels, sizes = {}, {}
    for name, (file, _) in REAL.items():
        entries = json.loads((shared_data / file).read_text())["images"]
        for image_id, boxes in words_of_boxes(shared_data / file).items():
            labels.setdefault(image_id, {})[name] = boxes
        for each in entries:
            sizes.setdefault(each["id"], {})[each["height"], each["width"]] = True
    large = ("AUGMENT.MULT_MIN_SIZE_TRAIN", "(320,)")  # boxes that lie close stay apart
    loader = build(real_config(tmp_path, *large), bert)
    assert loader.num_images == 160 + 27 + 15
    num_boxes = 0
    for batch, number in islice(shown_with_sources(loader), loader.num_images):
        target, size = batch.targets[number], batch.images.sizes[number]
        assert batch.failures == ()
        candidates = [
            (box * torch.tensor([size[1] / w, size[0] / h] * 2), words)
            for boxes in labels[target.image_id].values()
            for box, words in boxes
            for h, w in sizes[target.image_id]
        ]
        for row, box in enumerate(target.boxes):
            named = [
                words for known, words in candidates if (known - box).abs().max() < 0.6
            ]  # clipped to W - 1, so off by a fraction of a pixel
            expected = [
                [t for word in words for t in bert.token_ids(word)[1:-1]] for words in named
            ]
            assert spelled(batch, number, row)[0] in expected
            assert box[0] < box[2] < size[1] + 1
        num_boxes += len(target)
    assert num_boxes == sum(len(boxes) for by_name in labels.values() for boxes in by_name.values())


def test_real_data_comes_alike_from_workers_and_from_any_step(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bert: Tokenizer
) -> None:
    monkeypatch.setenv("DATASET", str(shared_data))
    flipped = ("AUGMENT.FLIP_PROB_TRAIN", "0.5")
    alone = list(islice(build(real_config(tmp_path, *flipped), bert).batches(24), 4))
    cfg = real_config(tmp_path, *flipped, "DATALOADER.NUM_WORKERS", "2")
    helped = list(islice(build(cfg, bert).batches(25), 3))  # over the border of the epoch, at 26
    for first, second in zip(alone[1:], helped):
        assert first.image_ids == second.image_ids
        assert torch.equal(first.images.pixels, second.images.pixels)
        assert torch.equal(first.prompts.token_ids, second.prompts.token_ids)
        for ours, theirs in zip(first.targets, second.targets):
            assert torch.equal(ours.boxes, theirs.boxes)


def test_flickr_is_learnt_alike_from_both_of_its_forms(
    shared_data: Path, tmp_path: Path, bert: Tokenizer
) -> None:
    mini = shared_data / "grounding_mini"
    json_file = mini / "mdetr_annotations" / "final_flickr_separateGT_train.json"
    listed = mini / "flickr30k_entities" / "train.txt"
    forms = []
    for kind, file in (("grounding", json_file), ("entities", listed)):
        entry = {"kind": kind, "ann_file": str(file), "img_dir": str(mini / "images")}
        cfg = config(tmp_path, REGISTER={"flickr": entry}, TRAIN='("flickr",)')
        loader = build(cfg, bert)
        assert loader.describe().splitlines()[1].split()[:2] == ["flickr", kind]
        forms.append(epoch(loader))
    assert len(forms[0]) == len(forms[1]) >= 3
    assert sum(len(target) for batch in forms[0] for target in batch.targets) > 38
    for mdetr, original in zip(*forms):
        assert torch.equal(mdetr.images.pixels, original.images.pixels)
        assert torch.equal(mdetr.prompts.token_ids, original.prompts.token_ids)
        phrases = zip(mdetr.prompts.phrase_tokens, original.prompts.phrase_tokens, strict=True)
        assert all(torch.equal(*each) for each in phrases)
        for one, other in zip(mdetr.targets, original.targets, strict=True):
            assert torch.equal(one.boxes, other.boxes)
            assert torch.equal(one.box_phrases, other.box_phrases)
