"""Which runs one fine-tuning command asks for."""

from pathlib import Path

import pytest

from glipkit.programs.fine_tuning_plan import Recipe, parse_seeds, plan_runs


def test_recipes_read_as_published() -> None:
    recipe = Recipe.parse("3_200_4")
    assert recipe == Recipe(shots=3, epochs=200, copies=4)
    assert recipe.overrides() == [
        *("DATASETS.FEW_SHOT", "3", "SOLVER.MAX_EPOCH", "200", "DATASETS.GENERAL_COPY", "4")
    ]
    assert Recipe.parse("0_200_1").name == "all_data"


@pytest.mark.parametrize("text", ["3_200", "3_200_4_5", "a_b_c", "3_0_4", "3_200_0", "-1_2_3", ""])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SHOTS_EPOCHS_COPIES"):
        Recipe.parse(text)


def test_every_task_with_every_recipe_from_every_seed() -> None:
    tasks = [("a", Path("a.yaml")), ("b", Path("b.yaml"))]
    runs = plan_runs(tasks, [Recipe(3, 200, 4), Recipe(0, 200, 1)], [3, 30])
    assert [run.name for run in runs] == [
        *("a/3_shot/seed_3", "a/3_shot/seed_30", "a/all_data/seed_3", "a/all_data/seed_30"),
        *("b/3_shot/seed_3", "b/3_shot/seed_30", "b/all_data/seed_3", "b/all_data/seed_30"),
    ]
    assert len({run.group for run in runs}) == 4
    assert runs[1].overrides()[-4:] == ["DATASETS.SHUFFLE_SEED", "30", "SOLVER.SEED", "30"]


def test_without_recipe_or_seed_the_files_decide() -> None:
    (run,) = plan_runs([("a", None)], [], [])
    assert run.name == "a"
    assert run.overrides() == []


def test_what_is_given_twice_is_refused() -> None:
    tasks = [("a", None)]
    with pytest.raises(ValueError, match="seed is given twice: 3, 3"):
        plan_runs(tasks, [], [3, 3])
    with pytest.raises(ValueError, match="recipe is given twice"):
        plan_runs(tasks, [Recipe(3, 1, 1), Recipe(3, 2, 1)], [])


def test_seeds_are_numbers() -> None:
    assert parse_seeds("3, 30,300") == [3, 30, 300]
    assert parse_seeds("") == []
    with pytest.raises(ValueError, match="numbers from 0 with commas"):
        parse_seeds("3;30")
