"""A model, and its judgement on one test set: what every tool does in the same way."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from glipkit.config.load import to_yaml
from glipkit.data.test_set import ClassTestSet, TestSet
from glipkit.data.wording.build import CONFIGURED
from glipkit.data.wording_test_set import WordingTestSet
from glipkit.engine.checkpoint import load_weights, weights_hash
from glipkit.engine.tuned import has_prompt_offset, load_tuned, read_tuned
from glipkit.engine.weights import find_weights
from glipkit.evaluation.build import build_evaluator, describe_protocol, images_per_rank
from glipkit.evaluation.results import Results
from glipkit.evaluation.run import NothingReadError, evaluate
from glipkit.evaluation.wording import WordingEvaluator, best_run, run_folder
from glipkit.grounding.language_files import ROOTS
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_detector, build_joiner, build_model
from glipkit.modeling.glip import GLIP
from glipkit.runtime.distributed import is_main
from glipkit.runtime.files import write_atomically

logger = logging.getLogger(__name__)

CAPTIONS = "captions"  # in the header of a file of tuned weights


def load_tokenizer(cfg: CfgNode) -> Tokenizer:
    """What turns the words of a task into tokens."""
    return Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE)


def offset_override(tuned: str | Path | None) -> list[str]:
    """What has to be overridden for a model to have room for what `tuned` learnt."""
    if tuned is None or not has_prompt_offset(tuned):
        return []
    return ["MODEL.DYHEAD.FUSE_CONFIG.ADD_LINEAR_LAYER", "True"]


def spoken(test_sets: Sequence[TestSet]) -> dict[str, str]:
    """What tuned weights say of the captions they were chosen by, for the header of their file."""
    captions = [caption for test_set in test_sets for caption in test_set.captions]
    return {CAPTIONS: json.dumps(list(dict.fromkeys(captions)))} if captions else {}


def warn_of_other_captions(tuned: str | Path | None, test_sets: Sequence[TestSet]) -> None:
    """Say so when a learned prompt meets captions it was not learnt with.

    A prompt offset belongs to token positions (BEHAVIOUR 16): under other words it means nothing.
    """
    if tuned is None or not has_prompt_offset(tuned):
        return
    known = json.loads(read_tuned(tuned)[1].get(CAPTIONS, "[]"))
    strange = [c for test_set in test_sets for c in test_set.captions if known and c not in known]
    if strange:
        logger.warning(
            "the prompt of %s was learnt with %r, but is used with %r: a learned prompt belongs to "
            "the positions of its own words, so these figures say little",
            *(str(tuned), known[0], strange[0]),
        )
    warn_of_several_prompts(test_sets)


def warn_of_several_prompts(test_sets: Sequence[TestSet]) -> None:
    """Say so where a learned prompt, which training lays over all names at once, meets a few."""
    for each in test_sets:
        if isinstance(each, ClassTestSet) and len(each.prompts) > 1:
            logger.warning(
                "%s asks its %d classes in %d prompts, and a learned prompt belongs to the "
                "positions of one caption with all of them: TEST.CHUNKED_EVALUATION -1 asks as "
                "many as fit",
                *(each.name, len(each.category_ids), len(each.prompts)),
            )


def check_all_judged(results: Mapping[str, Results | None]) -> None:
    """Refuse to call an evaluation done that left out test sets; None stands for those.

    Raises:
        ValueError: names them.
    """
    if missing := [name for name, found in results.items() if found is None]:
        raise ValueError(
            f"{len(missing)} of {len(results)} test sets were not judged, as none of their images "
            f"could be read: {', '.join(missing)}"
        )


def load_model(
    cfg: CfgNode,
    *,
    weight: str,
    tuned: str | Path | None = None,
    partial: bool = False,
    roots: Sequence[str | Path] = ROOTS,
) -> GLIP:
    """The model of a configuration with the weights of a file, for evaluation.

    Args:
        cfg: the configuration.
        weight: a path, or a name in MODEL/; see `find_weights`.
        tuned: what fine-tuning saved on top of them (`glipkit.engine.tuned`).
        partial: load what fits of `weight` instead of refusing a file that does not fit.
        roots: where a text encoder is looked for, in order.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file does not fit the model, or `tuned` was made for other weights.
    """
    path = find_weights(weight)  # before anything large is made
    model = build_model(cfg, roots=roots)
    load_weights(model, path, strict=not partial, roots=roots)
    if tuned is not None:
        load_tuned(model, tuned, base_hash=weights_hash(model))
    return model.eval()


def judge(
    cfg: CfgNode,
    model: GLIP,
    test_set: TestSet,
    *,
    folder: Path,
    digest: str,
    device: torch.device,
    resume: bool | None = False,
    strict: bool = False,
) -> Results:
    """Evaluate a model on one test set; leaves results, predictions and configuration in `folder`.

    Args:
        cfg: the configuration of the task.
        model: on `device`, in evaluation mode.
        test_set: one of the task's.
        folder: where everything goes.
        digest: `weights_hash(model)`.
        device: where the model is.
        resume: go on from the predictions in `folder`; None: if they are of this very evaluation.
        strict: stop at the first picture that cannot be read.
    """
    joiner = build_joiner(cfg)
    evaluator = build_evaluator(test_set, cfg)
    results = evaluate(
        build_detector(cfg, model, joiner).each,
        test_set,
        evaluator,
        output_dir=folder,
        depends_on=describe_protocol(cfg, weights=digest),
        settings=cfg,
        batch_size=images_per_rank(cfg),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        device=device,
        resume=resume,
        strict=strict or cfg.TEST.STRICT,
        join=joiner,
    )
    if is_main():
        write_atomically(folder / "config.yaml", to_yaml(cfg))
        if isinstance(evaluator, WordingEvaluator):
            _write_runs(cfg, test_set, evaluator, folder, results)
    return results


def judge_if_readable(*what: Any, **how: Any) -> Results | None:
    """As `judge`; None, with a log line, where not one picture of the test set can be read."""
    try:
        return judge(*what, **how)
    except NothingReadError as error:
        logger.error("%s", error)
        return None


def _write_runs(
    cfg: CfgNode,
    test_set: WordingTestSet,
    evaluator: WordingEvaluator,
    folder: Path,
    results: Results,
) -> None:
    """Leave every wording as if it had been evaluated alone, with what would do that."""
    settings = {}
    for run in test_set.runs:
        alone = settings[run.name] = cfg.clone()
        alone.defrost()
        if run.name != CONFIGURED:
            alone.DATASETS.USE_CAPTION_PROMPT = True
            alone.DATASETS.CAPTION_PROMPT = [dict(said) for said in run.said]
        alone.freeze()
        write_atomically(run_folder(folder, run.name) / "config.yaml", to_yaml(alone))
    evaluator.write(folder, results, settings)


def to_look_at(test_set: TestSet, folder: Path) -> tuple[TestSet, Path]:
    """What to draw of an evaluation, and where its results lie: of several wordings the best.

    Args:
        test_set: what was judged.
        folder: where `judge` left its results.
    """
    if not isinstance(test_set, WordingTestSet):
        return test_set, folder
    name = best_run(folder)
    run = next(run for run in test_set.runs if run.name == name)
    return run.test_set, run_folder(folder, name)
