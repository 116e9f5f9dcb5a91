"""`glipkit info` on files of every kind."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_glip

from glipkit.engine.checkpoint import save_weights, weights_hash
from glipkit.shell.main import main


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("info") / "tiny.safetensors"
    save_weights(tiny_glip(), path)
    return path


def test_parts_types_and_hash(tiny_file: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["info", str(tiny_file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    model = tiny_glip()
    assert facts["format"] == "safetensors"
    assert facts["names"] == "ours"
    assert facts["fits"] == []
    assert facts["hash"] == weights_hash(model)
    assert facts["parameters_in_file"] == sum(p.numel() for p in model.state_dict().values())
    assert sum(facts["parts"].values()) == facts["parameters_in_file"]
    assert {"backbone", "text encoder", "tower"} <= facts["parts"].keys()
    assert facts["types"].keys() == {"float32"}


def test_table_for_people(tiny_file: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["info", str(tiny_file)]) == 0
    said = capsys.readouterr().out
    assert "none of the known models" in said
    assert "Swin of 16 channels and 1-2-1-1 blocks, 2 tower blocks, 2 of them fused" in said


def test_published_layout_in_a_torch_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "tiny.pth"
    save_weights(tiny_glip(), path, layout="published")
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == "torch.save (zip)"
    assert facts["names"] == "published"
    assert facts["hash"] == weights_hash(tiny_glip())


def test_what_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": {"fc.weight": torch.zeros(2)}}, path)
    assert main(["info", str(path)]) == 2
    assert "another model's checkpoint" in capsys.readouterr().err
    assert main(["info", "nanno"]) == 2
    assert "unknown model 'nanno'; known are nano" in capsys.readouterr().err
