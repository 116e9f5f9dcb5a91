"""Pictures and their records in COCO and MDETR form, made one picture at a time."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glipkit.data.shapeworld.phrases import Caption, Mention
from glipkit.data.shapeworld.scenes import Scene, SceneObject
from glipkit.data.shapeworld.vocabulary import PAIRS
from glipkit.data.shapeworld.word_tests import word_category_ids
from glipkit.data.shapeworld.world import World

# Annotation ids are the record's id times this, plus a number.
_ROOM, _ROOM_FOR_WORDS = 16, 256
_CATEGORY_OF = {pair: number for number, pair in enumerate(PAIRS, start=1)}


@dataclass(slots=True)
class Records:
    """What one picture adds to one annotation file: JSON objects as text."""

    images: list[str] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)  # of guessing right, where it is a question

    def extend(self, other: "Records") -> None:
        """Append what another picture adds."""
        self.images += other.images
        self.annotations += other.annotations
        self.chances += other.chances


def make_picture(world: World, folder: Path, split: str, index: int) -> dict[str, Records]:
    """Draw a picture, save it as folder/split/000000.jpg, and describe it.

    Returns:
        By the name of the annotation file ("train_detection", ...), what is to be written there.
    """
    picture, scene = world.draw(split, index)
    file_name = f"{index:06d}.jpg"
    picture.save(folder / split / file_name, quality=scene.quality)
    if split == "train":
        captions = world.train_captions(index, scene)
        return {
            "train_detection": _detection(file_name, index, scene),
            "train_captions": _joined(
                _captioned(file_name, index, scene, each, index * world.captions + number)
                for number, each in enumerate(captions)
            ),
        }
    return {
        "val_detection": _detection(file_name, index, scene),
        "val_captions": _captioned(
            file_name, index, scene, world.val_caption(index, scene), index, judged=True
        ),
        "val_relations": _related(file_name, index, scene, world.relation_caption(index, scene)),
        "val_words": _words(file_name, index, scene),
    }


def _detection(file_name: str, index: int, scene: Scene) -> Records:
    records = Records([_dumps(_image(file_name, index + 1, scene))])
    for number, thing in enumerate(scene.objects, start=1):
        if not thing.colour:
            continue  # no category
        entry = _annotation((index + 1) * _ROOM + number, index + 1, thing)
        entry["category_id"] = _CATEGORY_OF[thing.pair]
        properties = {"size": thing.size, "texture": thing.texture}
        entry |= properties | {"visible": round(thing.visible, 3)}
        records.annotations.append(_dumps(entry))
    return records


def _captioned(
    file_name: str,
    index: int,
    scene: Scene,
    caption: Caption,
    record: int,
    *,
    judged: bool = False,
) -> Records:
    """MDETR's form: an object is annotated once, with the ranges of all phrases that it answers."""
    image = _image(file_name, record + 1, scene) | _told(index, caption)
    if judged:
        image["tokens_positive_eval"] = [[each.span] for each in caption.mentions if each.objects]
    records = Records([_dumps(image)])
    for number, thing in enumerate(scene.objects):
        if spans := caption.spans(number):
            entry = _annotation((record + 1) * _ROOM + number + 1, record + 1, thing)
            records.annotations.append(_dumps(entry | {"tokens_positive": spans}))
    return records


def _related(file_name: str, index: int, scene: Scene, caption: Caption | None) -> Records:
    """Only the object that the relation decides is asked for: the reference is no question."""
    if caption is None:
        return Records()
    target = Mention(*caption.mentions[0].span, caption.mentions[0].objects)
    asked = Caption(caption.text, (target,), caption.kind, caption.candidates)
    records = _captioned(file_name, index, scene, asked, index, judged=True)
    records.chances.append(1 / caption.candidates)
    return records


def _words(file_name: str, index: int, scene: Scene) -> Records:
    """Boxes of every tested word; nothing where a distractor might be meant."""
    if scene.distractors:
        return Records()
    records = Records([_dumps(_image(file_name, index + 1, scene))])
    for thing in scene.objects:
        for category_id in word_category_ids(thing):
            number = (index + 1) * _ROOM_FOR_WORDS + len(records.annotations) + 1
            entry = _annotation(number, index + 1, thing) | {"category_id": category_id}
            records.annotations.append(_dumps(entry))
    return records


def _joined(parts: Iterable[Records]) -> Records:
    whole = Records()
    for each in parts:
        whole.extend(each)
    return whole


def _image(file_name: str, image_id: int, scene: Scene) -> dict[str, Any]:
    return {"id": image_id, "file_name": file_name, "height": scene.size, "width": scene.size}


def _told(index: int, caption: Caption) -> dict[str, Any]:
    entry = {
        "caption": caption.text,
        "dataset_name": "shapeworld",
        "original_img_id": index + 1,
        "kind": caption.kind,
    }
    return entry | ({"candidates": caption.candidates} if caption.candidates else {})


def _annotation(number: int, image_id: int, thing: SceneObject) -> dict[str, Any]:
    _, _, width, height = thing.box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": thing.box,
        "area": width * height,
        "iscrowd": 0,
    }


def _dumps(entry: dict[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":"))
