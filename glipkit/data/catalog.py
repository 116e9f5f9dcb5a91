"""Which files a dataset name stands for."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Published names. Kinds: "coco" (boxes with classes), "lvis" (the same, not exhaustively labelled),
# "grounding" (captions whose words have boxes), "entities" (the same in the original files of
# Flickr30K Entities), "tsv" (boxes with classes, pictures in the rows of one file). Paths are
# relative to the dataset root.
# kind, annotation file (tsv: the YAML file that names the others; entities: the list of pictures),
# image folder
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
    **{
        f"flickr30k_entities_{split}": (
            "entities",
            f"flickr30k/flickr30k_entities/{split}.txt",
            f"flickr30k/flickr30k_images/{split}",
        )
        for split in ("train", "val", "test")
    },
    **{
        f"{collection}_{split}": (
            "grounding",
            f"mdetr_annotations/finetune_{collection}_{split}.json",
            "refcoco/train2014",
        )
        for collection, splits in (
            ("refcoco", ("train", "val", "testA", "testB")),
            ("refcoco+", ("train", "val", "testA", "testB")),
            ("refcocog", ("train", "val", "test")),
        )
        for split in splits
    },
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
    "mixed_train": ("grounding", "mdetr_annotations/final_mixed_train.json", ""),
    "mixed_train_no_coco": ("grounding", "mdetr_annotations/final_mixed_train_no_coco.json", ""),
    "coco_dt_train": ("tsv", "coco_tsv/coco_obj.yaml", ""),
    "lvisv1_dt_train": ("tsv", "coco_tsv/LVIS_v1_train.yaml", ""),
    "object365_dt_train": ("tsv", "Objects365/objects365_train_vgoiv6.cas2000.yaml", ""),
    "objects365_odtsv_train": ("tsv", "Objects365/train.cas2000.yaml", ""),
    "objects365_odtsv_val": ("tsv", "Objects365/val.yaml", ""),
}
# Where pictures lie of which the file says, record by record, which collection they are from:
# `data_source` -> folder.
_SOURCES = {
    name: {"coco": "coco/train2014", "vg": "gqa/images"}
    for name in ("mixed_train", "mixed_train_no_coco")
}

# The first word of a name -> the key DATASETS.<..>_COPY that says how often an epoch shows it.
_FAMILIES = {
    "coco": "coco",
    **dict.fromkeys(("lvis", "lvisv1"), "lvis"),
    **dict.fromkeys(("flickr", "flickr30k"), "flickr"),
    "mixed": "mixed",
    **dict.fromkeys(("object365", "objects365"), "object365"),
    **dict.fromkeys(("vg", "visualgenome"), "vg"),
    **dict.fromkeys(("oi", "openimages"), "oi"),
    **dict.fromkeys(("imagenet", "imagenetod"), "in"),
}
# Names that GLIP's own files give to captions with boxes.
_EXPRESSIONS = ("refexp_", "refcoco", "finetune_refcoco")
_CAPTIONED = ("flickr30k_", "mixed_train", "phrasecut_", "gqa_", *_EXPRESSIONS)
# Where the types of the phrases of flickr30k_train, _val and _test are found, if it is there.
_FLICKR_ENTITIES = "flickr30k/flickr30k_entities"

KINDS = ("coco", "lvis", "grounding", "entities", "tsv")
CAPTIONED_KINDS = ("grounding", "entities")
PHRASES, EXPRESSIONS = JUDGED = ("phrases", "expressions")
_SUFFIX = "_grounding"  # asks for the same files, read as captions with boxes
_FOLDER_SUFFIX = "_img_dir"  # of keys that name the folder of one data_source


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One dataset: an annotation file, and the folder its file names are relative to."""

    name: str
    ann_file: Path  # kind "tsv": the YAML file that names the others; "entities": list of pictures
    img_dir: Path  # kind "tsv": the folder of `ann_file`; with `sources`: not used
    kind: str = "coco"
    # (data_source, folder) pairs, where every record says which collection its picture is from.
    sources: tuple[tuple[str, Path], ...] = ()
    # How captions are judged: by each of their phrases, or as referring expressions, which mean one
    # thing as a whole.
    judged: str = PHRASES
    entities: Path | None = None  # kind "grounding": Flickr30K Entities, for the types of phrases

    @property
    def has_captions(self) -> bool:
        """Captions with boxes, not classes."""
        return self.kind in CAPTIONED_KINDS

    def check_files(self) -> None:
        """Say what is missing before anything is read.

        Of several folders one has to be there; which of the others the file speaks of is known
        when it is read, and left to `check_folder`.

        Raises:
            FileNotFoundError: the annotation file or the image folder is not there.
        """
        if not self.ann_file.is_file():
            self._fail("YAML file" if self.kind == "tsv" else "annotation file", self.ann_file)
        folders = [folder for _, folder in self.sources] or [self.img_dir]
        if not any(folder.is_dir() for folder in folders):
            self._fail("image folder", folders[0])
        if self.entities and not self.entities.is_dir():
            self._fail("folder of Flickr30K Entities", self.entities)

    def check_folder(self, source: str) -> None:
        """Say that the folder of a data_source is missing.

        Raises:
            FileNotFoundError: it is not there.
        """
        if not (folder := dict(self.sources)[source]).is_dir():
            self._fail(f"image folder of data_source {source!r}", folder)

    def _fail(self, what: str, path: Path) -> None:
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
        registered: DATASETS.REGISTER; the keys of an entry are described in DATASET.md. Paths are
            relative to the dataset root or absolute.
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
            return _published(candidate)
    known = sorted({*registered, *_PUBLISHED})
    close = difflib.get_close_matches(name, known, n=3) or known
    raise ValueError(
        f"unknown dataset {name!r}; did you mean {', '.join(close)}? "
        "Other datasets are named in DATASETS.REGISTER (see DATASET.md)"
    )


