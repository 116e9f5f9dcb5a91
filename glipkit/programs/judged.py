"""What the results of an earlier evaluation were judged by, made ready for weights on pictures."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.data.catalog import DatasetSpec, find_dataset
from glipkit.data.datasets.captioned_pictures import load_captioned
from glipkit.data.datasets.coco import CocoDetection, load_coco
from glipkit.data.datasets.lvis import LvisDetection, load_lvis
from glipkit.evaluation.phrase_answers import PhraseAnswers
from glipkit.evaluation.resampling import Weighable
from glipkit.evaluation.results_file import ResultsFile
from glipkit.evaluation.weighed_coco import WeighedCoco
from glipkit.evaluation.weighed_lvis import WeighedLvis
from glipkit.evaluation.weighed_phrases import weigh_phrases

_NEAR = 1e-6  # of a figure that was judged again


class NotJudgedAgain(ValueError):
    """An evaluation whose figures stand, but whose pictures cannot be weighed; says why."""


def weigh(results: ResultsFile, *, annotations: Path | None = None) -> Weighable:
    """Judge the predictions beside a results.json once more, picture by picture.

    Args:
        results: of one evaluation, with predictions.json and config.yaml beside it. The pictures
            themselves are not needed.
        annotations: the annotation file, if it is not where config.yaml says.

    Raises:
        NotJudgedAgain: a file is missing, has changed since, or is of a kind that is not weighed.
    """
    predictions = _predictions(results)
    cfg = load_config([_beside(results, "config.yaml")], quiet=True)
    try:
        spec = judged_spec(cfg, results.content["dataset"])
        folder = spec.ann_file.parent  # of pictures, of which none is read
        spec = replace(spec, img_dir=folder)
        if annotations is not None:
            spec = replace(spec, ann_file=annotations, img_dir=annotations.parent, sources=())
        weighed = _weighed(cfg, spec, results, predictions)
    except NotJudgedAgain:
        raise
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise NotJudgedAgain(f"{results.path}: {error}") from error
    _check_figures(results, weighed)
    return weighed


def judged_spec(cfg: CfgNode, name: str) -> DatasetSpec:
    """Where a dataset of DATASETS.TEST lies.

    Args:
        cfg: what was evaluated.
        name: of the dataset, as results.json has it.

    Raises:
        ValueError: the configuration names no such dataset.
    """
    keys = cfg.DATASETS
    suffix = keys.TEST_DATASETNAME_SUFFIX
    specs = [find_dataset(n, registered=keys.REGISTER, suffix=suffix) for n in keys.TEST]
    for spec in specs:
        if spec.name == name:
            return spec
    names = ", ".join(each.name for each in specs)
    raise ValueError(f"results.json is about {name!r}, but config.yaml names {names}")


def _weighed(
    cfg: CfgNode, spec: DatasetSpec, results: ResultsFile, predictions: Sequence[dict[str, Any]]
) -> Weighable:
    metric = results.content["protocol"].get("metric", "")
    if metric.startswith("COCO box AP"):
        dataset = load_coco(spec)
    elif metric.startswith("LVIS"):
        dataset = load_lvis(spec)
    elif metric.startswith(("phrase recall", "referring expressions")):
        dataset = load_captioned(spec, merged='"merged"' in metric)
    else:
        raise NotJudgedAgain(
            f"{results.path}: intervals are made for COCO AP, LVIS AP, the recall of phrases and "
            f"the accuracy of expressions, not for {metric or 'figures of no known kind'}"
        )
    if cfg.TEST.SUBSET > 0:
        dataset = dataset.first(cfg.TEST.SUBSET)
    then = results.content["protocol"].get("annotations_sha256", "")
    if dataset.digest != then:
        raise NotJudgedAgain(
            f"{spec.ann_file} is not the file that {results.path} was judged by, or has changed "
            f"since (SHA-256 {dataset.digest[:12]}..., then {then[:12]}...)"
        )
    if isinstance(dataset, LvisDetection):
        return WeighedLvis(dataset, predictions)
    if isinstance(dataset, CocoDetection):
        return WeighedCoco(dataset, predictions)
    known = [name for name, value in results.metrics.items() if value is not None]
    return weigh_phrases(PhraseAnswers(dataset), predictions, known)


def _predictions(results: ResultsFile) -> list[dict[str, Any]]:
    path = _beside(results, "predictions.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotJudgedAgain(f"{path} is no whole JSON file ({error})") from error
    if not isinstance(content, list):
        raise NotJudgedAgain(f"{path} holds no list of predictions")
    return content


def _beside(results: ResultsFile, name: str) -> Path:
    path = results.folder / name
    if not path.is_file():
        raise NotJudgedAgain(f"no {name} beside {results.path}")
    return path


def _check_figures(results: ResultsFile, weighed: Weighable) -> None:
    """See that the predictions are those that the results were made of."""
    (again,), _ = weighed.figures(np.ones((1, weighed.num_pictures), dtype=np.int64))
    for name, value in zip(weighed.names, again):
        then = results.metrics.get(name)
        if then is not None and not abs(then - value) <= _NEAR:
            raise NotJudgedAgain(
                f"predictions.json beside {results.path} gives {name} {value:.6f}, results.json "
                f"says {then:.6f}: they are not of one run"
            )
