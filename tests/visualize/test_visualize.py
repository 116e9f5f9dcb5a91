import pytest
import torch
from PIL import Image, ImageChops

from glipkit.structures.detections import Detections
from glipkit.visualize import contact_sheet, draw, phrase_color

GREY = (100, 100, 100)


def picture(width: int = 320, height: int = 240, mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (width, height), GREY).convert(mode)


def detections(*boxes, size=(240, 320), phrases=None, scores=None) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(count, 4),
        torch.tensor(scores or [0.9] * count),
        torch.tensor(phrases or [0] * count, dtype=torch.int64),
        size,
    )


def test_the_border_has_the_colour_of_the_phrase() -> None:
    found = detections((50, 60, 150, 160), (200, 100, 300, 220), phrases=[0, 4])
    before = picture()
    drawn = draw(before, found, ["cat", "a", "b", "c", "dog"])
    assert drawn.size == before.size
    for phrase, points in ((0, [(50, 100), (150, 100), (100, 160)]), (4, [(200, 150), (250, 220)])):
        for point in points:
            assert drawn.getpixel(point) == phrase_color(phrase)
    assert drawn.getpixel((100, 100)) == GREY  # the inside is left alone
    assert before.tobytes() == picture().tobytes()
    assert phrase_color(0) != phrase_color(4)


def test_boxes_are_scaled_to_the_picture() -> None:
    drawn = draw(picture(), detections((25, 30, 75, 80), size=(120, 160)), ["cat"])
    assert drawn.getpixel((50, 100)) == phrase_color(0)
    assert drawn.getpixel((150, 100)) == phrase_color(0)


def test_low_scores_are_left_out() -> None:
    found = detections((50, 60, 150, 160), scores=[0.3])
    assert draw(picture(), found, ["cat"]).tobytes() == picture().tobytes()
    assert draw(picture(), found, ["cat"], score_threshold=0.3).tobytes() != picture().tobytes()
    assert draw(picture(), detections(), ["cat"]).tobytes() == picture().tobytes()
    with pytest.raises(ValueError, match="NaN"):
        draw(picture(), found, ["cat"], score_threshold=float("nan"))


def test_labels_stay_inside_the_picture() -> None:
    """A label is as wide as the picture allows, wherever its box lies."""
    for box in ((0, 0, 20, 20), (300, 0, 319, 10), (300, 225, 319, 239), (0, 0, 319, 239)):
        drawn = draw(picture(), detections(box), ["a rather long name"], score_threshold=0)
        colored = ImageChops.difference(drawn, picture()).getbbox()
        label_colors = sum(
            count for count, color in drawn.getcolors(1 << 16) if color == phrase_color(0)
        )
        assert label_colors > 1000  # far more than a border: the whole label is on the picture
        assert colored is not None


def test_labels_do_not_cover_each_other() -> None:
    found = detections(*[(40, 80, 200, 200)] * 3, phrases=[0, 1, 2], scores=[0.9, 0.8, 0.7])
    drawn = draw(picture(), found, ["cat", "cat", "cat"])
    areas = dict((color, count) for count, color in drawn.getcolors(1 << 16))
    # The border is that of the best; of the others only labels can be seen, equally large.
    assert areas[phrase_color(1)] > 300
    assert abs(areas[phrase_color(1)] - areas[phrase_color(2)]) < 30


def test_crowded_boxes_lose_labels_but_keep_borders() -> None:
    boxes = [(40, 80, 60, 95)] * 30
    scores = [0.9] + [0.8] * 29
    drawn = draw(picture(), detections(*boxes, scores=scores), ["cat"])
    assert drawn.getpixel((40, 88)) == phrase_color(0)
    colored = sum(count for count, color in drawn.getcolors(1 << 16) if color == phrase_color(0))
    assert colored < 320 * 240 / 10


