"""Judge an ODinW submission, from here or from anywhere, against the data of the tasks."""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glipkit.data.build import find_test_sets, load_labelled
from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.datasets.json_values import first_few, is_integer, is_number
from glipkit.evaluation.coco import CocoEvaluator
from glipkit.programs.odinw import Asked, zero_shot_settings
from glipkit.programs.odinw_plan import Job
from glipkit.programs.odinw_table import Outcome

logger = logging.getLogger(__name__)


def score(path: Path, tasks: Sequence[tuple[str, Path]], asked: Asked) -> list[Outcome]:
    """Figures of `{task: COCO results}` or `{task: {seed: COCO results}}`.

    Classes are told by their ids, pictures by theirs, seeds by their words. No order matters but
    that of equally scored boxes of one class in one picture: COCO AP takes the first one first.

    Args:
        path: the submission.
        tasks: name and file of each that may be in it; those that are not count as not done.
        asked: of the command; its `split` says on which data, its overrides on how much of them,
            its `keep_going` leaves out a task that cannot be judged.

    Returns:
        An outcome for each task and seed.

    Raises:
        ValueError: the file has another form, or names a task, a picture or a class that is not
            there.
        FileNotFoundError: the data of a task in it are not there.
    """
    said = _read(path)
    if strange := sorted(set(said) - {name for name, _ in tasks}):
        raise ValueError(
            f"{path} has results of {', '.join(strange)}, which the command does not name; its "
            f"tasks are {', '.join(name for name, _ in tasks)}"
        )
    by_seed = {name: f if isinstance(f, dict) else {None: f} for name, f in said.items()}
    seeds = list(dict.fromkeys(seed for found in by_seed.values() for seed in found)) or [None]
    if None in seeds and len(seeds) > 1:
        raise ValueError(f"{path} has results by seed for some tasks, without seeds for others")
    outcomes = []
    for name, file in tasks:
        jobs = [Job("submission", name, file, seed=seed) for seed in seeds]
        try:
            outcomes += _of_task(jobs, by_seed.get(name, {}), asked, where=f"{path}, {name}")
        except (ValueError, OSError) as error:
            if not asked.keep_going:
                raise
            logger.error("%s is left out: %s", name, error)
            outcomes += [Outcome(job, error=str(error)) for job in jobs]
    return outcomes


def _of_task(
    jobs: Sequence[Job], found: dict[str | None, Any], asked: Asked, *, where: str
) -> list[Outcome]:
    """An outcome for each seed; one that has no results is not done."""
    if not found:
        return [Outcome(job) for job in jobs]
    cfg = zero_shot_settings(jobs[0], asked)
    (spec,) = find_test_sets(cfg)
    dataset = load_labelled(cfg, spec)
    outcomes = []
    for job in jobs:
        place = where if job.seed is None else f"{where}, seed {job.seed}"
        results = found.get(job.seed)
        metrics = judge_results(dataset, results, where=place) if job.seed in found else None
        outcomes.append(Outcome(job, metrics and {"metrics": metrics}))
    return outcomes


def judge_results(dataset: CocoDetection, results: Any, *, where: str) -> dict[str, float | None]:
    """COCO AP and its kin of results that somebody made.

    Args:
        dataset: the truth.
        results: in COCO's result format.
        where: they stand, for messages.

    Raises:
        ValueError: they are not of that form, or speak of pictures or classes that are not there.
    """
    if not isinstance(results, list):
        raise ValueError(f"{where}: expected a list of results, got {type(results).__name__}")
    for number, each in enumerate(results):
        if not _is_result(each):
            raise ValueError(
                f"{where}: result {number} is not of COCO's form (image_id, category_id, bbox "
                f"[x, y, width, height], score; finite numbers): {json.dumps(each)[:200]}"
            )
    known = {
        "image_id": [image.image_id for image in dataset.images],
        "category_id": [category.category_id for category in dataset.categories],
    }
    for key, there in known.items():
        strange = sorted({each[key] for each in results} - set(there), key=str)
        if strange:
            raise ValueError(
                f"{where}: {len(strange)} {key}s that {dataset.ann_file} does not have: "
                f"{first_few(strange)}; it has {first_few(there)}. Are the results of another "
                "split, or are classes counted from another number?"
            )
    judge = _Given(dataset, known["category_id"])
    judge.given = results
    return judge.evaluate().metrics


class _Given(CocoEvaluator):
    """Judges what is given as it is, to the last bit, instead of detections."""

    given: list[dict[str, Any]]

    def predictions(self) -> list[dict[str, Any]]:
        """What was given."""
        return self.given


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON, or cut short: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path}: expected {{task: results}}, got {type(said).__name__}")
    return said


def _is_result(each: Any) -> bool:
    if not isinstance(each, dict) or not isinstance(each.get("bbox"), list):
        return False
    numbers = [*each["bbox"], each.get("score")]
    ids = (each.get("image_id"), each.get("category_id"))
    return (
        len(numbers) == 5
        and all(is_number(value) and math.isfinite(value) for value in numbers)
        and all(map(is_integer, ids))
    )
