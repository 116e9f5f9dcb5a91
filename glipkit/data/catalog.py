"""Which files a dataset name stands for."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Published names. Kinds: "coco" (boxes with classes), "lvis" (the same, not exhaustively labelled),
# "grounding" (captions whose words have boxes). Paths are relative to the dataset root.
# kind, annotation file, image folder
_PUBLISHED = {
    "coco_2014_minival": (
        "coco",
        "coco/annotations/instances_minival2014.json",
        "coco/val2014",
    ),
    "coco_2014_train": ("coco", "coco/annotations/instances_train2014.json", "coco/train2014"),
    "coco_2014_val": ("coco", "coco/annotations/instances_val2014.json", "coco/val2014"),
    "coco_2017_test": ("coco", "coco/annotations/image_info_test-dev2017.json", "coco/test2017"),
    "coco_2017_train": ("coco", "coco/annotations/instances_train2017.json", "coco/train2017"),
    "coco_2017_val": ("coco", "coco/annotations/instances_val2017.json", "coco/val2017"),
    "coco_grounding_train": ("coco", "coco/annotations/instances_train2017.json", "coco/train2017"),
    "lvis_grounding_train": ("lvis", "coco/annotations/lvis_od_train.json", "coco"),
    "lvis_val": ("lvis", "coco/annotations/lvis_od_val.json", "coco"),
    "flickr30k_train": (
        "grounding",
        "mdetr_annotations/final_flickr_separateGT_train.json",
        "flickr30k/flickr30k_images/train",
    ),
    "flickr30k_val": (
        "grounding",
        "mdetr_annotations/final_flickr_separateGT_val.json",
        "flickr30k/flickr30k_images/val",
    ),
    "flickr30k_test": (
        "grounding",
        "mdetr_annotations/final_flickr_separateGT_test.json",
        "flickr30k/flickr30k_images/test",
    ),
    "refexp_all_val": (
        "grounding",
        "mdetr_annotations/final_refexp_val.json",
        "refcoco/train2014",
    ),
    "gqa_val": ("grounding", "mdetr_annotations/final_gqa_val.json", "gqa/images"),
    "phrasecut_train": (
        "grounding",
        "mdetr_annotations/finetune_phrasecut_train.json",
        "gqa/images",
    ),
}

# Published names behind which there is no annotation file with one image folder: training
# mixtures of several folders, and the TSV files of the original authors.
_NOT_READ_HERE = {
    "mixed_train": "pictures of two folders in one file",
    "mixed_train_no_coco": "pictures of two folders in one file",
    "coco_dt_train": "TSV files",
    "lvisv1_dt_train": "TSV files",
    "object365_dt_train": "TSV files",
    "objects365_odtsv_train": "TSV files",
    "objects365_odtsv_val": "TSV files",
}

_KINDS = ("coco", "lvis", "grounding")
_SUFFIX = "_grounding"  # asks for the same files, read as captions with boxes


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One dataset: an annotation file, and the folder its file names are relative to."""

    name: str
    ann_file: Path
    img_dir: Path
    kind: str = "coco"

    def check_files(self) -> None:
        """Say what is missing before anything is read.

        Raises:
            FileNotFoundError: the annotation file or the image folder is not there.
        """
        for what, path, found in (
            ("annotation file", self.ann_file, self.ann_file.is_file()),
            ("image folder", self.img_dir, self.img_dir.is_dir()),
        ):
            if not found:
                raise FileNotFoundError(
                    f"dataset {self.name!r}: no {what} at {path.absolute()} (dataset root: "
                    f"{dataset_root().absolute()}, set by $DATASET or ./DATASET); "
                    "see DATASET.md for where each dataset comes from and goes"
                )


def dataset_root() -> Path:
    """The folder that relative dataset paths start from: $DATASET, or DATASET/ in this folder."""
    return Path(os.environ.get("DATASET") or "DATASET")


def find_dataset(
    name: str, *, registered: Mapping[str, Mapping[str, Any]] | None = None, suffix: str = ""
) -> DatasetSpec:
    """Look a dataset name up: first among the registered ones, then among the published ones.

    Args:
        name: for example "coco_2017_val", or a key of DATASETS.REGISTER.
        registered: DATASETS.REGISTER; each entry has `ann_file` and `img_dir`, relative to the
            dataset root or absolute, and may have `kind` ("coco", "lvis" or "grounding").
        suffix: DATASETS.TRAIN_DATASETNAME_SUFFIX or TEST_DATASETNAME_SUFFIX. A name with it is
            preferred; without one the plain name serves, as "_grounding" names the same files.

    Raises:
        ValueError: nobody knows the name, or its entry is incomplete.
    """
    registered = registered or {}
    candidates = [name + suffix, name]
    candidates += [each.removesuffix(_SUFFIX) for each in candidates]
    for candidate in candidates:
        if candidate in registered:
            return _registered(candidate, registered[candidate])
        if candidate in _PUBLISHED:
            kind, ann_file, img_dir = _PUBLISHED[candidate]
            return DatasetSpec(candidate, dataset_root() / ann_file, dataset_root() / img_dir, kind)
        if candidate in _NOT_READ_HERE:
            raise ValueError(
                f"dataset {candidate!r} consists of {_NOT_READ_HERE[candidate]}, which glipkit "
                "does not read; convert it to COCO json and name it in DATASETS.REGISTER"
            )
    known = sorted({*registered, *_PUBLISHED})
    close = difflib.get_close_matches(name, known, n=3) or known
    raise ValueError(
        f"unknown dataset {name!r}; did you mean {', '.join(close)}? "
        "Other datasets are named in DATASETS.REGISTER (see DATASET.md)"
    )


def _registered(name: str, entry: Mapping[str, Any]) -> DatasetSpec:
    missing = [key for key in ("ann_file", "img_dir") if not entry.get(key)]
    if missing:
        raise ValueError(
            f"DATASETS.REGISTER.{name} needs ann_file and img_dir, but has no "
            f"{' and no '.join(missing)} (keys found: {', '.join(entry) or 'none'})"
        )
    kind = entry.get("kind") or _kind_by_name(name)
    if kind not in _KINDS:
        raise ValueError(
            f"DATASETS.REGISTER.{name}.kind must be one of {', '.join(_KINDS)}, got {kind!r}"
        )
    root = dataset_root()  # an absolute path stays as it is when joined
    return DatasetSpec(name, root / entry["ann_file"], root / entry["img_dir"], kind)


def _kind_by_name(name: str) -> str:
    """The kind of a dataset that GLIP's own files register, which say it by the name alone."""
    if name in _PUBLISHED:
        return _PUBLISHED[name][0]
    return "lvis" if "lvis" in name.lower() else "coco"
