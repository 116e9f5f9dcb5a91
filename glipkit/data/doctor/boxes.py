"""Boxes, areas, crowds and ids that cost AP."""

import numpy as np

from glipkit.data.datasets.box_faults import (
    NEGATIVE,
    NOT_FINITE,
    OUTSIDE,
    PARTLY_OUTSIDE,
    ZERO,
    box_fault,
)
from glipkit.data.doctor.contents import Contents
from glipkit.data.doctor.findings import Ailment, Chart

MAX_DETECTIONS = 100  # that GLIP reports of a picture, and that COCO AP looks at of a class in it

_MISSED = "each is a box that nothing can find: recall, and with it AP, cannot reach 1"
_LEFT_OUT = "glipkit leaves them out of the ground truth; other tools count them as missed"

BOX_AILMENTS = {
    "boxes-corners": Ailment(
        "error",
        "boxes look like corners [x1, y1, x2, y2], where COCO has [x, y, width, height]",
        "no box fits: AP near 0, without an error",
        "write [x1, y1, x2 - x1, y2 - y1]",
    ),
    "boxes-centres": Ailment(
        "error",
        "boxes look like [centre x, centre y, width, height], where COCO has the corner",
        "every box is shifted by half its size: AP near 0, without an error",
        "write [centre x - width / 2, centre y - height / 2, width, height]",
    ),
    "boxes-normalised": Ailment(
        "error",
        "boxes have coordinates from 0 to 1 instead of pixels",
        "every box is smaller than a pixel: AP 0, without an error",
        "multiply x and width by the picture's width, y and height by its height",
    ),
    "box-not-finite": Ailment("error", f"boxes {NOT_FINITE}", _LEFT_OUT, "delete or mend them"),
    "box-negative": Ailment(
        "error", f"boxes {NEGATIVE}", _LEFT_OUT, "put the smaller corner first"
    ),
    "box-zero": Ailment("error", f"boxes {ZERO}", _LEFT_OUT, "delete or mend them"),
    "box-outside": Ailment(
        "error", f"boxes {OUTSIDE}", _MISSED, "check that boxes and picture size belong together"
    ),
    "box-partly-outside": Ailment(
        "warning",
        f"boxes {PARTLY_OUTSIDE}",
        "detections end at the edge, so they overlap less than they should",
        "cut the boxes to the picture",
    ),
    "box-thin": Ailment(
        "warning", "boxes are less than a pixel wide or high", _MISSED, "delete or mend them"
    ),
    "boxes-twice": Ailment(
        "warning",
        "boxes are listed twice, with the same class in the same picture",
        "one detection can match one of them only; the other is missed",
        "delete the copies",
    ),
    "boxes-many": Ailment(
        "warning",
        f"pictures have more than {MAX_DETECTIONS} boxes",
        f"a prompt gets at most {MAX_DETECTIONS} answers a picture, and COCO AP looks at "
        f"{MAX_DETECTIONS} of a class: the other boxes are missed",
        "cut such pictures into parts, or say so beside the AP; MODEL.ATSS.DETECTIONS_PER_IMG "
        "sets how many are reported",
    ),
    "image-unknown": Ailment(
        "error",
        "annotations are of pictures that the file does not list",
        "glipkit leaves them out; pycocotools too, or stops",
        "list the pictures, or delete the annotations; were two files mixed up?",
    ),
    "area-missing": Ailment(
        "note",
        "annotations have no area",
        "glipkit takes the box's; pycocotools stops at the first",
        "write width x height, or the mask's pixels",
    ),
    "area-negative": Ailment(
        "error",
        "annotations have an area below 0 or NaN",
        "COCO AP ignores such boxes at every size: they count neither as found nor as missed",
        "write width x height, or the mask's pixels",
    ),
    "area-differs": Ailment(
        "warning",
        "annotations have an area that is not that of their box, and no mask explains it",
        "AP of small, medium and large boxes counts them in the wrong size; AP itself is right",
        "write width x height, or the mask's pixels",
    ),
    "crowd-all": Ailment(
        "error",
        "annotations, all of them, are marked iscrowd",
        "crowds are never asked for: AP is -1 or NaN",
        "set iscrowd to 0 where a box holds one object",
    ),
    "crowd-most": Ailment(
        "warning",
        "annotations, more than half, are marked iscrowd",
        "crowds are never asked for: AP stands on the few others",
        "set iscrowd to 0 where a box holds one object",
    ),
    "id-zero": Ailment(
        "warning",
        "annotations have the id 0",
        "glipkit numbers anew; pycocotools takes 0 for 'not matched': finding that box is an error",
        "number annotations from 1",
    ),
    "id-missing": Ailment(
        "warning",
        "annotations have no integer id",
        "glipkit numbers anew; pycocotools stops",
        "number annotations from 1",
    ),
    "id-twice": Ailment(
        "warning",
        "annotations have an id that another one has",
        "glipkit numbers anew; in pycocotools one box takes the place of the other",
        "number annotations from 1",
    ),
    "picture-empty": Ailment(
        "note",
        "pictures have no box",
        "whatever is found there is wrong: right if the class is not in them, costly if nobody "
        "has labelled them",
        "take pictures out that nobody has labelled",
    ),
}
_CODES = {
    NOT_FINITE: "box-not-finite",
    NEGATIVE: "box-negative",
    ZERO: "box-zero",
    OUTSIDE: "box-outside",
    PARTLY_OUTSIDE: "box-partly-outside",
}
_NEARLY_ALL = 0.98
_FAR = 0.05  # of a side beyond the edge: no slip of the mouse


