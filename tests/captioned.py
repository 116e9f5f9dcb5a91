"""Captions of pictures drawn on the spot, and a detector that knows their answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from drawn import SIZES, KnowingDetector
from PIL import Image

from glipkit.data.caption_test_set import CaptionTestSet, make_caption_test_set
from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.captioned_pictures import load_captioned
from glipkit.data.transforms import TestTransform
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.detections import Detections

# A caption, and the ranges of its phrases.
CAPTIONS = (
    ("a red ball beside two dogs", ((0, 10), (18, 26))),
    ("the owl", ((0, 7),)),
    ("a cat on a mat under a lamp in the evening", ((0, 5), (9, 14), (21, 27))),
)


def draw_captions(folder: Path, num_pictures: int = 8, *, listed: bool = True) -> DatasetSpec:
    """Pictures of noise with one to three captions, two boxes for each phrase.

    The captions of a picture do not stand together: first comes one of every picture.

    Args:
        folder: where everything goes.
        num_pictures: how many.
        listed: write `tokens_positive_eval`.
    """
    random = np.random.default_rng(0)
    img_dir = folder / "pictures"
    img_dir.mkdir(parents=True, exist_ok=True)
    for number in range(num_pictures):
        height, width = SIZES[number % len(SIZES)]
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(img_dir / f"{number}.png")
    images, annotations = [], []
    for turn in range(3):
        for number in range(num_pictures):
            if turn > number % 3:
                continue
            size = SIZES[number % len(SIZES)]
            caption, spans = CAPTIONS[(number + turn) % len(CAPTIONS)]
            images.append(record(100 + len(images), f"{number}.png", size, caption))
            if listed:
                images[-1]["tokens_positive_eval"] = [[span] for span in spans]
            for span in (*spans, *spans):
                w, h = random.integers(10, 20, 2).tolist()
                x, y = random.integers(0, size[1] - w), random.integers(0, size[0] - h)
                box = [int(x), int(y), w, h]
                annotations.append(answer(len(annotations), images[-1]["id"], box, [span]))
    return write_captions(folder, images, annotations)


def record(number: int, file_name: str, size: tuple[int, int], caption: str) -> dict[str, Any]:
    """An image record of a grounding json."""
    height, width = size
    return {"id": number, "file_name": file_name, "height": height, "width": width,
            "caption": caption}  # fmt: skip


def answer(number: int, image_id: int, box: list[float], spans: Any, **more: Any) -> dict[str, Any]:
    """An annotation of a grounding json."""
    return {"id": number, "image_id": image_id, "category_id": 1, "bbox": box, "iscrowd": 0,
            "tokens_positive": spans, **more}  # fmt: skip


def write_captions(folder: Path, images: list[dict], annotations: list[dict]) -> DatasetSpec:
    """A grounding json, beside a folder for its pictures."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    file = folder / "captions.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    return DatasetSpec("captions", file, folder / "pictures", "grounding")


def caption_test_set(spec: DatasetSpec, *, max_tokens: int = 256) -> CaptionTestSet:
    """What the captions ask, for pictures of at least 64 pixels."""
    return make_caption_test_set(
        load_captioned(spec),
        Tokenizer.load("bert-base-uncased"),
        max_tokens=max_tokens,
        transform=TestTransform(64, 128, (0.5,) * 3, (0.25,) * 3),
        divisor=32,
    )


class KnowingCaptions(KnowingDetector):
    """Recognises each picture by its pixels and answers its captions from the annotations.

    Args:
        test_set: whose pictures to know.
        mistakes: drop some boxes, shift others, and invent some; the same on every call.
    """

    @staticmethod
    def truth(test_set: CaptionTestSet, index: int) -> tuple[Detections, int]:
        """The boxes of all captions of a picture, and how many phrases these have."""
        captions = test_set.dataset.captions(index)
        boxes = [boxes for caption in captions for boxes in caption.boxes]
        ids = torch.tensor([phrase for phrase, each in enumerate(boxes) for _ in each])
        scores = 0.9 - 0.001 * torch.arange(len(ids), dtype=torch.float32)
        size = test_set.dataset.images[index].size
        return Detections(torch.cat(boxes).float(), scores, ids.long(), size), len(boxes)
