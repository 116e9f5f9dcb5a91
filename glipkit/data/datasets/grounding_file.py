"""An MDETR-style grounding json, read with suspicion: captions whose words have boxes.

The format is COCO's with two additions: an image record carries a `caption`, and an annotation
says by `tokens_positive`, a list of character ranges [start, end), which words its box shows. One
picture may have many records, one for each of its captions. Flickr30k Entities, GoldG ("mixed"),
RefCOCO, PhraseCut and GQA come in this form.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glipkit.data.datasets.box_faults import UNUSABLE, box_fault
from glipkit.data.datasets.coco_file import ORPHANED, image_record
from glipkit.data.datasets.columns import SpanListBuilder, SpanLists, Texts, positions
from glipkit.data.datasets.json_stream import JsonArrays
from glipkit.data.datasets.json_values import check_unique, is_number, shown

BLANK = "belong to a record whose caption is blank; such records are left out"
WORDLESS = "name no words (tokens_positive is empty or outside the caption)"
BEYOND = "have a range of words outside their caption; that range is left out"
REPEATED = "have an id that another one has"
LEFT_OUT = frozenset({*UNUSABLE, ORPHANED, BLANK, WORDLESS})

SLACK = 2  # characters that a range may end behind its caption: alignment looks back so far
_COLUMNS = {"id", "file_name", "height", "width", "caption"}  # the rest of a record is `extras`


@dataclass(frozen=True, slots=True)
class GroundingRecord:
    """One caption of one picture, and the boxes of its words."""

    image_id: int  # of the record: another caption of the same picture has another
    file_name: str
    size: tuple[int, int]  # (height, width) in pixels, as the file claims
    caption: str
    boxes: np.ndarray  # (N, 4) float32, x, y, width, height in pixels
    spans: tuple[tuple[tuple[int, int], ...], ...]  # N times the ranges of the caption it shows
    is_crowd: np.ndarray  # (N,) bool
    # Everything else that the image record says, as in the file: dataset_name, data_source,
    # original_img_id or original_id, sentence_id, tokens_negative, tokens_positive_eval, ...
    extras: Mapping[str, Any]

    @property
    def data_source(self) -> str:
        """The collection that the picture is from; "" where the record does not say."""
        return _data_source(self.extras)


@dataclass(frozen=True, slots=True)
class GroundingFile:
    """A checked grounding json; `file[i]` is its record i, in the file's order.

    The boxes are usable: finite, with an area, of a picture that is listed, with words.
    """

    path: Path
    digest: str  # SHA-256 of the file, in hex
    image_ids: np.ndarray  # (R,) int64
    sizes: np.ndarray  # (R, 2) int32, (height, width) in pixels
    file_names: Texts
    captions: Texts
    data_sources: dict[str, int]  # each data_source that occurs -> the first record with it
    extras: Texts  # JSON
    box_starts: np.ndarray  # (R + 1,) int64: record i has the boxes from box_starts[i] on
    boxes: np.ndarray  # (M, 4) float32, x, y, width, height in pixels
    spans: SpanLists  # M rows
    is_crowd: np.ndarray  # (M,) bool
    num_annotations: int  # how many the file has
    faults: dict[str, int]  # what is wrong with how many annotations

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> GroundingRecord:
        index = range(len(self))[index]
        boxes = slice(int(self.box_starts[index]), int(self.box_starts[index + 1]))
        height, width = self.sizes[index].tolist()
        return GroundingRecord(
            image_id=int(self.image_ids[index]),
            file_name=self.file_names[index],
            size=(height, width),
            caption=self.captions[index],
            boxes=self.boxes[boxes],
            spans=tuple(self.spans[row] for row in range(boxes.start, boxes.stop)),
            is_crowd=self.is_crowd[boxes],
            extras=json.loads(self.extras[index]),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the records take."""
        columns = (self.image_ids, self.sizes, self.file_names, self.captions, self.extras)
        boxes = (self.box_starts, self.boxes, self.spans, self.is_crowd)
        return sum(column.nbytes for column in (*columns, *boxes))


