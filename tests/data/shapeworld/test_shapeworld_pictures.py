"""Pictures: repeatable, with boxes that are tight and objects that can be seen."""

from collections import Counter

import numpy as np
import pytest
from drawn_worlds import MARGIN, WORLD, scenes, solid_alone

from glipkit.data.shapeworld.painting import Look, make_patch
from glipkit.data.shapeworld.scenes import MIN_SIZE, VISIBLE_SHARE, draw_scene
from glipkit.data.shapeworld.vocabulary import HELD_OUT, SIZE_RANGES
from glipkit.data.shapeworld.world import World


def test_a_picture_is_a_matter_of_its_seed() -> None:
    first, scene = draw_scene(np.random.default_rng(3))
    again, same_scene = draw_scene(np.random.default_rng(3))
    other, _ = draw_scene(np.random.default_rng(4))
    assert first.tobytes() == again.tobytes()
    assert scene == same_scene
    assert first.tobytes() != other.tobytes()
    assert (first.size, first.mode) == ((256, 256), "RGB")


def test_splits_seeds_and_indices_differ() -> None:
    pictures = [
        world.draw(split, index)[0].tobytes()
        for world in (World(0), World(1))
        for split in ("train", "val")
        for index in range(2)
    ]
    assert len(set(pictures)) == 8


def test_boxes_are_tight() -> None:
    for scene in scenes(25):
        for thing in scene.objects:
            inside = solid_alone(thing, scene.size)[MARGIN:-MARGIN, MARGIN:-MARGIN]
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            x, y, width, height = thing.box
            assert abs(columns[0] - x) <= 1
            assert abs(columns[-1] + 1 - x - width) <= 1
            assert abs(rows[0] - y) <= 1
            assert abs(rows[-1] + 1 - y - height) <= 1


def test_enough_of_every_object_can_be_seen() -> None:
    shares = []
    for scene in scenes(40):
        masks = [solid_alone(thing, scene.size) for thing in scene.objects]
        for number, (thing, mask) in enumerate(zip(scene.objects, masks)):
            seen = mask.copy()
            seen[:MARGIN], seen[-MARGIN:], seen[:, :MARGIN], seen[:, -MARGIN:] = (False,) * 4
            for above in masks[number + 1 :]:
                seen &= ~above
            assert seen.sum() / mask.sum() == pytest.approx(thing.visible, abs=0.03)
            assert thing.visible >= VISIBLE_SHARE
            shares.append(thing.visible)
            for other, beside in zip(scene.objects[:number], masks):
                assert other.colour != thing.colour or not (beside & mask).any()
    assert min(shares) < 0.95  # some do overlap


def test_sizes_mean_what_is_written() -> None:
    for scene in scenes(20):
        for thing in scene.objects:
            least, most = SIZE_RANGES[thing.size]
            assert least * scene.size <= thing.look.size <= most * scene.size
            assert thing.size != "small" or thing.texture == "plain"


def test_unseen_pairs_are_as_frequent_in_val_as_in_the_world() -> None:
    pairs = [thing.pair for scene in scenes(350) for thing in scene.objects]
    share = sum(pair in HELD_OUT for pair in pairs) / len(pairs)
    assert share == pytest.approx(0.2, abs=0.04)  # 1,500 objects: a standard error of 0.01
    trained = [thing.pair for scene in scenes(100, "train") for thing in scene.objects]
    assert HELD_OUT.isdisjoint(trained)
    counts = Counter(len(scene.objects) for scene in scenes(100))
    assert min(counts) >= 1
    assert len(counts) >= 7


@pytest.mark.parametrize("size", [MIN_SIZE, 320])
def test_other_sizes(size: int) -> None:
    picture, scene = draw_scene(np.random.default_rng(0), size=size)
    assert picture.size == (size, size)
    for thing in scene.objects:
        x, y, width, height = thing.box
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= size
        assert min(width, height) >= 5


@pytest.mark.parametrize("size", [0, MIN_SIZE - 1, 5000])
def test_a_size_that_is_of_no_use(size: int) -> None:
    with pytest.raises(ValueError, match="pixels to a side"):
        draw_scene(np.random.default_rng(0), size=size)
    with pytest.raises(ValueError, match="pixels to a side"):
        World(size=size)


def test_other_settings_that_are_of_no_use() -> None:
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        World(seed=-1)
    with pytest.raises(ValueError, match="1 to 16 captions, got 0"):
        World(captions=0)
    with pytest.raises(ValueError, match="unknown texture 'plaid'"):
        make_patch(Look("circle", 40, (255, 0, 0), texture="plaid"))


def test_pictures_do_not_depend_on_the_number_of_captions() -> None:
    assert WORLD.draw("train", 1)[1] == World(seed=WORLD.seed, captions=5).draw("train", 1)[1]
