"""Names: what the manifests do not say (they are in tests/golden/test_manifests.py)."""

import pytest

from glipkit.modeling.official import (
    has_fusion,
    is_derived,
    is_known_extra,
    is_prompt_offset,
    our_name,
    published_name,
)


def test_blocks_are_numbered_by_the_kind_of_model() -> None:
    ours = "tower.blocks.2.dyconv.offset.weight"
    assert published_name(ours, fused=True) == "rpn.head.dyhead_tower.8.offset.weight"
    assert published_name(ours, fused=False) == "rpn.head.dyhead_tower.2.offset.weight"
    assert our_name("rpn.head.dyhead_tower.8.offset.weight", fused=True) == ours
    assert (
        our_name("rpn.head.dyhead_tower.8.offset.weight", fused=False)
        == "tower.blocks.8.dyconv.offset.weight"
    )


@pytest.mark.parametrize(
    "name",
    [
        "backbone.body.layers.3.blocks.1.attn.relative_position_index",
        "language_backbone.body.model.embeddings.position_ids",
        "language_backbone.body.model.embeddings.token_type_ids",
        "rpn.anchor_generator.cell_anchors.4",
    ],
)
def test_derived_buffers_have_no_place(name: str) -> None:
    assert is_derived(name)
    assert not is_known_extra(name)
    assert our_name(name, fused=True) is None


def test_known_extras_have_no_place() -> None:
    name = "rpn.head.mlm_head.predictions.decoder.weight"
    assert is_known_extra(name)
    assert not is_derived(name)
    assert our_name(name, fused=False) is None


@pytest.mark.parametrize("fused", [True, False])
def test_the_learned_prompt_has_a_name_in_every_model(fused: bool) -> None:
    ours, published = "prompt_offset.weight", "rpn.tunable_linear.weight"
    assert published_name(ours, fused=fused) == published
    assert our_name(published, fused=fused) == ours
    assert is_prompt_offset(ours)
    assert is_prompt_offset(published)
    assert not is_known_extra(published)


@pytest.mark.parametrize(
    "name",
    [
        "module.rpn.head.log_scale",
        "rpn.head.dyhead_tower.7.offset.weight",  # a text layer stands there
        "backbone.body.norm0.weight",
        "rpn.head.log_scale2",
        "fc.weight",
    ],
)
def test_unknown_published_names_are_refused(name: str) -> None:
    with pytest.raises(KeyError, match=r"in no published GLIP with fusion"):
        our_name(name, fused=True)


def test_unknown_names_of_ours_are_refused() -> None:
    with pytest.raises(KeyError, match=r"'tower\.blocks\.0\.fusion\.text_scale' is no parameter"):
        published_name("tower.blocks.0.fusion.text_scale", fused=False)


def test_fusion_shows_in_either_layout() -> None:
    assert has_fusion(["tower.blocks.0.fusion.text_scale"])
    assert has_fusion(["rpn.head.dyhead_tower.0.b_attn.gamma_l"])
    assert not has_fusion(["tower.blocks.0.dyconv.offset.weight"])
