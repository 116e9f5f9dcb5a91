"""Pictures with labelled boxes, to be learnt from as captions whose words have boxes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from PIL import Image
from torch import Tensor


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
