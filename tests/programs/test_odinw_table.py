"""The table and the submissions of an ODinW run."""

import json
from pathlib import Path

import pytest

from glipkit.programs.fine_tuning_plan import Recipe
from glipkit.programs.odinw_plan import Job
from glipkit.programs.odinw_table import (
    Outcome,
    make_columns,
    paper_table,
    text_table,
    write_report,
    write_submission,
)

THREE = Recipe(3, 200, 4)


def outcome(
    task: str, ap: float | None, *, mode: str = "full", seed: int | None = 3, shots: int = 3
) -> Outcome:
    recipe = None if mode == "zero-shot" else Recipe(shots, 200, 1)
    job = Job(mode, task, Path(f"{task}.yaml"), recipe, None if recipe is None else seed)
    found = {"metrics": {"AP": ap}, "predictions": {"file": "predictions.json"}}
    return Outcome(job, found)


def undone(task: str, seed: int, error: str = "") -> Outcome:
    return Outcome(Job("full", task, Path(f"{task}.yaml"), THREE, seed), error=error)


def save_predictions(folder: Path, outcomes: list[Outcome]) -> None:
    for each in outcomes:
        place = folder / each.job.name
        place.mkdir(parents=True)
        said = [{"image_id": len(each.job.task), "category_id": each.job.seed or 0}]
        (place / "predictions.json").write_text(json.dumps(said))


def test_mean_and_median_are_over_tasks_and_their_deviation_over_seeds() -> None:
    figures = {("a", 3): 0.1, ("b", 3): 0.2, ("c", 3): 0.6, ("a", 30): 0.3, ("b", 30): 0.4,
               ("c", 30): 0.8}  # fmt: skip
    (column,) = make_columns([outcome(task, ap, seed=seed) for (task, seed), ap in figures.items()])
    assert column.mean.mean == pytest.approx(0.4)
    assert column.mean.deviation == pytest.approx(0.2 / 2**0.5)  # of 0.3 and 0.5
    assert column.median.mean == pytest.approx(0.3)  # of 0.2 and 0.4
    assert column.cells["a"].spread.mean == pytest.approx(0.2)
    assert str(column.cells["a"]) == "20.0 ± 14.1"


def test_what_has_no_figure_is_named_and_not_counted() -> None:
    outcomes = [outcome("a", 0.5), outcome("b", None), undone("c", 3, "no folder"), undone("d", 3)]
    (column,) = make_columns(outcomes)
    said = column.to_json()
    assert said["mean"]["mean"] == 0.5
    assert (said["tasks_counted"], said["tasks_asked"]) == (1, 4)
    assert said["without_boxes"] == ["full/b/3_shot/seed_3"]
    assert said["failed"] == {"full/c/3_shot/seed_3": "no folder"}
    assert said["not_done"] == ["full/d/3_shot/seed_3"]
    table = text_table([column])
    assert [line.split()[-1] for line in table.splitlines()[1:5]] == ["50.0", "n/a", "failed", "-"]
    assert "1 of 4" in table
    assert "failed: c: no folder" in table
    assert "no box to find: full/b/3_shot/seed_3" in table


def test_figures_of_one_seed_are_put_together_in_whatever_order_they_come() -> None:
    figures = {("a", 3): 0.1, ("a", 30): 0.3, ("b", 30): 0.5, ("b", 3): 0.3}
    outcomes = [outcome(task, ap, seed=seed) for (task, seed), ap in figures.items()]
    (column,) = make_columns(outcomes)
    assert column.mean.deviation == pytest.approx(0.2 / 2**0.5)  # of 0.2 and 0.4, not 0.3 and 0.3
    (column,) = make_columns(outcomes[:-1])  # b lacks a seed that a has
    assert column.counted == ["a"]
    assert column.mean.mean == pytest.approx(0.2)


