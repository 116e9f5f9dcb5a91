import logging

import pytest
import torch
from published import MODELS, checkpoint, entries, model_for, window_index
from safetensors import safe_open
from tiny import tiny_glip
from torch import nn

from glipkit import __version__
from glipkit.engine.checkpoint import (
    CheckpointError,
    load_weights,
    match_weights,
    read_tensors,
    save_weights,
    weights_hash,
)
from glipkit.modeling.official import has_fusion, our_name

T = "glip_Swin_T_O365_GoldG"
EXTRAS = {
    "rpn.head.mlm_head.dense.weight": torch.zeros(2, 2),
    "rpn.tunable_linear.weight": torch.zeros(1000, 8),
    "language_backbone.body.model.embeddings.position_ids": torch.arange(512)[None],
}


def save(tensors, path, **beside):
    torch.save({"model": tensors, **beside}, path)
    return path


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_holds(model, tensors):
    """Every parameter has the value that the published file gives it."""
    state = model.state_dict()
    fused = has_fusion(tensors)
    places = {name: our_name(name, fused=fused) for name in tensors}
    assert {place for place in places.values() if place} == state.keys()
    for name, place in places.items():
        if place is not None:
            torch.testing.assert_close(state[place], tensors[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_a_published_file_lands(name, golden, tmp_path):
    published = checkpoint(golden, name)
    model, tensors = model_for(published), published | EXTRAS
    path = save({f"module.{n}": t for n, t in tensors.items()}, tmp_path / "w.pth", iteration=3)
    report = load_weights(model, path)
    buffers = {e["name"] for e in entries(golden, name) if e["kind"] == "buffer"}
    assert report.layout == "published"
    assert set(report.ignored) == buffers | EXTRAS.keys()
    assert set(report.loaded) == tensors.keys() - buffers - EXTRAS.keys()
    assert not report.missing
    assert not report.unexpected
    assert not report.wrong_shape
    assert not report.converted
    assert_holds(model, published)


@pytest.mark.parametrize("name", MODELS)
def test_full_size_manifests_match_full_size_models(name, golden):
    """On the meta device: names and shapes alone."""
    tensors = {
        e["name"]: torch.empty(e["shape"], dtype=getattr(torch, e["dtype"]), device="meta")
        for e in entries(golden, name)
    }
    report = match_weights(model_for(tensors).state_dict(), tensors, source="manifest")
    assert report.fits
    assert len(report.loaded) == sum(e["kind"] == "parameter" for e in entries(golden, name))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("layout", ["ours", "published"])
def test_what_was_saved_is_loaded_again(layout, suffix, golden, tmp_path):
    tensors = checkpoint(golden, T)
    model, again = model_for(tensors), model_for(tensors)
    load_weights(model, save(tensors, tmp_path / "w.pth"))
    save_weights(model, tmp_path / f"again.{suffix}", layout=layout)
    report = load_weights(again, tmp_path / f"again.{suffix}")
    assert report.layout == layout
    assert_holds(again, tensors)


@pytest.mark.parametrize("name", MODELS)
def test_the_published_layout_is_exactly_that(name, golden, tmp_path):
    tensors = checkpoint(golden, name)
    model = model_for(tensors)
    load_weights(model, save(tensors, tmp_path / "w.pth"))
    save_weights(model, tmp_path / "again.pth", layout="published")
    content = torch.load(tmp_path / "again.pth", weights_only=True)
    assert content.keys() == {"model"}
    assert content["model"].keys() == {e["name"] for e in entries(golden, name)}
    for entry in entries(golden, name):
        tensor = content["model"][entry["name"]]
        assert str(tensor.dtype) == f"torch.{entry['dtype']}"
        torch.testing.assert_close(tensor, tensors[entry["name"]], rtol=0, atol=0)


def test_our_files_say_what_they_are(golden, tmp_path):
    model = model_for(checkpoint(golden, T))
    save_weights(model, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "glipkit_layout": "ours",
            "glipkit_version": __version__,
        }
    with pytest.raises(ValueError, match="layout must be 'ours' or 'published', got 'mmdet'"):
        save_weights(model, tmp_path / "w.safetensors", layout="mmdet")


def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(golden, tmp_path):
    tensors = checkpoint(golden, T)
    model = model_for(tensors)
    del tensors["rpn.head.log_scale"]
    tensors["rpn.head.bbox_pred.weight"] = torch.ones(5, 5)
    tensors["rpn.head.novelty"] = torch.ones(1)
    before = values(model)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, save(tensors, tmp_path / "w.pth"))
    message = str(error.value)
    assert "missing         1  rpn.head.log_scale\n" in message
    assert "unexpected      1  rpn.head.novelty\n" in message
    assert "rpn.head.bbox_pred.weight: (5, 5) in the file, (4, 4, 1, 1) in the model" in message
    assert "strict=False" in message
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_loads_what_fits_when_asked_to(golden, tmp_path, caplog):
    tensors = checkpoint(golden, T)
    model = model_for(tensors)
    scale = tensors.pop("rpn.head.log_scale")
    tensors["rpn.head.bbox_pred.weight"] = torch.ones(5, 5)
    tensors["rpn.head.novelty"] = torch.ones(1)
    report = load_weights(model, save(tensors, tmp_path / "w.pth"), strict=False)
    assert report.missing == ("rpn.head.log_scale",)
    assert report.unexpected == ("rpn.head.novelty",)
    assert report.wrong_shape == {"rpn.head.bbox_pred.weight": ((5, 5), (4, 4, 1, 1))}
    assert str(report) in caplog.text
    state = model.state_dict()
    torch.testing.assert_close(state["predictor.log_scale"], torch.zeros_like(scale))
    torch.testing.assert_close(state["predictor.box.bias"], tensors["rpn.head.bbox_pred.bias"])


def test_missing_names_are_those_of_the_file(golden, tmp_path):
    tensors = checkpoint(golden, T)
    model = model_for(tensors)
    save_weights(model, tmp_path / "w.safetensors")
    ours = read_tensors(tmp_path / "w.safetensors")
    del ours["predictor.log_scale"]
    report = match_weights(model.state_dict(), ours, source="")
    assert report.missing == ("predictor.log_scale",)


def test_says_that_the_file_is_of_another_model(golden, tmp_path):
    model = model_for(checkpoint(golden, T))
    large = save(checkpoint(golden, "glip_Swin_L"), tmp_path / "l.pth")
    with pytest.raises(CheckpointError) as error:
        load_weights(model, large)
    assert "another model than --config-file" in str(error.value)
    assert "file:  Swin of 3 channels and 2-2-18-2 blocks, 8 tower blocks, 8 of" in str(error.value)
    assert "model: Swin of 2 channels and 2-2-6-2 blocks, 6 tower blocks, 6 of" in str(error.value)
    unfused = save(checkpoint(golden, "glip_A_Swin_T_O365"), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="6 tower blocks, 0 of them fused"):
        load_weights(model, unfused)


def test_says_that_the_file_is_of_another_detector(golden, tmp_path):
    model = model_for(checkpoint(golden, T))
    foreign = {f"transformer.encoder.{i}.weight": torch.zeros(2) for i in range(9)}
    with pytest.raises(CheckpointError, match=r"another model's checkpoint.*transformer\.encoder"):
        load_weights(model, save(foreign, tmp_path / "detr.pth"))
    with pytest.raises(CheckpointError, match=r"none of the 9 names"):
        load_weights(model, save(foreign, tmp_path / "detr.pth"), strict=False)
    foreign["rpn.head.centerness.bias"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="another detector's file"):
        load_weights(model, save(foreign, tmp_path / "atss.pth"))


def test_half_precision_is_converted_and_said(golden, tmp_path):
    tensors = checkpoint(golden, T)
    model = model_for(tensors)
    half = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    report = load_weights(model, save(half, tmp_path / "w.pth"))
    assert report.converted == {"float16 -> float32": len(report.loaded)}
    assert "float16 -> float32" in str(report)
    assert_holds(model, {n: t.float() if t.is_floating_point() else t for n, t in half.items()})


def test_quantised_weights_are_refused(golden, tmp_path):
    tensors = checkpoint(golden, T)
    model = model_for(tensors)
    tensors["rpn.head.log_scale"] = tensors["rpn.head.log_scale"].to(torch.int8)
    with pytest.raises(CheckpointError, match=r"log_scale .* int8 -> float32"):
        load_weights(model, save(tensors, tmp_path / "w.pth"))


def test_numbers_that_are_none_are_refused(golden, tmp_path, caplog):
    tensors = checkpoint(golden, T)
    name = "backbone.fpn.fpn_inner2.weight"
    tensors[name].view(-1)[3] = float("nan")
    model = model_for(tensors)
    before = values(model)
    path = save(tensors, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"w\.pth holds NaN or infinite numbers in {name}"):
        load_weights(model, path)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    load_weights(model, path, strict=False)
    assert f"holds NaN or infinite numbers in {name}" in caplog.text


def test_a_fine_tuned_class_count_does_not_matter(golden, tmp_path):
    """The classifier is never run, and its size follows NUM_CLASSES (BEHAVIOUR 7)."""
    tensors = checkpoint(golden, T)
    model = model_for(tensors)
    tensors["rpn.head.cls_logits.weight"] = torch.zeros(1, 4, 1, 1)
    report = load_weights(model, save(tensors, tmp_path / "w.pth"))
    assert "rpn.head.cls_logits.weight" in report.ignored


def test_a_model_without_memory_is_refused(golden, tmp_path):
    tensors = checkpoint(golden, T)
    with pytest.raises(ValueError, match="meta device"):
        load_weights(model_for(tensors).to("meta"), save(tensors, tmp_path / "w.pth"))


def test_warns_of_other_anchors(golden, tmp_path, caplog):
    tensors = checkpoint(golden, T)
    model = model_for(tensors)
    with caplog.at_level(logging.WARNING):
        load_weights(model, save(tensors, tmp_path / "w.pth"))
        assert not caplog.text
        tensors["rpn.anchor_generator.cell_anchors.3"] *= 2
        load_weights(model, save(tensors, tmp_path / "w.pth"))
    assert "cell_anchors.3" in caplog.text
    assert "ANCHOR_SIZES" in caplog.text


@pytest.mark.parametrize("name", [T, "glip_A_Swin_T_O365"])
def test_the_hash_belongs_to_the_weights_not_to_the_file(name, golden, tmp_path):
    tensors = checkpoint(golden, name)
    model = model_for(tensors)
    path = save(dict(reversed(tensors.items())) | EXTRAS, tmp_path / "w.pth")
    load_weights(model, path)
    hashes = {weights_hash(model), weights_hash(tensors), weights_hash(read_tensors(path))}
    hashes.add(weights_hash(nn.ModuleDict({"module": model})))  # as wrapped by DDP
    for layout in ("ours", "published"):
        for suffix in ("safetensors", "pth"):
            save_weights(model, tmp_path / f"again.{suffix}", layout=layout)
            hashes.add(weights_hash(read_tensors(tmp_path / f"again.{suffix}")))
    assert len(hashes) == 1
    assert len(hashes.pop()) == 64


def test_the_hash_sees_every_change(golden):
    tensors = checkpoint(golden, T)
    before = weights_hash(tensors)
    scale = tensors["rpn.head.log_scale"]
    for changed in (scale + 1e-6, scale.double(), scale.reshape(1, *scale.shape)):
        assert weights_hash(tensors | {"rpn.head.log_scale": changed}) != before
    assert weights_hash(tensors | {"rpn.head.cls_logits.bias": torch.zeros(3)}) == before


@pytest.mark.parametrize("layout", ["ours", "published"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_real_model_goes_through_a_file(fused, layout, tmp_path):
    model, again = tiny_glip(fused, seed=1), tiny_glip(fused, seed=2)
    assert weights_hash(model) != weights_hash(again)
    save_weights(model, tmp_path / "w.pth", layout=layout)
    report = load_weights(again, tmp_path / "w.pth")
    assert report.fits
    assert len(report.loaded) == len(model.state_dict())
    assert weights_hash(model) == weights_hash(again)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_real_model_is_saved_with_its_own_windows_and_anchors(tmp_path):
    model = tiny_glip()
    model.anchors.sizes = (32, 64, 128, 256, 512)
    save_weights(model, tmp_path / "w.pth", layout="published")
    tensors = read_tensors(tmp_path / "w.pth")
    index = tensors["backbone.body.layers.0.blocks.0.attn.relative_position_index"]
    torch.testing.assert_close(index, window_index(4))
    torch.testing.assert_close(
        tensors["rpn.anchor_generator.cell_anchors.0"], torch.tensor([[-12.0, -12.0, 19.0, 19.0]])
    )


def test_fused_weights_do_not_go_into_an_unfused_model(tmp_path):
    save_weights(tiny_glip(fused=True), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"2 of them fused\n.*0 of them fused"):
        load_weights(tiny_glip(fused=False), tmp_path / "w.safetensors")


OFFSET = "prompt_offset.weight"


def test_base_weights_fit_a_model_with_a_learned_prompt(tmp_path):
    base, model = tiny_glip(seed=1), tiny_glip(seed=2, prompt_offset=True)
    save_weights(base, tmp_path / "base.safetensors")
    torch.nn.init.ones_(model.prompt_offset.weight)
    report = load_weights(model, tmp_path / "base.safetensors")
    assert report.fits
    assert OFFSET not in report.missing
    assert not model.prompt_offset.weight.any()  # what the file does not have is nothing
    assert weights_hash(model) == weights_hash(base)
    torch.nn.init.ones_(model.prompt_offset.weight)
    assert weights_hash(model) != weights_hash(base)


@pytest.mark.parametrize("layout", ["ours", "published"])
def test_a_learned_prompt_goes_through_a_file(layout, tmp_path, caplog):
    model = tiny_glip(prompt_offset=True)
    torch.nn.init.normal_(model.prompt_offset.weight)
    path = tmp_path / "w.pth"
    save_weights(model, path, layout=layout)
    name = OFFSET if layout == "ours" else "rpn.tunable_linear.weight"
    assert name in read_tensors(path)

    again = tiny_glip(seed=1, prompt_offset=True)
    assert load_weights(again, path).fits
    torch.testing.assert_close(again.prompt_offset.weight, model.prompt_offset.weight)
    assert weights_hash(again) == weights_hash(model) == weights_hash(read_tensors(path))
    assert "learned prompt" not in caplog.text

    without = tiny_glip(seed=1)
    report = load_weights(without, path)
    assert report.fits
    assert name in report.ignored
    assert f"has a learned prompt ({name}) that this model has no place for" in caplog.text
    assert "ADD_LINEAR_LAYER True" in caplog.text


def test_a_learned_prompt_of_another_width_does_not_fit(tmp_path):
    model = tiny_glip(prompt_offset=True)
    tensors = {**model.state_dict(), OFFSET: torch.zeros(1000, 7)}
    with pytest.raises(
        CheckpointError, match=r"\(1000, 7\) in the file, \(1000, 32\) in the model"
    ):
        load_weights(model, save(tensors, tmp_path / "w.pth"))
