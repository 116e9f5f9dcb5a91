"""Sizes, flips and colours of a training picture, by hand."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glipkit.data.sources import GroundedImage
from glipkit.data.train_transform import ColourJitter, TrainTransform
from glipkit.data.transforms import TestTransform
from glipkit.structures.prompts import Phrase, Prompt

MEAN, STD = (103.530, 116.280, 123.675), (57.375, 57.120, 58.395)
BOXES = [[5.0, 2.0, 14.0, 9.0], [0.0, 0.0, 39.0, 19.0]]


def picture(height: int = 20, width: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def sample(caption: str = "a cat", boxes: list[list[float]] = BOXES) -> GroundedImage:
    return GroundedImage(
        image=picture(),
        prompt=Prompt(caption, (Phrase(caption, ((0, len(caption)),)),)),
        boxes=torch.tensor(boxes).reshape(-1, 4),
        box_phrases=torch.ones(len(boxes), 1, dtype=torch.bool),
        image_id=7,
    )


def transform(**changes: object) -> TrainTransform:
    plain = {"min_sizes": (20,), "max_size": 100, "mean": MEAN, "std": STD}
    return TrainTransform(**{**plain, **changes})


def test_without_chance_it_is_the_transform_of_evaluation(golden: Path) -> None:
    numbers = np.load(golden / "components" / "preprocess.npz")
    min_size, max_size = numbers["resize.min_max"].tolist()
    image = Image.fromarray(numbers["resize.in"])
    grounded = GroundedImage(
        image, Prompt("cat", ()), torch.zeros(0, 4), torch.zeros(0, 0, dtype=torch.bool), 1
    )
    varied = transform(min_sizes=(min_size,), max_size=max_size)
    pixels, target = varied(grounded, random.Random(0))
    expected = torch.from_numpy(numbers["resize.normalised"])
    torch.testing.assert_close(pixels, expected, rtol=0, atol=0)
    assert len(target) == 0


def test_sizes_are_drawn_evenly_and_boxes_follow() -> None:
    varied, chance = transform(min_sizes=(10, 20, 30)), random.Random(0)
    heights = Counter()
    for _ in range(300):
        pixels, target = varied(sample(), chance)
        height = pixels.shape[1]
        heights[height] += 1
        assert pixels.shape == (3, height, 2 * height)
        torch.testing.assert_close(target.boxes, torch.tensor(BOXES) * (height / 20))
    assert set(heights) == {10, 20, 30}
    assert min(heights.values()) > 70


def test_the_longer_side_is_capped() -> None:
    pixels, target = transform(min_sizes=(80,), max_size=100)(sample(), random.Random(0))
    assert pixels.shape == (3, 50, 100)
    torch.testing.assert_close(target.boxes[0], torch.tensor([12.5, 5.0, 35.0, 22.5]))


def test_horizontal_flip() -> None:
    plain, _ = transform()(sample(), random.Random(0))
    pixels, target = transform(flip=1.0)(sample(), random.Random(0))
    torch.testing.assert_close(pixels, plain.flip(2), rtol=0, atol=0)
    # W = 40: x1' = 40 - 14 - 1, x2' = 40 - 5 - 1
    torch.testing.assert_close(target.boxes[0], torch.tensor([25.0, 2.0, 34.0, 9.0]))


def test_vertical_flip() -> None:
    plain, _ = transform()(sample(), random.Random(0))
    pixels, target = transform(vertical_flip=1.0)(sample(), random.Random(0))
    torch.testing.assert_close(pixels, plain.flip(1), rtol=0, atol=0)
    # H = 20, without a -1: y1' = 20 - 9, y2' = 20 - 2
    torch.testing.assert_close(target.boxes[0], torch.tensor([5.0, 11.0, 14.0, 18.0]))


def test_flips_happen_as_often_as_asked() -> None:
    chance, flipped = random.Random(0), 0
    for _ in range(400):
        _, target = transform(flip=0.25)(sample(), chance)
        flipped += target.boxes[0, 0].item() == 25.0
    assert 70 < flipped < 130


@pytest.mark.parametrize(
    ("caption", "mirrored", "turned"),
    [
        ("the left cat", False, True),
        ("cat at the top", True, False),
        ("the upper right cat", False, False),
        ("a bright laptop", True, True),
    ],
)
def test_flips_spare_captions_that_name_a_side(caption: str, mirrored: bool, turned: bool) -> None:
    _, target = transform(flip=1.0, vertical_flip=1.0)(sample(caption), random.Random(0))
    assert (target.boxes[0, 0].item() == 25.0) is mirrored
    assert (target.boxes[0, 1].item() == 11.0) is turned
    careless = transform(flip=1.0, vertical_flip=1.0, flip_safe=False)
    _, target = careless(sample(caption), random.Random(0))
    torch.testing.assert_close(target.boxes[0], torch.tensor([25.0, 11.0, 34.0, 18.0]))


def test_the_caption_does_not_shift_later_draws() -> None:
    first, second = random.Random(3), random.Random(3)
    transform(flip=0.5)(sample("the left cat"), first)
    transform(flip=0.5)(sample("a cat"), second)
    assert first.random() == second.random()


def test_empty_boxes_go_with_their_phrases() -> None:
    boxes = [[5.0, 2.0, 5.0, 9.0], [5.0, 2.0, 14.0, 9.0], [5.0, 9.0, 14.0, 9.0]]
    grounded = GroundedImage(
        picture(), Prompt("cat", (Phrase("cat", ((0, 3),)),) * 3), torch.tensor(boxes),
        torch.eye(3, dtype=torch.bool), 7,
    )  # fmt: skip
    _, target = transform()(grounded, random.Random(0))
    assert target.boxes.tolist() == [boxes[1]]
    assert target.box_phrases.tolist() == [[False, True, False]]
    assert target.image_id == 7


def test_colours_change_within_their_range_and_boxes_do_not() -> None:
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    seen = {
        ColourJitter(brightness=0.2)(grey, random.Random(seed)).getpixel((0, 0))[0]
        for seed in range(60)
    }
    assert min(seen) in range(80, 86)
    assert max(seen) in range(115, 121)

    jitter = ColourJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    plain, _ = transform()(sample(), random.Random(1))
    pixels, target = transform(colours=jitter)(sample(), random.Random(1))
    again, _ = transform(colours=jitter)(sample(), random.Random(1))
    assert not torch.equal(plain, pixels)
    torch.testing.assert_close(pixels, again, rtol=0, atol=0)
    torch.testing.assert_close(target.boxes, torch.tensor(BOXES))


def test_no_jitter_draws_nothing() -> None:
    chance = random.Random(5)
    image = picture()
    assert ColourJitter()(image, chance) is image
    assert chance.random() == random.Random(5).random()


def test_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    transform(flip=0.5, colours=ColourJitter(0.4, 0.4, 0.4, 0.1))(sample(), random.Random(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_sizes": ()}, "names no size"),
        ({"min_sizes": (20, 200)}, "got 200 and 100"),
        ({"flip": 1.5}, r"flip must be a probability in \[0, 1\], got 1.5"),
        ({"vertical_flip": -0.1}, "vertical_flip must be"),
        ({"pixel_format": "yuv"}, "got 'yuv'"),
    ],
)
def test_bad_training_settings(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform(**changes)


@pytest.mark.parametrize(("name", "value"), [("contrast", -0.1), ("hue", 0.6)])
def test_bad_jitter(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} jitter must"):
        ColourJitter(**{name: value})


def test_plain_transform_accepts_lists_of_numbers() -> None:
    pixels = TestTransform(20, 100, list(MEAN), list(STD))(picture())
    torch.testing.assert_close(pixels, TestTransform(20, 100, MEAN, STD)(picture()))
