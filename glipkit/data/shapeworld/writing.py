"""A world on the disk: pictures, annotation files, and world.json, which says what it is."""

import json
import logging
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from glipkit.data.shapeworld.records import Records, make_picture
from glipkit.data.shapeworld.vocabulary import (
    CONCEPTS,
    HELD_OUT,
    PAIRS,
    SEEN,
    SIZE_RANGES,
    pair_name,
)
from glipkit.data.shapeworld.word_tests import (
    described_tests,
    synonym_categories,
    word_categories,
)
from glipkit.data.shapeworld.world import SPLITS, VERSION, World
from glipkit.runtime.files import replacing, write_atomically
from glipkit.runtime.progress import image_progress

logger = logging.getLogger(__name__)

WORLD_FILE = "world.json"
_OBJECT = [{"id": 1, "name": "object"}]  # MDETR files have words instead of classes
_LICENCE = {"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
_AT_ONCE = 16  # pictures that a worker is handed


def write_world(out: Path, world: World, *, train: int, val: int, workers: int = 0) -> Path:
    """Draw a world into a folder. The same settings give the same bytes.

    The folder may be new or empty, or hold the same world, which is then left as it is, or drawn
    once more where that was interrupted.

    Args:
        out: the folder; it gets train/, val/, annotations/ and world.json.
        world: the settings.
        train: number of training pictures; 0 writes no training files.
        val: number of pictures to judge by; 0 writes none of their files.
        workers: processes that draw; 0 draws in this one.

    Returns:
        The file world.json.

    Raises:
        ValueError: both numbers are 0, or one is negative.
        FileExistsError: the folder holds something else.
    """
    counts = dict(zip(SPLITS, (train, val)))
    if min(counts.values()) < 0 or not any(counts.values()):
        raise ValueError(
            f"a world has some training or some val pictures, got {train} and {val}; "
            "for example 20000 and 1000"
        )
    target = out / WORLD_FILE
    settings = _settings(world, counts)
    if _is_there(out, settings):
        logger.info("%s holds this world already", out)
        return target
    write_atomically(target, _readable(settings | {"complete": False}))
    numbers = {}
    for split, count in counts.items():
        if count:
            (out / split).mkdir(exist_ok=True)
            files = _draw_split(out, world, split, count, workers)
            for name, content in _whole_files(split, files).items():
                numbers[name] = _write_file(out / "annotations" / f"{name}.json", world, *content)
    write_atomically(target, _readable(settings | {"complete": True} | _described(numbers)))
    return target


def _settings(world: World, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "format": "glipkit shapeworld",
        "version": VERSION,
        "seed": world.seed,
        "size": world.size,
        "captions": world.captions,
        "lessons": world.lessons,
        **counts,
    }


def _is_there(out: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds this world, whole.

    Raises:
        FileExistsError: it holds something else.
    """
    target = out / WORLD_FILE
    if not target.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FileExistsError(
                f"{out} is not empty and holds no world ({WORLD_FILE} is not there); choose "
                "another folder"
            )
        return False
    try:
        found = json.loads(target.read_bytes())
        differing = [key for key, value in settings.items() if found.get(key) != value]
    except (ValueError, AttributeError) as error:
        raise FileExistsError(
            f"{target} is no description of a world ({error}); choose another folder"
        ) from None
    if differing:
        told = ", ".join(f"{key} {found.get(key)} (asked: {settings[key]})" for key in differing)
        raise FileExistsError(f"{out} holds another world: {told}. Choose another folder")
    return found.get("complete") is True


def _draw_split(
    out: Path, world: World, split: str, count: int, workers: int
) -> dict[str, Records]:
    """Draw all pictures of a split; what they add to each annotation file, in their order."""
    files: dict[str, Records] = {}
    task = partial(make_picture, world, out, split)
    with image_progress(count, f"drawing {split}") as progress, _mapped(workers) as each_of:
        for made in each_of(task, range(count)):
            for name, records in made.items():
                files.setdefault(name, Records()).extend(records)
            progress.update()
    return files


@contextmanager
def _mapped(workers: int) -> Iterator[Any]:
    """A `map` whose results come in order, over this many processes."""
    if workers < 2:
        yield map
        return
    with multiprocessing.Pool(workers, initializer=_leave_interrupts_to_main) as pool:
        yield partial(pool.imap, chunksize=_AT_ONCE)
        pool.close()  # let them end by themselves: leaving the block would kill them
        pool.join()


def _leave_interrupts_to_main() -> None:
    """Ctrl-C reaches every process of the terminal; only the first one should speak."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _whole_files(
    split: str, files: dict[str, Records]
) -> dict[str, tuple[Records, Sequence[dict[str, Any]], dict[str, Any]]]:
    """By name of the annotation file: its records, its categories, and what `info` adds."""
    pairs = SEEN if split == "train" else PAIRS
    # A class has the same id in both splits.
    classes = [{"id": PAIRS.index(pair) + 1, "name": pair_name(pair)} for pair in pairs]
    if split == "train":
        return {
            "train_detection": (files["train_detection"], classes, {}),
            "train_captions": (files["train_captions"], _OBJECT, {}),
        }
    held_out = {"held_out": [pair_name(pair) for pair in PAIRS if pair in HELD_OUT]}
    chances = files["val_relations"].chances
    chance = {"chance": round(sum(chances) / len(chances), 4) if chances else None}
    synonyms = synonym_categories()
    said_for = {new["name"]: old["name"] for new, old in zip(synonyms, classes)}
    return {
        "val_detection": (files["val_detection"], classes, held_out),
        "val_captions": (files["val_captions"], _OBJECT, {}),
        "val_relations": (files["val_relations"], _OBJECT, chance),
        "val_synonyms": (files["val_detection"], synonyms, {"said_for": said_for}),
        "val_words": (files["val_words"], word_categories(), {"tests": described_tests()}),
    }


def _write_file(
    path: Path,
    world: World,
    records: Records,
    categories: Sequence[dict[str, Any]],
    extra: dict[str, Any],
) -> dict[str, int]:
    """Write an annotation file; how many entries it has."""
    info = {
        "description": f"shapeworld, {path.stem}",
        "version": f"{VERSION}, seed {world.seed}, {world.size} pixels",
        "licence": "own drawing, Apache-2.0",
        **extra,
    }
    with replacing(path) as file:
        file.write(f'{{"info":{json.dumps(info)},\n"licenses":[{json.dumps(_LICENCE)}]'.encode())
        for key, entries in (("images", records.images), ("annotations", records.annotations)):
            file.write(f',\n"{key}":[\n'.encode())
            file.write(",\n".join(entries).encode())
            file.write(b"\n]")
        file.write(f',\n"categories":{json.dumps(list(categories))}}}\n'.encode())
    return {"images": len(records.images), "annotations": len(records.annotations)}


def _described(numbers: dict[str, dict[str, int]]) -> dict[str, Any]:
    concepts = CONCEPTS.values()
    return {
        "files": numbers,
        "held_out": [pair_name(pair) for pair in PAIRS if pair in HELD_OUT],
        "words": {each.name: list(each.words) for each in concepts},
        "unseen_words": {each.name: list(each.unseen) for each in concepts},
        "nonsense_words": {each.name: each.nonsense for each in concepts},
        "sizes": {name: list(bounds) for name, bounds in SIZE_RANGES.items()},
        "licence": "own drawing, Apache-2.0",
    }


def _readable(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"
