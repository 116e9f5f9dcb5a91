"""Lay the developers' pictures out as DATASET.md describes, with links."""

import argparse
import sys
from pathlib import Path

RACCOON = "odinw/Raccoon/Raccoon.v2-raw.coco"


def link(target: Path, source: Path) -> None:
    """Make `target` a link to `source`; one that is right already stays."""
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there; expected the developers' data folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() and target.resolve() == source.resolve():
        return
    target.symlink_to(source.resolve(), target_is_directory=source.is_dir())


def link_all(shared: Path, root: Path) -> None:
    """Link raccoon (as the ODinW task of that name) and coco_mini under `root`."""
    for split in ("train", "valid", "test"):
        folder = root / RACCOON / split
        for picture in sorted((shared / "raccoon" / split).glob("*.jpg")):
            link(folder / picture.name, picture)
        annotations = shared / "raccoon" / split / "_annotations.coco.json"
        link(folder / "annotations_without_background.json", annotations)
    link(root / "coco_mini", shared / "coco_mini")


def main() -> int:
    """Link, and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path, help="the folder with raccoon/ and coco_mini/")
    parser.add_argument("root", type=Path, nargs="?", default=Path("DATASET"))
    args = parser.parse_args()
    link_all(args.shared, args.root)
    print(f"{args.root / RACCOON} and {args.root / 'coco_mini'} are in place")
    return 0


if __name__ == "__main__":
    sys.exit(main())
