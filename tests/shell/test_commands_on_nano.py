"""The commands on the model that is shipped, whose quality is not at stake here."""

import json
from pathlib import Path

import pytest
from films import film, scene

from glipkit.inference.known import KNOWN, SHIPPED
from glipkit.shell.main import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SHIPPED / KNOWN["nano"].weights).is_file(), reason="needs the weights of nano"
    ),
]


def test_detect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    scene({"red": (40, 20)}).save("1.png")
    film(Path("clip.mp4"), num_frames=3)
    words = ["--text", "a red square . the blue star", "--threshold", "0", "--explain", "--track"]
    assert main(["detect", "1.png", "clip.mp4", *words, "--out", "found"]) == 0
    lines = [json.loads(line) for line in Path("found/found.jsonl").read_text().splitlines()]
    assert [line.get("frame") for line in lines] == [None, 0, 1, 2]
    assert {label for line in lines for label in line["phrases"]} == {
        "a red square",
        "the blue star",
    }
    assert "prompt 1 of 1" in capsys.readouterr().out


def test_info(capsys: pytest.CaptureFixture) -> None:
    assert main(["info", "nano", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "nano" in facts["fits"]
    assert "its hash agrees" in facts["text_encoder"]
    assert facts["parts"]["text encoder"] > facts["parameters_in_file"]


def test_bench(capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "--size", "64x96", "--repeats", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    start = answer["from_start"]
    assert start["whole"] >= start["import"] + start["load"] + start["first_picture"]
    assert answer["model"] == "nano"
