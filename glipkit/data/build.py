"""cfg -> test sets and training batches: the parts list of everything that is fetched."""

import logging
import math
from dataclasses import replace
from pathlib import Path

from yacs.config import CfgNode

from glipkit.data.caption_test_set import make_caption_test_set
from glipkit.data.catalog import DatasetSpec, find_dataset
from glipkit.data.datasets.captioned_pictures import CaptionedPictures, load_captioned
from glipkit.data.datasets.coco import CocoDetection, load_coco
from glipkit.data.datasets.lvis import load_lvis, refuse_lvis
from glipkit.data.test_set import ClassTestSet, TestSet
from glipkit.data.training.build import build_train_loader
from glipkit.data.transforms import TestTransform
from glipkit.data.views import View, report_sides
from glipkit.data.wording.build import Asking, build_asking, build_wordings
from glipkit.data.wording_test_set import WordingRun, make_wording_test_set
from glipkit.grounding.tokenizer import Tokenizer

__all__ = ["build_test_sets", "build_test_transform", "build_train_loader"]

logger = logging.getLogger(__name__)


def build_test_sets(
    cfg: CfgNode, tokenizer: Tokenizer, *, wordings: str | Path | None = None
) -> list[TestSet]:
    """The datasets of DATASETS.TEST, each with its prompts.

    Classes are asked in prompts that all pictures share; of a dataset of captions every picture is
    asked its own. A caption may have any number of phrases, whatever
    TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM says.

    Args:
        cfg: the configuration.
        tokenizer: of the text encoder.
        wordings: a file of prompts (`docs/prompt_tuning.md`); each picture is asked all of them.

    Raises:
        ValueError: DATASETS.TEST is empty, a name is unknown, a dataset is of a kind that cannot
            be judged, or an annotation file is broken.
        FileNotFoundError: an annotation file or an image folder is not there.
    """
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST names no dataset; name at least one, e.g. ('val',)")
    specs = find_test_sets(cfg)
    for spec in specs:  # before the first of them is loaded
        _check_kind(spec, task=cfg.TEST.EVAL_TASK)
        _check_words(cfg, spec, wordings)
        _check_truth(spec, truth=cfg.DATASETS.FLICKR_GT_TYPE)
        spec.check_files()
    return [_seen_in_views(cfg, _build_test_set(cfg, spec, tokenizer, wordings)) for spec in specs]


def find_test_sets(cfg: CfgNode) -> list[DatasetSpec]:
    """Where the datasets of DATASETS.TEST lie; nothing is read.

    Raises:
        ValueError: a name is unknown.
    """
    words = cfg.DATASETS
    suffix = words.TEST_DATASETNAME_SUFFIX
    return [find_dataset(name, registered=words.REGISTER, suffix=suffix) for name in words.TEST]


def load_labelled(cfg: CfgNode, spec: DatasetSpec) -> CocoDetection:
    """The classes and boxes of one of `find_test_sets`, as DATASETS.* and TEST.SUBSET want them.

    Raises:
        ValueError: the annotation file is broken, or its classes are not those of the settings.
        FileNotFoundError: it or the image folder is not there.
    """
    words = cfg.DATASETS
    is_lvis = spec.kind == "lvis"
    dataset = (load_lvis if is_lvis else load_coco)(
        spec,
        override_categories=words.OVERRIDE_CATEGORY if words.USE_OVERRIDE_CATEGORY else None,
    )
    if not is_lvis:
        refuse_lvis(dataset)
    return dataset.first(cfg.TEST.SUBSET) if cfg.TEST.SUBSET > 0 else dataset


def load_captions(cfg: CfgNode, spec: DatasetSpec) -> CaptionedPictures:
    """The captions and boxes of one of `find_test_sets`, as DATASETS.* and TEST.SUBSET want them.

    Raises:
        ValueError, FileNotFoundError: as `load_captioned`.
    """
    dataset = load_captioned(spec, merged=cfg.DATASETS.FLICKR_GT_TYPE == "merged")
    return dataset.first(cfg.TEST.SUBSET) if cfg.TEST.SUBSET > 0 else dataset


def build_test_transform(cfg: CfgNode) -> TestTransform:
    """What INPUT.* says about test pictures."""
    return _test_transform(cfg, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)


def build_views(cfg: CfgNode) -> tuple[View, ...]:
    """What TEST.* says about asking a picture several times; empty where it is asked once, plainly.

    With TEST.USE_MULTISCALE these are the sizes of TEST.SCALES; a special NMS alone joins the
    candidates of the one size of INPUT.*.
    """
    test = cfg.TEST
    if test.USE_MULTISCALE:
        ranges = test.RANGES or ((0, math.inf),) * len(test.SCALES)
        return tuple(
            View(_test_transform(cfg, size, test.MAX_SIZE), test.FLIP, tuple(box_range))
            for size, box_range in zip(test.SCALES, ranges)
        )
    return () if test.SPECIAL_NMS == "none" else (View(build_test_transform(cfg)),)


