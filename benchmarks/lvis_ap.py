"""LVIS AP of 300 boxes a picture: python benchmarks/lvis_ap.py [--json PATH] [--quick].

Time beside the `lvis` package (pip install lvis --no-deps) on as many pictures as that one judges
in a minute or so; then all 20,000 pictures here alone, in a process of its own: its time and its
memory. Both sides start from detections in memory and a loaded file, and end with the figures,
which are compared. Boxes are made from a seed: three near every object, the rest anywhere.
"""

import argparse
import contextlib
import functools
import importlib
import io
import json
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rows import Row, difference, timed
from rows import main as program
from timing import turns

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.lvis import LvisDetection, load_lvis
from glipkit.evaluation.lvis import LvisEvaluator
from glipkit.structures.detections import Detections

ROWS = ("lvis_ap",)
CLASSES = 1203
SIZE = (480, 640)  # (height, width)
PER_IMAGE = 300
PICTURES, SUBSET = 20_000, 500
QUICK_PICTURES, QUICK_SUBSET = 60, 20
REPEATS = 3


def objects(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture `number`: classes (M,) and boxes (M, 4) xywh of its objects, and absent classes."""
    random = np.random.default_rng(number)
    few = np.minimum(random.zipf(1.3, 8), 10**6) * 7919 % CLASSES  # some classes are everywhere
    present = np.unique(few[:4])
    classes = np.repeat(present, random.integers(1, 7, len(present)))
    side = random.uniform(8, 200, (len(classes), 2))
    corner = random.uniform(0, 1, side.shape) * (np.array(SIZE[::-1]) - side)
    return classes, np.concatenate([corner, side], axis=1), np.setdiff1d(few[4:], present)


def write_file(folder: Path, count: int) -> Path:
    """An LVIS file of so many pictures."""
    images, annotations = [], []
    for number in range(count):
        classes, boxes, absent = objects(number)
        images.append({"id": number + 1, "height": SIZE[0], "width": SIZE[1],
                       "file_name": f"{number}.jpg", "not_exhaustive_category_ids": [],
                       "neg_category_ids": (absent + 1).tolist()})  # fmt: skip
        for label, box in zip((classes + 1).tolist(), boxes.round(2).tolist()):
            entry = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": label}
            annotations.append(entry | {"bbox": box, "area": box[2] * box[3]})
    categories = [{"id": number + 1, "name": f"class {number}", "frequency": "rcf"[number % 3]}
                  for number in range(CLASSES)]  # fmt: skip
    path = folder / f"lvis_{count}.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def answer(number: int) -> Detections:
    """What a detector says of picture `number`."""
    random = np.random.default_rng([number, 1])
    classes, boxes, _ = objects(number)
    near = np.tile(boxes, (3, 1)) * random.uniform(0.9, 1.1, (3 * len(boxes), 4))
    rest = PER_IMAGE - len(near)
    any_box = np.concatenate([random.uniform(0, 400, (rest, 2)), random.uniform(4, 240, (rest, 2))],
                             axis=1)  # fmt: skip
    rows = np.concatenate([near, any_box])
    rows[:, 2:] += rows[:, :2]
    labels = np.concatenate([np.tile(classes, 3), random.integers(0, CLASSES, rest)])
    scores = np.concatenate([random.uniform(0.2, 1, len(near)), random.uniform(0.05, 0.6, rest)])
    return Detections(torch.from_numpy(rows).float(), torch.from_numpy(scores).float(),
                      torch.from_numpy(labels), SIZE)  # fmt: skip


def load(path: Path) -> LvisDetection:
    """The file, as an evaluation reads it."""
    return load_lvis(DatasetSpec("synthetic", path, path.parent, "lvis"))


def evaluator(dataset: LvisDetection) -> LvisEvaluator:
    """Fixed AP."""
    return LvisEvaluator(dataset, [each.category_id for each in dataset.categories])


def alone(count: int) -> dict[str, float | int]:
    """Judge so many pictures, and say what it took; detections are made one by one and not kept."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = load(write_file(Path(folder), count))
        answer(0)  # what a first call loads
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
        before = _gib("VmRSS")
        judge, seconds = evaluator(dataset), 0.0
        for number in range(count):
            found = answer(number)
            start = time.perf_counter()
            judge.process(number + 1, found)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        metrics = judge.evaluate().metrics
        judged = time.perf_counter() - start
        most = max(before, _gib("VmHWM"))  # the kernel adds up both a little behind
        return {
            "pictures": count,
            "detections": len(judge.predictions()),
            "seconds_to_take": seconds,
            "seconds_to_judge": judged,
            "gib_with_file_loaded": before,
            "gib_at_most": most,
            "ap": metrics["AP"],
        }


def compare(arguments: argparse.Namespace) -> Row:
    """Ours beside the `lvis` package on some pictures, then ours on all."""
    count = QUICK_SUBSET if arguments.quick else SUBSET
    lvis = _package()
    with tempfile.TemporaryDirectory() as folder:
        path = write_file(Path(folder), count)
        dataset = load(path)
        answers = [answer(number) for number in range(count)]
        judge = evaluator(dataset)
        for number, found in enumerate(answers):
            judge.process(number + 1, found)
        entries = list(judge.predictions())
        with contextlib.redirect_stdout(io.StringIO()):
            truth = lvis.LVIS(str(path))

        def ours() -> dict[str, float | None]:
            judge = evaluator(dataset)
            for number, found in enumerate(answers):
                judge.process(number + 1, found)
            return judge.evaluate().metrics

        def theirs() -> dict[str, float]:
            results = lvis.LVISResults(truth, entries, max_dets=-1)
            judge = lvis.LVISEval(truth, results, "bbox")
            judge.run()
            return {name.split("@")[0]: value for name, value in judge.get_results().items()}

        expected = theirs()
        found = ours()
        seconds = turns([ours, theirs], 1 if arguments.quick else REPEATS, warmup=0)
    pairs = [(found[name] or 0.0, max(value, 0.0)) for name, value in expected.items()]
    apart = difference(*([torch.tensor(side, dtype=torch.float64)] for side in zip(*pairs)))
    return timed(
        ROWS[0],
        seconds,
        difference=apart,
        tolerance=1e-12,
        arguments=arguments,
        against="the lvis package, 13 figures, from detections in memory",
        size=f"{count} pictures, {PER_IMAGE} boxes each, {CLASSES} classes",
        extra={"all_pictures": _in_own_process(QUICK_PICTURES if arguments.quick else PICTURES)},
    )


def _in_own_process(count: int) -> dict[str, float | int]:
    done = subprocess.run([sys.executable, __file__, "--alone", str(count)], check=True,
                          capture_output=True, text=True)  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def _package() -> types.ModuleType:
    """The package without what it draws with, on a numpy that has forgotten np.float."""
    for name in ("cv2", "matplotlib", "matplotlib.pyplot", "matplotlib.patches"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["matplotlib.patches"].__dict__.setdefault("Polygon", None)
    np.__dict__.setdefault("float", float)
    here = Path(__file__).resolve().parent  # where another lvis.py lies
    kept, other = list(sys.path), sys.modules.pop("lvis", None)
    sys.path[:] = [each for each in kept if Path(each).resolve() != here]
    try:
        return importlib.import_module("lvis")
    except ModuleNotFoundError:
        raise SystemExit("needs the lvis package: pip install lvis --no-deps") from None
    finally:
        sys.path[:] = kept
        if other is not None:
            sys.modules["lvis"] = other


def _gib(what: str) -> float:
    """Memory of this process in GiB, by its name in Linux's account."""
    (line,) = (
        each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(what)
    )
    return int(line.split()[1]) / 2**20  # it is told in KiB


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`."""
    return [compare(arguments).as_dict() for _ in arguments.names]


main: Callable[..., int] = functools.partial(program, ROWS, rows, __doc__)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        print(json.dumps(alone(int(sys.argv[2]))))
        sys.exit(0)
    sys.exit(main())