@np.errstate(invalid="ignore", over="ignore")  # numbers are checked, not trusted
def check_boxes(contents: Contents, chart: Chart) -> None:
    """Look at every box, area, crowd mark and annotation id."""
    if not len(contents.boxes):
        return
    _named(contents, chart, "image-unknown", contents.rows < 0)
    sized = np.zeros(len(contents.boxes), dtype=bool)
    listed = contents.rows >= 0
    sized[listed] = (contents.sizes[contents.rows[listed]] > 0).all(axis=1)
    judged = np.flatnonzero(sized & contents.has_box)
    form = _other_form(contents, judged)
    if form is None:
        _single_boxes(contents, judged, chart)
        _check_areas(contents, chart)
    else:
        code, evidence = form
        examples = [contents.describe(i) for i in judged[: chart.wants(code)]]
        chart.add(code, evidence, *examples, count=len(judged))
    _check_crowds(contents, chart)
    _check_ids(contents, chart)
    _check_pictures(contents, chart)


def _named(contents: Contents, chart: Chart, code: str, which: np.ndarray) -> None:
    """Count annotations (M,) bool, describing the first."""
    rows = np.flatnonzero(which)
    chart.add(code, *(contents.describe(i) for i in rows[: chart.wants(code)]), count=len(rows))


def _single_boxes(contents: Contents, judged: np.ndarray, chart: Chart) -> None:
    x, y, width, height = contents.boxes[judged].T
    bottom, right = contents.sizes[contents.rows[judged]].T
    sound = (x >= 0) & (y >= 0) & (width > 0) & (height > 0)
    sound &= (x + width <= right) & (y + height <= bottom)
    thin = (np.minimum(width, height) < 1) & (np.minimum(width, height) > 0)
    for index in judged[~sound]:
        size = tuple(contents.sizes[contents.rows[index]].tolist())
        fault = box_fault(contents.boxes[index].tolist(), size)
        if fault is not None:
            code = _CODES[fault]
            chart.add(code, *([contents.describe(index)] if chart.wants(code) else []), count=1)
    which = np.zeros(len(contents.boxes), dtype=bool)
    which[judged[thin]] = True
    _named(contents, chart, "box-thin", which)


