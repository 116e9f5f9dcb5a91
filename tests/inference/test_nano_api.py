"""The model that comes with glipkit, called as README calls it."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import glipkit
from glipkit.inference.detector import PhraseDetector

pytestmark = pytest.mark.slow

TEXT = "a red circle . the small star on the left"


@pytest.fixture(scope="module")
def nano() -> PhraseDetector:
    return glipkit.load("nano", device="cpu")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "street.jpg"
    picture = Image.new("RGB", (320, 240), (180, 180, 170))
    ImageDraw.Draw(picture).ellipse((40, 60, 120, 140), fill=(220, 30, 30))
    picture.save(path)
    return path


def test_it_answers(nano: PhraseDetector, street: Path) -> None:
    found = nano(street, TEXT, threshold=0.0)
    assert found.phrases == ("a red circle", "the small star on the left")
    assert found.size == (320, 240)
    assert nano.name == "nano"
    one, many = nano([street, street], ["red circle", "blue star", "red star"])
    assert one.phrases == many.phrases == ("red circle", "blue star", "red star")


def test_its_words_are_those_of_the_package(nano: PhraseDetector) -> None:
    encoder = nano.detector.model.text_encoder
    assert encoder.width == 384
    assert len(encoder.bert.encoder.layer) == 6


def test_three_lines_as_a_new_user_types_them(street: Path, tmp_path: Path) -> None:
    (tmp_path / "street.jpg").write_bytes(street.read_bytes())
    lines = f"""
import glipkit
detector = glipkit.load("nano")
found = detector("street.jpg", "{TEXT}")
found.save("out.jpg"); found.to_coco(); found.to_json()
"""
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", lines], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    assert Image.open(tmp_path / "out.jpg").size[0] >= 320
