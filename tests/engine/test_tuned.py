"""What was tuned, in a small file beside its base."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny import TEXT_DIM, tiny_glip
from torch.testing import assert_close
from tuned_models import predictions, tuned

from glipkit import __version__
from glipkit.convert import convert
from glipkit.engine.checkpoint import (
    CheckpointError,
    load_weights,
    read_tensors,
    save_weights,
    weights_hash,
)
from glipkit.engine.tensor_files import write_tensors
from glipkit.engine.tuned import has_prompt_offset, load_tuned, save_tuned
from glipkit.engine.tuning import MODES
from glipkit.modeling.glip import GLIP

OFFSET = "prompt_offset.weight"
PARTIAL = [mode for mode in MODES if mode != "full"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights every model here starts from; they have no learned prompt."""
    path = tmp_path_factory.mktemp("weights") / "base.safetensors"
    save_weights(tiny_glip(), path)
    return path


@pytest.fixture(scope="module")
def base_hash(base: Path) -> str:
    return weights_hash(read_tensors(base))


@pytest.fixture
def prompt(base: Path, base_hash: str, tmp_path: Path) -> Path:
    """A prompt of two rows."""
    model = tiny_glip(prompt_offset=True)
    with torch.no_grad():
        model.prompt_offset.weight[:2] = torch.arange(2.0 * TEXT_DIM).view(2, TEXT_DIM)
    path = tmp_path / "prompt.safetensors"
    save(model, path, [OFFSET], base, base_hash)
    return path


def save(model: GLIP, path: Path, names, base: Path, base_hash: str, **changes) -> None:
    arguments = {"base_path": base, "base_hash": base_hash, "mode": "language_prompt_v2"}
    save_tuned(model, path, names, **arguments | changes)


@pytest.mark.parametrize("mode", PARTIAL)
def test_what_was_tuned_comes_back_on_the_base(mode, base, base_hash, tmp_path) -> None:
    model, plan = tuned(mode)
    model.eval()
    assert plan.mode == mode
    path = tmp_path / "tuned.safetensors"
    save(model, path, plan.trained, base, base_hash, mode=plan.mode)

    again = tiny_glip(seed=7, prompt_offset=True)
    load_weights(again, base)
    assert weights_hash(again) == base_hash
    report = load_tuned(again, path, base_hash=weights_hash(again))
    assert report.mode == mode
    assert report.loaded == tuple(sorted(plan.trained))
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    with torch.inference_mode():
        # Not bit for bit: torch folds some products depending on `requires_grad`.
        assert_close(predictions(again), predictions(model))
    assert weights_hash(again) == weights_hash(model) != base_hash

    trained = sum(4 * p.numel() for n, p in model.named_parameters() if n in plan.trained)
    if mode == "language_prompt_v2":  # five rows, and a header of half a kilobyte
        assert path.stat().st_size < 5 * TEXT_DIM * 4 + 600
    else:
        assert path.stat().st_size < trained + 150 * len(plan.trained) + 600


def test_the_header_says_what_it_belongs_to(prompt, base, base_hash, tmp_path) -> None:
    with safe_open(prompt, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "glipkit_layout": "ours",
            "glipkit_version": __version__,
            "glipkit_mode": "language_prompt_v2",
            "glipkit_base": "base.safetensors",
            "glipkit_base_hash": base_hash,
        }
    model = tiny_glip(prompt_offset=True)
    path = tmp_path / "more.safetensors"
    extra = {"caption": "raccoon . fox", "classes": "raccoon\nfox"}
    save(model, path, [OFFSET], base, base_hash, extra=extra, base_path="")
    report = load_tuned(model, path, base_hash=base_hash)
    assert report.extra == extra
    assert report.base == ""
    assert report.parameters == TEXT_DIM
    assert f"1 tensors, {TEXT_DIM} parameters, tuned by language_prompt_v2 from" in str(report)


def test_a_prompt_is_saved_up_to_its_last_row(prompt) -> None:
    assert read_tensors(prompt)[OFFSET].shape == (2, TEXT_DIM)
    model = tiny_glip(prompt_offset=True)
    with torch.no_grad():
        model.prompt_offset.weight += 3.0  # what was learnt before is gone
    load_tuned(model, prompt, base_hash=None)
    assert_close(model.prompt_offset.weight[:2], torch.arange(2.0 * TEXT_DIM).view(2, TEXT_DIM))
    assert not model.prompt_offset.weight[2:].any()


def test_a_state_dict_and_a_wrapped_model_are_saved_alike(base, base_hash, tmp_path) -> None:
    model = tiny_glip(prompt_offset=True)
    for index, weights in enumerate((model.state_dict(), torch.nn.ModuleDict({"module": model}))):
        path = tmp_path / f"{index}.safetensors"
        save(weights, path, ["predictor.bias"], base, base_hash)
        assert_close(read_tensors(path), {"predictor.bias": model.predictor.bias.detach()})


