"""COCO AP of 100 boxes a picture: python benchmarks/coco_ap.py [--json PATH] [--quick].

Time beside pycocotools, both from the results of the same predictions and a loaded file to the
twelve figures, which are compared. Boxes are made from a seed: two near every object, the rest
anywhere, of any class, as of a model that is asked every name.
"""

import argparse
import contextlib
import functools
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rows import Row, difference, timed
from rows import main as program
from timing import turns

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import CocoDetection, load_coco
from glipkit.evaluation.coco import METRICS, CocoEvaluator, matched
from glipkit.structures.detections import Detections

ROWS = ("coco_ap",)
CLASSES, PER_IMAGE, SIZE = 80, 100, (480, 640)  # (height, width)
PICTURES, QUICK_PICTURES, REPEATS = 1000, 20, 3


def write_file(folder: Path, random: np.random.Generator, count: int) -> Path:
    """A COCO file of so many pictures with seven objects each, one in a hundred a crowd."""
    objects = 7 * count
    sides = random.uniform(8, 200, (objects, 2)).round(2)
    corners = (random.uniform(0, 1, sides.shape) * (np.array(SIZE[::-1]) - sides)).round(2)
    boxes = np.concatenate([corners, sides], axis=1).tolist()
    classes = random.integers(1, CLASSES + 1, objects).tolist()
    crowds = (random.random(objects) < 0.01).astype(int).tolist()
    content = {
        "images": [{"id": number, "height": SIZE[0], "width": SIZE[1], "file_name": f"{number}.jpg"}
                   for number in range(count)],
        "annotations": [
            {"id": number + 1, "image_id": number % count, "category_id": label, "bbox": box,
             "area": box[2] * box[3], "iscrowd": crowd}
            for number, (label, box, crowd) in enumerate(zip(classes, boxes, crowds))
        ],
        "categories": [{"id": number + 1, "name": f"class {number}"} for number in range(CLASSES)],
    }  # fmt: skip
    path = folder / f"coco_{count}.json"
    path.write_text(json.dumps(content))
    return path


def judge_of(dataset: CocoDetection, random: np.random.Generator) -> CocoEvaluator:
    """With the detections of all pictures."""
    judge = CocoEvaluator(dataset, [each.category_id for each in dataset.categories])
    there: dict[int, list[dict]] = {image.image_id: [] for image in dataset.images}
    for each in dataset.ground_truth():
        there[each["image_id"]].append(each)
    for image_id, objects in there.items():
        boxes = np.array([each["bbox"] for each in objects] * 2)
        near = boxes * random.uniform(0.9, 1.1, boxes.shape)
        rest = PER_IMAGE - len(near)
        anywhere = random.uniform(4, 240, (rest, 4))
        rows = np.concatenate([near, anywhere])
        rows[:, 2:] += rows[:, :2]
        known = [each["category_id"] - 1 for each in objects] * 2
        labels = np.concatenate([known, random.integers(0, CLASSES, rest)])
        scores = random.uniform(0.05, 0.6, PER_IMAGE) + 0.4 * (np.arange(PER_IMAGE) < len(near))
        found = Detections(torch.from_numpy(rows).float(), torch.from_numpy(scores).float(),
                           torch.from_numpy(labels), SIZE)  # fmt: skip
        judge.process(image_id, found)
    return judge


def compare(arguments: argparse.Namespace) -> Row:
    """Ours beside pycocotools."""
    random = np.random.default_rng(0)
    count = QUICK_PICTURES if arguments.quick else PICTURES
    with tempfile.TemporaryDirectory() as folder:
        path = write_file(Path(folder), random, count)
        dataset = load_coco(DatasetSpec("synthetic", path, path.parent))
    judge = judge_of(dataset, random)
    results = judge.predictions()

    def ours() -> list[float]:
        metrics = judge.evaluate().metrics
        return [-1.0 if metrics[name] is None else metrics[name] for name in METRICS]

    def theirs() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            pycocotools = matched(dataset, results)
            pycocotools.accumulate()
            pycocotools.summarize()
        return pycocotools.stats.tolist()

    found, expected = ours(), theirs()
    seconds = turns([ours, theirs], 1 if arguments.quick else REPEATS, warmup=0)
    apart = difference(*([torch.tensor(side, dtype=torch.float64)] for side in (found, expected)))
    return timed(
        ROWS[0],
        seconds,
        difference=apart,
        tolerance=1e-12,
        arguments=arguments,
        against="pycocotools, 12 figures, from results in memory",
        size=f"{count} pictures, {PER_IMAGE} boxes each, {CLASSES} classes",
        extra={"ap": found[0]},
    )


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`."""
    return [compare(arguments).as_dict() for _ in arguments.names]


main: Callable[..., int] = functools.partial(program, ROWS, rows, __doc__)

if __name__ == "__main__":
    sys.exit(main())