def _other_form(contents: Contents, judged: np.ndarray) -> tuple[str, str] | None:
    """The form that the boxes seem to have instead of COCO's, and the evidence."""
    boxes = contents.boxes[judged]
    finite = np.isfinite(boxes).all(axis=1)
    judged, boxes = judged[finite], boxes[finite]
    if not len(boxes):
        return None
    bottom, right = contents.sizes[contents.rows[judged]].T
    if np.abs(boxes).max() <= 1.001 and min(bottom.min(), right.min()) > 8:
        return "boxes-normalised", f"the largest of all coordinates is {np.abs(boxes).max():.4g}"
    x, y, width, height = boxes.T
    far = (x + width > right * (1 + _FAR)) | (y + height > bottom * (1 + _FAR))
    has_area = contents.has_area[judged] & ~contents.has_mask[judged]
    area = contents.areas[judged]
    corner_area, plain_area = (width - x) * (height - y), width * height
    by_area = has_area & _close(area, corner_area) & ~_close(area, plain_area)
    share = float(far.mean())
    enough = (len(boxes) >= 8 and share >= 0.1) or (len(boxes) >= 3 and share >= 0.5)
    ordered = (width > x) & (height > y)
    inside = ordered & (width <= right + 1) & (height <= bottom + 1)
    if len(boxes) >= 3 and by_area.mean() > 0.9 and ordered.mean() >= _NEARLY_ALL:
        return "boxes-corners", (
            f"the area of {by_area.sum()} of {len(boxes)} is (x2 - x1) x (y2 - y1), not x2 x y2"
        )
    if enough and inside.mean() >= _NEARLY_ALL:
        return "boxes-corners", (
            f"{far.sum()} of {len(boxes)} reach far over the edge as [x, y, width, height], "
            f"{inside.sum()} lie inside as [x1, y1, x2, y2]"
        )
    centred = (x - width / 2 >= -1) & (y - height / 2 >= -1)
    centred &= (x + width / 2 <= right + 1) & (y + height / 2 <= bottom + 1)
    if enough and centred.mean() >= _NEARLY_ALL:
        return "boxes-centres", (
            f"{far.sum()} of {len(boxes)} reach far over the edge with [x, y] as a corner, "
            f"{centred.sum()} lie inside with it as the centre"
        )
    return None


def _close(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b) <= 0.02 * np.abs(b) + 1


def _check_areas(contents: Contents, chart: Chart) -> None:
    has, area = contents.has_area, contents.areas
    box_area = contents.boxes[:, 2] * contents.boxes[:, 3]
    below = has & ~(area >= 0)
    differs = has & contents.has_box & (box_area > 0) & (area >= 0)
    larger = area > 1.02 * box_area + 1
    empty = (area == 0) & (box_area >= 1)
    differs &= larger | empty | (~contents.has_mask & ~_close(area, box_area))
    _named(contents, chart, "area-missing", ~has & contents.has_box)
    _named(contents, chart, "area-negative", below)
    _named(contents, chart, "area-differs", differs)


def _check_crowds(contents: Contents, chart: Chart) -> None:
    crowds, total = int(contents.is_crowd.sum()), len(contents.is_crowd)
    if crowds == total:
        _named(contents, chart, "crowd-all", contents.is_crowd)
    elif crowds * 2 > total:
        _named(contents, chart, "crowd-most", contents.is_crowd)


def _check_ids(contents: Contents, chart: Chart) -> None:
    _named(contents, chart, "id-zero", contents.has_id & (contents.ids == 0))
    _named(contents, chart, "id-missing", ~contents.has_id)
    which = np.zeros(len(contents.ids), dtype=bool)
    with_id = np.flatnonzero(contents.has_id)
    _, first = np.unique(contents.ids[with_id], return_index=True)
    which[with_id] = True
    which[with_id[first]] = False
    _named(contents, chart, "id-twice", which)


def _check_pictures(contents: Contents, chart: Chart) -> None:
    listed = contents.rows >= 0
    counts = np.bincount(contents.rows[listed], minlength=len(contents.image_ids))

    def pictures(which: np.ndarray) -> list[str]:
        return [f"{contents.image_ids[i]} {contents.file_names[i]}" for i in which]

    if contents.labels is None:  # LVIS says what is absent, and looks at 300 boxes or all
        empty, many = np.flatnonzero(counts == 0), np.flatnonzero(counts > MAX_DETECTIONS)
        chart.add("picture-empty", *pictures(empty[:4]), count=len(empty))
        chart.add("boxes-many", *pictures(many[:4]), count=len(many))
    if contents.has_captions:
        return  # a box may stand for several phrases there
    keys = np.column_stack([contents.rows, contents.category_ids, contents.boxes])
    rows = np.flatnonzero(listed & contents.has_box & ~contents.is_crowd)
    _, first = np.unique(keys[rows], axis=0, return_index=True)
    which = np.zeros(len(contents.rows), dtype=bool)
    which[rows] = True
    which[rows[first]] = False
    _named(contents, chart, "boxes-twice", which)
