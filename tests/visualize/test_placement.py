"""Labels hide neither each other nor small boxes, however many there are."""

import itertools
import random

import pytest
import torch
from PIL import Image, ImageChops

from glipkit.structures.detections import Detections
from glipkit.visualize import draw, outline_boxes, phrase_color, side_by_side, write_labels
from glipkit.visualize.geometry import Box
from glipkit.visualize.palette import PALETTE, phrase_pattern
from glipkit.visualize.placement import Layout

GREY = (100, 100, 100)


def scattered(count: int, size: tuple[int, int], num_phrases: int, seed: int = 0) -> Detections:
    """Boxes of many sizes in a picture of (width, height)."""
    source = random.Random(seed)
    width, height = size
    boxes = []
    for _ in range(count):
        w, h = source.uniform(0.03, 0.25) * width, source.uniform(0.03, 0.25) * height
        x, y = source.uniform(0, width - w), source.uniform(0, height - h)
        boxes.append((x, y, x + w, y + h))
    return Detections(
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor([1 - i / (2 * count) for i in range(count)]),
        torch.tensor([i % num_phrases for i in range(count)]),
        (height, width),
    )


def changed(one: Image.Image, other: Image.Image) -> int:
    """Pixels that differ."""
    difference = ImageChops.difference(one, other).convert("L").point(lambda v: 255 * (v > 0))
    return difference.histogram()[255]


def test_places_never_overlap() -> None:
    source = random.Random(1)
    corners = [(source.randrange(560), source.randrange(440)) for _ in range(40)]
    boxes = [Box(x, y, x + 60, y + 30) for x, y in corners]
    layout = Layout((640, 480), boxes)
    places = [layout.place(i, (80, 14)) for i in range(len(boxes))]
    given = [place.box for place in places if place is not None]
    assert len(given) > 20
    for one, other in itertools.combinations(given, 2):
        assert one.overlap(other) == 0
    for place in given:
        assert 0 <= place.left <= place.right < 640
        assert 0 <= place.top <= place.bottom < 480


def test_a_label_makes_room_for_a_small_box() -> None:
    """Above the large box lies a small one, so its label goes elsewhere."""
    large, small = Box(100, 100, 300, 200), Box(105, 88, 115, 98)
    alone = Layout((400, 300), [large]).place(0, (90, 14))
    beside = Layout((400, 300), [large, small]).place(0, (90, 14))
    assert alone.box.overlap(small) > 0
    assert beside.box.overlap(small) == 0


def test_a_surrounded_box_gets_a_leader() -> None:
    """Wherever it touched its box it would hide others: it stands away, at the end of a line."""
    crowd = [Box(x, y, x + 19, y + 13) for x in range(150, 250, 21) for y in range(100, 190, 15)]
    own = len(crowd) // 2
    box, layout = crowd[own], Layout((400, 300), crowd)
    place = layout.place(own, (40, 14))
    assert place.leader is not None
    assert sum(place.box.overlap(other) for other in crowd) == 0
    (x, y), (u, v) = place.leader
    assert box.left <= x <= box.right
    assert box.top <= y <= box.bottom
    assert place.box.left <= u <= place.box.right
    assert place.box.top <= v <= place.box.bottom


def test_a_label_larger_than_the_picture_has_no_place() -> None:
    assert Layout((30, 30), [Box(0, 0, 9, 9)]).place(0, (31, 10)) is None
    assert Layout((30, 30), [Box(0, 0, 29, 29)]).place(0, (30, 30)) is not None


@pytest.mark.parametrize("size", [(200, 150), (640, 480), (2000, 1500)])
@pytest.mark.parametrize("count", [1, 10, 60])
def test_any_number_of_boxes_at_any_size(count: int, size: tuple[int, int]) -> None:
    names = [f"phrase number {i}" for i in range(5)]
    found = scattered(count, size, 5)
    picture = Image.new("RGB", size, GREY)
    drawn = draw(picture, found, names, score_threshold=0)
    assert drawn.size == size
    lines = outline_boxes(picture, found)
    assert 0 < changed(drawn, lines) < 0.5 * size[0] * size[1]  # words do not bury the picture


