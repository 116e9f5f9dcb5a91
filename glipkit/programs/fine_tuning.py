"""All runs of one fine-tuning command: each trained, judged from the disk, and set side by side."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from yacs.config import CfgNode

from glipkit.config.load import load_tasks, to_yaml
from glipkit.data.annotation_digest import annotation_digest
from glipkit.data.build import build_test_sets, find_test_sets
from glipkit.data.few_shot import prepared_few_shot
from glipkit.engine.launch import is_defect
from glipkit.programs.evaluation import load_tokenizer
from glipkit.programs.fine_tuning_plan import PlannedRun
from glipkit.programs.summary import RunResult, table, write_summary
from glipkit.programs.trained import judge_trained, weights_to_judge
from glipkit.programs.training import Trained, train_model
from glipkit.runtime.distributed import from_main, is_main, world_size
from glipkit.runtime.files import write_atomically
from glipkit.structures.figures import deciding

logger = logging.getLogger(__name__)

RESULT = "result.json"


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of the tool that every run shares."""

    config_file: str
    overrides: tuple[str, ...]  # KEY VALUE ... of the command line
    output_dir: Path
    weight: str | None = None  # --weight; None: MODEL.WEIGHT
    partial: bool = False
    skip_test: bool = False
    only_best: bool = False  # --evaluate_only_best_on_test
    push_both: bool = False  # --push_both_val_and_test
    allow_changes: bool = False
    tensorboard: bool = False


def fine_tune(
    runs: Sequence[PlannedRun], options: Options, *, device: torch.device
) -> list[RunResult]:
    """Make every run, one after the other; leaves summary.json and prints nothing.

    Everything that can be known to be wrong is looked for in all runs before the first one starts.
    A run that fails all the same, for lack of memory, say, is named in the summary, and the next
    one begins (in one process; with several the others could not know, so there the program ends).

    Args:
        runs: which.
        options: of the command line.
        device: of this rank.
    """
    ready = [(run, run_settings(run, options)) for run in runs]
    for run, cfg in ready:
        build_test_sets(judged_settings(run, cfg, options), load_tokenizer(cfg))
    results = []
    for number, (run, cfg) in enumerate(ready, start=1):
        logger.info("run %d of %d: %s", number, len(ready), run.name)
        try:
            results.append(fine_tune_one(run, cfg, options, device))
        except Exception as error:
            if is_defect(error) or world_size() > 1 or len(ready) == 1:
                raise
            logger.error("%s failed: %s", run.name, error)
            results.append(_failed(run, error))
        if is_main():
            write_summary(options.output_dir, results)
            logger.info("so far:\n%s", table(results))
    return results


def run_settings(run: PlannedRun, options: Options, *more: str) -> CfgNode:
    """The configuration of a run, with the few-shot validation data that is prepared for it."""
    overrides = [*options.overrides, *run.overrides(), *more]
    overrides += ["OUTPUT_DIR", str(options.output_dir / run.name)]
    files = [run.task_file] if run.task_file else []
    (task,) = load_tasks(options.config_file, files, overrides, training=True, quiet=True)
    datasets = task.cfg.DATASETS
    if more or not datasets.FEW_SHOT:
        return task.cfg
    names = [
        prepared_few_shot(
            name,
            shots=datasets.FEW_SHOT,
            seed=datasets.SHUFFLE_SEED,
            registered=datasets.REGISTER,
            suffix=datasets.TEST_DATASETNAME_SUFFIX,
            instead="validation looks at all of it",
        )
        or name
        for name in datasets.TEST
    ]
    return run_settings(run, options, "DATASETS.TEST", repr(tuple(names)))


def judged_settings(run: PlannedRun, cfg: CfgNode, options: Options) -> CfgNode:
    """How a run is judged: on `test` where the task has one, and on what was validated on.

    Args:
        run: as planned.
        cfg: what it trained with.
        options: of the whole call.
    """
    names = tuple(cfg.DATASETS.TEST)
    if "test" in cfg.DATASETS.REGISTER and "test" not in names:
        names = (*names, "test") if options.push_both else ("test",)
    return run_settings(run, options, "DATASETS.TEST", repr(names))


def fine_tune_one(
    run: PlannedRun, cfg: CfgNode, options: Options, device: torch.device
) -> RunResult:
    """Train as planned, or go on with it, and judge what comes out; leaves result.json there.

    Args:
        run: which.
        cfg: its `run_settings`.
        options: of the command line.
        device: of this rank.
    """
    folder = Path(cfg.OUTPUT_DIR)
    trained = train_model(
        cfg,
        folder=folder,
        weight=cfg.MODEL.WEIGHT if options.weight is None else options.weight,
        device=device,
        partial=options.partial,
        allow_changes=options.allow_changes,
        tensorboard=options.tensorboard,
    )
    which = weights_to_judge(trained, skip_test=options.skip_test, only_best=options.only_best)
    tested = judged_settings(run, cfg, options)
    settings = hashlib.sha256(to_yaml(tested).encode()).hexdigest()
    asked = {
        "which": which,
        "settings": settings,
        "run": trained.digest,
        "annotations": from_main(
            lambda: {spec.name: annotation_digest(spec) for spec in find_test_sets(tested)}
        ),
    }
    figures, unreadable = from_main(lambda: _known(folder, asked)), 0  # all ranks judge, or none
    if figures is None:
        found = judge_trained(tested, trained, folder=folder, which=which, device=device)
        figures = {
            name: results.metrics[deciding(results.metrics)] for name, results in found.items()
        }
        unreadable = sum(len(results.failures) for results in found.values())
    result = _result(run, trained, figures)
    if is_main():
        said = {"asked": asked, "unreadable": unreadable, **result.to_json()}
        write_atomically(folder / RESULT, json.dumps(said, indent=2) + "\n")
    return result


def _known(folder: Path, asked: dict[str, object]) -> dict[str, float | None] | None:
    """The figures of a run that this command, started before, has already judged.

    Pictures that could not be read may have been mended: then there are none yet.
    """
    try:
        said = json.loads((folder / RESULT).read_text())
        return said["figures"] if said["asked"] == asked and not said["unreadable"] else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%r): judged again", folder / RESULT, error)
        return None


def _result(run: PlannedRun, trained: Trained, figures: dict[str, float | None]) -> RunResult:
    return RunResult(
        name=run.name,
        group=run.group,
        steps=trained.steps,
        best_step=trained.best_step,
        best_val=trained.best_ap,
        figures=figures,
        saved=trained.saved,
        trained_parameters=trained.trained_parameters,
    )


def _failed(run: PlannedRun, error: Exception) -> RunResult:
    return RunResult(
        name=run.name,
        group=run.group,
        steps=0,
        best_step=None,
        best_val=None,
        figures={},
        saved={},
        trained_parameters=0,
        failed=str(error) or repr(error),
    )
