"""An annotation file as columns, read to its end whatever is wrong with its entries."""

import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glipkit.data.datasets.coco_file import image_record
from glipkit.data.datasets.columns import SpanListBuilder, SpanLists, Texts, positions
from glipkit.data.datasets.json_stream import JsonArrays
from glipkit.data.datasets.json_values import is_integer, is_number, shown
from glipkit.data.datasets.lvis import FREQUENCIES
from glipkit.data.doctor.findings import MAX_EXAMPLES, Ailment, Chart
from glipkit.data.doctor.strangers import known_stranger

NO_ID = -(2**63)
_REFUSED = "the file is refused: there is no AP at all"

FILE_AILMENTS = {
    "file-broken": Ailment(
        "error",
        "file that cannot be read as annotations",
        _REFUSED,
        "copy, download or export it again; nothing else of it was looked at",
    ),
    "key-missing": Ailment(
        "error",
        "of the parts images, annotations and categories missing",
        "without images or categories the file is refused; without annotations there is no AP",
        'export it in COCO form: {"images": [...], "annotations": [...], "categories": [...]}',
    ),
    "key-empty": Ailment(
        "error",
        "of the parts images, annotations and categories empty",
        "nothing to look for, or nothing to compare with: no AP",
        "export the file again, with pictures and boxes",
    ),
    "image-record": Ailment(
        "error",
        "pictures without an integer id, a file_name, or a positive integer height and width, or "
        "whose neg_category_ids or not_exhaustive_category_ids are no ids",
        _REFUSED,
        "give every picture all four; lists of ids hold integers",
    ),
    "text-broken": Ailment(
        "error",
        "file names or captions hold half of a surrogate pair, from a badly escaped emoji",
        "captions: the file is refused; otherwise such a picture is never found",
        "write the file as UTF-8, not with one half of \\ud83d\\ude00",
    ),
    "box-missing": Ailment(
        "error",
        "annotations without a bbox of four numbers",
        _REFUSED,
        "write bbox as [x, y, width, height] in pixels; delete annotations that are only masks or "
        "key points",
    ),
    "captions-whole": Ailment(
        "error",
        "annotations are sentences about whole pictures, without a box (COCO captions)",
        "no word is tied to a place, so there is nothing to learn from or to judge: refused",
        "for AP take the instances file of the same pictures (instances_val2017.json goes with "
        "captions_val2017.json); for phrases a file in MDETR form, whose annotations have bbox and "
        "tokens_positive: see DATASET.md, Captions with boxes",
    ),
    "segments-whole": Ailment(
        "error",
        "annotations are the segments of whole pictures, without a box (COCO panoptic)",
        _REFUSED,
        "take the instances file of the same pictures",
    ),
    "reference-missing": Ailment(
        "error",
        "annotations without an integer image_id or category_id",
        "they belong to nothing: the file is refused, or they are left out of the ground truth",
        "write the ids as whole numbers, not in quotes",
    ),
    "category-record": Ailment(
        "error",
        "categories without an integer id or with a name that is empty or no text",
        _REFUSED,
        "give every category an integer id and a name of real words; the model reads them",
    ),
    "words-malformed": Ailment(
        "error",
        "annotations whose tokens_positive is not a list of ranges [[start, end], ...]",
        _REFUSED,
        "write ranges of characters of the caption, the end not included",
    ),
    "crowd-flag": Ailment(
        "error",
        "annotations whose iscrowd is neither 0 nor 1",
        'anything but 0 counts as a crowd ("0" in quotes too): such a box is never asked for',
        "write 0 or 1 without quotes",
    ),
    "area-malformed": Ailment(
        "warning",
        "annotations whose area is no number",
        "glipkit takes the box's area; pycocotools stops",
        "write width x height, or the mask's pixels",
    ),
}


