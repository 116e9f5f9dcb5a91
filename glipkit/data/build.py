"""cfg -> test sets and training batches: the parts list of everything that is fetched."""

import logging

from yacs.config import CfgNode

from glipkit.data.catalog import DatasetSpec, find_dataset
from glipkit.data.datasets.coco import load_coco
from glipkit.data.test_set import TestSet
from glipkit.data.training.build import build_train_loader
from glipkit.data.transforms import TestTransform
from glipkit.grounding.captions import class_prompts
from glipkit.grounding.tokenizer import Tokenizer

__all__ = ["build_test_sets", "build_test_transform", "build_train_loader"]

logger = logging.getLogger(__name__)


def build_test_sets(cfg: CfgNode, tokenizer: Tokenizer) -> list[TestSet]:
    """The datasets of DATASETS.TEST, each with its prompts.

    Raises:
        ValueError: DATASETS.TEST is empty, a name is unknown, a dataset is of a kind that cannot
            be judged, or an annotation file is broken.
        FileNotFoundError: an annotation file or an image folder is not there.
    """
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST names no dataset; name at least one, e.g. ('val',)")
    specs = [
        find_dataset(
            name, registered=cfg.DATASETS.REGISTER, suffix=cfg.DATASETS.TEST_DATASETNAME_SUFFIX
        )
        for name in cfg.DATASETS.TEST
    ]
    for spec in specs:  # before the first of them is loaded
        _check_kind(spec, task=cfg.TEST.EVAL_TASK)
        spec.check_files()
    return [_build_test_set(cfg, spec, tokenizer) for spec in specs]


def build_test_transform(cfg: CfgNode) -> TestTransform:
    """What INPUT.* says about test pictures."""
    return TestTransform(
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        mean=tuple(cfg.INPUT.PIXEL_MEAN),
        std=tuple(cfg.INPUT.PIXEL_STD),
        pixel_format="bgr255" if cfg.INPUT.TO_BGR255 else "rgb",
    )


def _build_test_set(cfg: CfgNode, spec: DatasetSpec, tokenizer: Tokenizer) -> TestSet:
    words = cfg.DATASETS
    dataset = load_coco(
        spec,
        override_categories=words.OVERRIDE_CATEGORY if words.USE_OVERRIDE_CATEGORY else None,
    )
    if cfg.TEST.SUBSET > 0:
        dataset = dataset.first(cfg.TEST.SUBSET)

    max_tokens = cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN
    prompts = class_prompts(
        [category.name for category in dataset.categories],
        tokenizer,
        chunk_size=cfg.TEST.CHUNKED_EVALUATION,
        max_tokens=max_tokens,
        separator=words.SEPARATION_TOKENS,
        caption_prompts=words.CAPTION_PROMPT if words.USE_CAPTION_PROMPT else None,
    )
    logger.info(
        "%s: %d images, %d categories, %d %s",
        dataset.name,
        len(dataset),
        len(dataset.categories),
        len(prompts),
        "prompt" if len(prompts) == 1 else "prompts",
    )
    return TestSet(
        dataset=dataset,
        prompts=tuple(tokenizer(prompt, max_tokens=max_tokens) for prompt in prompts),
        captions=tuple(prompt.caption for prompt in prompts),
        category_ids=tuple(category.category_id for category in dataset.categories),
        transform=build_test_transform(cfg),
        divisor=cfg.DATALOADER.SIZE_DIVISIBILITY,
    )


def _check_kind(spec: DatasetSpec, *, task: str) -> None:
    if spec.kind == "tsv":
        raise ValueError(
            f"dataset {spec.name!r} keeps pictures and boxes in TSV files, which glipkit reads for "
            "training only; to evaluate, name its COCO json and image folder in DATASETS.REGISTER"
        )
    if task == "grounding" and spec.kind == "coco":
        raise ValueError(
            f"TEST.EVAL_TASK is 'grounding', but dataset {spec.name!r} has classes, not captions; "
            "set TEST.EVAL_TASK detection"
        )
    reasons = {
        "lvis": "is labelled like LVIS (not exhaustively) and needs LVIS AP",
        "grounding": "consists of captions with boxes and needs phrase recall",
    }
    if spec.kind in reasons:
        message = (
            f"dataset {spec.name!r} {reasons[spec.kind]}, which this version of glipkit does not "
            "compute; COCO AP would mislead"
        )
        if spec.kind == "lvis":
            message += (
                '. To have it all the same, name the file in DATASETS.REGISTER with kind: "coco"'
            )
        raise ValueError(message)
