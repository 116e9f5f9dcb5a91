"""LVIS average precision by its definition, box by box: slow, and plain to read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# As LVIS and COCO write them; 0.28 is 0.28000000000000003 there, and 7 of 25 do not reach it.
IOUS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
AREAS = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}


def lvis_ap(content: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """AP, AP50, AP75, APs, APm, APl, APr, APc and APf; None where there is nothing to find.

    Args:
        content: of an LVIS file.
        predictions: what is left of them after the limits of a protocol; of the same score the
            first is the better one.
    """
    frequency = {each["id"]: each["frequency"] for each in content["categories"]}
    objects, boxes = defaultdict(list), defaultdict(list)
    for each in content["annotations"]:
        if each["area"] > 0:
            objects[each["image_id"], each["category_id"]].append(each)
    for each in predictions:
        if each["bbox"][2] * each["bbox"][3] > 0:
            boxes[each["image_id"], each["category_id"]].append(each)
    found = {}
    for category in frequency:
        for area, limits in AREAS.items():
            for iou in IOUS:
                figure = class_ap(content["images"], category, objects, boxes, limits, iou)
                if figure is not None:
                    found[category, area, round(iou, 2)] = figure

    def mean(area: str = "", iou: float | None = None, among: str = "rcf") -> float | None:
        known = [
            value for (category, of, at), value in found.items()
            if of == area and iou in (None, at) and frequency[category] in among
        ]  # fmt: skip
        return sum(known) / len(known) if known else None

    return {
        "AP": mean(), "AP50": mean(iou=0.5), "AP75": mean(iou=0.75),
        "APs": mean("s"), "APm": mean("m"), "APl": mean("l"),
        "APr": mean(among="r"), "APc": mean(among="c"), "APf": mean(among="f"),
    }  # fmt: skip


def class_ap(images, category, objects, boxes, limits, iou):
    """AP of one class, one range of areas, one overlap."""
    events, total = [], 0  # (-score, image id, right) of boxes that count
    for image in images:
        key = image["id"], category
        if not objects[key] and category not in image["neg_category_ids"]:
            continue  # nobody knows whether the class is there
        truth = objects[key]
        total += sum(limits[0] <= each["area"] <= limits[1] for each in truth)
        free = list(range(len(truth)))
        for box in sorted(boxes[key], key=lambda each: -each["score"]):
            candidates = [
                (limits[0] <= truth[i]["area"] <= limits[1], overlap(box, truth[i]), i)
                for i in free if overlap(box, truth[i]) >= iou
            ]  # fmt: skip
            if candidates:
                counts, _, taken = max(candidates)
                free.remove(taken)
                if counts:
                    events.append((-box["score"], image["id"], True))
                continue
            size = box["bbox"][2] * box["bbox"][3]
            if limits[0] <= size <= limits[1] and (
                category not in image["not_exhaustive_category_ids"]
            ):
                events.append((-box["score"], image["id"], False))
    if not total:
        return None
    events.sort(key=lambda event: event[:2])  # stable
    points, hits = [], 0
    for count, (_, _, right) in enumerate(events, start=1):
        hits += right
        points.append((hits / total, hits / count))
    best = [
        max((precision for recall, precision in points if recall >= wanted), default=0.0)
        for wanted in RECALLS
    ]
    return sum(best) / len(best)


def overlap(box: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    (x, y, w, h), (a, b, c, d) = box["bbox"], other["bbox"]
    shared = max(min(x + w, a + c) - max(x, a), 0) * max(min(y + h, b + d) - max(y, b), 0)
    return shared / (w * h + c * d - shared) if shared else 0.0
