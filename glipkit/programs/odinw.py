"""The ODinW suites: every task, zero-shot or fine-tuned, by as many processes as work on the list.

Each process walks over the same list and takes what nobody has taken. A claim is a lock that the
kernel drops with its process, so what a killed one began is free at once, and goes on where it was.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from glipkit.config.load import load_tasks
from glipkit.data.build import build_test_sets
from glipkit.engine.build import build_tuning_plan
from glipkit.engine.checkpoint import weights_hash
from glipkit.engine.launch import is_defect
from glipkit.engine.weights import find_weights
from glipkit.modeling.build import build_learner, build_model
from glipkit.modeling.glip import GLIP
from glipkit.programs.evaluation import judge, load_model, load_tokenizer
from glipkit.programs.fine_tuning import (
    RESULT,
    Options,
    fine_tune_one,
    judged_settings,
    run_settings,
)
from glipkit.programs.odinw_job import Ready, make_ready
from glipkit.programs.odinw_plan import ZERO_SHOT, Job, published_overrides
from glipkit.programs.odinw_table import Outcome, write_report, write_tables
from glipkit.runtime.distributed import from_main, is_main, world_size
from glipkit.runtime.locks import FolderLock

logger = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds between two looks at what other processes still do


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command says beside the list of jobs."""

    config_file: str
    overrides: tuple[str, ...]  # KEY VALUE ... of the command line
    folder: Path  # OUTPUT_DIR
    weight: str
    split: str = ""  # zero-shot: the dataset to judge on; "": `test` where the task has one
    partial: bool = False  # --partial-weight
    keep_going: bool = False

    def options(self, mode: str) -> Options:
        """The flags of a fine-tuning."""
        return Options(
            config_file=self.config_file,
            overrides=(*published_overrides(mode), *self.overrides),
            output_dir=self.folder / mode,
            weight=self.weight,
            partial=self.partial,
            only_best=True,
            allow_changes=True,  # what matters is compared by `Ready`, weights by their bytes
        )


def prepare(jobs: Sequence[Job], asked: Asked) -> tuple[list[Ready], list[Outcome]]:
    """Find out what of the list can be done, before any of it is.

    Args:
        jobs: the list.
        asked: the rest of the command.

    Returns:
        The jobs that can be done, and with `keep_going` those that cannot, with the reason.

    Raises:
        FileNotFoundError, ValueError: the data or settings of a task are not usable; all of them
            are named. Or the weights are not there.
    """
    weights = find_weights(asked.weight)
    ready: list[Ready] = []
    faults: dict[str, Exception] = {}  # by task
    for job in jobs:
        if job.task in faults:
            continue
        try:
            each = make_ready(
                *(job, *_settings(job, asked), asked.folder),
                weights=weights,
                partial=asked.partial,
            )
            if not any(other.job.task == job.task for other in ready):  # once for each task
                build_test_sets(each.judged, load_tokenizer(each.judged))
            ready.append(each)
        except (ValueError, OSError) as error:
            faults[job.task] = error
    if faults and not asked.keep_going:
        rows = "\n".join(f"  {task}: {error}" for task, error in faults.items())
        kind = FileNotFoundError if _all_missing(faults.values()) else ValueError
        raise kind(
            f"{len(faults)} of {len({job.task for job in jobs})} tasks cannot be run:\n{rows}\n"
            "Nothing was started; --keep-going leaves them out"
        )
    for task, error in faults.items():
        logger.error("%s is left out: %s", task, error)
    _check_modes(ready)
    failed = [Outcome(job, error=str(faults[job.task])) for job in jobs if job.task in faults]
    return [each for each in ready if each.job.task not in faults], failed


def _check_modes(ready: Sequence[Ready]) -> None:
    """Find out whether what a mode trains may be trained, with a model that has no weights.

    Raises:
        ValueError: a key freezes it.
    """
    for mode, cfg in {each.job.mode: each.cfg for each in ready}.items():
        if mode != ZERO_SHOT:
            with torch.device("meta"):
                learner = build_learner(cfg, build_model(cfg))
            build_tuning_plan(cfg, learner.model, learner.criterion)


