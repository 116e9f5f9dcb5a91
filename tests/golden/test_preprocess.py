"""What the model sees of a picture, to the last bit of the reference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glipkit.data.transforms import TestTransform, resized_size
from glipkit.structures.images import pad_images

MEAN = (103.530, 116.280, 123.675)
STD = (57.375, 57.120, 58.395)


def transform(min_size: int = 800, max_size: int = 1333) -> TestTransform:
    return TestTransform(min_size, max_size, MEAN, STD)


@pytest.fixture(scope="module")
def components(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "components" / "preprocess.npz"))


@pytest.mark.parametrize("case", range(12))
def test_resized_size(components: dict[str, np.ndarray], case: int) -> None:
    size = tuple(components[f"size{case}.in_hw"].tolist())
    assert resized_size(size, 800, 1333) == tuple(components[f"size{case}.out_hw"].tolist())


def test_resized_pixels(components: dict[str, np.ndarray]) -> None:
    image = Image.fromarray(components["resize.in"])
    min_size, max_size = components["resize.min_max"].tolist()
    resized = transform(min_size, max_size).resize(image)
    np.testing.assert_array_equal(np.asarray(resized), components["resize.out"])


def test_enlarged_pixels(components: dict[str, np.ndarray]) -> None:
    image = Image.fromarray(components["resize.in"])
    resized = transform(int(components["resize_up.min"])).resize(image)
    np.testing.assert_array_equal(np.asarray(resized), components["resize_up.out"])


def test_normalised_pixels(components: dict[str, np.ndarray]) -> None:
    image = Image.fromarray(components["resize.in"])
    found = transform(*components["resize.min_max"].tolist())(image)
    expected = torch.from_numpy(components["resize.normalised"])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["inputs_seed0", "inputs_single_seed0"])
def test_padded_batch(golden: Path, name: str) -> None:
    inputs = np.load(golden / f"{name}.npz")
    images = [
        transform().normalise(Image.fromarray(inputs[f"image{i}"]))
        for i in range(len(inputs["batch"]))
    ]
    batch = pad_images(images, divisor=32)
    assert batch.sizes == tuple(map(tuple, inputs["image_sizes_hw"].tolist()))
    torch.testing.assert_close(batch.pixels, torch.from_numpy(inputs["batch"]), rtol=0, atol=0)
