"""Whether what a dataset says of its pictures is still what it said."""

import hashlib

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.tsv_parts import read_parts
from glipkit.runtime.file_digest import file_digest

_LARGE = ("img", "label")  # of a TSV dataset; gigabytes, and the first holds the pictures


def annotation_digest(spec: DatasetSpec) -> str:
    """SHA-256 over the annotations of a dataset, in hex; pictures are not looked at.

    What is digested:
        "coco", "lvis", "grounding": the annotation file.
        "entities": the list of pictures, not the two small files that each of them has.
        "tsv": the YAML file, the label map, the sizes and the line list. Of the pictures and the
            boxes the number of bytes alone, since to read them would take minutes: other boxes in
            as many bytes go unnoticed.

    Raises:
        OSError: a file is not there, or cannot be read.
        ValueError: a YAML file does not name the files of a TSV dataset.
    """
    if spec.kind != "tsv":
        return file_digest(spec.ann_file)
    digest = hashlib.sha256(file_digest(spec.ann_file).encode())
    for part, path in read_parts(spec.ann_file).items():
        said = path.stat().st_size if part in _LARGE else file_digest(path)
        digest.update(f" {part} {said}".encode())
    return digest.hexdigest()
