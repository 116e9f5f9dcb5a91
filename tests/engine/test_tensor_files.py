import logging
import pickle
import resource
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from glipkit.engine.tensor_files import CheckpointError, read_tensors, write_tensors


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(4), "steps": torch.tensor(7)}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        torch.testing.assert_close(actual[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [None, "model", "state_dict"])
def test_reads_what_torch_saves(weights, wrap, legacy, tmp_path):
    content = {wrap: weights} if wrap else weights
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert_same(read_tensors(tmp_path / "w.pth"), weights)


def test_reads_safetensors_whatever_the_suffix(weights, tmp_path):
    save_file(weights, tmp_path / "w.pth")
    assert_same(read_tensors(str(tmp_path / "w.pth")), weights)


@pytest.mark.parametrize("legacy", [False, True])
def test_reads_what_torch_saved_under_the_other_suffix(weights, legacy, tmp_path):
    path = tmp_path / "w.safetensors"
    torch.save({"model": weights}, path, _use_new_zipfile_serialization=not legacy)
    assert_same(read_tensors(path), weights)


def test_code_is_not_run_under_the_other_suffix_either(tmp_path):
    torch.save(Evil(tmp_path / "pwned"), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="refused"):
        read_tensors(tmp_path / "w.safetensors")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_leaves_aside_what_training_saved_beside_the_model(weights, legacy, tmp_path, caplog):
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.randn(1, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    content = {
        "model": OrderedDict(weights),
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
        "iteration": 30000,
        "best": np.float64(0.5),
        "epoch": np.int64(3),
        "names": ["train", None, True, (1, 2.0)],
    }
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    with caplog.at_level(logging.INFO):
        assert_same(read_tensors(tmp_path / "w.pth"), weights)
    assert "leaving aside optimizer, scheduler, iteration" in caplog.text


def test_reads_numbers_of_numpy_1(weights, tmp_path):
    torch.save({"model": weights, "best": np.float64(0.5)}, tmp_path / "new.pth")
    with (
        zipfile.ZipFile(tmp_path / "new.pth") as new,
        zipfile.ZipFile(tmp_path / "old.pth", "w", zipfile.ZIP_STORED) as old,
    ):
        for item in new.namelist():
            old.writestr(item, new.read(item).replace(b"numpy._core", b"numpy.core"))
    assert_same(read_tensors(tmp_path / "old.pth"), weights)


@pytest.mark.parametrize("some", [False, True])
def test_strips_module(weights, some, tmp_path):
    renamed = {
        name if some and name == "steps" else f"module.{name}": t for name, t in weights.items()
    }
    torch.save({"model": renamed}, tmp_path / "w.pth")
    assert_same(read_tensors(tmp_path / "w.pth"), weights)


def test_strips_module_of_module(weights, tmp_path):
    torch.save({f"module.module.{name}": t for name, t in weights.items()}, tmp_path / "w.pth")
    assert_same(read_tensors(tmp_path / "w.pth"), weights)


def test_refuses_a_name_that_stripping_makes_twice(tmp_path):
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"'a' twice"):
        read_tensors(tmp_path / "w.pth")


def test_takes_the_average_only_when_asked(weights, tmp_path):
    average = {name: tensor * 0 for name, tensor in weights.items()}
    torch.save({"model_ema": average}, tmp_path / "ema.pth")
    torch.save({"model_ema": average, "model": weights}, tmp_path / "both.pth")
    with pytest.raises(CheckpointError, match=r"no weights.*model_ema.*part='model_ema'"):
        read_tensors(tmp_path / "ema.pth")
    assert_same(read_tensors(tmp_path / "ema.pth", part="model_ema"), average)
    assert_same(read_tensors(tmp_path / "both.pth"), weights)
    with pytest.raises(CheckpointError, match="no weights under 'teacher'"):
        read_tensors(tmp_path / "both.pth", part="teacher")


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle"])
def test_refuses_a_pickle_that_runs_code_without_running_it(weights, kind, tmp_path):
    trap, file = tmp_path / "trap", tmp_path / "w.pth"
    content = {"model": weights, "more": Evil(trap)}
    if kind == "plain pickle":
        file.write_bytes(pickle.dumps({"more": Evil(trap)}))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    match = "plain pickle" if kind == "plain pickle" else r"refused.*\bopen\b.*Nothing of it was"
    with pytest.raises(CheckpointError, match=match):
        read_tensors(file)
    assert not trap.exists()
    torch.load(file, weights_only=False) if kind != "plain pickle" else pickle.loads(
        file.read_bytes()
    )
    assert trap.exists()  # the trap was a real one


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([torch.zeros(1)], "holds a list; expected a dict"),
        (torch.zeros(1), "holds a Tensor; expected a dict"),
        ({"model": {"a": torch.zeros(1), "b": 3}}, "'b' among the weights is a int"),
        ({"model": {}}, "no tensors at all"),
        ({"iteration": 3}, "no weights.*entries iteration"),
    ],
)
def test_refuses_what_is_not_a_dict_of_tensors(content, match, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=match):
        read_tensors(tmp_path / "w.pth")


