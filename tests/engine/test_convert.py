import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from published import MODELS, cell, checkpoint, entries, window_index

from glipkit.convert import convert, main
from glipkit.engine.checkpoint import CheckpointError, read_tensors, weights_hash

T = "glip_Swin_T_O365_GoldG"


def assert_bit_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert actual[name].shape == tensor.shape, name
        assert torch.equal(
            actual[name].contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8)
        ), name


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float32) for name in MODELS), (T, torch.float16), (T, torch.bfloat16)],
)
def test_there_and_back_is_bit_exact(name, dtype, golden, tmp_path):
    tensors = checkpoint(golden, name)
    parameters = {e["name"] for e in entries(golden, name) if e["kind"] == "parameter"}
    tensors = {n: t.to(dtype) if n in parameters else t for n, t in tensors.items()}
    tensors["rpn.head.log_scale"].view(-1)[:] = float("nan")  # bits, not numbers
    torch.save({"model": tensors, "iteration": 1}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    ours = read_tensors(tmp_path / "b.safetensors")
    assert len(ours) == len(parameters)
    assert not ours.keys() & tensors.keys()
    convert(tmp_path / "b.safetensors", tmp_path / "c.pth")
    again = torch.load(tmp_path / "c.pth", weights_only=True)
    assert_bit_equal(again["model"], tensors)


@pytest.mark.slow
def test_full_size_glip_t_there_and_back(golden, tmp_path):
    """232 M parameters: every shape, dtype and bit of the manifest."""
    tensors = {}
    for entry in entries(golden, T):
        name, shape = entry["name"], tuple(entry["shape"])
        if name.endswith(".relative_position_index"):
            tensors[name] = window_index(7)
        elif "cell_anchors" in name:
            tensors[name] = cell(int(name[-1]))
        else:
            tensors[name] = torch.rand(shape)
    torch.save({"model": tensors}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.pth")
    assert_bit_equal(read_tensors(tmp_path / "c.pth"), tensors)
    for file in tmp_path.iterdir():
        file.unlink()  # 2.8 GB; pytest would keep them for three runs


def test_the_summary_says_what_happened(golden, tmp_path):
    tensors = checkpoint(golden, T) | {"rpn.head.mlm_head.dense.weight": torch.zeros(2, 2)}
    torch.save(tensors, tmp_path / "a.pth")
    summary = convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert "746 tensors (734 float32, 12 int64)" in summary
    assert "728 tensors (728 float32)" in summary
    assert "relative_position_index (12)" in summary
    assert "rpn.head.mlm_head.dense.weight" in summary
    assert weights_hash(tensors) in summary
    assert "NOTE" not in summary
    tensors["rpn.anchor_generator.cell_anchors.0"] -= 4
    torch.save(tensors, tmp_path / "a.pth")
    summary = convert(tmp_path / "a.pth", tmp_path / "b.safetensors", force=True)
    assert "NOTE" in summary
    assert "cell_anchors.0" in summary


def test_keeps_the_names_when_told_to(golden, tmp_path):
    tensors = checkpoint(golden, T)
    torch.save({"model": {f"module.{n}": t for n, t in tensors.items()}}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors", to="published")
    assert_bit_equal(read_tensors(tmp_path / "b.safetensors"), tensors)


def test_reads_the_part_asked_for(golden, tmp_path):
    tensors = checkpoint(golden, T)
    average = {n: t * 0 if t.is_floating_point() else t for n, t in tensors.items()}
    torch.save({"model": tensors, "model_ema": average}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.pth", part="model_ema")
    assert all((tensor == 0).all() for tensor in read_tensors(tmp_path / "b.pth").values())


def test_does_not_write_over_a_file(golden, tmp_path, capsys):
    torch.save(checkpoint(golden, T), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_text("precious")
    arguments = [str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    assert main(arguments) == 2
    assert "pass --force" in capsys.readouterr().err
    assert (tmp_path / "b.pth").read_text() == "precious"
    assert main([*arguments, "--force"]) == 0
    assert "728 float32" in capsys.readouterr().out


def test_converts_a_file_onto_itself(golden, tmp_path):
    """The source is still being read (it is mapped) while it is replaced."""
    tensors = checkpoint(golden, T)
    torch.save({"model": tensors}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "a.pth", force=True)
    convert(tmp_path / "a.pth", tmp_path / "a.pth", force=True)
    assert_bit_equal(read_tensors(tmp_path / "a.pth"), tensors)


def test_refuses_what_it_does_not_know(golden, tmp_path, capsys):
    torch.save(checkpoint(golden, T) | {"rpn.novelty": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"no published GLIP has: rpn\.novelty"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth")
    torch.save(checkpoint(golden, T), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"written as .*, got .*b\.ckpt"):
        convert(tmp_path / "a.pth", tmp_path / "b.ckpt")
    assert main([str(tmp_path / "gone.pth"), str(tmp_path / "b.pth")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_one_line(golden, tmp_path, capsys):
    source = tmp_path / "a.pth"
    torch.save({"model": checkpoint(golden, T)}, source)
    (tmp_path / "folder.pth").mkdir()
    assert main([str(source), str(tmp_path / "folder.pth"), "--force"]) == 2
    assert "folder.pth is a folder" in capsys.readouterr().err
    assert main([str(source), str(source / "below.pth")]) == 2
    assert str(source) in capsys.readouterr().err


def test_runs_as_a_module(golden, tmp_path):
    torch.save(checkpoint(golden, T), tmp_path / "a.pth")
    command = [sys.executable, "-m", "glipkit.convert", "a.pth", "b.safetensors"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "ours names" in done.stdout
    assert (tmp_path / "b.safetensors").exists()
