"""Which fine-tuning runs one command asks for: every task, with every recipe, from every seed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_RECIPE = re.compile(r"(\d+)_(\d+)_(\d+)")


@dataclass(frozen=True, slots=True)
class Recipe:
    """`--custom_shot_and_epoch_and_general_copy` S_E_C: how much data, and how often it is seen."""

    shots: int  # pictures are taken until every class has this many boxes; 0: all data
    epochs: int  # passes over the (copied) data
    copies: int  # times each epoch shows the data

    @classmethod
    def parse(
        cls, text: str, *, flag: str = "--custom_shot_and_epoch_and_general_copy"
    ) -> "Recipe":
        """Read "3_200_4".

        Args:
            text: as typed.
            flag: after which, for messages.

        Raises:
            ValueError: it has another form, or no epoch or copy.
        """
        found = _RECIPE.fullmatch(text.strip())
        if found is None or int(found[2]) < 1 or int(found[3]) < 1:
            raise ValueError(
                f"{flag} takes SHOTS_EPOCHS_COPIES, such as 3_200_4 (3 shots per class, 200 "
                f"epochs, 4 copies) or 0_200_1 (all data), got {text!r}"
            )
        return cls(*map(int, found.groups()))

    @property
    def name(self) -> str:
        """How folders and tables call it."""
        return f"{self.shots}_shot" if self.shots else "all_data"

    def overrides(self) -> list[str]:
        """KEY VALUE pairs that ask for it."""
        return [
            *("DATASETS.FEW_SHOT", str(self.shots)),
            *("SOLVER.MAX_EPOCH", str(self.epochs)),
            *("DATASETS.GENERAL_COPY", str(self.copies)),
        ]


def parse_seeds(text: str, *, flag: str = "--seeds") -> list[int]:
    """Read "3,30,300"; empty text is no seed.

    Args:
        text: as typed.
        flag: after which, for messages.

    Raises:
        ValueError: something in it is no number from 0.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if any(not word.isdecimal() for word in words):
        raise ValueError(f"{flag} takes numbers from 0 with commas between, got {text!r}")
    return [int(word) for word in words]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One training: a task, a recipe (None: as the files say), a seed (None: as they say)."""

    task_file: Path | None  # None: the model's own file says what to do
    task: str
    recipe: Recipe | None
    seed: int | None

    @property
    def group(self) -> str:
        """Runs that differ only in their seed share this name."""
        return f"{self.task}/{self.recipe.name}" if self.recipe else self.task

    @property
    def name(self) -> str:
        """The folder of the run below OUTPUT_DIR."""
        return self.group if self.seed is None else f"{self.group}/seed_{self.seed}"

    def overrides(self) -> list[str]:
        """KEY VALUE pairs that this run adds to those of the command line.

        A seed decides which pictures few-shot draws, and everything else that is random.
        """
        pairs = self.recipe.overrides() if self.recipe else []
        if self.seed is not None:
            seed = str(self.seed)
            pairs += ["DATASETS.SHUFFLE_SEED", seed, "SOLVER.SEED", seed]
        return pairs


def plan_runs(
    tasks: Sequence[tuple[str, Path | None]], recipes: Sequence[Recipe], seeds: Sequence[int]
) -> list[PlannedRun]:
    """Task by task, recipe by recipe, seed by seed.

    Args:
        tasks: name and file of each.
        recipes: none means what the files say.
        seeds: none means what the files and overrides say.

    Raises:
        ValueError: a recipe or a seed is given twice, or two recipes have the same shots.
    """
    for what, values in (("recipe", [each.shots for each in recipes]), ("seed", list(seeds))):
        if len(set(values)) < len(values):
            raise ValueError(f"a {what} is given twice: {', '.join(map(str, values))}")
    return [
        PlannedRun(file, name, recipe, seed)
        for name, file in tasks
        for recipe in (recipes or [None])
        for seed in (seeds or [None])
    ]