FOREIGN = {
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG picture"),
    "text": (b"hello\nworld\n", "a text of 12 bytes that begins 'hello world'"),
    "web page": (b"<!DOCTYPE html>\n<title>404</title>", "a web page.*404"),
    "refused download": (b'<?xml version="1.0"?><Error>PublicAccessNotPermitted</Error>', "Permit"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "long text": ("é".encode() * 400, "a text of 800 bytes"),
    "bytes": (bytes(range(200, 250)), "something unknown of 50 bytes that begin with c8 c9"),
    "gzip": (b"\x1f\x8b" + bytes(50), "gzip archive .unpack it first"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_says_what_a_foreign_file_is(kind, tmp_path):
    content, match = FOREIGN[kind]
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"w\.pth is not a checkpoint but .*{match}"):
        read_tensors(tmp_path / "w.pth")


def test_says_what_is_missing_empty_or_a_folder(tmp_path):
    (tmp_path / "there.pth").touch()
    with pytest.raises(FileNotFoundError, match=r"gone\.pth; .* holds there\.pth"):
        read_tensors(tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_tensors(tmp_path / "nowhere" / "gone.pth")
    with pytest.raises(CheckpointError, match="empty"):
        read_tensors(tmp_path / "there.pth")
    with pytest.raises(CheckpointError, match=r"is a folder.*there\.pth"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.98, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_says_that_a_file_is_truncated(kind, part, tmp_path):
    file = tmp_path / "w.pth"
    tensors = {"a": torch.randn(3000), "b": torch.randn(3000)}
    if kind == "safetensors":
        save_file(tensors, file)
    else:
        torch.save({"model": tensors}, file, _use_new_zipfile_serialization=kind == "zip")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CheckpointError, match=r"truncated or damaged|not made of tensors, or dam"):
        read_tensors(file)


@pytest.mark.parametrize(("place", "bit"), [(6, 7), (46, 7)], ids=["version", "name"])
def test_says_that_the_directory_at_the_end_is_damaged(weights, place, bit, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(weights, path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + place] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"truncated or damaged.*Fetch it again"):
        read_tensors(path)


def test_tells_other_zip_files_apart(tmp_path):
    file = tmp_path / "w.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("glip.pth", b"x")
    with pytest.raises(CheckpointError, match=r"holds glip\.pth.*unpack"):
        read_tensors(file)
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(file)
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_tensors(file)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_writes_what_it_reads(weights, suffix, tmp_path):
    file = tmp_path / "new folder" / f"w{suffix}"
    write_tensors(weights, file)
    assert_same(read_tensors(file), weights)
    assert [f.name for f in file.parent.iterdir()] == [file.name]  # no temporary file is left


def test_a_slice_or_a_shared_tensor_is_written_as_itself(tmp_path):
    base = torch.randn(1000, 8)
    tensors = {"slice": base[2:4], "turned": base[:3].T, "same": base[2:4], "none": base[:0]}
    for suffix in (".pth", ".safetensors"):
        file = tmp_path / f"w{suffix}"
        write_tensors(tensors, file)
        assert_same(read_tensors(file), tensors)
        assert file.stat().st_size < 4000


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_full_disk_is_an_error_of_the_system_and_the_old_file_stands(suffix, tmp_path):
    path = tmp_path / f"w{suffix}"
    write_tensors({"a": torch.ones(10)}, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .* needs 0\.001 GB, .* make room"):
            write_tensors({"a": torch.ones(200_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(weights, tmp_path, monkeypatch):
    file = tmp_path / "w.pth"
    write_tensors(weights, file)
    before = file.read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("glipkit.runtime.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_tensors({"a": torch.zeros(5)}, file)
    assert file.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["w.pth"]


def test_files_are_as_readable_as_any_other(weights, tmp_path):
    (tmp_path / "plain").touch()
    for suffix in (".pth", ".safetensors"):
        write_tensors(weights, tmp_path / f"w{suffix}")
        mode = (tmp_path / f"w{suffix}").stat().st_mode
        assert mode == (tmp_path / "plain").stat().st_mode


def test_refuses_an_unknown_suffix(weights, tmp_path):
    with pytest.raises(ValueError, match=r"\.safetensors or \.pth.*w\.ckpt"):
        write_tensors(weights, tmp_path / "w.ckpt")
    assert not list(tmp_path.iterdir())
