"""Squares that move, as pictures or as an mp4, and a detector that knows colours."""

import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from glipkit.inference.asked import Asked
from glipkit.inference.found import Found
from glipkit.inference.video import VideoWriter

COLOURS = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 200, 20)}
SIZE = (96, 64)  # width, height


def scene(squares: dict[str, tuple[int, int]], side: int = 16) -> Image.Image:
    """A grey picture with a square of each colour, its left upper corner where it says."""
    picture = Image.new("RGB", SIZE, (128, 128, 128))
    pen = ImageDraw.Draw(picture)
    for colour, (x, y) in squares.items():
        pen.rectangle((x, y, x + side - 1, y + side - 1), fill=COLOURS[colour])
    return picture


def film(path: Path, num_frames: int = 12, rate: int = 10) -> Path:
    """A red square on its way to the right, as a video; skips where PyAV is not installed."""
    pytest.importorskip("av", reason="needs PyAV (pip install 'glipkit[video]')")
    with VideoWriter(path, rate=Fraction(rate)) as writer:
        for number in range(num_frames):
            writer.add(scene({"red": (8 + 3 * number, 20)}), number / rate)
    return path


def answer(
    boxes: Sequence[Sequence[float]], labels: Sequence[str], scores: Sequence[float] | None = None
) -> Found:
    """A `Found` in a picture of 200x200; phrases are the different labels."""
    phrases = tuple(dict.fromkeys([*labels, "something else"]))
    return Found(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores or [0.9 - 0.01 * i for i in range(len(boxes))]),
        phrase_ids=torch.tensor([phrases.index(label) for label in labels], dtype=torch.int64),
        phrases=phrases,
        picture=None,
        source=None,
        asked=asked(phrases),
        size=(200, 200),
    )


def asked(phrases: Sequence[str]) -> Asked:
    """These phrases in one caption."""
    caption = " . ".join(phrases)
    spans = tuple(((caption.index(p), caption.index(p) + len(p)),) for p in phrases)
    return Asked((), (caption,), tuple(phrases), 0, spans, (0,) * len(phrases))


class ColourDetector:
    """Finds "red square" by looking for red pixels: a `PhraseDetector` for tests of what is around.

    Attributes:
        batches: how many pictures came in each call.
        threads: which threads called.
    """

    default_threshold = 0.5
    name = "colours"
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.options: list[dict[str, Any]] = []

    def __call__(self, pictures: Any, text: str | Sequence[str], **options: Any) -> Any:
        self.options.append(options)
        self.threads.add(threading.get_ident())
        if not isinstance(pictures, list):
            return self._look(pictures, text)
        self.batches.append(len(pictures))
        return [self._look(picture, text) for picture in pictures]

    def _look(self, picture: Image.Image, text: str | Sequence[str]) -> Found:
        phrases = tuple(text.split(" . ") if isinstance(text, str) else text)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        boxes, ids = [], []
        for number, phrase in enumerate(phrases):
            colour = next((COLOURS[word] for word in phrase.split() if word in COLOURS), None)
            if colour is None:
                continue
            rows, columns = np.nonzero(np.abs(pixels - colour).max(axis=2) < 60)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                ids.append(number)
        return Found(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            scores=torch.full((len(boxes),), 0.8),
            phrase_ids=torch.tensor(ids, dtype=torch.int64),
            phrases=phrases,
            picture=picture,
            source=None,
            asked=asked(phrases),
        )