def test_another_base_is_refused(prompt, base_hash) -> None:
    model = tiny_glip(seed=1, prompt_offset=True)
    other = weights_hash(model)
    with pytest.raises(CheckpointError) as error:
        load_tuned(model, prompt, base_hash=other)
    for words in (base_hash, other, f"--weight base.safetensors --tuned {prompt}"):
        assert words in str(error.value)
    assert not model.prompt_offset.weight.any()
    load_tuned(model, prompt, base_hash=None)
    assert model.prompt_offset.weight.any()


@pytest.mark.parametrize("strict", [True, False])
def test_a_tuned_file_is_no_whole_model(strict, prompt, tmp_path) -> None:
    message = rf"language_prompt_v2 tuned.*--weight base\.safetensors --tuned {prompt}"
    with pytest.raises(CheckpointError, match=message):
        load_weights(tiny_glip(prompt_offset=True), prompt, strict=strict)
    with pytest.raises(CheckpointError, match=message):
        convert(prompt, tmp_path / "converted.pth")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_whole_model_is_no_tuned_file(suffix, tmp_path) -> None:
    path = tmp_path / f"whole.{suffix}"
    save_weights(tiny_glip(), path)
    with pytest.raises(CheckpointError, match=rf"give it as --weight {path}; --tuned is for"):
        load_tuned(tiny_glip(), path, base_hash=None)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone"):
        load_tuned(tiny_glip(), tmp_path / "gone.safetensors", base_hash=None)


def test_a_model_without_a_place_for_the_prompt_says_so(prompt, base_hash) -> None:
    with pytest.raises(CheckpointError, match=r"FUSE_CONFIG\.ADD_LINEAR_LAYER True"):
        load_tuned(tiny_glip(), prompt, base_hash=base_hash)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("predictor.box.weight", torch.ones(5, 5), r"\(5, 5\) in the file, \(4, 32, 1, 1\) in"),
        (OFFSET, torch.ones(1001, TEXT_DIM), r"\(1001, 32\) in the file, \(1000, 32\) in the"),
        (OFFSET, torch.ones(3, 7), r"\(3, 7\) in the file"),
        ("predictor.novelty", torch.ones(1), r"no place for: predictor\.novelty"),
        ("predictor.bias", torch.tensor([float("inf")]), r"infinite numbers in predictor\.bias"),
    ],
)
def test_what_does_not_fit_changes_nothing(name, tensor, message, prompt, tmp_path) -> None:
    with safe_open(prompt, "pt") as file:
        metadata = file.metadata()
    path = tmp_path / "odd.safetensors"
    write_tensors({"predictor.log_scale": torch.ones(1), name: tensor}, path, metadata=metadata)
    model = tiny_glip(prompt_offset=True)
    before = weights_hash(model)
    with pytest.raises(CheckpointError, match=message):
        load_tuned(model, path, base_hash=None)
    assert weights_hash(model) == before


def test_a_header_in_part_is_refused(prompt, tmp_path) -> None:
    path = tmp_path / "odd.safetensors"
    write_tensors(read_tensors(prompt), path, metadata={"glipkit_mode": "linear_prob"})
    with pytest.raises(CheckpointError, match="lacks glipkit_base, glipkit_base_hash in its head"):
        load_tuned(tiny_glip(prompt_offset=True), path, base_hash=None)


@pytest.mark.parametrize(
    ("changes", "names", "message"),
    [
        ({}, [], "expected names of the model's weights, got none"),
        ({}, ["predictor.novelty"], r"got predictor\.novelty"),
        ({"extra": {"glipkit_base": "mine"}}, [OFFSET], r"must not begin with 'glipkit_', got"),
    ],
)
def test_nonsense_is_not_written(changes, names, message, base, base_hash, tmp_path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(ValueError, match=message):
        save(tiny_glip(prompt_offset=True), path, names, base, base_hash, **changes)
    assert not path.exists()


def test_a_broken_model_is_not_written(base, base_hash, tmp_path) -> None:
    model = tiny_glip(prompt_offset=True)
    torch.nn.init.constant_(model.prompt_offset.weight, float("nan"))
    with pytest.raises(CheckpointError, match=r"NaN or infinite numbers in prompt_offset\.weight"):
        save(model, tmp_path / "t.safetensors", [OFFSET], base, base_hash)
    with pytest.raises(ValueError, match=r"written as \.safetensors, got .*t\.pth"):
        save(model, tmp_path / "t.pth", [OFFSET], base, base_hash)


def test_whether_a_file_has_a_prompt(prompt, base, base_hash, tmp_path) -> None:
    assert has_prompt_offset(prompt)
    assert not has_prompt_offset(base)
    model = tiny_glip(prompt_offset=True)
    save(model, tmp_path / "head.safetensors", ["predictor.bias"], base, base_hash)
    assert not has_prompt_offset(tmp_path / "head.safetensors")
    for layout in ("ours", "published"):
        for suffix in ("pth", "safetensors"):
            path = tmp_path / f"{layout}.{suffix}"
            save_weights(model, path, layout=layout)
            assert has_prompt_offset(path)
    torch.save({"module.rpn.tunable_linear.weight": torch.zeros(1000, 8)}, tmp_path / "ddp.pth")
    assert has_prompt_offset(tmp_path / "ddp.pth")