@dataclass(frozen=True, slots=True)
class Labels:
    """What a file labelled like LVIS says of its classes."""

    num_pictures: int  # that have neg_category_ids
    examples: tuple[str, ...]  # what some of them say
    unlabelled: tuple[int, ...]  # ids of the others
    named: frozenset[int]  # category ids in neg_category_ids or not_exhaustive_category_ids
    unranked: tuple[str, ...]  # names of categories without a frequency


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds. Shapes: I pictures (records of captions), M annotations."""

    path: Path
    has_captions: bool  # MDETR form: captions whose words have boxes
    num_images: int  # also those without an id
    image_ids: np.ndarray  # (I,) int64
    sizes: np.ndarray  # (I, 2) int64, (height, width) in pixels, 0 where the file has none
    file_names: Texts
    addresses: Texts  # ends of the coco_url of pictures that have neg_category_ids, else ""
    captions: Texts
    labels: Labels | None  # of a file whose pictures have neg_category_ids
    categories: tuple[tuple[int, str], ...]
    supercategories: frozenset[str]
    ids: np.ndarray  # (M,) int64
    has_id: np.ndarray  # (M,) bool
    annotated: np.ndarray  # (M,) int64, image ids
    rows: np.ndarray  # (M,) int64, which picture; -1 where there is none
    category_ids: np.ndarray  # (M,) int64; NO_ID where there is none
    boxes: np.ndarray  # (M, 4) float64, x, y, width, height as in the file
    has_box: np.ndarray  # (M,) bool
    areas: np.ndarray  # (M,) float64
    has_area: np.ndarray  # (M,) bool
    is_crowd: np.ndarray  # (M,) bool
    has_mask: np.ndarray  # (M,) bool
    spans: SpanLists  # M rows, characters of the captions

    def describe(self, index: int) -> str:
        """Annotation `index` for people: its id, its picture and its box."""
        name = f"annotation {self.ids[index]}" if self.has_id[index] else f"annotation #{index}"
        row = self.rows[index]
        where = f"picture {self.annotated[index]}"
        size = ""
        if row >= 0:
            height, width = self.sizes[row]
            where += f" {self.file_names[row]}"
            size = f" in {width}x{height}"
        if not self.has_box[index]:
            return f"{name} ({where}): no box"
        numbers = ", ".join(f"{number:.6g}" for number in self.boxes[index])
        return f"{name} ({where}): [{numbers}]{size}"


def read_contents(path: Path, chart: Chart) -> Contents | None:
    """Read a file; what is wrong with single entries goes into the chart.

    Memory is that of flat columns: at most some 350 bytes an annotation.

    Returns:
        None when it is no JSON, ends too early or has another form.

    Raises:
        OSError: there is no such file, or it cannot be read at all.
    """
    reader = _Reader(path, chart)
    arrays = JsonArrays(path, ("images", "annotations", "categories"))
    try:
        for key, entry in arrays:
            reader.add(key, entry)
    except ValueError as error:
        chart.add(*known_stranger(path) or ("file-broken", str(error)))
        return None
    if not {"images", "annotations"} & set(arrays.keys):
        stranger = known_stranger(path, arrays.keys)
        if stranger is not None:
            chart.add(*stranger)
            return None
    return reader.done(arrays.keys)


class _Reader:
    """Everything read so far."""

    def __init__(self, path: Path, chart: Chart) -> None:
        self._path, self._chart = path, chart
        self._counts = dict.fromkeys(("images", "annotations", "categories"), 0)
        self._num_captions = 0
        self._whole: Counter[str] = Counter()  # annotations of whole pictures, by ailment
        self._image_ids, self._sizes = array("q"), array("q")
        self._file_names, self._addresses, self._captions = Texts(), Texts(), Texts()
        self._num_labelled = 0
        self._absent: list[str] = []  # some examples
        self._unlabelled: list[int] = []
        self._named: set[int] = set()
        self._unranked: list[str] = []
        self._categories: list[tuple[int, str]] = []
        self._groups: set[str] = set()
        self._ids, self._annotated, self._category_ids = array("q"), array("q"), array("q")
        self._boxes, self._areas = array("d"), array("d")
        self._flags = array("B")  # has_id, has_box, has_area, is_crowd, has_mask
        self._spans = SpanListBuilder()

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Take in one entry of one of the arrays."""
        self._counts[key] += 1
        {"images": self._image, "annotations": self._annotation, "categories": self._category}[key](
            entry
        )

    def _image(self, entry: dict[str, Any]) -> None:
        image_id, address = _int64(entry.get("id")), ""
        try:
            record = image_record(self._path, entry)
            name, size = record.file_name, record.size
        except ValueError:
            self._chart.add("image-record", shown(entry))
            name, size = entry.get("file_name"), (0, 0)
        else:
            if image_id is None:
                self._chart.add("image-record", shown(entry))
            elif record.absent is None:
                self._unlabelled.append(image_id)
            else:
                self._num_labelled += 1
                address = record.address
                self._named.update(record.absent, record.partly)
                if len(self._absent) < MAX_EXAMPLES:
                    self._absent.append(f"picture {image_id}: {list(record.absent)} are absent")
        if image_id is None:
            return  # nothing can refer to it
        caption = entry.get("caption")
        texts = [_storable(text) if isinstance(text, str) else "" for text in (name, caption)]
        if any(isinstance(old, str) and old != new for old, new in zip((name, caption), texts)):
            self._chart.add("text-broken", shown(entry))
        self._num_captions += isinstance(caption, str)
        self._image_ids.append(image_id)
        self._sizes.extend(size)
        self._file_names.append(texts[0])
        self._addresses.append(_storable(address))
        self._captions.append(texts[1])

    def _category(self, entry: dict[str, Any]) -> None:
        number, name = _int64(entry.get("id")), entry.get("name")
        if number is None or not isinstance(name, str) or not name.strip():
            self._chart.add("category-record", shown(entry))
        else:
            self._categories.append((number, name))
            if entry.get("frequency") not in FREQUENCIES:
                self._unranked.append(name)
            if number != 0 and isinstance(entry.get("supercategory"), str):
                self._groups.add(entry["supercategory"])

    def _annotation(self, entry: dict[str, Any]) -> None:
        box, area, crowd = entry.get("bbox"), entry.get("area"), entry.get("iscrowd")
        has_box = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
        if not has_box:
            for key, code in (("caption", "captions-whole"), ("segments_info", "segments-whole")):
                if key in entry:
                    self._chart.add(code, shown(entry))
                    self._whole[code] += 1
                    return
            self._chart.add("box-missing", shown(entry))
        if crowd not in (None, 0, 1):
            self._chart.add("crowd-flag", shown(entry))
        if area is not None and not is_number(area):
            self._chart.add("area-malformed", shown(entry))
        number = _int64(entry.get("id"))
        refers = [_reference(entry.get("image_id")), _reference(entry.get("category_id", 0))]
        if None in refers or "image_id" not in entry:
            self._chart.add("reference-missing", shown(entry))
        spans = _ranges(entry.get("tokens_positive", []))
        if spans is None:
            self._chart.add("words-malformed", shown(entry))
        flags = (number is not None, has_box, is_number(area), bool(crowd))
        self._flags.extend((*flags, bool(entry.get("segmentation"))))
        self._ids.append(number or 0)
        self._annotated.append(NO_ID if refers[0] is None else refers[0])
        self._category_ids.append(NO_ID if refers[1] is None else refers[1])
        self._boxes.extend(map(float, box) if has_box else [float("nan")] * 4)
        self._areas.append(float(area) if is_number(area) else float("nan"))
        self._spans.append(spans or ())

    def done(self, keys: Sequence[str]) -> Contents:
        """All columns; `keys` are those of the file."""
        spans = self._spans.done()
        has_captions = self._num_captions * 2 > len(self._image_ids) or bool(len(spans.spans))
        has_classes = not (has_captions or self._whole["captions-whole"])
        needed = ["images", "annotations", *(["categories"] if has_classes else [])]
        for key in needed:
            if key not in keys:
                others = ", ".join(keys) or "none"
                self._chart.add("key-missing", f"{key!r} (keys found: {others})")
            elif not self._counts[key]:
                self._chart.add("key-empty", repr(key))
        image_ids = np.array(self._image_ids, dtype=np.int64)
        annotated = np.array(self._annotated, dtype=np.int64)
        flags = np.array(self._flags, dtype=bool).reshape(-1, 5)
        has_id, has_box, has_area, is_crowd, has_mask = flags.T
        return Contents(
            path=self._path,
            has_captions=has_captions,
            num_images=self._counts["images"],
            image_ids=image_ids,
            sizes=np.array(self._sizes, dtype=np.int64).reshape(-1, 2),
            file_names=self._file_names,
            addresses=self._addresses,
            captions=self._captions,
            labels=self._labels(),
            categories=tuple(self._categories),
            supercategories=frozenset(self._groups),
            ids=np.array(self._ids, dtype=np.int64),
            has_id=has_id,
            annotated=annotated,
            rows=positions(annotated, image_ids),
            category_ids=np.array(self._category_ids, dtype=np.int64),
            boxes=np.array(self._boxes, dtype=np.float64).reshape(-1, 4),
            has_box=has_box,
            areas=np.array(self._areas, dtype=np.float64),
            has_area=has_area,
            is_crowd=is_crowd,
            has_mask=has_mask,
            spans=spans,
        )

    def _labels(self) -> Labels | None:
        if not self._num_labelled:
            return None
        return Labels(
            num_pictures=self._num_labelled,
            examples=tuple(self._absent),
            unlabelled=tuple(self._unlabelled),
            named=frozenset(self._named),
            unranked=tuple(self._unranked),
        )


def _int64(value: Any) -> int | None:
    return value if is_integer(value) and abs(value) < 2**63 else None


def _reference(value: Any) -> int | None:
    """An id that an annotation refers to: 31.0, as pandas writes it, is 31 for every reader."""
    return _int64(int(value) if isinstance(value, float) and value.is_integer() else value)


def _storable(text: str) -> str:
    """The text, halves of surrogate pairs as the six characters that spell them in JSON."""
    return text.encode(errors="backslashreplace").decode()


def _ranges(value: Any) -> list[tuple[int, int]] | None:
    """Pairs of integers, or None where it is something else."""
    if not isinstance(value, list):
        return None
    pairs = []
    for each in value:
        if not (isinstance(each, list) and len(each) == 2 and all(map(is_integer, each))):
            return None
        pairs.append(tuple(max(-1, min(number, sys.maxsize >> 32)) for number in each))
    return pairs