def run_jobs(
    ready: Sequence[Ready], failed: Sequence[Outcome], asked: Asked, *, device: torch.device
) -> list[Outcome]:
    """Do the list together with whoever else works on it; all ranks call this.

    Leaves the tables after every job and the submissions at the end. A process ends when the whole
    list is done, so that each has the whole table, and the jobs of a killed one are taken over.

    Args:
        ready: the jobs, from `prepare`.
        failed: those that cannot be done, from `prepare`.
        asked: the rest of the command.
        device: of this rank.

    Returns:
        An outcome for each job, in the order of `ready`, then `failed`.

    Raises:
        ValueError, OSError: a job failed, and `keep_going` is not set (or there are several ranks,
            where the others could not know).
    """
    worker = _Worker(asked, device)
    known: dict[str, Outcome] = {}
    waits = False
    while True:
        busy = []
        for each in ready:
            if each.job.name in known:
                continue
            outcome = worker.take(each, len(known), len(ready))
            if outcome is None:
                busy.append(each.job.name)
                continue
            known[each.job.name] = outcome
            if is_main() and not outcome.found_done:
                write_tables(asked.folder, [*_outcomes(ready, known), *failed])
        if not busy:
            break
        if not waits:
            logger.info("waiting for what other processes do: %s", ", ".join(busy))
        waits = True
        time.sleep(_PATIENCE)
    outcomes = [*_outcomes(ready, known), *failed]
    if is_main():
        write_report(asked.folder, outcomes)
    return outcomes


def plan_lines(ready: Sequence[Ready], failed: Sequence[Outcome]) -> list[str]:
    """What `run_jobs` would do, a line for each job, and how many there are of each kind."""
    states = {each.job.name: each.state() for each in ready}
    lines = [f"{state:<6} {name}" for name, state in states.items()]
    lines += [f"fault  {each.job.name}: {each.error}" for each in failed]
    counts = {state: list(states.values()).count(state) for state in ("done", "begun", "new")}
    said = [f"{count} {state}" for state, count in counts.items()]
    return [*lines, f"{len(ready) + len(failed)} jobs: {', '.join(said)}, {len(failed)} fault"]


