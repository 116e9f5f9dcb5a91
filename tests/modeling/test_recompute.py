"""Activations computed again in the backward pass: the same answers for less memory."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny import tiny_glip
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close

from glipkit.layers.recompute import gradients_where_needed, needs_gradient, run
from glipkit.modeling.backbone.swin import SwinBlock
from glipkit.modeling.glip import GLIP
from glipkit.modeling.head.tower import TowerBlock
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch

IDS = torch.tensor([[101, 5000, 102, 0, 0], [101, 6000, 7000, 8000, 102]])
PROMPTS = PromptBatch(IDS, IDS > 0, (torch.zeros(1, 5, dtype=torch.int64),) * 2)


def images(dtype: torch.dtype = torch.float32, size: tuple[int, int] = (96, 64)) -> ImageBatch:
    return ImageBatch(torch.randn(2, 3, *size, dtype=dtype), (size,) * 2)


def loss(model: GLIP, batch: ImageBatch) -> Tensor:
    """Any scalar that every prediction enters."""
    levels = model(batch, PROMPTS).levels
    return sum(part.square().mean() for level in levels for part in level)


def gradients(model: GLIP, batch: ImageBatch, seed: int = 5) -> dict[str, Tensor]:
    """Of everything, and the loss among them; whatever is dropped is dropped by `seed`."""
    torch.manual_seed(seed)
    model.zero_grad()
    value = loss(model, batch)
    value.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": value.detach()} | found


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[Counter]:
    """Count what autograd keeps for the backward pass, each memory once, weights left out."""
    storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
    counter = Counter()
    kept = []  # alive, so that no address is used twice

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            storages.add(storage.data_ptr())
            kept.append(tensor)
            counter["bytes"] += storage.nbytes()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        yield counter


def count_runs(model: GLIP) -> Counter:
    """How often each block runs from now on."""
    counter = Counter()
    for name, module in model.named_modules():
        if isinstance(module, SwinBlock | TowerBlock):
            module.register_forward_pre_hook(lambda *_, name=name: counter.update([name]))
    return counter


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("training", [True, False], ids=["dropping", "whole"])
def test_gradients_are_the_same_bit_for_bit(fused, training, dtype) -> None:
    batch = images(dtype)
    plain, thrifty = (
        tiny_glip(fused, recompute=recompute, prompt_offset=True).to(dtype).train(training)
        for recompute in (False, True)
    )
    expected, found = gradients(plain, batch), gradients(thrifty, batch)
    assert set(found) == {n for n, p in plain.named_parameters() if p.requires_grad} | {"loss"}
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=0, atol=0, msg=name)
    other = gradients(plain, batch, seed=6)
    assert torch.equal(other["loss"], expected["loss"]) is not training  # something was dropped


def test_gradients_under_autocast_are_the_same() -> None:
    # Wide enough: oneDNN's bfloat16 gradient of a convolution of stride 2 over a map one position
    # wide (P7 of a picture of 64 pixels) reads memory that nobody wrote.
    batch = images(size=(160, 128))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = gradients(tiny_glip().train(), batch)
        found = gradients(tiny_glip(recompute=True).train(), batch)
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=0, atol=0, msg=name)


def test_less_is_kept() -> None:
    batch, kept = images(), {}
    for recompute in (False, True):
        model = tiny_glip(recompute=recompute).train()
        with saved_bytes(model) as kept[recompute]:
            loss(model, batch)
    assert kept[True]["bytes"] < 0.3 * kept[False]["bytes"]


@pytest.mark.parametrize("part", ["backbone", "text_encoder", "tower"])
def test_every_part_keeps_less(part: str) -> None:
    kept = {}
    for recompute in (False, True):
        model = tiny_glip(recompute=recompute).train()
        levels = tuple(torch.randn(1, 32, side, side) for side in (16, 8, 4, 2, 1))
        text = model.encode_text(IDS[:1], IDS[:1] > 0)
        inputs = {
            "backbone": (torch.randn(1, 3, 64, 64),),
            "text_encoder": (IDS, IDS > 0),
            "tower": (levels, text),
        }
        with saved_bytes(model) as kept[recompute]:
            getattr(model, part)(*inputs[part])
    assert 0 < kept[True]["bytes"] < 0.5 * kept[False]["bytes"]


def test_names_of_parameters_stay() -> None:
    assert list(tiny_glip(recompute=True).state_dict()) == list(tiny_glip().state_dict())


def test_nothing_changes_without_gradients() -> None:
    batch, model = images(), tiny_glip(recompute=True)
    runs = count_runs(model)
    with torch.inference_mode():
        expected, found = loss(tiny_glip(), batch), loss(model, batch)
    assert torch.equal(found, expected)
    assert set(runs.values()) == {1}


def test_it_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients(tiny_glip(recompute=True).train(), images())


def test_blocks_before_the_first_trained_part_run_once_and_keep_nothing() -> None:
    model = tiny_glip(recompute=True).train()
    model.backbone.patch_embed.requires_grad_(False)
    model.backbone.stages[:2].requires_grad_(False)
    runs = count_runs(model)
    gradients(model, images())
    assert {name for name, count in runs.items() if count == 1} == {
        "backbone.stages.0.blocks.0",
        "backbone.stages.1.blocks.0",
        "backbone.stages.1.blocks.1",
    }
    assert {count for name, count in runs.items() if not name.startswith("backbone")} == {2}
    with saved_bytes(model) as kept:
        frozen = model.backbone.patch_embed(images().pixels)
        frozen = model.backbone.stages[1](model.backbone.stages[0].downsample(frozen))
    assert not kept
    assert not frozen.requires_grad


def test_frozen_blocks_after_a_trained_part_pass_gradients_on() -> None:
    """Prompt tuning: all is frozen, and the tower stands between the prompt and the loss."""
    batch, found = images(), []
    for recompute in (False, True):
        model = tiny_glip(recompute=recompute, prompt_offset=True)
        model.requires_grad_(False)
        model.prompt_offset.requires_grad_(True)
        runs = count_runs(model)
        found.append(gradients(model, batch))
    assert set(found[0]) == {"loss", "prompt_offset.weight"}
    assert found[0]["prompt_offset.weight"][:5].abs().max() > 0
    assert_close(found[1], found[0], rtol=0, atol=0)
    assert {n: c for n, c in runs.items() if c == 2} == {
        "tower.blocks.0": 2,
        "tower.blocks.1": 2,
    }


def test_a_frozen_text_encoder_records_nothing() -> None:
    model = tiny_glip(recompute=True).train()
    model.text_encoder.requires_grad_(False)
    assert not model.encode_text(IDS, IDS > 0).hidden.requires_grad
    model.text_encoder.requires_grad_(True)
    assert model.encode_text(IDS, IDS > 0).hidden.requires_grad


def test_averaged_text_layers_survive() -> None:
    """Hidden states of every layer are collected by transformers, not by us."""
    found = []
    for recompute in (False, True):
        encoder = tiny_glip(recompute=recompute).text_encoder
        encoder.averaged_layers = 2
        encoder(IDS, IDS > 0).embedded.square().sum().backward()
        found.append([p.grad for p in encoder.parameters()])
    assert_close(found[1], found[0], rtol=0, atol=0)


def test_what_needs_a_gradient() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(2)
    assert needs_gradient(layer, x)
    layer.requires_grad_(False)
    assert not needs_gradient(layer, x, None)
    assert needs_gradient(layer, None, x.requires_grad_())
    with torch.no_grad(), gradients_where_needed(layer, x) as recorded:
        assert not recorded
        assert not torch.is_grad_enabled()
    assert run(layer, x, recompute=True).requires_grad
    assert not run(layer, x.detach(), recompute=True).requires_grad
