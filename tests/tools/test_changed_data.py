"""Runs that were begun or judged with other annotation files than those that lie there now."""

import json
from pathlib import Path
from typing import Any

import drawn
import pytest
from test_evaluation_tool import home, write_task  # noqa: F401
from test_training_tools import finetune, train_net, words

from glipkit.tsv_convert import convert

WATCHED = ("TEST.DURING_TRAINING", "True")


@pytest.fixture
def data(home: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A task of its own, whose training, validation and test pictures are the same."""
    spec = drawn.draw(tmp_path, num_images=6)
    content = spec.ann_file.read_text()
    register = {}
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.json").write_text(content)
        register[split] = {
            "ann_file": str(tmp_path / f"{split}.json"),
            "img_dir": str(spec.img_dir),
        }
    names = {"REGISTER": register, "TRAIN": '("train",)', "TEST": '("val",)'}
    write_task(tmp_path / "drawn.yaml", spec.ann_file, spec.img_dir, **names)
    return tmp_path


def line(home: Path, data: Path, *more: str) -> list[str]:  # noqa: F811
    found = words(home, data / "out", "SOLVER.MAX_ITER", "1", *more)
    return [str(data / "drawn.yaml") if each.endswith("drawn.yaml") else each for each in found]


def run_of(data: Path) -> dict[str, Any]:
    return json.loads((data / "out" / "run.json").read_text())


def forget_boxes(file: Path) -> str:
    """Leave no box in an annotation file; returns what it held."""
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), "annotations": []}))
    return before


def test_a_finished_run_does_not_answer_for_other_training_data(
    home: Path,  # noqa: F811
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = line(home, data, "--skip-test")
    assert train_net.main(command) == 0
    before = (data / "train.json").read_text()
    (data / "train.json").write_text(before + "\n")
    assert train_net.main(command) == 2
    said = capsys.readouterr().err
    assert "a finished run, which learnt from other data:\n  annotations of DATASETS.TRAIN" in said
    assert "another OUTPUT_DIR" in said
    assert train_net.main([*command, "--allow-changes"]) == 2  # no step would see them
    (data / "train.json").write_text(before)
    assert train_net.main(command) == 0
    assert run_of(data)["status"] == "finished"


def test_a_longer_run_may_go_on_with_other_data(home: Path, data: Path) -> None:  # noqa: F811
    assert train_net.main(line(home, data, "--skip-test")) == 0
    first = run_of(data)
    (data / "train.json").write_text((data / "train.json").read_text() + "\n")
    longer = [*line(home, data, "--skip-test"), "SOLVER.MAX_ITER", "2"]
    assert train_net.main(longer) == 2
    assert train_net.main([*longer, "--allow-changes"]) == 0
    assert run_of(data)["data"] != first["data"]
    assert train_net.main(longer) == 0  # now they are the run's


def test_a_run_from_before_goes_on(home: Path, data: Path) -> None:  # noqa: F811
    command = line(home, data, "--skip-test")
    assert train_net.main(command) == 0
    run = run_of(data)
    assert set(run.pop("data")) == {"DATASETS.TRAIN train"}
    (data / "out" / "run.json").write_text(json.dumps({**run, "status": "running"}))
    (data / "train.json").write_text((data / "train.json").read_text() + "\n")
    assert train_net.main(command) == 0
    log = (data / "out" / "log.txt").read_text()
    assert "begun before annotation files were noted" in log
    assert "going on from step 1 of 1" in log
    assert "data" in run_of(data)


def test_validation_data_count_where_they_steer(
    home: Path,  # noqa: F811
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train_net.main(line(home, data, "--skip-test", *WATCHED)) == 0
    alone = line(home, data, "--skip-test", "OUTPUT_DIR", str(data / "alone"))
    assert train_net.main(alone) == 0
    forget_boxes(data / "val.json")
    assert train_net.main(line(home, data, "--skip-test", *WATCHED)) == 2
    assert "annotations of DATASETS.TEST val: then " in capsys.readouterr().err
    assert train_net.main(alone) == 0


def test_a_finished_run_needs_its_data_no_longer(home: Path, data: Path) -> None:  # noqa: F811
    command = line(home, data, "--skip-test")
    assert train_net.main(command) == 0
    (data / "train.json").unlink()
    assert train_net.main(command) == 0


def test_nor_the_large_files_of_a_tsv(home: Path, data: Path) -> None:  # noqa: F811
    register = {
        "train": {"yaml_path": str(convert(data / "train.json", data / "pictures", data / "tsv"))}
    }
    write_task(data / "drawn.yaml", data, data, REGISTER=register, TRAIN='("train",)', TEST="()")
    command = line(home, data, "--skip-test")
    assert train_net.main(command) == 0
    (data / "tsv" / "train.tsv").unlink()
    assert train_net.main(command) == 0


def test_figures_of_fine_tuning_are_of_the_test_data_of_today(
    home: Path,  # noqa: F811
    data: Path,
) -> None:
    command, result = line(home, data), data / "out" / "drawn" / "result.json"
    results = result.with_name("final") / "test" / "results.json"

    def figure() -> float | None:
        assert finetune.main(command) == 0
        return json.loads(result.read_text())["figures"]["final/test"]

    found = figure()
    assert isinstance(found, float)
    stamp = results.stat().st_mtime_ns
    assert figure() == found
    assert results.stat().st_mtime_ns == stamp  # nobody was asked again
    before = forget_boxes(data / "test.json")
    assert figure() is None
    (data / "test.json").write_text(before)
    assert figure() == found


def test_figures_of_fine_tuning_are_of_pictures_that_were_mended(
    home: Path,  # noqa: F811
    data: Path,
) -> None:
    command, final = line(home, data), data / "out" / "drawn" / "final" / "test" / "results.json"
    content = json.loads((data / "test.json").read_text())
    content["images"][1]["file_name"] = "test_only.png"
    (data / "test.json").write_text(json.dumps(content))
    (data / "pictures" / "test_only.png").write_bytes(b"no picture")
    assert finetune.main(command) == 0
    assert len(json.loads(final.read_text())["failures"]) == 1
    whole = (data / "pictures" / "1.png").read_bytes()
    (data / "pictures" / "test_only.png").write_bytes(whole)
    assert finetune.main(command) == 0
    said = json.loads(final.read_text())
    assert said["failures"] == []
    assert said["timing"]["num_images"] == 1  # the others were known
