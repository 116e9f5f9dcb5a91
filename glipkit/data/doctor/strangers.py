"""What a file or folder is that holds no annotations in COCO or MDETR form: commonly mixed up."""

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from glipkit.data.doctor.findings import Ailment

_EXPORT = "export the dataset in COCO form (CVAT, FiftyOne, Label Studio and Roboflow write it)"

STRANGER_AILMENTS = {
    "file-results": Ailment(
        "error",
        "file of what a model has found, not of what is there to be found",
        "a model judged by its own answers gets any figure; the file is refused",
        "pass the annotation file that the results were judged by; results.json names it",
    ),
    "file-format": Ailment(
        "error",
        "file that holds no annotations in COCO or MDETR form",
        "the file is refused: there is no AP at all",
        _EXPORT,
    ),
}

_HEAD = 1 << 16  # characters of a file that are looked at
_YOLO_LINE = re.compile(r"\d+( -?\d*\.?\d+){4,}")
_OF_RESULTS = {"metrics", "protocol"}  # keys of the results.json that an evaluation leaves
_SEARCHED = 2000  # entries of a folder, so that one of a million pictures is answered at once


def known_stranger(path: Path, keys: Sequence[str] = ()) -> tuple[str, str] | None:
    """What a file is that could not be read as annotations.

    Args:
        path: the file.
        keys: at the top of it, if it is a JSON object.

    Returns:
        The code of an ailment, and what the file is; None when it is nothing known.
    """
    if set(keys) >= _OF_RESULTS:
        return "file-results", f"{path} is the results.json of an evaluation"
    if {"shapes", "imagePath"} <= set(keys):
        return "file-format", f"{path} is of labelme, which has a file for each picture"
    if "_via_img_metadata" in keys:
        return "file-format", f"{path} is a project of the VGG Image Annotator"
    head = path.open("rb").read(_HEAD)
    for start, what in (
        (b"PK", "a zip archive: unpack it"),
        (b"\x1f\x8b", "packed with gzip: unpack it"),
        (
            b"\x80",
            "a Python pickle, as RefCOCO was published in (refs(unc).p), which is not opened here: "
            "take MDETR's finetune_refcoco_val.json, see DATASET.md",
        ),
    ):
        if head.startswith(start):
            return "file-format", f"{path} is {what}"
    return _of_text(path, head.decode("utf-8-sig", errors="replace").lstrip())


def _of_text(path: Path, text: str) -> tuple[str, str] | None:
    if path.suffix.lower() == ".jsonl":
        return "file-format", f"{path} has a JSON value on each line, not one in all"
    if text.startswith("{"):
        return None
    if text.startswith("["):
        return _of_list(path, text)
    if text.startswith("<"):
        kind = "Pascal VOC, which has a file for each picture" if "<annotation" in text else "XML"
        return "file-format", f"{path} is {kind}"
    lines = [line.strip() for line in text.splitlines()[:3]]
    if lines and _YOLO_LINE.fullmatch(lines[0]):
        return "file-format", f"{path} has the lines of YOLO, which has a file for each picture"
    if _has(path.parent, "Sentences/*.txt"):
        return "file-format", (
            f"{path} lies beside the Sentences of Flickr30K Entities: glipkit reads it as "
            "kind: entities, see DATASET.md; this doctor does not"
        )
    if path.suffix.lower() in (".csv", ".tsv", ".yaml", ".yml", ".txt"):
        return "file-format", f"{path} is {path.suffix[1:].upper()}, not JSON"
    return None


def _of_list(path: Path, text: str) -> tuple[str, str] | None:
    """A JSON list, by its first entry."""
    try:
        entry, _ = json.JSONDecoder().raw_decode(text[1:].lstrip())
    except ValueError:  # empty, broken, or of very long entries
        return None
    if not isinstance(entry, dict):
        return None
    said = ", ".join(entry)
    if "score" in entry or "scores" in entry:
        return "file-results", f"{path} is a list of detections ({said})"
    if {"image", "annotations"} <= set(entry):
        return "file-format", f"{path} is of CreateML"
    return "file-format", f"{path} is a list, whose first entry has {said}"


def describe_folder(folder: Path) -> str:
    """What a folder is that was passed instead of an annotation file, and what to do."""
    said = f"{folder} is a folder; pass its annotation file"
    found = [path for pattern in ("*.json", "*/*.json") for path in _some(folder, pattern)]
    if found and not _is_labelme(found[0]):
        names = ", ".join(str(path) for path in found[:4])
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        return f"{said}: {names}{more}"
    for patterns, what, advice in (
        (
            ("Sentences/*.txt",),
            "Flickr30K Entities in its original files",
            "glipkit reads it as kind: entities, see DATASET.md; this doctor does not",
        ),
        (("Annotations/*.xml", "*.xml", "*/*.xml"), "Pascal VOC", _EXPORT),
        (("data.yaml", "labels/*.txt", "labels/*/*.txt", "*/labels/*.txt"), "YOLO", _EXPORT),
        (("*.json",), "labelme", _EXPORT),
        (("*.tsv", "*.lineidx"), "TSV files", "glipkit reads them as kind: tsv, see DATASET.md"),
    ):
        if any(_has(folder, pattern) for pattern in patterns):
            return f"{folder} is a folder that looks like {what}: {advice}"
    return f"{said}, of which none is here or one folder below"


def _is_labelme(path: Path) -> bool:
    head = path.open("rb").read(_HEAD)
    return b'"shapes"' in head and b'"imagePath"' in head


def _has(folder: Path, pattern: str) -> bool:
    return next(iter(_some(folder, pattern)), None) is not None


def _some(folder: Path, pattern: str) -> list[Path]:
    return sorted(islice(folder.glob(pattern), _SEARCHED))
