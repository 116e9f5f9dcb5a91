"""What one ODinW command asks for: modes, tasks, shots and seeds become a list of jobs."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glipkit.programs.fine_tuning_plan import PlannedRun, Recipe

ZERO_SHOT = "zero-shot"
TUNING = ("full", "linear_prob", *(f"language_prompt_v{number}" for number in (1, 2, 3, 4)))
MODES = (ZERO_SHOT, *TUNING)
SEEDS = (3, 30, 300)  # of the published few-shot files
# Epochs and copies of the data in an epoch for each number of shots, as published (DESIGN 6).
RECIPES = {shots: Recipe(shots, 200, copies) for shots, copies in
           ((1, 8), (3, 4), (5, 2), (10, 1), (0, 1))}  # fmt: skip
# The authors' 36 files hold this data set in two sizes; ODinW-35 counts the other one.
_NOT_COUNTED = {"35": {"plantdoc_100x100"}}

# How the published figures were made (DESIGN 6). Overrides of the command line win.
_WORDS = (
    *("DATASETS.USE_OVERRIDE_CATEGORY", "True", "DATASETS.USE_CAPTION_PROMPT", "True"),
    *("DATASETS.TRAIN_DATASETNAME_SUFFIX", "_grounding", "TEST.EVAL_TASK", "detection"),
)
_RATES = (
    *("SOLVER.USE_AMP", "True", "SOLVER.WEIGHT_DECAY", "0.05", "SOLVER.MODEL_EMA", "0.0"),
    *("SOLVER.IMS_PER_BATCH", "4", "TEST.IMS_PER_BATCH", "4", "TEST.DURING_TRAINING", "True"),
    *("SOLVER.USE_AUTOSTEP", "True", "SOLVER.STEP_PATIENCE", "3"),
    *("SOLVER.AUTO_TERMINATE_PATIENCE", "8", "SOLVER.CHECKPOINT_PER_EPOCH", "1.0"),
    *("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "2", "MODEL.DYHEAD.USE_CHECKPOINT", "True"),
    *("SOLVER.FIND_UNUSED_PARAMETERS", "False", "DATASETS.DISABLE_SHUFFLE", "True"),
    # A model's own file may say otherwise for its pre-training.
    *("SOLVER.USE_COSINE", "False", "SOLVER.USE_EMA_FOR_MONITOR", "False"),
)
_PROMPT_RATES = ("SOLVER.BASE_LR", "0.05", "SOLVER.WEIGHT_DECAY", "0.25")
_LEARNS_PROMPT = ("language_prompt_v2", "language_prompt_v4")


@dataclass(frozen=True, slots=True)
class Job:
    """One task, asked as it is or after one fine-tuning."""

    mode: str
    task: str
    task_file: Path
    recipe: Recipe | None = None  # None: zero-shot
    seed: int | None = None  # None: nothing is drawn

    @property
    def run(self) -> PlannedRun:
        """The fine-tuning of it."""
        return PlannedRun(self.task_file, self.task, self.recipe, self.seed)

    @property
    def name(self) -> str:
        """The folder of the job below OUTPUT_DIR."""
        return f"{self.mode}/{self.run.name}"

    @property
    def shots(self) -> str:
        """How much data, as "3_shot" or "all_data"; nothing for zero-shot."""
        return self.recipe.name if self.recipe else ""

    @property
    def column(self) -> str:
        """Jobs of one column of the table differ in their task and seed only."""
        return f"{self.mode} {self.shots}".strip()


def published_overrides(mode: str) -> list[str]:
    """KEY VALUE pairs with which figures of this mode were published.

    Args:
        mode: one of `MODES`.

    Raises:
        ValueError: it is none of them.
    """
    if mode not in MODES:
        raise ValueError(f"--mode {mode!r} is unknown; known: {', '.join(MODES)}")
    if mode == ZERO_SHOT:
        return list(_WORDS)
    rates = [*_RATES, *(_PROMPT_RATES if mode in _LEARNS_PROMPT else ())]
    return [*_WORDS, *rates, "SOLVER.TUNING_HIGHLEVEL_OVERRIDE", mode]


def suite_files(suite: str, configs: Path) -> list[Path]:
    """The task files of "13" or "35".

    Args:
        suite: which.
        configs: the folder that holds odinw_13 and odinw_35.

    Raises:
        FileNotFoundError: the folder has no task files.
    """
    folder = configs / f"odinw_{suite}"
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise FileNotFoundError(
            f"no task files in {folder.absolute()}; run this tool of a checkout, or name the files "
            "with --task_config"
        )
    return [file for file in found if file.stem not in _NOT_COUNTED.get(suite, ())]


def split_words(text: str) -> list[str]:
    """The words of "raccoon, bccd", without what is empty."""
    return [word.strip() for word in text.split(",") if word.strip()]


def choose_modes(text: str, *, split: str = "") -> list[str]:
    """The modes of "zero-shot, full"; none means zero-shot.

    Args:
        text: as typed after `--mode`.
        split: of `--split`, which fine-tuned models know nothing of.

    Raises:
        ValueError: a mode would overlook `split`.
    """
    modes = split_words(text) or [ZERO_SHOT]
    if split and (tuned := [mode for mode in modes if mode != ZERO_SHOT]):
        raise ValueError(
            f"--split is for zero-shot; models of {', '.join(tuned)} are judged on test. Leave it "
            "out, or run zero-shot alone"
        )
    return modes


def choose_tasks(
    tasks: Sequence[tuple[str, Path]], wanted: Sequence[str]
) -> list[tuple[str, Path]]:
    """Those of `tasks` that somebody named, in the order of `tasks`.

    Args:
        tasks: name and file of each.
        wanted: names, or beginnings of names that fit one task only, whatever their case; none
            means all.

    Raises:
        ValueError: a name fits no task or several; says which there are.
    """
    chosen: set[str] = set()
    names = [name for name, _ in tasks]
    for word in wanted:
        same = [name for name in names if name.lower() == word.lower()]
        found = same or [name for name in names if name.lower().startswith(word.lower())]
        if len(found) != 1:
            near = found or difflib.get_close_matches(word, names, n=3, cutoff=0.3) or names
            problem = "fits several tasks" if found else "is no task here"
            raise ValueError(f"--tasks {word!r} {problem}: {', '.join(near)}")
        chosen.update(found)
    return [(name, file) for name, file in tasks if not wanted or name in chosen]


def choose_recipes(shots: Sequence[int], custom: Sequence[Recipe]) -> list[Recipe]:
    """How to train with each number of shots: as published, where nothing else is asked.

    Raises:
        ValueError: a number of shots is given twice or has no recipe, or a recipe has no shots.
    """
    mine = {recipe.shots: recipe for recipe in custom}
    if len(set(shots)) < len(shots) or len(mine) < len(custom):
        raise ValueError("a number of shots is given twice in --shots or --recipe")
    if idle := [str(each) for each in mine if each not in shots]:
        raise ValueError(f"--recipe is for {', '.join(idle)} shots, which --shots does not name")
    unknown = [each for each in shots if each not in {**RECIPES, **mine}]
    if unknown:
        raise ValueError(
            f"there is no published recipe for {unknown[0]} shots (there is for "
            f"{', '.join(map(str, sorted(RECIPES)))}; 0 is all data); say epochs and copies with "
            f"--recipe {unknown[0]}_200_4"
        )
    return [{**RECIPES, **mine}[each] for each in shots]


def plan_jobs(
    modes: Sequence[str],
    tasks: Sequence[tuple[str, Path]],
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
) -> list[Job]:
    """Mode by mode, recipe by recipe, seed by seed, task by task: whole columns come first.

    All data leave a seed nothing to draw, so they are trained on once, from the first seed.

    Args:
        modes: what learns.
        tasks: (name, task file) pairs.
        recipes: shots and epochs.
        seeds: of the draws of shots.

    Raises:
        ValueError: a mode or seed is given twice, or there is nothing to tune with.
    """
    for what, values in (("mode", modes), ("seed", seeds)):
        if len(set(values)) < len(values):
            raise ValueError(f"a {what} is given twice: {', '.join(map(str, values))}")
    for flag, values, example in (("--seeds", seeds, "3,30,300"), ("--shots", recipes, "1,3,0")):
        if not values and any(mode != ZERO_SHOT for mode in modes):
            raise ValueError(f"{flag} is empty; name at least one, as {example}")
    jobs = []
    for mode in modes:
        if mode == ZERO_SHOT:
            jobs += [Job(mode, name, file) for name, file in tasks]
            continue
        jobs += [
            Job(mode, name, file, recipe, seed)
            for recipe in recipes
            for seed in (seeds if recipe.shots else seeds[:1])
            for name, file in tasks
        ]
    return jobs
