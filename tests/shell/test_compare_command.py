"""`glipkit compare` on evaluations of drawn datasets."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from drawn import draw
from evaluated import compared, evaluated, refused

from glipkit.data.catalog import DatasetSpec
from glipkit.shell.flags.compare import EXAMPLES
from glipkit.shell.main import main


@pytest.fixture(scope="module")
def drawn_spec(tmp_path_factory: pytest.TempPathFactory) -> DatasetSpec:
    return draw(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory, drawn_spec: DatasetSpec) -> Path:
    return evaluated(tmp_path_factory.mktemp("right"), drawn_spec, mistakes=False)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, drawn_spec: DatasetSpec) -> Path:
    return evaluated(tmp_path_factory.mktemp("wrong"), drawn_spec, mistakes=True)


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
    assert found["bootstrap"] == {
        "resamples": 50, "seed": 0, "level": 0.95, "least_pictures": 10, "left_out": None,
    }  # fmt: skip
    large = next(each for each in found["metrics"] if each["name"] == "APm")
    assert large["intervals"] == [None]  # few pictures have a box of that size
    changes = [abs(each["differences"][0]) for each in found["per_class"]]
    assert changes == sorted(changes, reverse=True)
    assert {each["name"] for each in found["per_class"]} == {"cat", "dog", "owl"}


def test_the_table_says_how_it_was_made(
    right: Path, wrong: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["compare", str(right), str(wrong), "--resamples", "40", "--classes", "2"]) == 0
    said = capsys.readouterr().out
    assert "paired bootstrap over 20 pictures, 40 resamples, seed 0" in said
    assert "n/a: fewer than 10 pictures" in said
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
            assert row["intervals"][0] in ([0, 0], None)
    assert found["metrics"][0]["intervals"][0] == [0, 0]
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
        changed(right, "metrics", AP=31.2): "metrics.AP is 31.2",
        changed(right, "metrics", AP="0.31"): 'metrics.AP is "0.31"',
        changed(right, "metrics", AP=float("nan")): "metrics.AP is NaN",
        changed(right, num_images="20"): "num_images is a str",
        changed(right, per_class=[{"name": "cat", "value": 0.5}]): 'per_class.0 is {"name": "cat"',
        changed(right, per_class=[{"category_id": 3, "name": "cat", "value": 1}] * 2):
            "names a category_id twice",
        changed(right, failures=[7]): "failures.0 is 7",
        changed(right, protocol={"num_images": 20}): "does not say annotations_sha256, metric",
        '{"dataset": "a", "metrics": 5, "per_class": [], "num_images": 1, "protocol": {}}':
            "metrics is a int",
    }  # fmt: skip
    for content, message in wrongs.items():
        (tmp_path / "other.json").write_text(content)
        assert message in refused(capsys, right, tmp_path / "other.json")
    assert "no " + str(tmp_path / "gone.json") in refused(capsys, right, tmp_path / "gone.json")
    assert "are the same file" in refused(capsys, right, right / "results.json")
    assert "two results files or more" in refused(capsys, right)


def changed(folder: Path, section: str = "", **values: object) -> str:
    """A results.json with other values, at the top or in a section."""
    content = json.loads((folder / "results.json").read_text())
    (content[section] if section else content).update(values)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--level", "95"], "level between 0 and 1"),
        (["--seed", "-1"], "a seed of 0 or more"),
        (["--resamples", "1"], "0 resamples, or 40 at least"),
        (["--resamples", "-1"], "0 resamples, or 40 at least"),
        (["--level", "0.99", "--resamples", "199"], "200 at least for a level of 0.99"),
        (["--classes", "-1"], "--classes takes 0"),
    ],
)
def test_wishes_that_cannot_be_met(
    right: Path, wrong: Path, capsys: pytest.CaptureFixture, words: list[str], message: str
) -> None:
    assert message in refused(capsys, right, wrong, *words)


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
    (other / "config.yaml").write_text("TEST: {OF_TOMORROW: 1}")
    found = compared(capsys, right, other)
    assert "TEST.OF_TOMORROW" in found["bootstrap"]["left_out"]


def test_predictions_of_another_run_are_noticed(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = shutil.copytree(wrong, tmp_path / "other")
    shutil.copy(right / "predictions.json", other)
    assert "they are not of one run" in compared(capsys, right, other)["bootstrap"]["left_out"]
    entries = json.loads((wrong / "predictions.json").read_text())
    fewer = [each for each in entries if each["image_id"] != entries[0]["image_id"]]
    first = [each for each in entries if each["image_id"] == entries[0]["image_id"]]
    wrongs = {
        '[{"image_id"': "predictions.json",
        json.dumps(fewer): "they are not of one run",
        json.dumps([*first, *entries]): "they are not of one run",
        json.dumps([*entries, {**entries[0], "image_id": 4}]): "no image or no class of the result",
        json.dumps([*entries, {**entries[0], "category_id": 4}]): "no image or no class of",
        json.dumps([*entries, {**entries[0], "bbox": [1, 2]}]): f"entry {len(entries)} of",
        json.dumps([{**entries[0], "bbox": [0, 0, 5, 10**400]}]): "entry 0 of",
        json.dumps([{**entries[0], "score": float("nan")}]): "entry 0 of",
        json.dumps([{"image_id": 1}]): "entry 0 of",
        json.dumps([5]): "predictions.json",
        "{}": "predictions.json",
    }
    for content, message in wrongs.items():
        (other / "predictions.json").write_text(content)
        found = compared(capsys, right, other)
        assert message in found["bootstrap"]["left_out"]
        assert found["metrics"][0]["intervals"] == [None]


def test_figures_of_another_kind_have_no_intervals(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = [edited(each, tmp_path / each.name, metric="panoptic") for each in (right, wrong)]
    for folder in folders:
        content = json.loads((folder / "results.json").read_text())
        content["metrics"] = {"PQ": content["metrics"]["AP"]}
        (folder / "results.json").write_text(json.dumps(content))
    found = compared(capsys, *folders)
    assert "is about PQ; intervals are made for AP, AP50" in found["bootstrap"]["left_out"]
    assert found["metrics"][0]["intervals"] == [None]


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


def test_classes_are_known_by_their_ids(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Other words for a class are what a comparison of wordings is about."""
    other = edited(wrong, tmp_path / "other", captions=["kitten. dog. owl"])
    content = json.loads((other / "results.json").read_text())
    content["per_class"][0]["name"] = "kitten"
    (other / "results.json").write_text(json.dumps(content))
    found = compared(capsys, right, other, "--vary", "captions")
    assert {each["name"] for each in found["per_class"]} == {"cat / kitten", "dog", "owl"}
    plain = compared(capsys, right, wrong)
    assert [each["values"] for each in found["per_class"]] == [
        each["values"] for each in plain["per_class"]
    ]


def test_settings_of_a_task_with_words_of_its_own(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """As ODinW's: names that replace those of the file, and a suffix."""
    folders = [shutil.copytree(each, tmp_path / each.name) for each in (right, wrong)]
    for folder in folders:
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        settings["DATASETS"] |= {
            "OVERRIDE_CATEGORY": [{"id": i, "name": f"class {i}"} for i in (3, 7, 11)],
            "USE_OVERRIDE_CATEGORY": True, "TEST_DATASETNAME_SUFFIX": "_grounding",
        }  # fmt: skip
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    found = compared(capsys, *folders)
    assert found["bootstrap"]["left_out"] is None
    assert found["metrics"] == compared(capsys, right, wrong)["metrics"]


def test_several_wordings_in_one_file_have_no_intervals(
    right: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    metric = "COCO box AP (pycocotools), of each of 2 wordings"
    folders = [edited(each, tmp_path / each.name, metric=metric, wordings={"file": "words.yaml"})
               for each in (right, wrong)]  # fmt: skip
    found = compared(capsys, *folders)
    assert "compare single ones" in found["bootstrap"]["left_out"]
    assert found["bootstrap"]["resamples"] == 0


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
        assert main([*shlex.split(line)[1:], "--resamples", "40"]) == 0, line