def read_grounding_file(path: Path) -> GroundingFile:
    """Read and check an annotation file.

    What cannot be learnt from is left out and counted in `faults`; boxes that reach over the edge
    of their picture are counted and kept.

    Raises:
        ValueError: the file is not JSON or cut short, has another form, uses an image id twice, or
            leaves nothing to learn from.
    """
    reader = JsonArrays(path, ("images", "annotations"))

    def entries() -> Iterator[tuple[str, dict[str, Any]]]:
        yield from reader
        for key in ("images", "annotations"):
            if key not in reader.keys:
                raise ValueError(
                    f"{path} is not a grounding file: expected "
                    f'{{"images": [...], "annotations": [...]}}, but {key!r} is missing '
                    f"(keys found: {', '.join(reader.keys) or 'none'})"
                )

    return assemble(path, entries(), lambda: reader.digest)


def assemble(
    path: Path, entries: Iterable[tuple[str, dict[str, Any]]], digest: Callable[[], str]
) -> GroundingFile:
    """Check the entries of a grounding file, wherever they come from, and put them together.

    Args:
        path: where they come from, for messages.
        entries: ("images", record) and ("annotations", annotation), in any order.
        digest: gives the SHA-256 of what was read, once all entries were.

    Raises:
        ValueError: see `read_grounding_file`.
    """
    records, annotations = _Records(path), _Annotations(path)
    for key, entry in entries:
        (records if key == "images" else annotations).add(entry)
    records.check()
    return _joined(path, digest(), records, annotations)