def test_a_crowd_gets_numbers_and_a_legend() -> None:
    """With 80 boxes names find no room; a legend does, and leaves most of the picture alone."""
    found = scattered(80, (640, 480), 3)
    picture = Image.new("RGB", (640, 480), GREY)
    short = draw(picture, found, ["a", "b", "c"], score_threshold=0, scores=False)
    long = draw(picture, found, ["a long name of a thing"] * 3, score_threshold=0)
    assert changed(short, long) < 0.3 * 640 * 480
    # The panel of the legend is dark; no box is.
    dark = sum(count for count, (r, g, b) in long.getcolors(1 << 18) if r == g == b and r < 40)
    assert dark > 2000


def test_lines_keep_small_boxes_visible() -> None:
    picture = Image.new("RGB", (4000, 3000), GREY)
    found = Detections(
        torch.tensor([[100.0, 100.0, 111.0, 111.0]]),
        torch.ones(1),
        torch.zeros(1).long(),
        (3000, 4000),
    )
    assert outline_boxes(picture, found).getpixel((105, 105)) == GREY


def test_more_than_ten_phrases_are_told_apart() -> None:
    looks = {(PALETTE[i % 10], phrase_pattern(i)) for i in range(40)}
    assert len(looks) == 40
    picture = Image.new("RGB", (300, 200), GREY)
    edges = []
    for phrase in (0, 10, 20, 30):
        found = Detections(
            torch.tensor([[50.0, 50.0, 250.0, 150.0]]),
            torch.ones(1),
            torch.tensor([phrase]),
            (200, 300),
        )
        drawn = outline_boxes(picture, found)
        edges.append([drawn.getpixel((x, 50)) == phrase_color(0) for x in range(50, 251)])
    assert all(edges[0])
    for one, other in itertools.combinations(edges, 2):
        assert one != other


def test_opacity_and_thickness() -> None:
    picture = Image.new("RGB", (100, 100), GREY)
    found = scattered(1, (100, 100), 1)
    found = Detections(
        torch.tensor([[20.0, 20, 80, 80]]), found.scores, found.phrase_ids, (100, 100)
    )
    assert outline_boxes(picture, found).getpixel((50, 50)) == GREY
    half = outline_boxes(picture, found, opacity=0.5).getpixel((50, 50))
    assert half == tuple((a + b) // 2 for a, b in zip(GREY, phrase_color(0)))
    assert outline_boxes(picture, found, thickness=6).getpixel((25, 50)) == phrase_color(0)
    with pytest.raises(ValueError, match="opacity"):
        outline_boxes(picture, found, opacity=2)
    with pytest.raises(ValueError, match="thickness"):
        outline_boxes(picture, found, thickness=0)
    with pytest.raises(ValueError, match="text_size"):
        write_labels(picture, found, ["cat"], text_size=0)


def test_labels_alone_draw_no_lines() -> None:
    picture = Image.new("RGB", (200, 200), GREY)
    found = Detections(
        torch.tensor([[50.0, 80, 150, 180]]), torch.ones(1), torch.zeros(1).long(), (200, 200)
    )
    drawn = write_labels(picture, found, ["cat"])
    assert drawn.getpixel((150, 130)) == drawn.getpixel((100, 180)) == GREY
    larger = write_labels(picture, found, ["cat"], text_size=2)
    assert changed(picture, larger) > 2 * changed(picture, drawn)
    with pytest.raises(ValueError, match="index 0 names"):
        write_labels(picture, found, [])


def test_side_by_side() -> None:
    red, blue = Image.new("RGB", (60, 40), (255, 0, 0)), Image.new("RGB", (60, 40), (0, 0, 255))
    pair = side_by_side(red, blue, gap=5)
    assert pair.width == 2 * 60 + 3 * 5
    assert pair.getpixel((10, pair.height - 10)) == (255, 0, 0)
    assert pair.getpixel((pair.width - 10, pair.height - 10)) == (0, 0, 255)
    wide = side_by_side(red.resize((400, 40)), blue.resize((400, 40)))
    assert wide.width < 2 * 400  # wide ones lie above each other
    assert wide.getpixel((20, wide.height - 20)) == (0, 0, 255)
    with pytest.raises(ValueError, match="gap"):
        side_by_side(red, blue, gap=-1)
