r"""Detection data in TSV files, the form in which Objects365 and its likes are passed around.

Millions of pictures in one file are kinder to a file system than millions of files. A YAML file
names the parts, relative to its own folder::

    img: train.tsv               # key <tab> picture file in base64; the last column counts
    label: train.label.tsv       # key <tab> [{"class": "cat", "rect": [x1, y1, x2, y2]}, ...]
    hw: train.hw.tsv             # optional; key <tab> height, a space, width (or JSON of the two)
    labelmap: train.labelmap.tsv # a class to a line; or JSON, {"cat": 1, ...}
    linelist: train.lines.tsv    # optional; the rows that count, from 0, as often as they are named

Row i of each file is about the same picture, and its key is the same. Other columns of the label
map and other keys of a box or of the YAML file are passed over; `iscrowd` of a box is heeded.
Beside each .tsv lies a .lineidx (see tsv_rows.py). Class 0 is `__background__`, whether the label
map begins with it or not, as in the published data: it is a legal absent class (OD_TO_GROUNDING).

A rect is continuous: its sides are x2 - x1 and y2 - y1, as COCO's width and height. So data that is
at hand as COCO json too gives the same boxes in both forms.
"""

import base64
import binascii
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.json_values import first_few, is_number, shown
from glipkit.data.datasets.tsv_parts import read_label_map, read_lines, read_parts, read_sizes
from glipkit.data.datasets.tsv_rows import TsvRows
from glipkit.data.detection_source import LabelledBoxes
from glipkit.data.images import ImageError, read_image_bytes

logger = logging.getLogger(__name__)


class TsvPictures:
    """Labelled pictures in TSV files, as `LabelledPictures`.

    Args:
        name: of the dataset.
        images: rows of key and picture.
        labels: rows of key and boxes.
        classes: id -> name, the background at 0.
        sizes: (rows, 2) int32, height and width in pixels; None when nobody says.
        lines: (pictures,) int64, the rows that count; None when all do.

    Raises:
        ValueError: the files have not equally many rows, or `lines` names others.
    """

    def __init__(
        self,
        name: str,
        images: TsvRows,
        labels: TsvRows,
        *,
        classes: Mapping[int, str],
        sizes: np.ndarray | None = None,
        lines: np.ndarray | None = None,
    ) -> None:
        counts = {images.path: len(images), labels.path: len(labels)}
        if sizes is not None:
            counts["the sizes (hw)"] = len(sizes)
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{path}: {count:,}" for path, count in counts.items())
            raise ValueError(f"{name}: its files must have equally many rows, got {found}")
        lines = np.arange(len(images)) if lines is None else lines
        if not len(lines) or lines.min() < 0 or lines.max() >= len(images):
            raise ValueError(
                f"{name}: its linelist must name rows from 0 to {len(images) - 1}, got "
                f"{first_few(lines.tolist()) or 'none'}"
            )
        self.name = name
        self.classes = dict(sorted(classes.items()))
        self._ids = {class_name: number for number, class_name in classes.items()}
        self._images, self._labels = images, labels
        self._sizes, self._lines = sizes, lines

    def __len__(self) -> int:
        return len(self._lines)

    def size(self, index: int) -> tuple[int, int] | None:
        """(height, width) in pixels; None where no file says."""
        if self._sizes is None:
            return None
        height, width = self._sizes[self._lines[index]].tolist()
        return height, width

    def image_id(self, index: int) -> int:
        """The row of the picture in its file, from 0; keys may be any words."""
        return int(self._lines[index])

    def key(self, index: int) -> str:
        """What the files call the picture."""
        return self._images.key(self.image_id(index))

    def read(self, index: int) -> Image.Image:
        """The picture as 8-bit RGB.

        Raises:
            ImageError: it is cut off, not base64, damaged, or has another size than `hw` says.
            ValueError: the .lineidx is not that of the file.
        """
        row = self.image_id(index)
        return read_image_bytes(self.image_bytes(index), self._images.where(row), self.size(index))

    def image_bytes(self, index: int) -> bytes:
        """What the picture's file would hold.

        Raises:
            ImageError, ValueError: as `read`.
        """
        row = self.image_id(index)
        where = self._images.where(row)
        columns = self._images[row]
        if len(columns) < 2:
            raise ImageError(where, "the row is cut off: expected a key, a tab and base64")
        try:
            return base64.b64decode(columns[-1], validate=True)
        except binascii.Error as error:
            raise ImageError(where, f"the picture is not base64, or cut off: {error}") from None

    def labels_and_boxes(self, index: int) -> LabelledBoxes:
        """Class ids and (N, 4) boxes x, y, x2 - x1, y2 - y1.

        Raises:
            ValueError: the row is not as described above, is about another picture than the row of
                `img`, or has a class that the label map does not list.
        """
        row = self.image_id(index)
        where = self._labels.where(row)
        key, entries = self._label_row(row)
        if key != (pictured := self._images.key(row)):
            raise ValueError(
                f"{where} is about {key!r}, but the same row of {self._images.path} about "
                f"{pictured!r}; the two files do not belong together"
            )
        if unknown := {entry["class"] for entry in entries} - self._ids.keys():
            raise ValueError(
                f"{where} ({key}): the label map does not list {first_few(sorted(unknown))} among "
                f"its {len(self._ids)} classes"
            )
        corners = torch.tensor([entry["rect"] for entry in entries], dtype=torch.float64)
        corners = corners.reshape(-1, 4)
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
        crowds = tuple(bool(entry.get("iscrowd")) for entry in entries)
        return LabelledBoxes(
            labels=tuple(self._ids[entry["class"]] for entry in entries),
            boxes=boxes.float(),
            is_crowd=crowds if any(crowds) else (),
        )

    def negatives(self, index: int) -> None:
        """None: what a row does not name is absent."""
        return

    def _label_row(self, row: int) -> tuple[str, list[dict[str, Any]]]:
        columns = self._labels[row]
        try:
            entries = json.loads(columns[1])
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"{self._labels.where(row)} must be a key, a tab and a JSON list: {error}"
            ) from None
        if not isinstance(entries, list):
            entries = [entries]
        for entry in entries:
            rect = entry.get("rect") if isinstance(entry, dict) else None
            is_rect = isinstance(rect, list) and len(rect) == 4 and all(map(is_number, rect))
            if not is_rect or not isinstance(entry.get("class"), str):
                raise ValueError(
                    f"{self._labels.where(row)}: a box needs a class and a rect [x1, y1, x2, y2], "
                    f"got {shown(entry)}"
                )
        return columns[0].decode(errors="replace").strip(), entries


def load_tsv(spec: DatasetSpec) -> TsvPictures:
    """Open the files that a dataset's YAML file names.

    Raises:
        FileNotFoundError: the YAML file or a file that it names is not there.
        ValueError: a file is not of the form that the top of this module describes.
    """
    spec.check_files()
    parts = read_parts(spec.ann_file)
    images = TsvRows(parts["img"])
    pictures = TsvPictures(
        spec.name,
        images,
        TsvRows(parts["label"]),
        classes=read_label_map(parts["labelmap"]),
        sizes=read_sizes(parts["hw"]) if "hw" in parts else None,
        lines=read_lines(parts["linelist"]) if "linelist" in parts else None,
    )
    logger.info(
        "%s: %d pictures in %d rows of %s", spec.name, len(pictures), len(images), images.path
    )
    return pictures