def test_truth_is_dashed_and_labelled_only_where_it_was_missed() -> None:
    truth = detections((50, 60, 150, 160))
    missed = draw(picture(), detections(), ["cat"], truth=truth)
    edge = {missed.getpixel((x, 60)) for x in range(50, 151)}
    assert phrase_color(0) in edge
    assert len(edge) > 1  # dark between the dashes
    hit = draw(picture(), detections((50, 60, 150, 160)), ["cat"], truth=truth)
    below = (52, 145, 80, 158)  # where the label of a missed one goes
    assert len(missed.crop(below).getcolors()) > len(hit.crop(below).getcolors())


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 300), (300, 1), (15, 15), (40, 30)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    width, height = size
    box = (0, 0, width - 1, height - 1)
    truth = detections(box, size=(height, width))
    found = detections(box, (5, 5, 0, 0), (-9, -9, 999, 999), size=(height, width))
    assert draw(picture(width, height), found, ["cat"], truth=truth).size == size


@pytest.mark.parametrize(
    "name", ["", " ", "猫 🐈 кошка", "x" * 500, "two\nlines\tand a tab", "é" * 60, "(a/b)_c"]
)
def test_any_name(name: str) -> None:
    assert draw(picture(), detections((50, 60, 150, 160)), [name]).size == (320, 240)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_any_mode(mode: str) -> None:
    image = Image.new(mode, (320, 240))
    drawn = draw(image, detections((50, 60, 150, 160)), ["cat"])
    assert drawn.mode == "RGB"
    assert drawn.getpixel((50, 100)) == phrase_color(0)


def test_a_phrase_without_a_name_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"index 1 names, got \[3\]"):
        draw(picture(), detections((0, 0, 9, 9), phrases=[3]), ["cat"])


def test_contact_sheet_lays_pictures_out_in_rows() -> None:
    images = [picture(400, 300)] * 3 + [picture(300, 400, "L"), picture(3000, 2250)]
    sheet = contact_sheet(images, 3, gap=10)
    width, height = (sheet.width - 10) // 3 - 10, (sheet.height - 10) // 2 - 10
    assert abs(width / height - 4 / 3) < 0.01  # of most of the pictures
    middles = [(10 + width // 2 + x * (width + 10), 10 + height // 2) for x in range(3)]
    below = [(x, y + height + 10) for x, y in middles]
    assert all(sheet.getpixel(place) == GREY for place in [*middles, *below[:2]])
    assert sheet.getpixel(below[2]) != GREY  # the cell after the last
    left = 10 + width + 10
    assert sheet.getpixel((left + 1, below[1][1])) == GREY  # the large one fills its cell,
    assert sheet.getpixel((11, below[0][1])) != GREY  # the upright one does not


def test_contact_sheet_fits_its_cells_to_the_pictures() -> None:
    """Small pictures leave no empty space around them, and are enlarged so that words show."""
    sheet = contact_sheet([picture(256, 256)] * 12, gap=8)
    assert sheet.width / sheet.height == pytest.approx(4 / 3, abs=0.02)
    colors = dict((color, count) for count, color in sheet.getcolors())
    cell = (sheet.width - 8) // 4 - 8
    assert colors[GREY] == 12 * cell * cell
    assert 380 < cell <= 2 * 256
    tiny = contact_sheet([picture(20, 10)] * 2, gap=8)
    assert tiny.size == (2 * 40 + 3 * 8, 20 + 2 * 8)  # twice as large, not more


@pytest.mark.parametrize("size", [(1333, 800), (4, 4), (1, 900), (900, 1)])
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_contact_sheets_are_bounded(count: int, size: tuple[int, int]) -> None:
    sheet = contact_sheet([picture(*size)] * count)
    assert sheet.width * sheet.height < 32e6
    if count == 300 and size == (1333, 800):
        assert 0.7 < sheet.width / sheet.height < 1.8


def test_contact_sheet_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])
    with pytest.raises(ValueError, match="picture 1 has no pixels: it is 5x0"):
        contact_sheet([picture(), picture(5, 0)])
    with pytest.raises(ValueError, match="at least 1"):
        contact_sheet([picture()], 0)
    with pytest.raises(ValueError, match="at least 0"):
        contact_sheet([picture()], gap=-1)
