"""What glip-nano, the model in this repository, can do: drawn pictures, questions, figures.

Draws the evaluation split of shapeworld, pictures that no training saw, and asks glip-nano about
them through `tools/test_grounding_net.py`: every name, captions, relations, and words that it never
learnt. Prints one table, and leaves it as results.json beside annotated pictures. `make demo` runs
it.
"""

import argparse
import io
import json
import logging
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tools"))  # also of the processes that `evaluate` runs in

from glipkit import shapeworld  # noqa: E402
from glipkit.data.workers import usable_cpus  # noqa: E402
from glipkit.engine.launch import INTERRUPTED  # noqa: E402
from glipkit.engine.processes import run_side_by_side  # noqa: E402
from glipkit.runtime.collector import skip_last_collection  # noqa: E402
from glipkit.runtime.files import write_atomically  # noqa: E402
from glipkit.runtime.logs import setup_logging  # noqa: E402

NANO = REPOSITORY / "glipkit" / "models" / "nano"
SEED = 0  # of the world; the pictures to judge by are others than those to learn from
CLASSES_PER_PROMPT = 12
WORDS_PER_PROMPT = 9  # of the test of single words: divides their number, so none meets its synonym
SYNONYMS_EVERY = 2  # one picture in so many is asked for synonyms, which are 120 names more
MOST_PROCESSES = 8  # each with a model of its own: a gigabyte
SHOWN_FROM = 0.55  # where nano's F1 is best with every name asked
logger = logging.getLogger("glipkit.demo")


class Word(NamedTuple):
    """AP50 of the objects that a word means, asked with other words in its place."""

    concept: str
    kind: str  # colour, shape, size, texture
    trained: float | None
    unseen: dict[str, float | None]  # by word
    nonsense: float | None


def main() -> int:
    """Draw, ask, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "demo_output")
    parser.add_argument("--pictures", type=int, default=500, help="to judge by (default 500)")
    parser.add_argument("--weight", default=str(NANO / "model.safetensors"), help="of glip-nano")
    args = parser.parse_args()
    if not Path(args.weight).is_file():  # else every process would say so
        parser.error(f"--weight {args.weight}: there is no such file")
    setup_logging()
    out = args.out.resolve()
    begun = time.perf_counter()
    world = out / f"shapeworld_{args.pictures}"
    drawn = shapeworld.main(
        [str(world), "--train", "0", "--val", str(args.pictures), "--seed", str(SEED)]
    )
    if drawn:
        return drawn
    try:
        answers = ask(world, out, args.weight)
    except KeyboardInterrupt:
        return INTERRUPTED
    figures = figures_of(world, answers)
    figures["seconds"] = round(time.perf_counter() - begun)
    write_atomically(out / "results.json", json.dumps(figures, indent=1) + "\n")
    print(table(figures))
    print(f"annotated pictures: {answers['detection'] / 'pictures.png'}")
    print(f"all figures: {out / 'results.json'}")
    return 0


def ask(world: Path, out: Path, weight: str) -> dict[str, Path]:
    """Evaluate nano on every file of the world; where results.json and predictions.json are."""
    runs = {  # classes per prompt -> annotation files
        CLASSES_PER_PROMPT: ("detection", "synonyms", "captions", "relations"),
        WORDS_PER_PROMPT: ("words",),
    }
    processes = 1 if torch.cuda.is_available() else min(usable_cpus(), MOST_PROCESSES)
    folders, tasks = {}, []
    for chunk, names in runs.items():
        task = out / f"{chunk}_names_a_prompt.yaml"
        files = {name: world / "annotations" / f"val_{name}.json" for name in names}
        if "synonyms" in files:
            files["synonyms"] = _thinned(files["synonyms"], out, SYNONYMS_EVERY)
        task.write_text(yaml.safe_dump(_task(files, world / "val", chunk)))
        tasks.append(str(task))
        folders |= {name: out / task.stem / f"val_{name}" for name in names}
    arguments = [
        *("--config-file", str(NANO / "config.yaml"), "--task_config", *tasks),
        *("--weight", weight, "--save-pictures", "24"),
        *("--show-from", str(SHOWN_FROM), "OUTPUT_DIR", str(out)),
        # Pictures this small are read before a reader has begun.
        *("DATALOADER.NUM_WORKERS", "0", "TEST.IMS_PER_BATCH", str(8 * processes)),
    ]
    if code := run_side_by_side(processes, evaluate, arguments):
        raise SystemExit(code)
    return folders


def evaluate(arguments: list[str]) -> int:
    """`tools/test_grounding_net.py` without its tables: they are in the folders, ours says all."""
    import test_grounding_net  # here, because only these processes need it: it takes seconds

    with redirect_stdout(io.StringIO()):
        return test_grounding_net.main(arguments)


def _thinned(file: Path, out: Path, every: int) -> Path:
    """The same annotation file with every so many pictures only, in `out`."""
    content = _read(file)
    content["images"] = content["images"][::every]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in kept]
    target = out / file.name
    write_atomically(target, json.dumps(content))
    return target


def _task(files: Mapping[str, Path], pictures: Path, chunk: int) -> dict[str, Any]:
    """A task file in GLIP's YAML form for annotation files, by what they test."""
    register = {
        f"val_{name}": {
            "kind": "grounding" if name in ("captions", "relations") else "coco",
            "ann_file": str(file),
            "img_dir": str(pictures),
        }
        for name, file in files.items()
    }
    return {
        "DATASETS": {"REGISTER": register, "TEST": str(tuple(register))},
        "TEST": {"CHUNKED_EVALUATION": chunk, "EVAL_TASK": ""},
    }


