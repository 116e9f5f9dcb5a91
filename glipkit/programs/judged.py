"""What the results of an earlier evaluation were judged by, made ready for weights on pictures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.data.build import find_test_sets, load_captions, load_labelled
from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.datasets.json_stream import json_objects
from glipkit.data.datasets.json_values import is_integer, is_number
from glipkit.data.datasets.lvis import LvisDetection
from glipkit.evaluation.phrase_answers import PhraseAnswers
from glipkit.evaluation.resampling import Weighable
from glipkit.evaluation.results_file import ResultsFile, check_annotations
from glipkit.evaluation.weighed_coco import WeighedCoco
from glipkit.evaluation.weighed_lvis import WeighedLvis
from glipkit.evaluation.weighed_phrases import weigh_phrases

_NEAR = 1e-6  # of a figure that was judged again


class NotJudgedAgain(ValueError):
    """An evaluation whose figures stand, but whose pictures cannot be weighed; says why."""


def weigh(
    results: ResultsFile, names: Sequence[str], *, annotations: Path | None = None
) -> Weighable:
    """Judge the predictions beside a results.json once more, picture by picture.

    Args:
        results: of one evaluation, with predictions.json and config.yaml beside it. The pictures
            themselves are not needed.
        names: of the figures that are wanted. All of COCO's and LVIS's are made anyway.
        annotations: the annotation file, if it is not where config.yaml says.

    Raises:
        NotJudgedAgain: a file is missing, has changed since, or is of a kind that is not weighed.
    """
    predictions = _beside(results, "predictions.json")
    settings = _beside(results, "config.yaml")
    try:
        cfg = load_config([settings], quiet=True)
        spec = judged_spec(cfg, results.content["dataset"])
        folder = spec.ann_file.parent  # of pictures, of which none is read
        sources = tuple((source, folder) for source, _ in spec.sources)
        spec = replace(spec, img_dir=folder, sources=sources)
        if annotations is not None:
            spec = replace(spec, ann_file=annotations, img_dir=annotations.parent, sources=())
        weighed = _weighed(cfg, spec, results, predictions, names)
    except NotJudgedAgain:
        raise
    except (ValueError, OSError) as error:
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
    specs = find_test_sets(cfg)
    for spec in specs:
        if spec.name == name:
            return spec
    names = ", ".join(each.name for each in specs)
    raise ValueError(f"results.json is about {name!r}, but config.yaml names {names}")


def _weighed(
    cfg: CfgNode,
    spec: DatasetSpec,
    results: ResultsFile,
    predictions: Path,
    names: Sequence[str],
) -> Weighable:
    protocol = results.content["protocol"]
    if "wordings" in protocol:
        raise NotJudgedAgain(
            f"{results.path} is about several wordings; compare single ones, whose results lie in "
            "the folders wording_... beside it"
        )
    dataset = (load_captions if spec.has_captions else load_labelled)(cfg, spec)
    check_annotations(spec.ann_file, dataset.digest, protocol)
    if isinstance(dataset, LvisDetection):
        return WeighedLvis(dataset, _entries(predictions, asked="category_id", box="bbox"))
    if isinstance(dataset, CocoDetection):
        return WeighedCoco(dataset, [*_entries(predictions, asked="category_id", box="bbox")])
    known = [name for name in names if results.metrics[name] is not None]
    entries = _entries(predictions, asked="phrase", box="box")
    return weigh_phrases(PhraseAnswers(dataset), entries, known)


def _entries(path: Path, *, asked: str, box: str) -> Iterator[dict[str, Any]]:
    """The predictions of a file, one by one: those of LVIS would fill the memory.

    Args:
        path: of the file.
        asked: the key of what an entry answers.
        box: the key of its four numbers.
    """
    for number, each in enumerate(json_objects(path)):
        numbers = each.get(box)
        ids = [each.get("image_id"), each.get(asked)]
        if not (
            all(is_integer(value) for value in ids)
            and isinstance(numbers, list)
            and len(numbers) == 4
            and all(is_number(value) for value in (*numbers, each.get("score")))
            and all(math.isfinite(value) for value in (*numbers, each["score"]))
        ):
            raise ValueError(
                f"entry {number} of {path} has no image_id, {asked}, {box} and score as the "
                f"evaluation writes them: {str(each)[:100]}"
            )
        yield each


def _beside(results: ResultsFile, name: str) -> Path:
    path = results.folder / name
    if not path.is_file():
        raise NotJudgedAgain(f"no {name} beside {results.path}")
    return path


def _check_figures(results: ResultsFile, weighed: Weighable) -> None:
    """See that the predictions are those that the results were made of."""
    if not set(weighed.names) & set(results.metrics):
        raise NotJudgedAgain(
            f"{results.path} is about {', '.join(results.metrics) or 'nothing'}; intervals are "
            f"made for {', '.join(weighed.names)}"
        )
    (again,), _ = weighed.figures(np.ones((1, weighed.num_pictures), dtype=np.int64))
    for name, value in zip(weighed.names, again):
        then = results.metrics.get(name)
        if then is not None and not abs(then - value) <= _NEAR:
            raise NotJudgedAgain(
                f"predictions.json beside {results.path} gives {name} {value:.6f}, results.json "
                f"says {then:.6f}: they are not of one run"
            )
