"""What the result of one ODinW job depends on."""

import shutil
from pathlib import Path

import drawn
import pytest

from glipkit.programs.fine_tuning_plan import Recipe
from glipkit.programs.odinw_job import Ready, make_ready
from glipkit.programs.odinw_plan import Job

FULL = Job("full", "Drawn", Path("Drawn.yaml"), Recipe(3, 1, 1), seed=30)
SUFFIX = ("DATASETS.TRAIN_DATASETNAME_SUFFIX", "_grounding")  # as published


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dataset "drawn", and its three shots of seed 30 in a file of their own."""
    monkeypatch.setenv("DATASET", str(tmp_path))
    spec = drawn.draw(tmp_path, num_images=4)
    shutil.copy(spec.ann_file, tmp_path / "three.json")
    (tmp_path / "model.pth").write_bytes(b"weights")
    return tmp_path


def ready(data: Path, *overrides: str, prepared: str = "drawn_3_30") -> Ready:
    whole = {"ann_file": "boxes.json", "img_dir": "pictures"}
    register = {
        "val": whole,
        "drawn": whole,
        prepared: {"ann_file": "three.json", "img_dir": "pictures"},
    }
    words = [*FULL.run.overrides(), *overrides]
    cfg = drawn.task_config(
        data, *words, REGISTER=register, TRAIN='("drawn",)', TEST='("val",)'
    )  # fmt: skip
    return make_ready(FULL, cfg, cfg, data / "out", weights=data / "model.pth")


def add_a_line(file: Path) -> None:
    file.write_text(file.read_text() + "\n")


@pytest.mark.parametrize(
    ("overrides", "prepared"),
    [
        ((), "drawn_3_30"),
        (SUFFIX, "drawn_3_30"),
        (SUFFIX, "drawn_3_30_grounding"),
    ],
)
def test_a_job_depends_on_the_file_of_its_shots(
    data: Path, overrides: tuple[str, ...], prepared: str
) -> None:
    ready(data, *overrides, prepared=prepared).begin()
    assert ready(data, *overrides, prepared=prepared).state() == "begun"
    add_a_line(data / "three.json")
    assert ready(data, *overrides, prepared=prepared).state() == "new"


def test_without_prepared_shots_a_job_depends_on_the_whole_file(data: Path) -> None:
    ready(data, prepared="drawn_5_30").begin()
    add_a_line(data / "three.json")
    assert ready(data, prepared="drawn_5_30").state() == "begun"
    add_a_line(data / "boxes.json")
    assert ready(data, prepared="drawn_5_30").state() == "new"


def test_shots_whose_file_is_missing_are_chosen_from_the_whole_one(data: Path) -> None:
    (data / "three.json").unlink()
    assert set(ready(data).asked["annotations"]) == {"drawn", "val"}
