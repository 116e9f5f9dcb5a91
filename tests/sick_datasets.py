"""A healthy COCO file and a healthy caption file, and what can be done to them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Content = dict[str, Any]
Harm = Callable[[Content], None]

CAPTION = "a red circle left of the small star"


def healthy() -> Content:
    """Twelve pictures of 120x80 with two boxes each, three classes."""
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, 13):
        images.append({"id": number, "file_name": f"{number}.png", "height": 80, "width": 120})
        for part in range(2):
            x, y = 5 + 60 * part + int(random.integers(0, 20)), int(random.integers(20, 40))
            w, h = int(random.integers(10, 35)), int(random.integers(10, 40))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1 + len(annotations) % 3,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    names = ("red circle", "blue star", "dog")
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def healthy_captions() -> Content:
    """Four records of two phrases each."""
    images, annotations = [], []
    for number in range(1, 5):
        images.append(
            {
                "id": number,
                "file_name": f"{number}.png",
                "height": 80,
                "width": 120,
                "caption": CAPTION,
            }
        )
        for words in ("a red circle", "the small star"):
            start = CAPTION.index(words)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [5 + start, 10, 20, 30],
                    "area": 600,
                    "iscrowd": 0,
                    "tokens_positive": [[start, start + len(words)]],
                }
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }


def write(folder: Path, content: Content, name: str = "boxes.json") -> Path:
    """As a file."""
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def draw_pictures(folder: Path, content: Content) -> Path:
    """A picture of noise for every record, each another one."""
    random = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    for image in content["images"]:
        pixels = random.integers(0, 255, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / image["file_name"])
    return folder


def harmed(harm: Harm, content: Content) -> Content:
    """A copy with something done to it."""
    content = copy.deepcopy(content)
    harm(content)
    return content


def each(key: str, **values: Any) -> Harm:
    """Set values in every entry."""

    def harm(content: Content) -> None:
        for entry in content[key]:
            entry.update(values)

    return harm


def first(key: str, count: int = 1, **values: Any) -> Harm:
    """Set values in the first entries."""

    def harm(content: Content) -> None:
        for entry in content[key][:count]:
            entry.update(values)

    return harm


def without(key: str, name: str) -> Harm:
    """Take a value out of the first entry."""

    def harm(content: Content) -> None:
        del content[key][0][name]

    return harm


def renamed(*names: str) -> Harm:
    """Give the categories other names."""

    def harm(content: Content) -> None:
        for entry, name in zip(content["categories"], names):
            entry["name"] = name

    return harm


def boxes(change: Callable[[float, float, float, float], list[float]]) -> Harm:
    """Write every box in another form, with the area that such a file has."""

    def harm(content: Content) -> None:
        for entry in content["annotations"]:
            entry["bbox"] = change(*entry["bbox"])

    return harm


def added(key: str, **values: Any) -> Harm:
    """Append a copy of the last entry with other values."""

    def harm(content: Content) -> None:
        content[key].append({**content[key][-1], **values})

    return harm
