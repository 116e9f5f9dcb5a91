"""`glipkit compare` on evaluations of drawn datasets."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from captioned import KnowingCaptions, caption_test_set, draw_captions
from drawn import KnowingDetector, draw, make_test_set
from tiny_run import tiny_config

from glipkit.config.load import to_yaml
from glipkit.data.catalog import DatasetSpec
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.run import evaluate
from glipkit.shell.compare import EXAMPLES
from glipkit.shell.main import main

PROTOCOL = {"precision": "float32", "augmentation": None, "model": {"depths": [2, 2]}}


def evaluated(folder: Path, spec: DatasetSpec, *, mistakes: bool, **protocol: object) -> Path:
    """The folder of an evaluation, as the tool leaves it."""
    captions = spec.kind == "grounding"
    test_set = caption_test_set(spec) if captions else make_test_set(spec)
    knowing = (KnowingCaptions if captions else KnowingDetector)(test_set, mistakes=mistakes)
    depends_on = {**PROTOCOL, "weights": f"{mistakes:d}" * 64, **protocol}
    evaluate(knowing, test_set, build_evaluator(test_set), output_dir=folder, depends_on=depends_on)
    entry = {"ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir), "kind": spec.kind}
    words = [(f"DATASETS.REGISTER.{spec.name}.{key}", value) for key, value in entry.items()]
    words.append(("DATASETS.TEST", f"('{spec.name}',)"))
    cfg = tiny_config(*(word for pair in words for word in pair))
    (folder / "config.yaml").write_text(to_yaml(cfg))
    return folder


@pytest.fixture(scope="module")
def drawn_spec(tmp_path_factory: pytest.TempPathFactory) -> DatasetSpec:
    return draw(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory, drawn_spec: DatasetSpec) -> Path:
    return evaluated(tmp_path_factory.mktemp("right"), drawn_spec, mistakes=False)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, drawn_spec: DatasetSpec) -> Path:
    return evaluated(tmp_path_factory.mktemp("wrong"), drawn_spec, mistakes=True)


def compared(capsys: pytest.CaptureFixture, *words: object) -> dict:
    assert main(["compare", *map(str, words), "--resamples", "50", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture, *words: object) -> str:
    assert main(["compare", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def edited(folder: Path, target: Path, **changes: object) -> Path:
    """A copy whose protocol has other values."""
    shutil.copytree(folder, target)
    content = json.loads((target / "results.json").read_text())
    content["protocol"] |= changes
    (target / "results.json").write_text(json.dumps(content))
    return target


def test_figures_differences_and_intervals(
    right: Path, wrong: Path, capsys: pytest.CaptureFixture
) -> None:
    found = compared(capsys, right / "results.json", wrong)
    results = [json.loads((each / "results.json").read_text()) for each in (right, wrong)]
    ap = found["metrics"][0]
    assert ap["name"] == "AP"
    assert ap["values"] == [each["metrics"]["AP"] for each in results]
    assert ap["differences"] == [ap["values"][1] - ap["values"][0]]
    low, high = ap["intervals"][0]
    assert low <= ap["differences"][0] <= high < 0
    assert found["bootstrap"] == {"resamples": 50, "seed": 0, "level": 0.95, "left_out": None}
    changes = [abs(each["differences"][0]) for each in found["per_class"]]
    assert changes == sorted(changes, reverse=True)
    assert {each["name"] for each in found["per_class"]} == {"cat", "dog", "owl"}


def test_the_table_says_how_it_was_made(
    right: Path, wrong: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["compare", str(right), str(wrong), "--resamples", "20", "--classes", "2"]) == 0
    said = capsys.readouterr().out
    assert "paired bootstrap over 20 pictures, 20 resamples, seed 0" in said
    assert "B - A" in said
    assert "the 2 classes of 3 that changed most" in said
    assert "weights 000000000000" in said


def test_an_evaluation_and_its_copy_do_not_differ(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = shutil.copytree(wrong, tmp_path / "copy")
    found = compared(capsys, wrong, copy, right)
    for row in found["metrics"]:
        if row["values"][0] is not None:
            assert row["differences"][0] == 0
            assert row["intervals"][0] == [0, 0]
    assert found["metrics"][0]["differences"][1] > 0  # the third one
    assert any("has the weights and the protocol of" in note for note in found["notes"])


def test_another_protocol_is_an_explicit_wish(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = edited(
        wrong, tmp_path / "other", precision="int8", augmentation={"scales": [64], "flip": "yes"}
    )
    error = refused(capsys, right, other)
    assert 'precision: "float32" and "int8"' in error
    assert "augmentation.scales: null and [64]" in error
    assert "--vary augmentation --vary precision" in error
    assert "--vary precision" in refused(capsys, right, other, "--vary", "augmentation")
    found = compared(capsys, right, other, "--vary", "augmentation", "--vary", "precision")
    assert found["protocol_differences"][0]["precision"] == ["float32", "int8"]
    assert compared(capsys, right, other, "--anyway")["metrics"] == found["metrics"]


def test_models_may_differ(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = edited(wrong, tmp_path / "other", model={"depths": [6]}, image_folder="/elsewhere")
    assert compared(capsys, right, other)["protocol_differences"] == [{}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations_sha256": "0" * 64}, "not of the same pictures and boxes"),
        ({"num_images": 7}, "num_images: 20 and 7"),
        ({"metric": "LVIS fixed AP"}, "do not measure the same"),
    ],
)
def test_other_data_and_other_measures_are_refused_whatever_is_said(
    right: Path,
    wrong: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    changes: dict,
    message: str,
) -> None:
    other = edited(wrong, tmp_path / "other", **changes)
    assert message in refused(capsys, right, other, "--anyway")


def test_files_that_are_no_results(
    right: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    text = (right / "results.json").read_text()
    wrongs = {
        text[: len(text) // 2]: "is no whole JSON file",
        "": "is empty",
        "[]": "is a list, not the results",
        (right / "predictions.json").read_text(): "is a list of predictions",
        '{"mean": {}, "evaluations": {}}': "summary of several evaluations",
        '{"AP": 0.5}': "has no dataset, metrics",
        '{"dataset": "a", "metrics": 5, "per_class": [], "num_images": 1, "protocol": {}}':
            "metrics is a int",
    }  # fmt: skip
    for content, message in wrongs.items():
        (tmp_path / "other.json").write_text(content)
        assert message in refused(capsys, right, tmp_path / "other.json")
    assert "no " + str(tmp_path / "gone.json") in refused(capsys, right, tmp_path / "gone.json")
    assert "are the same file" in refused(capsys, right, right / "results.json")
    assert "two results files or more" in refused(capsys, right)
    assert "level between 0 and 1" in refused(capsys, right, right, "--level", "95")


def test_without_predictions_there_are_point_figures(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("predictions.json", "config.yaml"):
        other = shutil.copytree(wrong, tmp_path / name)
        (other / name).unlink()
        found = compared(capsys, right, other)
        assert f"no {name} beside" in found["bootstrap"]["left_out"]
        assert found["metrics"][0]["intervals"] == [None]
        assert found["metrics"][0]["differences"][0] < 0
    assert main(["compare", str(right), str(other)]) == 0
    assert "no intervals: no config.yaml beside" in capsys.readouterr().out


def test_predictions_of_another_run_are_noticed(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = shutil.copytree(wrong, tmp_path / "other")
    shutil.copy(right / "predictions.json", other)
    assert "they are not of one run" in compared(capsys, right, other)["bootstrap"]["left_out"]
    (other / "predictions.json").write_text('[{"image_id"')
    assert "is no whole JSON file" in compared(capsys, right, other)["bootstrap"]["left_out"]


def test_the_truth_may_have_moved(
    right: Path,
    wrong: Path,
    drawn_spec: DatasetSpec,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    moved = Path(shutil.copy(drawn_spec.ann_file, tmp_path / "moved.json"))
    assert compared(capsys, right, wrong, "--annotations", moved)["bootstrap"]["resamples"] == 50
    moved.write_text(moved.read_text() + " ")
    left_out = compared(capsys, right, wrong, "--annotations", moved)["bootstrap"]["left_out"]
    assert "has changed since" in left_out


def test_recall_of_phrases(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = draw_captions(tmp_path / "data")
    folders = [evaluated(tmp_path / name, spec, mistakes=mistakes)
               for name, mistakes in (("right", False), ("wrong", True))]  # fmt: skip
    found = compared(capsys, *folders)
    assert found["bootstrap"]["left_out"] is None
    first = found["metrics"][0]
    assert first["name"] == "R@1"
    low, high = first["intervals"][0]
    assert low <= first["differences"][0] <= high <= 0
    assert found["per_class"] == []


def test_examples_run(
    right: Path, wrong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, folder in (("old", right), ("new", wrong), ("plain", right)):
        shutil.copytree(folder, tmp_path / name / "task" / "val")
    edited(wrong, tmp_path / "flipped" / "task" / "val", augmentation={"flip": "yes"})
    lines = [line for line in EXAMPLES.splitlines() if line.startswith("  glipkit ")]
    assert len(lines) == 2
    for line in lines:
        assert main([*shlex.split(line)[1:], "--resamples", "5"]) == 0, line
