"""`glipkit bench`: what it measures and says."""

import json

import pytest
from films import ColourDetector

import glipkit
from glipkit.shell import bench
from glipkit.shell.main import main

START = {"whole": 4.0, "import": 2.0, "load": 1.0, "first_picture": 0.5}


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> ColourDetector:
    colours = ColourDetector()
    monkeypatch.setattr(glipkit, "load", lambda *_, **__: colours, raising=False)
    return colours


def test_json(
    detector: ColourDetector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(bench, "first_boxes", lambda args, picture: START)
    words = ["--size", "60x90", "--repeats", "3", "--text", "red circle . blue square"]
    assert main(["bench", *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["picture"] == [60, 90]
    assert answer["boxes"] == 2
    assert answer["fastest"] <= answer["seconds_per_picture"] <= answer["slowest"]
    assert len(detector.options) == 5  # two to warm up
    assert answer["from_start"] == START


def test_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(bench, "first_boxes", lambda args, picture: START)
    assert main(["bench", "--repeats", "1"]) == 0
    said = capsys.readouterr().out
    assert "from the start of Python to the first boxes: 4.0 s" in said
    assert "a picture of 480x640" in said


def test_failing_fresh_process_is_said(capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "--repeats", "1", "--model", "nanno"]) == 2
    assert "unknown model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        *(["--size", "12"], ["--size", "0x9"], ["--size", "20000x20000"], ["--repeats", "0"]),
        *(["--text", ""], ["--text", "  "]),
    ],
)
def test_wrong_flags(words: list[str], detector: ColourDetector) -> None:
    assert main(["bench", *words]) == 2
    assert not detector.options  # nobody was asked
