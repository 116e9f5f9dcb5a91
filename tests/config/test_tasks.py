"""Several task files in one run: names, patterns, contradictions."""

import logging
from pathlib import Path

import pytest

from glipkit.config import ConfigError, expand_task_files, load_tasks

GLIP_T = Path(__file__).parents[2] / "configs/pretrain/glip_Swin_T_O365_GoldG.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders of tasks, and the run starts beside them."""
    for name in ("a/one", "a/two", "b/one", "b/tree.v2.coco"):
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'DATASETS:\n  TEST: ("{name}",)\n')
    (tmp_path / "a/notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["a/two.yaml"], ["a/two.yaml"]),
        (["a/two.yaml,a/one.yaml"], ["a/two.yaml", "a/one.yaml"]),
        (["b/*.yaml", "a/one.yaml"], ["b/one.yaml", "b/tree.v2.coco.yaml", "a/one.yaml"]),
        (["a/*.yaml, b/one.yaml"], ["a/one.yaml", "a/two.yaml", "b/one.yaml"]),
        (["a/two.yaml", "a/*.yaml", "./a/one.yaml"], ["a/two.yaml", "a/one.yaml"]),
        (["**/one.yaml"], ["a/one.yaml", "b/one.yaml"]),
        (["a/one.yaml,"], ["a/one.yaml"]),
        ([], []),
    ],
)
def test_words_become_files(words: list[str], files: list[str], folder: Path) -> None:
    assert [str(path) for path in expand_task_files(words)] == files


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a/*.yml"], r"no file fits the task pattern 'a/\*\.yml'"),
        (["a/one.yaml,a/three.yaml"], r"task file 'a/three\.yaml' not found"),
        (["a"], r"a is a folder; give its files: 'a/\*\.yaml'"),
    ],
)
def test_words_that_name_nothing(words: list[str], message: str, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        expand_task_files(words)


def test_brackets_in_a_file_name_are_no_pattern(folder: Path) -> None:
    (folder / "a/set[1].yaml").write_text("TEST: {SUBSET: 1}\n")
    assert expand_task_files(["a/set[1].yaml"]) == [Path("a/set[1].yaml")]


def test_overrides_win_over_the_task_and_the_task_over_the_model(folder: Path) -> None:
    (folder / "t.yaml").write_text("TEST: {IMS_PER_BATCH: 3, SUBSET: 7}\n")
    (task,) = load_tasks(GLIP_T, ["t.yaml"], ["TEST.SUBSET", "8"])
    assert task.cfg.TEST.IMS_PER_BATCH == 3
    assert task.cfg.TEST.SUBSET == 8
    assert task.cfg.DATASETS.TEST == ("coco_2017_val",)
    assert task.cfg.is_frozen()


def test_names_are_stems_and_tell_files_apart(folder: Path) -> None:
    tasks = load_tasks(GLIP_T, expand_task_files(["a/*.yaml", "b/*.yaml"]))
    assert [task.name for task in tasks] == ["a_one", "two", "b_one", "tree.v2.coco"]
    assert [task.cfg.DATASETS.TEST[0] for task in tasks] == [
        "a/one",
        "a/two",
        "b/one",
        "b/tree.v2.coco",
    ]


def test_the_model_file_alone_is_a_task() -> None:
    (task,) = load_tasks(GLIP_T, [])
    assert task.name == "glip_Swin_T_O365_GoldG"
    assert task.cfg.DATASETS.TEST == ("coco_2017_val",)


@pytest.mark.parametrize(
    ("section", "key", "one", "two"),
    [
        ("MODEL: {DYHEAD: {NUM_CONVS: %s}}", "MODEL.DYHEAD.NUM_CONVS", "6", "8"),
        ("MODEL: {WEIGHT: %s}", "MODEL.WEIGHT", "x.pth", "y.pth"),
        ("OUTPUT_DIR: %s", "OUTPUT_DIR", "out1", "out2"),
    ],
)
def test_tasks_that_contradict_each_other(
    section: str, key: str, one: str, two: str, folder: Path
) -> None:
    (folder / "a/one.yaml").write_text(section % one)
    (folder / "b/one.yaml").write_text(section % two)
    with pytest.raises(ConfigError, match="contradict each other") as caught:
        load_tasks(GLIP_T, ["a/one.yaml", "b/one.yaml"])
    for part in (key, "a/one.yaml", "b/one.yaml", one, two):
        assert part in str(caught.value)
    tasks = load_tasks(GLIP_T, ["a/one.yaml", "b/one.yaml"], [key, one])
    assert len(tasks) == 2


def test_tasks_may_differ_in_what_becomes_of_the_predictions(folder: Path) -> None:
    (folder / "a/one.yaml").write_text("MODEL: {ATSS: {DETECTIONS_PER_IMG: 300, NUM_CLASSES: 5}}")
    tasks = load_tasks(GLIP_T, ["a/one.yaml", "a/two.yaml"])
    assert [task.cfg.MODEL.ATSS.DETECTIONS_PER_IMG for task in tasks] == [300, 100]


def test_one_file_twice_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"given twice: .*a/one\.yaml"):
        load_tasks(GLIP_T, ["a/one.yaml", "a/one.yaml"])


def test_legacy_keys_of_all_tasks_share_one_line(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a/one.yaml").write_text("MODEL: {ATSS: {NUM_CLASSES: 5}}")
    (folder / "a/two.yaml").write_text("MODEL: {ATSS: {NUM_CLASSES: 6}, FCOS: {NUM_CLASSES: 6}}")
    load_tasks(GLIP_T, ["a/one.yaml", "a/two.yaml"])
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            "these keys mean nothing here: MODEL.ATSS.NUM_CLASSES, MODEL.FCOS.NUM_CLASSES",
        )
    ]
