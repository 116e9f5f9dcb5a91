"""Pictures with labelled boxes, to be learnt from as captions whose words have boxes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from glipkit.data.detection_prompts import DetectionPrompts
from glipkit.data.randomness import SampleRandom
from glipkit.data.sources import GroundedImage
from glipkit.structures.boxes import clip, from_xywh


class LabelledBoxes(NamedTuple):
    """What is annotated in one picture, before anything is clipped or dropped."""

    labels: Sequence[int]  # N ids, keys of `LabelledPictures.classes`
    # (N, 4) float32, x, y, width, height in pixels of the file; width and height count pixels, so
    # that the last column covered is x + width - 1 (BEHAVIOUR, trap 8). May be broken or outside.
    boxes: Tensor
    is_crowd: Sequence[bool] = ()  # N, True for a box around many things of a kind; () when none is


class LabelledPictures(Protocol):
    """Detection data of any file format, as `DetectionSource` reads it.

    Must survive pickling: loader processes get a copy.
    """

    name: str
    # id -> name of every class, by ascending id. Names as in the file: they are cleaned later. The
    # id of a background class ("__background__" at 0 in TSV files) belongs here too, if the file
    # has one: it is a legal absent class (OD_TO_GROUNDING).
    classes: Mapping[int, str]

    def __len__(self) -> int:
        """How many pictures there are, with or without boxes."""

    def size(self, index: int) -> tuple[int, int] | None:
        """(height, width) in pixels that the annotations claim; None when they do not."""

    def image_id(self, index: int) -> int:
        """The id of picture `index`, for messages and evaluation."""

    def read(self, index: int) -> Image.Image:
        """Picture `index` as 8-bit RGB.

        Raises:
            ImageError: it cannot be used.
        """

    def labels_and_boxes(self, index: int) -> LabelledBoxes:
        """The annotations of picture `index`; cheap, no picture is opened."""

    def negatives(self, index: int) -> Sequence[int] | None:
        """Ids of the classes known to be absent; None when every class without a box is."""


class DetectionSource:
    """Detection data as a `TrainSource`: each picture with a caption of class names.

    A picture stays when none of its boxes does: then every class of its caption is absent.

    Args:
        pictures: what is annotated.
        prompts: how captions are made.
        clip_boxes: cut boxes to their picture (not DATASETS.DISABLE_CLIP_TO_IMAGE).
        use_crowd: learn from boxes marked as crowd (DATASETS.USE_CROWD).
        max_boxes: of a picture, the first ones in the file (DATASETS.MAX_BOX); -1 keeps all.

    Raises:
        ValueError: there is no picture, or no box is left in any; says which rule took how many.
    """

    def __init__(
        self,
        pictures: LabelledPictures,
        prompts: DetectionPrompts,
        *,
        clip_boxes: bool = True,
        use_crowd: bool = False,
        max_boxes: int = -1,
    ) -> None:
        if max_boxes != -1 and max_boxes < 1:
            raise ValueError(
                f"DATASETS.MAX_BOX is -1 (keep all) or at least 1 box per picture, got {max_boxes}"
            )
        self.name = pictures.name
        self._pictures = pictures
        self._prompts = prompts
        self._clip_boxes = clip_boxes
        self._use_crowd = use_crowd
        self._max_boxes = max_boxes
        self._check_not_empty()

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._pictures)

    def size(self, index: int) -> tuple[int, int] | None:
        """See `TrainSource.size`."""
        return self._pictures.size(index)

    def image_id(self, index: int) -> int:
        """See `TrainSource.image_id`."""
        return self._pictures.image_id(index)

    def load(self, index: int, chance: SampleRandom) -> GroundedImage:
        """See `TrainSource.load`; boxes of classes that the caption cannot name are left out.

        Raises:
            ImageError: the picture cannot be used.
            ValueError: a label is not the id of a class.
        """
        image = self._pictures.read(index)
        labels, boxes, _ = self._usable(index, (image.height, image.width))
        drawn = self._prompts.draw(labels, chance, self._pictures.negatives(index))
        phrase_of = drawn.phrase_of
        named = [row for row, label in enumerate(labels) if label in phrase_of]
        box_phrases = torch.zeros(len(named), len(drawn.labels), dtype=torch.bool)
        for row, box in enumerate(named):
            box_phrases[row, phrase_of[labels[box]]] = True
        return GroundedImage(
            image=image,
            prompt=drawn.prompt,
            boxes=boxes[named],
            box_phrases=box_phrases,
            image_id=self._pictures.image_id(index),
            maskable=drawn.name_spans,
        )

    def _usable(
        self, index: int, image_size: tuple[int, int] | None
    ) -> tuple[list[int], Tensor, Counter[str]]:
        """Labels and (N, 4) corners of what can be learnt from, and why the others cannot."""
        labels, boxes, is_crowd = self._pictures.labels_and_boxes(index)
        kept = torch.ones(len(labels), dtype=torch.bool)
        if is_crowd and not self._use_crowd:
            kept = ~torch.tensor(is_crowd)
        lost = Counter({"are marked as crowd (DATASETS.USE_CROWD is False)": int((~kept).sum())})
        # Published: x2 = x + max(w - 1, 0). The max matters to nothing that is not dropped below.
        corners = from_xywh(boxes, plus_one=True)
        if self._clip_boxes and image_size is not None:
            corners = clip(corners, image_size)
        x1, y1, x2, y2 = corners.unbind(dim=1)
        whole = (x2 > x1) & (y2 > y1) & corners.isfinite().all(dim=1)
        lost["have no area, or none inside their picture"] = int((kept & ~whole).sum())
        rows = (kept & whole).nonzero()[:, 0]
        if self._max_boxes != -1:
            rows = rows[: self._max_boxes]
        return [int(labels[row]) for row in rows.tolist()], corners[rows], lost

    def _check_not_empty(self) -> None:
        """Look at pictures until one has a box; nearly always the first."""
        if not len(self._pictures):
            raise ValueError(
                f"dataset {self.name!r} has no picture; there is nothing to learn from"
            )
        all_lost: Counter[str] = Counter()
        for index in range(len(self._pictures)):
            labels, _, lost = self._usable(index, self._pictures.size(index))
            if labels:
                return
            all_lost += lost
        reasons = [f"{count} {reason}" for reason, count in all_lost.items()]
        raise ValueError(
            f"none of the {len(self._pictures)} pictures of dataset {self.name!r} has a box to "
            f"learn from: {'; '.join(reasons) or 'none is annotated'}"
        )
