"""An annotation file from all sides: everything that makes AP silently zero or low."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from glipkit.data.datasets.columns import Texts
from glipkit.data.datasets.lvis import picture_names
from glipkit.data.doctor.between import BETWEEN_AILMENTS, check_between
from glipkit.data.doctor.boxes import BOX_AILMENTS, check_boxes
from glipkit.data.doctor.captions import CAPTION_AILMENTS, check_captions
from glipkit.data.doctor.contents import FILE_AILMENTS, Contents, read_contents
from glipkit.data.doctor.federated import LABEL_AILMENTS, check_labels
from glipkit.data.doctor.findings import Ailment, Chart, Finding
from glipkit.data.doctor.names import NAME_AILMENTS, check_categories
from glipkit.data.doctor.pictures import (
    PICTURE_AILMENTS,
    Seen,
    check_pictures,
    check_records,
    find_folder,
)
from glipkit.data.doctor.strangers import STRANGER_AILMENTS, describe_folder
from glipkit.grounding.captions import MAX_TOKENS
from glipkit.grounding.tokenizer import Tokenizer

AILMENTS: Mapping[str, Ailment] = {
    **STRANGER_AILMENTS,
    **FILE_AILMENTS,
    **BOX_AILMENTS,
    **NAME_AILMENTS,
    **LABEL_AILMENTS,
    **CAPTION_AILMENTS,
    **PICTURE_AILMENTS,
}


@dataclass(frozen=True, slots=True)
class Examination:
    """What the doctor says about one file."""

    path: Path
    form: str  # "coco", "captions", or "unknown" when it could not be read
    facts: dict[str, Any]
    findings: tuple[Finding, ...]  # the worst first
    contents: Contents | None = field(default=None, repr=False)
    seen: Mapping[str, Seen] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "path": str(self.path),
            "form": self.form,
            "facts": self.facts,
            "findings": [finding.to_json() for finding in self.findings],
        }


def examine(
    path: Path,
    *,
    pictures: Path | None = None,
    tokenizer: Tokenizer | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Examination:
    """Look at everything in a COCO or MDETR annotation file, and at its pictures.

    Args:
        path: the file.
        pictures: the folder that its file names start from; None looks for it beside the file.
        tokenizer: of the text encoder that will read the words; None leaves out what depends on
            it.
        max_tokens: that the text encoder reads, [CLS] and [SEP] included.

    Raises:
        FileNotFoundError: there is no such file, or no such folder of pictures.
        OSError: the file cannot be read at all; for a folder, says what it looks like.
    """
    check_paths(path, pictures)
    started = time.perf_counter()
    chart = Chart(AILMENTS)
    contents = read_contents(path, chart)
    if contents is None:
        facts = {"seconds": round(time.perf_counter() - started, 3)}
        return Examination(path, "unknown", facts, chart.findings())
    check_records(contents, chart)
    check_boxes(contents, chart)
    if contents.has_captions:
        check_captions(contents, chart, tokenizer=tokenizer, max_tokens=max_tokens)
    else:
        check_categories(contents, chart, tokenizer=tokenizer, max_tokens=max_tokens)
        check_labels(contents, chart)
    folder = pictures or find_folder(contents)
    seen: dict[str, Seen] = {}
    if folder is not None:
        if contents.labels is not None:  # as they are found when they are judged
            names = picture_names(folder, list(zip(contents.file_names, contents.addresses)))
            contents = replace(contents, file_names=Texts(names))
        seen = check_pictures(contents, folder, chart)
    elif contents.num_images:
        chart.add("pictures-unseen", count=contents.num_images)
    facts = _facts(contents) | {
        "pictures_folder": None if folder is None else str(folder),
        "words_checked": tokenizer is not None,
        "seconds": round(time.perf_counter() - started, 3),
    }
    form = "captions" if contents.has_captions else "coco"
    return Examination(path, form, facts, chart.findings(), contents, seen)


def check_paths(path: Path, pictures: Path | None = None) -> None:
    """Complain about paths that cannot be examined.

    Raises:
        FileNotFoundError: there is no such file, or no such folder of pictures.
        IsADirectoryError: a folder was passed as the annotation file; says what it looks like.
    """
    if path.is_dir():
        raise IsADirectoryError(describe_folder(path))
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file {path}")
    if pictures is not None and not pictures.is_dir():
        raise FileNotFoundError(f"no folder of pictures {pictures}")


def compare(first: Examination, second: Examination) -> tuple[Finding, ...]:
    """What two files of one dataset should not have in common, and what they should."""
    chart = Chart(BETWEEN_AILMENTS)
    if first.contents is not None and second.contents is not None:
        check_between(first.contents, second.contents, (first.seen, second.seen), chart)
    return chart.findings()


def _facts(contents: Contents) -> dict[str, Any]:
    counts = np.bincount(contents.rows[contents.rows >= 0], minlength=len(contents.image_ids))
    return {
        "images": contents.num_images,
        "boxes": len(contents.boxes),
        "classes": len(contents.categories),
        "crowds": int(contents.is_crowd.sum()),
        "most_boxes_in_a_picture": int(counts.max(initial=0)),
    }