class _Records:
    """The image records read so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ids, self.blank_ids, self.sizes = array("q"), array("q"), array("i")
        self.caption_lengths = array("i")
        self.file_names, self.captions, self.extras = Texts(), Texts(), Texts()
        self.data_sources: dict[str, int] = {}

    def add(self, entry: dict[str, Any]) -> None:
        record = image_record(self._path, entry)
        caption = entry.get("caption")
        if not isinstance(caption, str):
            raise ValueError(
                f"{self._path}: a record of a grounding file needs a caption, got {shown(entry)}. "
                'Is this detection data? Then set kind: "coco" in DATASETS.REGISTER'
            )
        try:
            if not caption.strip():
                self.blank_ids.append(record.image_id)
                return
            self.captions.append(caption)
            self.file_names.append(record.file_name)
            self.ids.append(record.image_id)
        except (OverflowError, UnicodeEncodeError) as error:
            raise ValueError(f"{self._path}: {error} in {shown(entry)}") from None
        self.caption_lengths.append(len(caption))
        self.sizes.extend(record.size)
        extras = {key: value for key, value in entry.items() if key not in _COLUMNS}
        self.data_sources.setdefault(_data_source(extras), len(self.extras))
        self.extras.append(json.dumps(extras, separators=(",", ":")))

    def check(self) -> None:
        if not self.ids:
            raise ValueError(f"{self._path} lists no image with a caption; there is nothing to say")
        check_unique(self._path, "image ids", [*self.ids, *self.blank_ids])


class _Annotations:
    """The annotations read so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.image_ids, self.boxes, self.is_crowd = array("q"), array("f"), array("b")
        self.ids = array("q")  # of those that have a number
        self._spans = SpanListBuilder()

    def add(self, entry: dict[str, Any]) -> None:
        box = entry.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
            raise ValueError(
                f"{self._path}: an annotation needs a bbox of four numbers [x, y, width, height] "
                f"in pixels, got {shown(entry)}"
            )
        try:
            self.image_ids.append(entry.get("image_id"))
        except (TypeError, OverflowError):
            raise ValueError(
                f"{self._path}: an annotation needs an integer image_id, got {shown(entry)}"
            ) from None
        try:
            self._spans.append(entry["tokens_positive"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{self._path}: an annotation of a grounding file needs tokens_positive, a list of "
                f"character ranges [[start, end], ...], got {shown(entry)}"
            ) from None
        self.boxes.extend(box)
        self.is_crowd.append(bool(entry.get("iscrowd")))
        if isinstance(entry.get("id"), int) and abs(entry["id"]) < 2**63:
            self.ids.append(entry["id"])

    @property
    def spans(self) -> SpanLists:
        return self._spans.done()


def _data_source(record: Mapping[str, Any]) -> str:
    return str(record.get("data_source") or "")


def _joined(path: Path, digest: str, records: _Records, annotations: _Annotations) -> GroundingFile:
    """Put annotations to their records; leave out and count what is of no use."""
    sizes = np.array(records.sizes, dtype=np.int32).reshape(-1, 2)
    boxes = np.array(annotations.boxes, dtype=np.float32).reshape(-1, 4)
    image_ids = np.array(annotations.image_ids, dtype=np.int64)
    record_ids = np.array(records.ids, dtype=np.int64)
    faults: Counter[str] = Counter()

    owner = positions(image_ids, record_ids)  # (annotations,), -1 where there is none
    blank = np.isin(image_ids, np.array(records.blank_ids, dtype=np.int64))
    faults[BLANK] = int(blank.sum())
    faults[ORPHANED] = int((owner < 0).sum()) - faults[BLANK]
    usable = (owner >= 0) & _usable_boxes(boxes, sizes[owner], owner >= 0, faults)

    lengths = np.array(records.caption_lengths, dtype=np.int32)
    spans = _inside(annotations.spans, lengths[owner], owner >= 0, faults)
    wordless = (owner >= 0) & (spans.lengths == 0)
    faults[WORDLESS] = int(wordless.sum())
    faults[REPEATED] = len(annotations.ids) - len(np.unique(annotations.ids))

    kept = np.flatnonzero(usable & ~wordless)
    kept = kept[np.argsort(owner[kept], kind="stable")]
    faults = Counter({fault: count for fault, count in faults.items() if count})
    if not len(kept):
        reasons = ", ".join(f"{count} {fault}" for fault, count in faults.items())
        raise ValueError(
            f"{path}: none of its {len(boxes)} annotations can be learnt from ({reasons or 'none'})"
        )
    counts = np.bincount(owner[kept], minlength=len(record_ids))
    return GroundingFile(
        path=path,
        digest=digest,
        image_ids=record_ids,
        sizes=sizes,
        file_names=records.file_names,
        captions=records.captions,
        data_sources=records.data_sources,
        extras=records.extras,
        box_starts=np.concatenate([[0], np.cumsum(counts)]),
        boxes=boxes[kept],
        spans=spans.take(kept),
        is_crowd=np.array(annotations.is_crowd, dtype=bool)[kept],
        num_annotations=len(boxes),
        faults=dict(faults),
    )


def _usable_boxes(
    boxes: np.ndarray, sizes: np.ndarray, listed: np.ndarray, faults: Counter[str]
) -> np.ndarray:
    """(annotations,) bool, False where no detection could match the box; the faults are counted."""
    x, y, width, height = boxes.T
    bottom, right = sizes.T
    with np.errstate(invalid="ignore", over="ignore"):
        sound = (x >= 0) & (y >= 0) & (width > 0) & (height > 0)
        sound &= (x + width <= right) & (y + height <= bottom)
    usable = np.ones(len(boxes), dtype=bool)
    for index in np.flatnonzero(listed & ~sound):
        fault = box_fault(boxes[index].tolist(), tuple(sizes[index].tolist()))
        faults.update([fault] if fault else [])
        usable[index] = fault not in UNUSABLE
    return usable


def _inside(
    spans: SpanLists, lengths: np.ndarray, listed: np.ndarray, faults: Counter[str]
) -> SpanLists:
    """The spans that lie in their captions, which have `lengths` characters."""
    row = spans.row_of_span()
    length = lengths[row]
    start, end = spans.spans.T
    inside = (start >= 0) & (start < end) & (start < length) & (end <= length + SLACK)
    faults[BEYOND] = len(np.unique(row[~inside & listed[row]]))
    np.minimum(end, length, out=spans.spans[:, 1])
    return spans.only(inside)
