"""Every YAML file of configs/ loads, and says what the published one says."""

import json
from pathlib import Path

import pytest
from yacs.config import CfgNode

from glipkit.config import expand_task_files, load_config, load_tasks, to_yaml
from glipkit.config.checks import flatten
from glipkit.config.legacy import LEGACY
from glipkit.config.merge import SECTIONS
from glipkit.config.yaml_files import read_settings

CONFIGS = Path(__file__).parents[2] / "configs"
GLIP_T = CONFIGS / "pretrain/glip_Swin_T_O365_GoldG.yaml"
PRETRAIN = sorted((CONFIGS / "pretrain").glob("*.yaml"))
NANO = sorted((CONFIGS / "nano").glob("*.yaml"))  # a model and its data in one
TASKS = sorted({*CONFIGS.rglob("*.yaml")} - {*PRETRAIN, *NANO})
# Where the sections of a facts file stand in a configuration.
SECTION = {
    "input": "INPUT",
    "augment": "AUGMENT",
    "dataloader": "DATALOADER",
    "datasets": "DATASETS",
    "backbone": "MODEL.BACKBONE",
    "swint": "MODEL.SWINT",
    "fpn": "MODEL.FPN",
    "language_backbone": "MODEL.LANGUAGE_BACKBONE",
    "rpn": "MODEL.RPN",
    "dyhead": "MODEL.DYHEAD",
    "atss": "MODEL.ATSS",
    "focal": "MODEL.FOCAL",
    "group_norm": "MODEL.GROUP_NORM",
    "test": "TEST",
    "solver": "SOLVER",
}
SINGLE = {
    "rpn_only": "MODEL.RPN_ONLY",
    "rpn_architecture": "MODEL.RPN_ARCHITECTURE",
    "linear_prob": "MODEL.LINEAR_PROB",
    "mask_on": "MODEL.MASK_ON",
}


@pytest.fixture(scope="module")
def glip_t() -> CfgNode:
    return load_config([GLIP_T])


def leaves(node: dict, prefix: str) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in node.items():
        key = f"{prefix}.{name}"
        flat |= leaves(value, key) if isinstance(value, dict) and value else {key: value}
    return flat


def published_facts(path: Path) -> dict[str, object]:
    facts = json.loads(path.read_text())
    flat = {key: facts[name] for name, key in SINGLE.items()}
    for name, key in SECTION.items():
        flat |= leaves(facts[name], key)
    return flat


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda path: path.stem)
def test_pretrain_files_say_what_the_published_ones_say(path: Path, golden: Path) -> None:
    facts = published_facts(golden / "manifests" / f"{path.stem}.facts.json")
    # The reference run switched it off (`derived` of the facts); the published files have it on.
    assert facts.pop("MODEL.DYHEAD.USE_CHECKPOINT") is False
    unread = {s.key: s.value for s in read_settings(path, SECTIONS) if s.key in LEGACY}
    values = flatten(load_config([path])) | LEGACY | unread
    assert len(facts) > 250
    for key, fact in facts.items():
        assert json.loads(json.dumps(values[key])) == fact, key


