"""Transform, batches, shares: nothing is lost, nothing is asked twice."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from drawn import draw, make_test_set
from PIL import Image

from glipkit.data import loading
from glipkit.data.collate import collate
from glipkit.data.loading import TestImages, make_loader, one_ahead, placed, read_ahead
from glipkit.data.sample import Failure, Fetched, Sample
from glipkit.data.samplers import ShardedBatches, batches_of_equal_shape
from glipkit.data.transforms import TestTransform, resized_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 3000), (1, 1333)),
        ((3000, 1), (1333, 1)),
        ((1, 100_000), (1, 1333)),
        ((1, 1), (800, 800)),
        ((2, 3000), (1, 1500)),  # the published rule, cap and all
    ],
)
def test_extreme_shapes_keep_a_pixel(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(size, 800, 1333) == expected


def test_extreme_picture_passes_the_transform() -> None:
    transform = TestTransform(800, 1333, (0.0,) * 3, (1.0,) * 3)
    assert transform(Image.new("RGB", (3000, 1))).shape == (3, 1, 1333)


@pytest.mark.parametrize(
    ("pixel_format", "expected"),
    [
        ("rgb", (0.2, 0.4, 0.8)),
        ("bgr", (0.8, 0.4, 0.2)),
        ("rgb255", (51.0, 102.0, 204.0)),
        ("bgr255", (204.0, 102.0, 51.0)),
    ],
)
def test_pixel_formats(pixel_format: str, expected: tuple[float, ...]) -> None:
    transform = TestTransform(1, 1, (0.0,) * 3, (1.0,) * 3, pixel_format)
    found = transform(Image.new("RGB", (1, 1), (51, 102, 204)))
    torch.testing.assert_close(found.flatten(), torch.tensor(expected))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_format": "yuv"}, "one of rgb, rgb255, bgr, bgr255, got 'yuv'"),
        ({"min_size": 0}, "1 <= min_size <= max_size, got 0 and 9"),
        ({"min_size": 10}, "got 10 and 9"),
        ({"mean": (1.0,)}, "mean needs one number per channel"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be positive"),
    ],
)
def test_bad_settings(changes: dict, message: str) -> None:
    good = {"min_size": 5, "max_size": 9, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    with pytest.raises(ValueError, match=message):
        TestTransform(**{**good, **changes})


def test_batches_hold_one_shape_and_every_picture_once() -> None:
    shapes = [(32, 64), (64, 32), (32, 64), (32, 64), (64, 32), (96, 96)]
    found = batches_of_equal_shape(shapes, [0, 1, 2, 3, 4, 5], 2)
    assert found == [[0, 2], [3], [1, 4], [5]]
    assert batches_of_equal_shape(shapes, [5, 4, 1], 2) == [[5], [4, 1]]


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        batches_of_equal_shape([(1, 1)], [0], 0)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shares_have_no_repetition(world_size: int) -> None:
    batches = [[0, 1], [2], [3, 4], [5], [6]]
    shares = [ShardedBatches(batches, rank=r, world_size=world_size) for r in range(world_size)]
    assert sorted(i for share in shares for batch in share for i in batch) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sum(share.num_images for share in shares) == 7


def test_collate_trusts_tensors_only() -> None:
    items = [
        Sample(torch.ones(3, 30, 60), 1, (30, 60)),
        Failure(2, Path("gone.jpg"), "no such file"),
        Sample(torch.ones(3, 33, 60), 3, (33, 60)),
        Sample(torch.ones(3, 32, 64), 4, (32, 64)),
    ]
    fetched = collate(items, divisor=32)
    assert [batch.image_ids for batch in fetched.batches] == [(1, 4), (3,)]
    assert [tuple(b.images.pixels.shape) for b in fetched.batches] == [
        (2, 3, 32, 64),
        (1, 3, 64, 64),
    ]
    assert [failure.image_id for failure in fetched.failures] == [2]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_walks_over_everything_once(tmp_path: Path, num_workers: int) -> None:
    test_set = make_test_set(draw(tmp_path))
    loader = test_set.loader(range(20), batch_size=3, num_workers=num_workers)
    batches = [batch for fetched in loader for batch in fetched.batches]
    ids = [image_id for batch in batches for image_id in batch.image_ids]
    assert sorted(ids) == sorted(image.image_id for image in test_set.dataset.images)
    sizes = dict(zip(ids, (size for batch in batches for size in batch.original_sizes)))
    assert sizes == {image.image_id: image.size for image in test_set.dataset.images}


@dataclass(frozen=True)
class Noting:
    """A transform that leaves a file for each picture it has seen, in whatever process."""

    folder: Path

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return (64, 64)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        (self.folder / uuid4().hex).touch()
        return torch.zeros(3, 64, 64)


def settle(folder: Path, expected: int) -> int:
    """Files in the folder once they are as many as expected, or no more of them come."""
    seen, since = -1, time.monotonic()
    while seen < expected and time.monotonic() - since < 120:
        now = len(list(folder.iterdir()))
        seen, since = (now, time.monotonic()) if now != seen else (seen, since)
        time.sleep(0.02)
    time.sleep(0.3)  # what must not come has time to come
    return len(list(folder.iterdir()))


@pytest.mark.parametrize(("room", "waiting"), [(2**30, 4), (3, 3), (1, 1), (0, 1)])
def test_workers_read_ahead_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, waiting: int
) -> None:
    monkeypatch.setattr(loading, "usable_cpus", lambda: 2)
    batch_bytes = 2 * 3 * 64 * 64 * 4
    monkeypatch.setattr(loading, "READ_AHEAD_BYTES", room * batch_bytes)
    if waiting == 3:
        waiting = 2  # one for each of two workers
    notes = tmp_path / "notes"
    notes.mkdir()
    dataset = make_test_set(draw(tmp_path)).dataset
    loader = make_loader(
        TestImages(dataset, (Noting(notes),)), range(20), divisor=32, batch_size=2, num_workers=2
    )
    batches = iter(loader)
    for taken in range(1, 4):
        next(batches)  # the model is busy with this one; nobody asks for the next
        assert settle(notes, 2 * (taken + waiting)) == 2 * (taken + waiting)


@pytest.mark.parametrize(
    ("workers", "batch_bytes", "expected"),
    [
        (0, 1, (0, None)),
        (4, 1, (4, 2)),
        (4, 2**30 // 6, (4, 1)),
        (4, 2**30 // 2, (2, 1)),
        (4, 2**40, (1, 1)),
        (3, 0, (3, 2)),
    ],
)
def test_waiting_pictures_are_bounded(workers: int, batch_bytes: int, expected: tuple) -> None:
    assert read_ahead(workers, batch_bytes=batch_bytes) == expected


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_the_next_one_is_started_before_this_one_is_used(count: int) -> None:
    story = []

    def start(item: int) -> int:
        story.append(f"copy {item}")
        return item

    for item in one_ahead(range(count), start, lambda started: started):
        story.append(f"use {item}")
    expected = ["copy 0", "copy 1", "use 0", "copy 2", "use 1", "copy 3", "use 2", "use 3"]
    assert story == [word for word in expected if int(word[-1]) < count]


def test_pictures_are_pinned_and_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample(torch.ones(3, 32, 64), 1, (30, 60))
    fetched = collate([sample, Failure(2, Path("gone.jpg"), "no such file")], divisor=32)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.to("meta"))
    for moved in (fetched.pin_memory(), fetched.to("meta")):
        assert moved.batches[0].images.pixels.device.type == "meta"
        assert moved.batches[0].image_ids == (1,)
        assert moved.failures == fetched.failures
    assert list(placed([fetched], "cpu")) == [fetched]


def test_a_gpu_gets_the_same_batches(tmp_path: Path, device: str) -> None:
    test_set = make_test_set(draw(tmp_path))

    def loader() -> Iterator[Fetched]:
        pinned = {"pin_memory": device == "cuda"}
        return placed(test_set.loader(range(20), batch_size=3, num_workers=2, **pinned), device)

    for found, expected in zip(loader(), test_set.loader(range(20), batch_size=3, num_workers=0)):
        for a, b in zip(found.batches, expected.batches, strict=True):
            assert a.images.pixels.device.type == device
            torch.testing.assert_close(a.images.pixels.cpu(), b.images.pixels, rtol=0, atol=0)


def test_a_size_that_lies_is_a_failure(tmp_path: Path) -> None:
    test_set = make_test_set(draw(tmp_path))
    Image.new("RGB", (50, 50)).save(test_set.dataset.path(0))
    (fetched,) = test_set.loader([0], batch_size=1, num_workers=0)
    assert fetched.batches == ()
    assert "annotations say 60x90" in fetched.failures[0].reason


def test_prompts_must_cover_the_categories(tmp_path: Path) -> None:
    test_set = make_test_set(draw(tmp_path))
    with pytest.raises(ValueError, match="1 prompts hold 3 phrases for 2 categories"):
        replace(test_set, category_ids=(3, 7))
