"""The weights that a run left on the disk, loaded again and judged."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from yacs.config import CfgNode

from glipkit.data.build import build_test_sets
from glipkit.engine.checkpoint import weights_hash
from glipkit.evaluation.results import Results
from glipkit.programs.evaluation import judge, load_model, load_tokenizer
from glipkit.programs.training import Trained
from glipkit.runtime.distributed import is_main

logger = logging.getLogger(__name__)


def weights_to_judge(trained: Trained, *, skip_test: bool, only_best: bool) -> list[str]:
    """Which of a run's files are judged at its end.

    Args:
        trained: what the run left.
        skip_test: `--skip-test`: not the final weights.
        only_best: `--evaluate_only_best_on_test`: the best ones and no others; the final ones stand
            in where validation chose none.
    """
    best = ["best"] if trained.best_step is not None else []
    if only_best:
        return best or ["final"]
    if skip_test:
        return []
    mean = ["final_ema"] if trained.file("final_ema") in trained.saved else []
    return [*best, "final", *mean]


def judge_trained(
    cfg: CfgNode,
    trained: Trained,
    *,
    folder: Path,
    which: Sequence[str],
    device: torch.device,
) -> dict[str, Results]:
    """Judge the files of a run on DATASETS.TEST, or go on where that was interrupted.

    Args:
        cfg: of the run; its DATASETS.TEST may be another.
        trained: what the run left in `folder`.
        folder: of the run; results go below it, to `<which>/<dataset>`.
        which: of "best", "final", "final_ema".
        device: where to compute.

    Returns:
        "<which>/<dataset>" -> results.
    """
    found = {}
    test_sets = build_test_sets(cfg, load_tokenizer(cfg)) if which else []
    for kind in which:
        file = folder / trained.file(kind)
        if trained.is_partial:
            model = load_model(cfg, weight=trained.base, tuned=file)
        else:
            model = load_model(cfg, weight=str(file))
        model, digest = model.to(device), weights_hash(model)
        for test_set in test_sets:
            name = f"{kind}/{test_set.name}"
            found[name] = results = judge(
                *(cfg, model, test_set),
                folder=folder / name,
                digest=digest,
                device=device,
                resume=None,
            )
            if is_main():
                logger.info("%s weights of %s\n%s", kind, folder, results.report())
    return found