@pytest.mark.parametrize(
    "path", [*PRETRAIN, *NANO, *TASKS], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_file_says_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", TASKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_task_loads_over_a_model(path: Path, glip_t: CfgNode) -> None:
    (task,) = load_tasks(GLIP_T, [path])
    assert task.name == path.stem
    assert task.cfg.DATASETS.TEST
    assert task.cfg.MODEL == glip_t.MODEL
    for name in (*task.cfg.DATASETS.TEST, *task.cfg.DATASETS.TRAIN):
        assert name in task.cfg.DATASETS.REGISTER or not task.cfg.DATASETS.OVERRIDE_CATEGORY


@pytest.mark.parametrize(("suite", "count"), [("odinw_13", 13), ("odinw_35", 36)])
def test_suites_load_in_one_run(suite: str, count: int) -> None:
    tasks = load_tasks(GLIP_T, expand_task_files([f"{CONFIGS}/{suite}/*.yaml"]))
    assert len({task.name for task in tasks}) == count


@pytest.mark.parametrize("suite", ["odinw_13", "odinw_35"])
def test_odinw_files_say_what_the_published_ones_say(suite: str, golden: Path) -> None:
    facts = json.loads((golden / "odinw_tasks.json").read_text())[suite]
    assert {path.stem for path in (CONFIGS / suite).glob("*.yaml")} == set(facts)
    for name, fact in facts.items():
        path = CONFIGS / suite / f"{name}.yaml"
        cfg = load_config([GLIP_T, path])
        data = cfg.DATASETS
        assert [record["name"] for record in data.OVERRIDE_CATEGORY] == fact["categories"]
        assert [record["id"] for record in data.OVERRIDE_CATEGORY] == fact["category_ids"]
        assert (fact["caption_prompt"] and tuple(fact["caption_prompt"])) == data.CAPTION_PROMPT
        assert fact["general_copy"] == data.GENERAL_COPY
        assert {key: data.REGISTER[key] for key in fact["splits"]} == fact["splits"]
        assert names_in(fact["train"]) == data.TRAIN
        assert names_in(fact["test"]) == data.TEST
        assert {key: cfg.SOLVER[key] for key in fact["solver"]} == fact["solver"]
        assert fact["test_ims"]["IMS_PER_BATCH"] == cfg.TEST.IMS_PER_BATCH
        assert {key: cfg.INPUT[key] for key in fact["input"]} == fact["input"]
        classes = [s.value for s in read_settings(path, SECTIONS) if s.key.endswith("NUM_CLASSES")]
        assert classes == [fact["num_classes"]] * 4


def names_in(text: str) -> tuple[str, ...]:
    return tuple(part.strip(" \"'") for part in text.strip("()").split(",") if part.strip())


def test_few_shot_splits_are_registered() -> None:
    cfg = load_config(
        [GLIP_T, CONFIGS / "odinw_13/Raccoon_Raccoon.v2-raw.coco.yaml"],
        ["DATASETS.TRAIN", '("train_3_30",)'],
    )
    folder = "odinw/Raccoon/Raccoon.v2-raw.coco"
    assert cfg.DATASETS.REGISTER[cfg.DATASETS.TRAIN[0]] == {
        "img_dir": f"{folder}/train",
        "ann_file": f"{folder}/train/fewshot_train_shot3_seed30.json",
    }
    assert {
        f"{s}_{n}_{i}" for s in ("train", "val") for n in (1, 3, 5, 10) for i in (3, 30, 300)
    } <= set(cfg.DATASETS.REGISTER)


def test_registered_folders_are_relative_to_the_dataset_root() -> None:
    for path in TASKS:
        for entry in load_config([GLIP_T, path]).DATASETS.REGISTER.values():
            assert set(entry) - {"kind"} == {"img_dir", "ann_file"}
            assert not any(Path(value).is_absolute() or ".." in value for value in entry.values())


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "lvis").glob("*.yaml")), ids=lambda path: path.stem
)
def test_lvis_is_never_judged_like_coco(path: Path) -> None:
    data = load_config([GLIP_T, path]).DATASETS
    assert [data.REGISTER[name].kind for name in data.TEST] == ["lvis"]


@pytest.mark.parametrize(
    "path", [*PRETRAIN, *TASKS], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_a_written_configuration_loads_unchanged(path: Path, tmp_path: Path) -> None:
    cfg = load_config([GLIP_T, path], ["OUTPUT_DIR", str(tmp_path), "TEST.SUBSET", "3"])
    (tmp_path / "config.yaml").write_text(to_yaml(cfg), encoding="utf-8")
    assert load_config([tmp_path / "config.yaml"]) == cfg
