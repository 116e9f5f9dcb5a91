"""Datasets drawn on the spot, and a detector that knows their answers."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import load_coco
from glipkit.data.images import ImageError, read_image
from glipkit.data.test_set import ClassTestSet, TestSet
from glipkit.data.transforms import TestTransform
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import TokenizedPrompt

GLIP_T = Path(__file__).parents[1] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
SIZES = ((60, 90), (90, 60), (60, 90), (64, 64), (30, 95))  # (height, width)
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 11, "name": "owl"}]


def draw(folder: Path, num_images: int = 20) -> DatasetSpec:
    """Pictures of noise with one to three boxes each; every fifth has none."""
    random = np.random.default_rng(0)
    img_dir = folder / "pictures"
    img_dir.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(num_images):
        height, width = SIZES[number % len(SIZES)]
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(img_dir / f"{number}.png")
        image_id = 1000 - 7 * number
        images.append(
            {"id": image_id, "file_name": f"{number}.png", "height": height, "width": width}
        )
        for _ in range(number % 5):
            w, h = random.integers(8, width // 2), random.integers(8, height // 2)
            x, y = random.integers(0, width - w), random.integers(0, height - h)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image_id,
                    "category_id": int(random.choice([3, 7, 11])),
                    "bbox": [float(x), float(y), float(w), float(h)],
                    "area": float(w * h),
                    "iscrowd": 0,
                }
            )
    return write(folder, images, annotations)


def task_config(folder: Path, *overrides: str, **datasets: object) -> CfgNode:
    """GLIP-T's configuration for what was drawn into a folder, which is `$DATASET`.

    Args:
        folder: what `draw` was given; the task file is written there.
        overrides: keys and values in turn.
        datasets: keys of DATASETS.
    """
    entry = {"ann_file": "boxes.json", "img_dir": "pictures"}
    names = {"REGISTER": {"drawn": entry}, "TEST": '("drawn",)', **datasets}
    task = {"DATASETS": names, "DATALOADER": {"SIZE_DIVISIBILITY": 32}}
    (folder / "task.yaml").write_text(json.dumps(task))
    return load_config([GLIP_T, folder / "task.yaml"], list(overrides))


def write(
    folder: Path,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]] = CATEGORIES,
) -> DatasetSpec:
    """An annotation file, beside a folder for its pictures."""
    img_dir = folder / "pictures"
    img_dir.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return DatasetSpec("drawn", folder / "boxes.json", img_dir)


def make_test_set(spec: DatasetSpec, *, chunk_size: int = 10, min_size: int = 64) -> ClassTestSet:
    """A test set whose prompts are as many rows of ones as they have classes."""
    dataset = load_coco(spec)
    ids = [category.category_id for category in dataset.categories]
    chunks = [ids[start : start + chunk_size] for start in range(0, len(ids), chunk_size)]
    return ClassTestSet(
        dataset=dataset,
        prompts=tuple(
            TokenizedPrompt(
                token_ids=torch.tensor([101, 7, 102]),
                token_mask=torch.ones(3, dtype=torch.bool),
                phrase_tokens=torch.tensor([[0, 1, 0]] * len(chunk)),
            )
            for chunk in chunks
        ),
        captions=tuple("nothing" for _ in chunks),
        category_ids=tuple(ids),
        transform=TestTransform(min_size, 2 * min_size, (0.5,) * 3, (0.25,) * 3),
        divisor=32,
    )


class KnowingDetector:
    """Recognises each picture of a test set by its pixels, and answers from its annotations.

    Args:
        test_set: whose pictures to know.
        mistakes: drop some boxes, shift others, and invent some; the same on every call.
    """

    def __init__(self, test_set: TestSet, *, mistakes: bool = False) -> None:
        self.batch_sizes: list[int] = []
        self._answers: dict[str, Detections] = {}
        dataset = test_set.dataset
        for index, record in enumerate(dataset.images):
            try:
                image = read_image(dataset.path(index), record.size)
            except ImageError:
                continue
            answer, num_phrases = self.truth(test_set, index)
            if mistakes:
                answer = spoiled(answer, seed=index, num_phrases=num_phrases)
            self._answers[picture_hash(test_set.transform(image))] = answer

    @staticmethod
    def truth(test_set: ClassTestSet, index: int) -> tuple[Detections, int]:
        """The boxes of a picture, and how many phrases it is asked."""
        dataset, record = test_set.dataset, test_set.dataset.images[index]
        boxes = [each for each in dataset.ground_truth() if each["image_id"] == record.image_id]
        corners = torch.tensor([each["bbox"] for each in boxes], dtype=torch.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2] - 1  # the export counts pixels: it will add the 1 again
        phrases = [test_set.category_ids.index(each["category_id"]) for each in boxes]
        scores = 0.9 - 0.001 * torch.arange(len(boxes), dtype=torch.float32)
        ids = torch.tensor(phrases, dtype=torch.int64)
        return Detections(corners, scores, ids, record.size), len(test_set.category_ids)

    def __call__(
        self,
        images: ImageBatch,
        prompts: Sequence[TokenizedPrompt],
        original_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        self.batch_sizes.append(len(images))
        answers = [
            self._answers[picture_hash(pixels[:, :height, :width])]
            for pixels, (height, width) in zip(images.pixels, images.sizes)
        ]
        assert [answer.image_size for answer in answers] == list(original_sizes)
        return answers


def spoiled(truth: Detections, *, seed: int, num_phrases: int) -> Detections:
    """The same with boxes dropped, shifted and invented."""
    random = torch.Generator().manual_seed(seed)
    kept = torch.rand(len(truth), generator=random) > 0.2
    shift = 2 * torch.rand(len(truth), 4, generator=random)
    height, width = truth.image_size
    corner = torch.rand(4, 2, generator=random) * torch.tensor([width / 2, height / 2])
    invented = torch.cat([corner, corner + 20], dim=1)
    return Detections(
        torch.cat([(truth.boxes + shift)[kept], invented]),
        torch.rand(int(kept.sum()) + 4, generator=random),
        torch.cat([truth.phrase_ids[kept], torch.randint(num_phrases, (4,), generator=random)]),
        truth.image_size,
    )


def picture_hash(pixels: torch.Tensor) -> str:
    """What tells a picture from others."""
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()
