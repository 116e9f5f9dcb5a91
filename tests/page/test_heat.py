import pytest
import torch
from PIL import Image

from glipkit.page.heat import brightest, heat_picture

GREY = (120, 120, 120)


def luma(picture: Image.Image, x: int, y: int) -> int:
    return picture.convert("L").getpixel((x, y))


def test_the_highest_score_shines_and_the_rest_is_dimmed() -> None:
    scores = torch.zeros(4, 8)
    scores[0, 7] = 0.8  # top right
    lit = heat_picture(Image.new("RGB", (160, 80), GREY), scores)
    assert lit.size == (160, 80)
    assert lit.mode == "RGB"
    assert luma(lit, 155, 5) > 150
    assert luma(lit, 5, 75) < 80
    red, green, blue = lit.getpixel((5, 75))
    assert red == green == blue  # where nothing is seen the picture is grey


def test_more_is_brighter() -> None:
    scores = torch.linspace(0, 0.3, 16).expand(2, 16)
    lit = heat_picture(Image.new("RGB", (320, 40), GREY), scores)
    row = [luma(lit, x, 20) for x in range(60, 320, 20)]
    assert row == sorted(row)


def test_no_score_at_all_leaves_a_grey_picture() -> None:
    lit = heat_picture(Image.new("RGB", (32, 32), (200, 10, 10)), torch.zeros(4, 4))
    red, green, blue = lit.getpixel((16, 16))
    assert red == green == blue


def test_faint_scores_stay_faint() -> None:
    scores = torch.full((4, 4), 0.01)
    lit = heat_picture(Image.new("RGB", (32, 32), GREY), scores)
    assert luma(lit, 16, 16) < 80
    assert brightest(scores) == 0.1
    assert brightest(scores * 50) == pytest.approx(0.5)