def figures_of(world: Path, answers: Mapping[str, Path]) -> dict[str, Any]:
    """Everything that the table says, as plain data."""
    results = {name: _read(folder / "results.json") for name, folder in answers.items()}
    said = {name: _read(world / "annotations" / f"val_{name}.json") for name in answers}
    held_out = set(said["detection"]["info"]["held_out"])
    classes = results["detection"]["per_class"]
    unseen = [each for each in classes if each["name"] in held_out]
    seen = [each for each in classes if each["name"] not in held_out]
    return {
        "weights": results["detection"]["protocol"]["weights"],
        "pictures": results["detection"]["num_images"],
        "pictures asked for synonyms": results["synonyms"]["num_images"],
        "names asked": len(classes),
        "names a prompt": CLASSES_PER_PROMPT,
        "metrics": {
            "AP50 seen": _mean(each["value50"] for each in seen),
            "AP50 unseen": _mean(each["value50"] for each in unseen),
            "AP seen": _mean(each["value"] for each in seen),
            "AP unseen": _mean(each["value"] for each in unseen),
            "AP50 synonyms": results["synonyms"]["metrics"]["AP50"],
            "phrase R@1": results["captions"]["metrics"]["R@1"],
            "phrase R@5": results["captions"]["metrics"]["R@5"],
            "relations R@1": results["relations"]["metrics"]["R@1"],
        },
        "relations by chance": said["relations"]["info"]["chance"],
        "captions": len(said["captions"]["images"]),
        "relations": len(said["relations"]["images"]),
        "words": [each._asdict() for each in words(said["words"], results["words"])],
        "seconds a picture": {
            name: round(each["timing"]["seconds_per_image"], 4) for name, each in results.items()
        },
        "versions": results["detection"]["versions"],
    }


def words(truth: Mapping[str, Any], results: Mapping[str, Any]) -> list[Word]:
    """What each word is worth beside its unseen synonyms and a word that means nothing."""
    value = {each["category_id"]: each["value50"] for each in results["per_class"]}
    rows = []
    for test in truth["info"]["tests"]:
        by_kind: dict[str, dict[str, float | None]] = defaultdict(dict)
        for word in test["words"]:
            by_kind[word["is"]][word["word"]] = value[word["category_id"]]
        (trained,), (nonsense,) = by_kind["trained"].values(), by_kind["nonsense"].values()
        rows.append(Word(test["concept"], test["kind"], trained, by_kind["unseen"], nonsense))
    return rows


def table(figures: Mapping[str, Any]) -> str:
    """The figures for people."""
    metrics, chance = figures["metrics"], _cell(figures["relations by chance"]).strip()
    lines = [
        "",
        f"glip-nano, {figures['pictures']} pictures, {figures['names asked']} names asked of each",
        f"{'detection, ' + str(figures['names a prompt']) + ' names a prompt':<62}    AP50      AP",
        _row("  combinations seen in training", metrics["AP50 seen"], metrics["AP seen"]),
        _row("  combinations never seen", metrics["AP50 unseen"], metrics["AP unseen"]),
        _row(
            f"  all names in words never read, {figures['pictures asked for synonyms']} pictures",
            metrics["AP50 synonyms"],
        ),
        "",
        f"{'phrases of ' + str(figures['captions']) + ' captions':<62}     R@1    R@5",
        _row("  any phrase", metrics["phrase R@1"], metrics["phrase R@5"]),
        _row(
            f"  {figures['relations']} that only a relation decides, by chance {chance}",
            metrics["relations R@1"],
        ),
        "",
        f"{'single words, AP50':<16}{'':<12}{'trained':>8}{'nonsense':>10}   unseen synonyms",
    ]
    for each in figures["words"]:
        unseen = "  ".join(f"{word} {_cell(ap).strip()}" for word, ap in each["unseen"].items())
        lines.append(
            f"  {each['concept']:<14}{each['kind']:<12}{_cell(each['trained'])}"
            f"{_cell(each['nonsense']):>10}   {unseen}"
        )
    lines += [
        _means(figures["words"]),
        "",
        f"drawn, asked and judged in {figures['seconds']} s; "
        f"{figures['seconds a picture']['detection']:.2f} s a picture for all names",
    ]
    return "\n".join(lines)


def _means(rows: list[dict[str, Any]]) -> str:
    unseen = _mean(value for each in rows for value in each["unseen"].values())
    trained, nonsense = (_mean(each[kind] for each in rows) for kind in ("trained", "nonsense"))
    return f"  {'mean':<26}{_cell(trained)}{_cell(nonsense):>10}   {_cell(unseen).strip()}"


def _row(name: str, *values: float | None) -> str:
    return f"{name:<62}" + "".join(_cell(value) for value in values)


def _cell(value: float | None) -> str:
    return f"{'n/a' if value is None else f'{value:.3f}':>8}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    skip_last_collection()
    sys.exit(main())
