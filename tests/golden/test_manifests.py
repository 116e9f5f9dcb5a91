"""The four published models, name by name, against their manifests."""

import json
from pathlib import Path

import pytest

from glipkit.modeling.official import has_fusion, is_derived, our_name, published_name

MODELS = ("glip_Swin_T_O365_GoldG", "glip_Swin_T_O365", "glip_A_Swin_T_O365", "glip_Swin_L")


def manifest(golden: Path, name: str) -> dict:
    return json.loads((golden / "manifests" / f"{name}.json").read_text())


@pytest.mark.parametrize("model", MODELS)
def test_every_published_name_has_one_of_ours(golden: Path, model: str) -> None:
    entries = manifest(golden, model)["entries"]
    fused = has_fusion(entry["name"] for entry in entries)
    assert fused == (model != "glip_A_Swin_T_O365")
    ours = set()
    for entry in entries:
        name = our_name(entry["name"], fused=fused)
        assert (name is None) == (entry["kind"] == "buffer") == is_derived(entry["name"])
        if name is not None:
            assert published_name(name, fused=fused) == entry["name"]
            ours.add(name)
    assert len(ours) == sum(entry["kind"] == "parameter" for entry in entries)