def family(name: str) -> str:
    """Which of the keys DATASETS.<FAMILY>_COPY counts a dataset, by the first word of its name.

    Returns:
        "coco", "lvis", "flickr", "mixed", "object365", "vg", "oi" or "in"; "" for all others, which
        DATASETS.GENERAL_COPY counts.
    """
    return _FAMILIES.get(name.lower().split("_")[0], "")


def _published(name: str) -> DatasetSpec:
    kind, ann_file, img_dir = _PUBLISHED[name]
    root = dataset_root()
    sources = tuple((source, root / path) for source, path in _SOURCES.get(name, {}).items())
    folder = root / img_dir if img_dir else (root / ann_file).parent
    entities = root / _FLICKR_ENTITIES
    has_types = kind == "grounding" and name.startswith("flickr30k_") and entities.is_dir()
    return DatasetSpec(
        *(name, root / ann_file, folder, kind, sources),
        judged=_judged_by_name(name),
        entities=entities if has_types else None,
    )


def _registered(name: str, entry: Mapping[str, Any]) -> DatasetSpec:
    kind = entry.get("kind") or _kind_by_name(name, entry)
    if kind not in KINDS:
        raise ValueError(
            f"DATASETS.REGISTER.{name}.kind must be one of {', '.join(KINDS)}, got {kind!r}"
        )
    root = dataset_root()  # an absolute path stays as it is when joined
    ann_file = entry.get("yaml_path" if kind == "tsv" else "ann_file")
    img_dir = entry.get("img_dir") or entry.get("img_folder")
    sources = tuple(
        (key.removesuffix(_FOLDER_SUFFIX), root / folder)
        for key, folder in entry.items()
        if kind == "grounding" and key.endswith(_FOLDER_SUFFIX)
    )
    needed = {"yaml_path": ann_file} if kind == "tsv" else {"ann_file": ann_file}
    if kind != "tsv" and not sources:
        needed["img_dir"] = img_dir
    missing = [key for key, value in needed.items() if not value]
    if missing:
        raise ValueError(
            f"DATASETS.REGISTER.{name} needs {' and '.join(needed)}, but has no "
            f"{' and no '.join(missing)} (keys found: {', '.join(entry) or 'none'})"
        )
    judged = entry.get("judged") or _judged_by_name(name)
    if judged not in JUDGED:
        raise ValueError(
            f"DATASETS.REGISTER.{name}.judged must be one of {', '.join(JUDGED)}, got {judged!r}"
        )
    ann_file = root / ann_file
    return DatasetSpec(
        *(name, ann_file, root / img_dir if img_dir else ann_file.parent, kind, sources),
        judged=judged,
        entities=root / entry["entities"] if entry.get("entities") else None,
    )


def _judged_by_name(name: str) -> str:
    return EXPRESSIONS if name.startswith(_EXPRESSIONS) else PHRASES


def _kind_by_name(name: str, entry: Mapping[str, Any]) -> str:
    """The kind of a dataset that GLIP's own files register, which say it by name and keys alone."""
    if "yaml_path" in entry:
        return "tsv"
    published = _PUBLISHED.get(name, ("tsv",))[0]
    if published != "tsv":
        return published
    if name.startswith(_CAPTIONED):
        return "grounding"
    return "lvis" if "lvis" in name.lower() else "coco"