class _Worker:
    """Takes jobs, one at a time; keeps the model of zero-shot between two of them."""

    def __init__(self, asked: Asked, device: torch.device) -> None:
        self.asked, self.device = asked, device
        self._model: GLIP | None = None
        self._digest = ""
        self._seconds: list[float] = []  # that jobs took here

    def take(self, ready: Ready, num_done: int, num_jobs: int) -> Outcome | None:
        """Do a job, or read what was done; None while another process has it."""
        found = from_main(ready.result)
        if found is not None:
            return Outcome(ready.job, found, found_done=True)
        claim: FolderLock | None = None

        def try_claim() -> str:
            nonlocal claim
            claim = _claim(self.asked.folder, ready.job)
            if claim is None:
                return "busy"
            return ready.begin()

        try:
            state = from_main(try_claim)
            if state == "busy":
                return None
            if state == "done":  # between the first look and the claim
                return Outcome(ready.job, from_main(ready.result), found_done=True)
            logger.info("job %d of %d: %s%s%s", num_done + 1, num_jobs, ready.job.name,
                        ", which was begun" * (state == "begun"),
                        self._left(num_jobs - num_done))  # fmt: skip
            return self._do(ready)
        finally:
            if claim is not None:
                claim.release()

    def _do(self, ready: Ready) -> Outcome:
        started = time.monotonic()
        try:
            work = self._ask if ready.job.mode == ZERO_SHOT else self._tune
            found = work(ready)
        except Exception as error:
            if is_defect(error) or world_size() > 1 or not self.asked.keep_going:
                raise
            logger.error("%s failed: %s", ready.job.name, error)
            return Outcome(ready.job, error=str(error) or repr(error))
        self._seconds.append(time.monotonic() - started)
        return Outcome(ready.job, found)

    def _left(self, num_jobs: int) -> str:
        if not self._seconds:
            return ""
        minutes = num_jobs * sum(self._seconds) / len(self._seconds) / 60
        return f"; {num_jobs} to go, alone about {minutes:.0f} minutes at this pace"

    def _ask(self, ready: Ready) -> dict[str, Any]:
        """Judge the weights as they are."""
        cfg, asked = ready.judged, self.asked
        if self._model is None:
            model = load_model(cfg, weight=asked.weight, partial=asked.partial)
            self._model, self._digest = model.to(self.device), weights_hash(model)
        (test_set,) = build_test_sets(cfg, load_tokenizer(cfg))
        results = judge(
            *(cfg, self._model, test_set),
            folder=ready.folder,
            digest=self._digest,
            device=self.device,
            resume=None,
        )
        if is_main():
            logger.info("%s\n%s", ready.job.name, results.report())
        return from_main(lambda: ready.finish(ready.folder, {}))

    def _tune(self, ready: Ready) -> dict[str, Any]:
        """Fine-tune, or go on with it, and judge the weights that validation chose."""
        self._model = None  # its memory is needed
        # A finished run whose predictions were lost is judged again.
        from_main(lambda: (ready.folder / RESULT).unlink(missing_ok=True))
        result = fine_tune_one(
            ready.job.run, ready.cfg, self.asked.options(ready.job.mode), self.device
        )
        (judged,) = result.figures  # "best/test", say
        more = {
            "weights": judged.split("/")[0],
            "steps": result.steps,
            "best_step": result.best_step,
            "best_val": result.best_val,
            "trained_parameters": result.trained_parameters,
            "saved": dict(result.saved),
        }
        return from_main(lambda: ready.finish(ready.folder / judged, more))


def zero_shot_settings(job: Job, asked: Asked) -> CfgNode:
    """The configuration to judge a task with; DATASETS.TEST is the one dataset that is judged.

    Raises:
        ValueError: the task file names several, or something that cannot be set.
    """
    overrides = [*published_overrides(ZERO_SHOT), *asked.overrides]

    def load(*more: str) -> CfgNode:
        words = [*overrides, *more, "OUTPUT_DIR", str(asked.folder / job.name)]
        return load_tasks(asked.config_file, [job.task_file], words, quiet=True)[0].cfg

    cfg = load()
    has_test = "test" in cfg.DATASETS.REGISTER
    if split := asked.split or ("test" if has_test else ""):
        cfg = load("DATASETS.TEST", repr((split,)))
    return _of_one_dataset(job, cfg)


def _settings(job: Job, asked: Asked) -> tuple[CfgNode, CfgNode]:
    """The configurations of a job to train and to judge with."""
    if job.recipe is None:
        cfg = zero_shot_settings(job, asked)
        return cfg, cfg
    options = asked.options(job.mode)
    cfg = run_settings(job.run, options)
    return cfg, _of_one_dataset(job, judged_settings(job.run, cfg, options))


def _of_one_dataset(job: Job, cfg: CfgNode) -> CfgNode:
    names = tuple(cfg.DATASETS.TEST)
    if len(names) != 1:
        raise ValueError(
            f"{job.task_file} is judged on `test` of DATASETS.REGISTER or on the one dataset that "
            f"DATASETS.TEST names; it has no `test`, and DATASETS.TEST is {names}"
        )
    return cfg


def _claim(folder: Path, job: Job) -> FolderLock | None:
    """The right to do a job, until it is released or this process ends; None: another has it."""
    try:
        return FolderLock(folder / ".claims" / job.name)
    except ValueError:
        return None


def _outcomes(ready: Sequence[Ready], known: dict[str, Outcome]) -> list[Outcome]:
    """What is known of each job; of those in other processes' hands what is on the disk."""
    return [known.get(each.job.name) or Outcome(each.job, each.result()) for each in ready]


def _all_missing(faults: Iterable[Exception]) -> bool:
    return all(isinstance(fault, FileNotFoundError) for fault in faults)
