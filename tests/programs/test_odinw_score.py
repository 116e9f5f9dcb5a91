"""Submissions judged against the data: perfect, shuffled, and of something else."""

import json
import random
from dataclasses import replace
from pathlib import Path

import drawn
import pytest
import yaml
from tiny_run import CONFIG

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import load_coco
from glipkit.programs.odinw import Asked
from glipkit.programs.odinw_score import judge_results, score
from glipkit.programs.odinw_table import make_columns

ASKED = Asked(config_file=str(CONFIG), overrides=(), folder=Path("nowhere"), weight="")


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    return drawn.draw(tmp_path / "drawn", num_images=8)


@pytest.fixture
def tasks(tmp_path: Path, spec: DatasetSpec) -> list[tuple[str, Path]]:
    entry = {"ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir)}
    datasets = {"REGISTER": {"val": entry, "test": entry}, "TEST": '("val",)'}
    (tmp_path / "Drawn.yaml").write_text(yaml.safe_dump({"DATASETS": datasets}))
    return [("Drawn", tmp_path / "Drawn.yaml")]


def perfect(spec: DatasetSpec) -> list[dict]:
    annotations = json.loads(spec.ann_file.read_text())["annotations"]
    keys = ("image_id", "category_id", "bbox")
    return [{**{key: each[key] for key in keys}, "score": 1.0} for each in annotations]


def save(tmp_path: Path, said: object) -> Path:
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(said))
    return path


def test_the_truth_scores_one_in_any_order(
    tmp_path: Path, spec: DatasetSpec, tasks: list[tuple[str, Path]]
) -> None:
    shuffled = random.Random(0).sample(perfect(spec), len(perfect(spec)))
    path = save(tmp_path, {"Drawn": {"3": perfect(spec), "30": shuffled, "300": []}})
    outcomes = score(path, tasks, ASKED)
    assert [each.job.seed for each in outcomes] == ["3", "30", "300"]
    assert [each.value for each in outcomes] == [1.0, 1.0, 0.0]


def test_a_seed_that_a_task_lacks_is_not_done(
    tmp_path: Path, spec: DatasetSpec, tasks: list[tuple[str, Path]]
) -> None:
    both = [*tasks, ("Again", tasks[0][1])]
    said = {"Drawn": {"3": perfect(spec), "30": []}, "Again": {"30": perfect(spec)}}
    outcomes = score(save(tmp_path, said), both, ASKED)
    assert [each.value for each in outcomes] == [1.0, 0.0, None, 1.0]
    (column,) = make_columns(outcomes)
    assert column.counted == ["Drawn"]
    assert str(column.cells["Again"]) == "100.0 (1 of 2)"
    for none in ({}, {"Drawn": {}}):
        (outcome,) = score(save(tmp_path, none), tasks, ASKED)
        assert outcome.found is None
    with pytest.raises(ValueError, match="by seed for some tasks"):
        score(save(tmp_path, {"Drawn": {"3": []}, "Again": []}), both, ASKED)


def test_only_the_pictures_that_were_asked_are_judged(
    tmp_path: Path, spec: DatasetSpec, tasks: list[tuple[str, Path]]
) -> None:
    of_three = {image["id"] for image in json.loads(spec.ann_file.read_text())["images"][:3]}
    said = {"Drawn": [each for each in perfect(spec) if each["image_id"] in of_three]}
    path = save(tmp_path, said)
    (whole,) = score(path, tasks, ASKED)
    (part,) = score(path, tasks, replace(ASKED, overrides=("TEST.SUBSET", "3")))
    assert whole.value < part.value == 1.0


def test_what_cannot_be_judged_is_left_out_if_asked(
    tmp_path: Path, spec: DatasetSpec, tasks: list[tuple[str, Path]]
) -> None:
    gone = (tmp_path / "Gone.yaml", tmp_path / "Drawn.yaml")
    gone[0].write_text(gone[1].read_text().replace("boxes.json", "nowhere.json"))
    path = save(tmp_path, {"Drawn": perfect(spec), "Gone": []})
    both = [*tasks, ("Gone", gone[0])]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        score(path, both, ASKED)
    right, wrong = score(path, both, replace(ASKED, keep_going=True))
    assert right.value == 1.0
    assert "nowhere.json" in wrong.error


def test_the_order_of_the_class_list_does_not_matter(spec: DatasetSpec) -> None:
    mixed = [{**each, "score": 1 / number} for number, each in enumerate(perfect(spec), start=1)]
    for each in mixed[::3]:
        each["category_id"] = 7
    before = judge_results(load_coco(spec), mixed, where="here")
    content = json.loads(spec.ann_file.read_text())
    spec.ann_file.write_text(json.dumps({**content, "categories": content["categories"][::-1]}))
    assert judge_results(load_coco(spec), mixed[::-1], where="here") == before
    assert 0 < before["AP"] < 1


def test_data_without_a_box_have_no_figure(spec: DatasetSpec) -> None:
    results = perfect(spec)
    content = json.loads(spec.ann_file.read_text())
    spec.ann_file.write_text(json.dumps({**content, "annotations": []}))
    assert judge_results(load_coco(spec), results, where="here")["AP"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": 4}, "1 image_ids that .* does not have: 4; it has 1000, 993"),
        ({"category_id": 2}, "1 category_ids that .* does not have: 2; it has 3, 7, 11"),
        ({"bbox": [1, 2, 3]}, "result 0 is not of COCO's form"),
        ({"score": float("nan")}, "result 0 is not of COCO's form"),
        ({"score": 10**400}, "result 0 is not of COCO's form"),
        ({"score": True}, "result 0 is not of COCO's form"),
        ({"image_id": "1000"}, "result 0 is not of COCO's form"),
        ({"category_id": True}, "result 0 is not of COCO's form"),
    ],
)
def test_results_of_something_else_are_refused(
    spec: DatasetSpec, change: dict[str, object], said: str
) -> None:
    results = perfect(spec)
    results[0] |= change
    with pytest.raises(ValueError, match=f"here: {said}"):
        judge_results(load_coco(spec), results, where="here")


def test_submissions_of_another_form_are_refused(
    tmp_path: Path, tasks: list[tuple[str, Path]]
) -> None:
    for said, problem in (
        ([], "expected {task: results}"),
        ({"Drown": []}, "results of Drown, which the command does not name"),
        ({"Drawn": 3}, "Drawn: expected a list of results, got int"),
    ):
        with pytest.raises(ValueError, match=problem):
            score(save(tmp_path, said), tasks, ASKED)
    path = tmp_path / "cut.json"
    path.write_text('{"Drawn": [')
    with pytest.raises(ValueError, match="cut short"):
        score(path, tasks, ASKED)
