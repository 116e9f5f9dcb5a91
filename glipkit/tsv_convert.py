"""COCO json and a folder to TSV: `python -m glipkit.tsv_convert ANN.json IMG_DIR OUT_DIR`."""

import argparse
import base64
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import CocoDetection, load_coco
from glipkit.data.datasets.tsv import TsvPictures, load_tsv
from glipkit.data.datasets.tsv_parts import BACKGROUND
from glipkit.data.datasets.tsv_rows import write_line_index
from glipkit.data.images import ImageError
from glipkit.runtime.files import replacing, write_atomically
from glipkit.runtime.progress import image_progress


def convert(
    ann_file: Path, img_dir: Path, out_dir: Path, *, name: str = "train", force: bool = False
) -> Path:
    """Write a COCO dataset as TSV (see `glipkit.data.datasets.tsv`).

    Pictures are copied byte for byte; their keys are the ids of the json. Boxes that no detection
    could match are left out, with a line in the log. Classes are numbered from 1 by ascending id of
    the json. The files appear only when they are whole, the YAML file last.

    Args:
        ann_file: the annotations.
        img_dir: the folder that their file names are relative to.
        out_dir: where to write; made if missing.
        name: what the files are called: <name>.yaml, <name>.tsv, ...
        force: write over files that exist.

    Returns:
        The YAML file, which goes into DATASETS.REGISTER as `yaml_path`.

    Raises:
        FileExistsError: <name>.yaml exists, and `force` is not set.
        FileNotFoundError: the annotations, the folder or a picture is not there.
        ValueError: the annotations are not usable (see `load_coco`), or two classes share a name.
    """
    target = out_dir / f"{name}.yaml"
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists; pass --force to write over it")
    dataset = load_coco(DatasetSpec(name, ann_file, img_dir))
    classes = _class_names(dataset)
    parts = {"img": f"{name}.tsv", **{part: f"{name}.{part}.tsv" for part in ("label", "hw")}}
    _write_rows(dataset, classes, {part: out_dir / file for part, file in parts.items()})
    parts["labelmap"] = f"{name}.labelmap.tsv"
    lines = "".join(f"{each}\n" for each in (BACKGROUND, *classes.values()))
    write_atomically(out_dir / parts["labelmap"], lines)
    write_atomically(target, yaml.safe_dump(parts, sort_keys=False))
    return target


def check(yaml_file: Path) -> list[str]:
    """Read every picture and every box of a TSV dataset; what is wrong with it, a line each."""
    pictures = load_tsv(DatasetSpec(yaml_file.stem, yaml_file, yaml_file.parent, "tsv"))
    faults = []
    with image_progress(len(pictures), f"checking {yaml_file.name}") as progress:
        for index in range(len(pictures)):
            faults += _faults(pictures, index)
            progress.update()
    return faults


def _faults(pictures: TsvPictures, index: int) -> list[str]:
    found = []
    looks: tuple[Callable[[int], Any], ...] = (pictures.labels_and_boxes, pictures.read)
    for look in looks:
        try:
            look(index)
        except ValueError as error:  # ImageError is one
            found.append(str(error))
    return found


def _write_rows(dataset: CocoDetection, classes: dict[int, str], paths: dict[str, Path]) -> None:
    boxes = defaultdict(list)
    for annotation in dataset.ground_truth():
        boxes[annotation["image_id"]].append(annotation)
    starts: dict[str, list[int]] = {part: [] for part in paths}
    with ExitStack() as stack:
        files = {part: stack.enter_context(replacing(path)) for part, path in paths.items()}
        progress = stack.enter_context(image_progress(len(dataset), f"writing {paths['img'].name}"))
        for index, record in enumerate(dataset.images):
            row = {
                "img": _picture(dataset.path(index)),
                "label": json.dumps(_labels(boxes[record.image_id], classes)).encode(),
                "hw": "{} {}".format(*record.size).encode(),
            }
            for part, text in row.items():
                starts[part].append(files[part].tell())
                files[part].write(b"%d\t%s\n" % (record.image_id, text))
            progress.update()
    for part, path in paths.items():
        write_line_index(path.with_suffix(".lineidx"), np.array(starts[part]))


def _picture(path: Path) -> bytes:
    content = path.read_bytes()
    if not content:
        raise ImageError(path, "the file is empty")
    return base64.b64encode(content)


def _labels(annotations: Iterable[dict[str, Any]], classes: dict[int, str]) -> list[dict[str, Any]]:
    labels = []
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        entry = {"class": classes[annotation["category_id"]], "rect": [x, y, x + width, y + height]}
        labels.append({**entry, "iscrowd": 1} if annotation["iscrowd"] else entry)
    return labels


def _class_names(dataset: CocoDetection) -> dict[int, str]:
    names = {category.category_id: category.name for category in dataset.categories}
    unfit = [name for name in names.values() if "\t" in name or "\n" in name or name == BACKGROUND]
    if unfit or len(set(names.values())) < len(names):
        raise ValueError(
            f"{dataset.ann_file}: TSV tells classes by their names, so these must differ and hold "
            f"no tab or line break, got {sorted(names.values())}"
        )
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m glipkit.tsv_convert",
        description="Put a COCO dataset into TSV files, or check TSV files (--check FILE.yaml).",
        epilog="example:\n  python -m glipkit.tsv_convert instances_val2017.json val2017 coco_tsv "
        "--name val",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("annotations", type=Path, metavar="ANN.json", nargs="?")
    parser.add_argument("pictures", type=Path, metavar="IMG_DIR", nargs="?")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", nargs="?")
    parser.add_argument("--name", default="train", help="of the files (default: train)")
    parser.add_argument("--force", action="store_true", help="write over files that exist")
    parser.add_argument(
        "--check", type=Path, metavar="FILE.yaml", help="read all of it, and report"
    )
    args = parser.parse_args(argv)
    if (args.check is None) == (args.out is None):
        parser.error("give ANN.json IMG_DIR OUT_DIR, or --check FILE.yaml")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if args.check is not None:
            faults = check(args.check)
            sys.stdout.write("".join(f"{fault}\n" for fault in faults) or "nothing is wrong\n")
            return 1 if faults else 0
        target = convert(
            args.annotations, args.pictures, args.out, name=args.name, force=args.force
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        f"wrote {target}; to learn from it: "
        f'DATASETS.REGISTER: {{mine: {{yaml_path: "{target.absolute()}"}}}}\n'
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
