"""The four published models, name by name and shape by shape, against their manifests."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from glipkit.config.load import load_config
from glipkit.modeling.build import build_model
from glipkit.modeling.glip import GLIP
from glipkit.modeling.official import has_fusion, is_derived, our_name, published_name

PRETRAIN = Path(__file__).parents[2] / "configs" / "pretrain"
MODELS = ("glip_Swin_T_O365_GoldG", "glip_Swin_T_O365", "glip_A_Swin_T_O365", "glip_Swin_L")
# Below these the manifests count parameters; the pyramid's name begins with the backbone's.
GROUPS = ("backbone.body", "backbone.fpn", "language_backbone", "rpn.head")


@pytest.fixture(params=MODELS)
def manifest(request: pytest.FixtureRequest, golden: Path) -> dict:
    return json.loads((golden / "manifests" / f"{request.param}.json").read_text())


@pytest.fixture
def model(manifest: dict) -> GLIP:
    """Built on no device at all: names and shapes need no numbers."""
    with torch.device("meta"):
        return build_model(load_config([PRETRAIN / f"{manifest['config']}.yaml"]))


def test_every_published_name_has_one_of_ours(manifest: dict) -> None:
    entries = manifest["entries"]
    fused = has_fusion(entry["name"] for entry in entries)
    assert fused == (manifest["config"] != "glip_A_Swin_T_O365")
    ours = set()
    for entry in entries:
        name = our_name(entry["name"], fused=fused)
        assert (name is None) == (entry["kind"] == "buffer") == is_derived(entry["name"])
        if name is not None:
            assert published_name(name, fused=fused) == entry["name"]
            ours.add(name)
    assert len(ours) == sum(entry["kind"] == "parameter" for entry in entries)


def test_the_model_holds_what_is_published(manifest: dict, model: GLIP) -> None:
    fused = has_fusion(model.state_dict())
    held = {
        published_name(name, fused=fused): (list(tensor.shape), str(tensor.dtype))
        for name, tensor in model.state_dict().items()
    }
    published = {
        entry["name"]: (entry["shape"], f"torch.{entry['dtype']}")
        for entry in manifest["entries"]
        if not is_derived(entry["name"])
    }
    assert held == published


def test_parameters_add_up(manifest: dict, model: GLIP) -> None:
    fused = has_fusion(model.state_dict())
    counts = Counter()
    for name, parameter in model.named_parameters():
        published = published_name(name, fused=fused)
        counts[next(group for group in GROUPS if published.startswith(group))] += parameter.numel()
    assert counts == manifest["parameters_by_group"]
    assert counts.total() == manifest["num_parameters"]


def test_only_the_classifier_never_trains(manifest: dict, model: GLIP) -> None:
    """What a configuration freezes besides is decided where training begins, not here."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"predictor.class_logits.weight", "predictor.class_logits.bias"}
    published = {e["name"] for e in manifest["entries"] if e.get("requires_grad") is False}
    assert {published_name(name, fused=True) for name in frozen} <= published
    # The rest that the manifests call frozen is Swin-L's FREEZE_CONV_BODY_AT = 2.
    others = published - {published_name(name, fused=True) for name in frozen}
    assert all(
        n.startswith(("backbone.body.patch_embed.", "backbone.body.layers.0.")) for n in others
    )
    assert bool(others) == (manifest["config"] == "glip_Swin_L")