def test_pictures_that_could_not_be_read_are_told() -> None:
    blind = outcome("a", 0.5)
    blind.found["unreadable"] = 2
    (column,) = make_columns([blind, outcome("b", 0.5)])
    assert column.to_json()["with_unreadable_pictures"] == ["full/a/3_shot/seed_3"]
    for table in (text_table([column]), paper_table([column])):
        assert "could not be read, whose boxes count as missed: full/a/3_shot/seed_3" in table


def test_a_task_that_fails_alike_from_every_seed_is_told_once() -> None:
    outcomes = [undone("a", seed, "no folder") for seed in (3, 30)] + [undone("a", 300, "no room")]
    (column,) = make_columns(outcomes)
    assert list(column.to_json()["failed"].values()) == ["no folder", "no folder", "no room"]
    said = [line for line in text_table([column]).splitlines() if line.startswith("failed")]
    assert said == ["failed: a: no folder", "failed: a: no room"]


def test_a_task_without_all_seeds_says_so() -> None:
    (column,) = make_columns([outcome("a", 0.5), undone("a", 30)])
    assert str(column.cells["a"]) == "50.0 (1 of 2)"
    assert column.mean.mean is None


def test_the_papers_table_has_a_column_for_each_task() -> None:
    tasks = ("AerialMaritimeDrone_large", "PascalVOC", "Raccoon_Raccoon.v2-raw.coco",
             "OxfordPets_by-breed", "OxfordPets_by-species")  # fmt: skip
    outcomes = [outcome(task, 0.5, mode="zero-shot") for task in tasks]
    rows = paper_table(make_columns(outcomes)).splitlines()
    assert rows[0] == (
        "|  | PascalVOC | AerialMaritimeDrone | OxfordPets_by-breed | OxfordPets_by-species | "
        "Raccoon | mean | median | tasks |"
    )
    assert rows[2] == "| zero-shot | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 5 of 5 |"


def test_few_shots_are_handed_in_by_seed(tmp_path: Path) -> None:
    outcomes = [outcome(task, 0.5, seed=seed) for seed in (3, 30) for task in ("b", "aa")]
    save_predictions(tmp_path, outcomes)
    path = write_submission(tmp_path, [*outcomes, undone("c", 3), undone("c", 30)])
    assert path == tmp_path / "full" / "submission_3_shot.json"
    assert json.loads(path.read_text()) == {
        "aa": {
            "3": [{"image_id": 2, "category_id": 3}],
            "30": [{"image_id": 2, "category_id": 30}],
        },
        "b": {
            "3": [{"image_id": 1, "category_id": 3}],
            "30": [{"image_id": 1, "category_id": 30}],
        },
    }


@pytest.mark.parametrize(
    ("mode", "name"), [("zero-shot", "submission.json"), ("full", "submission_all_data.json")]
)
def test_one_run_a_task_is_handed_in_without_seeds(tmp_path: Path, mode: str, name: str) -> None:
    outcomes = [outcome(task, 0.5, mode=mode, shots=0) for task in ("b", "aa")]
    save_predictions(tmp_path, outcomes)
    write_report(tmp_path, outcomes)
    said = json.loads((tmp_path / mode / name).read_text())
    assert {task: len(found) for task, found in said.items()} == {"aa": 1, "b": 1}
    assert said["b"][0]["image_id"] == 1
    summary = json.loads((tmp_path / mode / "summary.json").read_text())
    (column,) = summary["columns"].values()
    assert column["mean"]["mean"] == 0.5
    assert column["tasks"]["b"]["seeds"] == ({} if mode == "zero-shot" else {"3": 0.5})


def test_nothing_done_is_nothing_to_hand_in(tmp_path: Path) -> None:
    assert write_submission(tmp_path, [undone("c", 3)]) is None
    before = outcome("c", 0.5)
    save_predictions(tmp_path, [before])
    path = write_submission(tmp_path, [before])
    assert path.is_file()
    assert write_submission(tmp_path, [undone("c", 3)]) is None  # other settings, and it failed
    assert not path.exists()
