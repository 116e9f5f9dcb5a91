"""Pictures: repeatable, with boxes that are tight and objects that can be seen."""

from collections import Counter

import numpy as np
import pytest
from drawn_worlds import MARGIN, WORLD, scenes, solid_alone

from glipkit.data.shapeworld.colours import distance, named_colour, odd_colour
from glipkit.data.shapeworld.lessons import EVERYTHING
from glipkit.data.shapeworld.painting import Look, make_patch
from glipkit.data.shapeworld.paints import nameless_paint
from glipkit.data.shapeworld.scenes import MIN_SIZE, VISIBLE_SHARE, draw_scene
from glipkit.data.shapeworld.vocabulary import (
    COLOURS,
    HELD_OUT,
    ODD_HSV,
    SECOND_TONE,
    SHAPES,
    SIZE_RANGES,
)
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


def test_colours_without_a_name_come_in_training_only_with_every_shape() -> None:
    objects = [thing for scene in scenes(250, "train") for thing in scene.objects]
    nameless = [thing for thing in objects if not thing.colour]
    assert len(nameless) / len(objects) == pytest.approx(EVERYTHING.nameless, abs=0.06)
    assert {thing.shape for thing in nameless} == set(SHAPES)
    assert all(thing.like for thing in nameless)
    assert not any(thing.like for thing in objects if thing.colour)
    assert all(thing.colour for scene in scenes(60) for thing in scene.objects)
    of_two = {thing.like for thing in nameless if set(thing.like) <= set(COLOURS)}
    assert {name for names in of_two for name in names} == set(COLOURS)


def test_two_colours_are_not_those_of_one_texture() -> None:
    rng = np.random.default_rng(0)
    halves = 0
    for _ in range(500):
        paint = nameless_paint(rng, small=False)
        if len(paint.like) == 2 and paint.like not in {like for like, *_ in ODD_HSV.values()}:
            first, other = paint.like
            assert SECOND_TONE[first][0] != other
            assert SECOND_TONE[other][0] != first
            assert distance(paint.colour, paint.second) >= 100
            halves += paint.texture == "halves"
    assert halves > 40
    assert nameless_paint(rng, small=True).texture in ("plain", "halves")


def test_odd_hues_are_none_that_has_a_name() -> None:
    rng = np.random.default_rng(0)
    for name, (like, *_) in ODD_HSV.items():
        assert set(like) <= set(COLOURS)
        for _ in range(50):
            colour = odd_colour(rng, name)
            gaps = [
                distance(colour, named_colour(rng, each)) for each in COLOURS for _ in range(20)
            ]
            assert min(gaps) > 10, name


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