def _seen_in_views(cfg: CfgNode, test_set: TestSet) -> TestSet:
    views = build_views(cfg)
    if any(view.flip for view in views):
        indices = range(1 if test_set.captions else len(test_set))  # or all are asked the same
        flags = [flag for index in indices for flag in test_set.stay_true_mirrored(index)]
        report_sides(test_set.name, flags.count(False), len(flags))
    return replace(test_set, views=views) if views else test_set


def _test_transform(cfg: CfgNode, min_size: int, max_size: int) -> TestTransform:
    return TestTransform(
        min_size=min_size,
        max_size=max_size,
        mean=tuple(cfg.INPUT.PIXEL_MEAN),
        std=tuple(cfg.INPUT.PIXEL_STD),
        pixel_format="bgr255" if cfg.INPUT.TO_BGR255 else "rgb",
    )


def _build_test_set(
    cfg: CfgNode, spec: DatasetSpec, tokenizer: Tokenizer, wordings: str | Path | None
) -> TestSet:
    if spec.has_captions:
        return _build_caption_test_set(cfg, spec, tokenizer)
    dataset = load_labelled(cfg, spec)
    names = [category.name for category in dataset.categories]

    def asked(asking: Asking) -> ClassTestSet:
        return ClassTestSet(
            dataset=dataset,
            prompts=asking.questions.prompts,
            captions=asking.questions.captions,
            category_ids=tuple(category.category_id for category in dataset.categories),
            knowledge=asking.knowledge,
            transform=build_test_transform(cfg),
            divisor=cfg.DATALOADER.SIZE_DIVISIBILITY,
        )

    if wordings is None:
        test_set: TestSet = asked(build_asking(cfg, names, tokenizer))
    else:
        askings, source = build_wordings(cfg, names, tokenizer, wordings)
        runs = [WordingRun(name=a.name, test_set=asked(a), said=a.said) for a in askings]
        test_set = make_wording_test_set(runs, source)
    logger.info(
        "%s: %d images, %d categories, %d %s",
        dataset.name,
        len(dataset),
        len(dataset.categories),
        len(test_set.captions),
        "prompt" if len(test_set.captions) == 1 else "prompts",
    )
    return test_set


def _build_caption_test_set(cfg: CfgNode, spec: DatasetSpec, tokenizer: Tokenizer) -> TestSet:
    return make_caption_test_set(
        load_captions(cfg, spec),
        tokenizer,
        max_tokens=cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN,
        transform=build_test_transform(cfg),
        divisor=cfg.DATALOADER.SIZE_DIVISIBILITY,
    )


def _check_kind(spec: DatasetSpec, *, task: str) -> None:
    if spec.kind == "tsv":
        raise ValueError(
            f"dataset {spec.name!r} keeps pictures and boxes in TSV files, which glipkit reads for "
            "training only; to evaluate, name its COCO json and image folder in DATASETS.REGISTER"
        )
    if task == "grounding" and not spec.has_captions:
        raise ValueError(
            f"TEST.EVAL_TASK is 'grounding', but dataset {spec.name!r} has classes, not captions; "
            "set TEST.EVAL_TASK detection (or, if its file has captions, kind: grounding in "
            "DATASETS.REGISTER)"
        )
    if task == "detection" and spec.has_captions:
        raise ValueError(
            f"TEST.EVAL_TASK is 'detection', but dataset {spec.name!r} has captions, not classes; "
            "set TEST.EVAL_TASK grounding, or leave it out: then every dataset is judged as what "
            "it is"
        )


def _check_words(cfg: CfgNode, spec: DatasetSpec, wordings: str | Path | None) -> None:
    """What is said about classes says nothing about captions."""
    if not spec.has_captions:
        return
    given = {
        f"prompts {wordings}": wordings is not None,
        f"GLIPKNOW.KNOWLEDGE_FILE {cfg.GLIPKNOW.KNOWLEDGE_FILE}": cfg.GLIPKNOW.KNOWLEDGE_FILE,
        "GLIPKNOW.PARALLEL_LANGUAGE_INPUT True": cfg.GLIPKNOW.PARALLEL_LANGUAGE_INPUT,
    }
    for what in (name for name, is_given in given.items() if is_given):
        raise ValueError(
            f"{what}: words classes, but dataset {spec.name!r} has captions, which are asked as "
            "they stand; leave it out, or name a dataset with classes in DATASETS.TEST"
        )


def _check_truth(spec: DatasetSpec, *, truth: str) -> None:
    if spec.has_captions and truth == "separate" and "mergedGT" in spec.ann_file.name:
        raise ValueError(
            f"dataset {spec.name!r}: {spec.ann_file.name} has one merged box for each phrase, but "
            'DATASETS.FLICKR_GT_TYPE is "separate": figures of the protocol "merged" would be '
            'called "any"; set DATASETS.FLICKR_GT_TYPE merged, or name the file with separateGT'
        )
