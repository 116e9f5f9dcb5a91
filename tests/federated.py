"""Small datasets labelled like LVIS, and detections for them with every kind of tie."""

import json
from pathlib import Path

import numpy as np
import torch

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.lvis import LvisDetection, load_lvis
from glipkit.structures.detections import Detections

FREQUENCIES = "rcf"
SIZE = (300, 400)  # (height, width) of every picture


def write_lvis(folder: Path, images: list[dict], boxes: list[dict], categories: int) -> Path:
    """An LVIS file; `images` and `boxes` say only what matters."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [
            {"height": SIZE[0], "width": SIZE[1], "neg_category_ids": [],
             "not_exhaustive_category_ids": [],
             "coco_url": f"http://images.cocodataset.org/val2017/{each['id']:012}.jpg", **each}
            for each in images
        ],
        "annotations": [
            {"id": number, "area": each["bbox"][2] * each["bbox"][3],
             "segmentation": [[0, 0, 1, 1, 0, 1]], **each}
            for number, each in enumerate(boxes, start=1)
        ],
        "categories": [
            {"id": 2 * number + 1, "name": f"thing {number}",
             "frequency": FREQUENCIES[number % 3]}
            for number in range(categories)
        ],
    }  # fmt: skip
    path = folder / "lvis.json"
    path.write_text(json.dumps(content))
    return path


def load(path: Path) -> LvisDetection:
    return load_lvis(DatasetSpec("federated", path, path.parent, "lvis"))


def random_file(folder: Path, seed: int, num_images: int = 14, num_classes: int = 9) -> Path:
    """Pictures with a few classes each; the last class has a box nowhere."""
    random = np.random.default_rng(seed)
    images, boxes = [], []
    ids = random.permutation(num_images * 5)[:num_images].tolist()  # in no order
    for image_id in ids:
        drawn = random.permutation(num_classes - 1)
        present, absent, partly = drawn[:3], drawn[3:6], drawn[2:3]
        images.append(
            {"id": image_id, "neg_category_ids": (2 * absent + 1).tolist(),
             "not_exhaustive_category_ids": (2 * partly + 1).tolist()}
        )  # fmt: skip
        for number in present.tolist():
            for _ in range(random.integers(1, 5)):
                side = random.choice([12.0, 50.0, 130.0], size=2) * random.uniform(0.6, 1.2, 2)
                corner = random.uniform(0, 1, 2) * (np.array(SIZE[::-1]) - side)
                box = np.round(np.concatenate([corner, side]), 2).tolist()
                entry = {"image_id": image_id, "category_id": 2 * number + 1, "bbox": box}
                boxes.append(entry | {"area": box[2] * box[3] * random.uniform(0.4, 1.0)})
                if random.random() < 0.2:
                    boxes.append({**entry, "area": 500.0})  # the same box twice
    return write_lvis(folder, images, boxes, num_classes)


def random_answers(dataset: LvisDetection, seed: int) -> dict[int, Detections]:
    """Picture id -> right boxes, shifted ones and inventions, many with the same score."""
    random = np.random.default_rng(seed)
    phrase = {each.category_id: index for index, each in enumerate(dataset.categories)}
    answers = {}
    for image in dataset.images:
        rows = []
        for each in dataset.ground_truth():
            if each["image_id"] != image.image_id:
                continue
            for _ in range(random.integers(0, 4)):
                box = np.array(each["bbox"]) * random.uniform(0.85, 1.15, 4)
                rows.append((phrase[each["category_id"]], *box))
            if random.random() < 0.5:
                rows.append((phrase[each["category_id"]], *each["bbox"]))
        for _ in range(12):
            corner, side = random.uniform(0, 200, 2), random.uniform(5, 100, 2)
            rows.append((random.integers(0, len(phrase)), *corner, *side))
        rows = np.array(rows)
        boxes = np.concatenate([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:]], axis=1)
        scores = np.round(random.uniform(0.05, 1, len(rows)), 1)  # ties everywhere
        answers[image.image_id] = Detections(
            torch.tensor(boxes, dtype=torch.float32),
            torch.tensor(scores, dtype=torch.float32),
            torch.tensor(rows[:, 0].astype(np.int64)),
            SIZE,
        )
    return answers


def flatten(path: Path) -> None:
    """Take the area of every fourth object of a file; the next ones become crowds."""
    content = json.loads(path.read_text())
    for each in content["annotations"][::4]:
        each["area"] = 0
    for each in content["annotations"][1::4]:
        each["iscrowd"] = 1
    path.write_text(json.dumps(content))


def flat(answers: dict[int, Detections]) -> dict[int, Detections]:
    """The same with every fourth box as a line."""
    for each in answers.values():
        each.boxes[::4, 2] = each.boxes[::4, 0]
    return answers


def the_truth(dataset: LvisDetection) -> dict[int, Detections]:
    """Picture id -> its own boxes, all with the same score."""
    phrase = {each.category_id: index for index, each in enumerate(dataset.categories)}
    answers = {}
    for image in dataset.images:
        own = [each for each in dataset.ground_truth() if each["image_id"] == image.image_id]
        boxes = torch.tensor([each["bbox"] for each in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        answers[image.image_id] = Detections(
            boxes.float(),
            torch.ones(len(own)),
            torch.tensor([phrase[each["category_id"]] for each in own], dtype=torch.int64),
            image.size,
        )
    return answers
