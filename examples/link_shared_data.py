"""Lay the developers' pictures out as DATASET.md describes, with links."""

import argparse
import sys
from pathlib import Path

ODINW = {  # the developers' folder -> the ODinW task that is made of the same pictures
    "raccoon": "odinw/Raccoon/Raccoon.v2-raw.coco",
    "bccd": "odinw/BCCD/BCCD.v3-raw.coco",
}
FLICKR = "flickr30k/flickr30k_images"
MDETR = "mdetr_annotations"

# Where a published dataset is looked for -> what stands in for it.
LINKS = {
    "coco_mini": "coco_mini",
    "coco/annotations/instances_train2017.json": "coco_mini/annotations/instances_train.json",
    "coco/annotations/instances_val2017.json": "coco_mini/annotations/instances_val.json",
    "coco/train2017": "coco_mini/train",
    "coco/val2017": "coco_mini/val",
    **{f"{FLICKR}/{split}": "grounding_mini/images" for split in ("train", "val", "test")},
    **{
        f"{MDETR}/final_flickr_{truth}_{split}.json": (
            f"grounding_mini/mdetr_annotations/final_flickr_{truth}_{split}.json"
        )
        for truth in ("separateGT", "mergedGT")
        for split in ("train", "val", "test")
    },
    "flickr30k/flickr30k_entities": "grounding_mini/flickr30k_entities",
    **{
        f"{MDETR}/finetune_refcoco_{split}.json": f"refexp_mini/finetune_refcoco_{split}.json"
        for split in ("train", "val")
    },
    f"{MDETR}/final_refexp_val.json": "refexp_mini/finetune_refcoco_val.json",
    "refcoco/train2014": "grounding_mini/images",
}


def link(target: Path, source: Path) -> None:
    """Make `target` a link to `source`; what is there already stays."""
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there; expected the developers' data folder")
    if target.exists() or target.is_symlink():
        if target.resolve() != source.resolve():
            print(f"{target} is there already and stays as it is")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve(), target_is_directory=source.is_dir())


def link_all(shared: Path, root: Path) -> None:
    """Link raccoon and bccd (as the ODinW tasks of those names) and the small sets under `root`."""
    for source, task in ODINW.items():
        for split in ("train", "valid", "test"):
            folder = root / task / split
            for picture in sorted((shared / source / split).glob("*.jpg")):
                link(folder / picture.name, picture)
            annotations = shared / source / split / "_annotations.coco.json"
            link(folder / "annotations_without_background.json", annotations)
    for target, source in LINKS.items():
        link(root / target, shared / source)


def main() -> int:
    """Link, and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path, help="the folder with raccoon/, coco_mini/, ...")
    parser.add_argument("root", type=Path, nargs="?", default=Path("DATASET"))
    args = parser.parse_args()
    try:
        link_all(args.shared, args.root)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print(f"under {args.root}: {', '.join([*ODINW.values(), *LINKS])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
