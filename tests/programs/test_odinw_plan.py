"""Which jobs one ODinW command asks for."""

from pathlib import Path

import pytest

from glipkit.programs.fine_tuning_plan import Recipe
from glipkit.programs.odinw_plan import (
    MODES,
    ZERO_SHOT,
    choose_modes,
    choose_recipes,
    choose_tasks,
    plan_jobs,
    published_overrides,
    suite_files,
)

CONFIGS = Path(__file__).parents[2] / "configs"
TASKS = [("Raccoon", Path("raccoon.yaml")), ("Rabbits", Path("rabbits.yaml"))]


@pytest.mark.parametrize("suite", ["13", "35"])
def test_a_suite_has_as_many_tasks_as_its_name_says(suite: str) -> None:
    names = [file.stem for file in suite_files(suite, CONFIGS)]
    assert len(names) == int(suite)
    assert "plantdoc_100x100" not in names


def test_a_suite_without_files_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="odinw_13"):
        suite_files("13", tmp_path)


def test_jobs_come_mode_by_mode_and_seed_by_seed() -> None:
    recipes = choose_recipes([0, 3], [])
    jobs = plan_jobs([ZERO_SHOT, "full"], TASKS, recipes, [3, 30])
    assert [job.name for job in jobs] == [
        *("zero-shot/Raccoon", "zero-shot/Rabbits"),
        *("full/Raccoon/all_data/seed_3", "full/Rabbits/all_data/seed_3"),
        *("full/Raccoon/3_shot/seed_3", "full/Rabbits/3_shot/seed_3"),
        *("full/Raccoon/3_shot/seed_30", "full/Rabbits/3_shot/seed_30"),
    ]
    assert [job.column for job in jobs[::2]] == [
        *("zero-shot", "full all_data", "full 3_shot", "full 3_shot")
    ]


def test_shots_are_trained_as_published_unless_a_recipe_says_otherwise() -> None:
    published = choose_recipes([1, 3, 5, 10, 0], [])
    assert [(each.epochs, each.copies) for each in published] == [
        *((200, 8), (200, 4), (200, 2), (200, 1), (200, 1))
    ]
    mine = [Recipe(3, 1, 1), Recipe(2, 5, 1)]
    assert choose_recipes([1, 3, 2], mine) == [Recipe(1, 200, 8), *mine]


@pytest.mark.parametrize(
    ("shots", "custom", "said"),
    [
        ([3, 3], [], "given twice"),
        ([2], [], "--recipe 2_200_4"),
        ([1], [Recipe(3, 1, 1)], "for 3 shots, which --shots does not name"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(
    shots: list[int], custom: list[Recipe], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        choose_recipes(shots, custom)


def test_tasks_are_chosen_by_the_beginning_of_their_name() -> None:
    assert choose_tasks(TASKS, []) == TASKS
    assert choose_tasks(TASKS, ["rab", "RACCOON"]) == TASKS
    with pytest.raises(ValueError, match="fits several tasks: Raccoon, Rabbits"):
        choose_tasks(TASKS, ["ra"])
    with pytest.raises(ValueError, match="'Racoon' is no task here: Raccoon"):
        choose_tasks(TASKS, ["Racoon"])


@pytest.mark.parametrize(
    ("modes", "seeds", "said"),
    [
        (["full", "full"], [3], "mode is given twice"),
        (["full"], [3, 3], "seed is given twice"),
        (["full"], [], "--seeds is empty"),
    ],
)
def test_plans_that_make_no_sense_are_refused(
    modes: list[str], seeds: list[int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        plan_jobs(modes, TASKS, choose_recipes([3], []), seeds)


def test_modes_are_split_at_commas() -> None:
    assert choose_modes("zero-shot, full,") == ["zero-shot", "full"]
    assert choose_modes("", split="val") == ["zero-shot"]
    with pytest.raises(ValueError, match="models of full are judged on test"):
        choose_modes("zero-shot,full", split="val")


def test_tuning_takes_a_number_of_shots() -> None:
    with pytest.raises(ValueError, match="--shots is empty"):
        plan_jobs([ZERO_SHOT, "full"], TASKS, [], [3])
    assert len(plan_jobs([ZERO_SHOT], TASKS, [], [])) == 2


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="known: zero-shot, full"):
        published_overrides("few")


@pytest.mark.parametrize("mode", MODES)
def test_published_settings_come_in_pairs_and_name_the_mode(mode: str) -> None:
    words = published_overrides(mode)
    settings = dict(zip(words[::2], words[1::2]))
    assert len(words) % 2 == 0
    assert settings["DATASETS.USE_OVERRIDE_CATEGORY"] == "True"
    assert settings.get("SOLVER.TUNING_HIGHLEVEL_OVERRIDE") == (None if mode == ZERO_SHOT else mode)
    learns_prompt = mode in ("language_prompt_v2", "language_prompt_v4")
    assert (settings.get("SOLVER.BASE_LR") == "0.05") == learns_prompt
