"""How a picture and its boxes vary from one showing to the next (BEHAVIOUR 1)."""

import random
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from glipkit.data.sources import GroundedImage
from glipkit.data.transforms import TestTransform
from glipkit.grounding.directions import says_left_or_right, says_up_or_down
from glipkit.runtime.collector import collector_paused
from glipkit.structures import boxes as box
from glipkit.structures.targets import GroundingTarget

with collector_paused():
    from torchvision.transforms.v2 import functional as F


@dataclass(frozen=True, slots=True)
class ColourJitter:
    """Changes of colour, each drawn evenly from its range; 0 leaves that property alone."""

    brightness: float = 0.0  # greatest relative change; at 0.4 factors lie in [0.6, 1.4]
    contrast: float = 0.0  # the same
    saturation: float = 0.0  # the same
    hue: float = 0.0  # greatest turn, as a share of the colour circle, in [0, 0.5]

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} jitter must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue jitter must lie between 0 and 0.5, got {self.hue}")

    def __call__(self, image: Image.Image, chance: random.Random) -> Image.Image:
        """The picture in other colours; the changes come in an order that is drawn too."""
        changes = [
            (adjust, amount)
            for adjust, amount in (
                (F.adjust_brightness, self.brightness),
                (F.adjust_contrast, self.contrast),
                (F.adjust_saturation, self.saturation),
            )
            if amount > 0
        ]
        factors = {adjust: chance.uniform(max(0.0, 1 - a), 1 + a) for adjust, a in changes}
        if self.hue > 0:
            factors[F.adjust_hue] = chance.uniform(-self.hue, self.hue)
        order = list(factors)
        chance.shuffle(order)
        for adjust in order:
            image = adjust(image, factors[adjust])
        return image


@dataclass(frozen=True, slots=True)
class TrainTransform:
    """Colour jitter, a size drawn from several, flips; then as in evaluation.

    Every draw comes from the sample's own generator, and as many are taken whatever the caption
    says, so that what is drawn next does not depend on it. The words are never touched: where
    they name a side, a mirrored picture would make them wrong.
    """

    min_sizes: tuple[int, ...]  # pixels, short side; one is drawn, all equally likely
    max_size: int  # pixels, cap of the long side
    mean: tuple[float, float, float]  # in the order and range of `pixel_format`
    std: tuple[float, float, float]
    pixel_format: str = "bgr255"
    flip: float = 0.0  # probability in [0, 1] of a left-right flip
    vertical_flip: float = 0.0  # probability in [0, 1] of an upside-down flip
    flip_safe: bool = True  # no flip that makes the caption wrong
    colours: ColourJitter = ColourJitter()

    def __post_init__(self) -> None:
        if not self.min_sizes:
            raise ValueError("min_sizes names no size to resize to")
        for size in self.min_sizes:
            self._at_size(size)  # checks the rest
        for name, share in (("flip", self.flip), ("vertical_flip", self.vertical_flip)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a probability in [0, 1], got {share}")

    def __call__(
        self, sample: GroundedImage, chance: random.Random
    ) -> tuple[Tensor, GroundingTarget]:
        """The picture as the model sees it, and its truth in the same pixels.

        Args:
            sample: the picture as it lies on the disk.
            chance: what this sample draws from.

        Returns:
            (3, h, w) float32, and the target, whose boxes are those of the sample that still have
            x1 < x2 and y1 < y2, in their order.
        """
        plain = self._at_size(chance.choice(self.min_sizes))
        mirror = chance.random() < self.flip
        turn = chance.random() < self.vertical_flip
        image = self.colours(sample.image, chance)

        from_size = (image.height, image.width)
        to_size = height, width = plain.resized_size(from_size)
        if to_size != from_size:
            image = F.resize(image, list(to_size), F.InterpolationMode.BILINEAR, antialias=True)
        boxes = box.resize(sample.boxes, from_size, to_size)
        caption = sample.prompt.caption
        if mirror and not (self.flip_safe and says_left_or_right(caption)):
            image, boxes = F.horizontal_flip(image), box.flip_horizontal(boxes, width)
        if turn and not (self.flip_safe and says_up_or_down(caption)):
            image, boxes = F.vertical_flip(image), box.flip_vertical(boxes, height)

        kept = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
        target = GroundingTarget(boxes[kept], sample.box_phrases[kept], sample.image_id)
        return plain.normalise(image), target

    def _at_size(self, min_size: int) -> TestTransform:
        return TestTransform(min_size, self.max_size, self.mean, self.std, self.pixel_format)
