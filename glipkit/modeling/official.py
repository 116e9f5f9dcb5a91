"""What the published checkpoints call each parameter, and what we call it.

One table of name pairs, read in both directions. It covers every name of the four published models
(`tests/golden/data/manifests`); a name it does not cover is refused. The blocks of the tower are
numbered differently with and without fusion (BEHAVIOUR 5), so both directions ask which it is.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

# The one part that a file may have or lack beside any model: prompt tuning adds it (BEHAVIOUR 16).
PROMPT_OFFSET = "prompt_offset.weight"
PUBLISHED_PROMPT_OFFSET = "rpn.tunable_linear.weight"

_TOWER = "rpn.head.dyhead_tower.{n}"

# Ours, published. {n} and {m} are numbers, {p} is weight or bias, {rest} is anything.
_BACKBONE = (
    ("backbone.patch_embed.projection.{p}", "backbone.body.patch_embed.proj.{p}"),
    ("backbone.patch_embed.norm.{p}", "backbone.body.patch_embed.norm.{p}"),
    ("backbone.stages.{n}.blocks.{m}.norm1.{p}", "backbone.body.layers.{n}.blocks.{m}.norm1.{p}"),
    ("backbone.stages.{n}.blocks.{m}.norm2.{p}", "backbone.body.layers.{n}.blocks.{m}.norm2.{p}"),
    (
        "backbone.stages.{n}.blocks.{m}.attention.relative_position_bias_table",
        "backbone.body.layers.{n}.blocks.{m}.attn.relative_position_bias_table",
    ),
    (
        "backbone.stages.{n}.blocks.{m}.attention.qkv.{p}",
        "backbone.body.layers.{n}.blocks.{m}.attn.qkv.{p}",
    ),
    (
        "backbone.stages.{n}.blocks.{m}.attention.projection.{p}",
        "backbone.body.layers.{n}.blocks.{m}.attn.proj.{p}",
    ),
    (
        "backbone.stages.{n}.blocks.{m}.mlp.fc1.{p}",
        "backbone.body.layers.{n}.blocks.{m}.mlp.fc1.{p}",
    ),
    (
        "backbone.stages.{n}.blocks.{m}.mlp.fc2.{p}",
        "backbone.body.layers.{n}.blocks.{m}.mlp.fc2.{p}",
    ),
    ("backbone.stages.{n}.downsample.norm.{p}", "backbone.body.layers.{n}.downsample.norm.{p}"),
    (
        "backbone.stages.{n}.downsample.reduction.weight",
        "backbone.body.layers.{n}.downsample.reduction.weight",
    ),
    ("pyramid.p6.{p}", "backbone.fpn.top_blocks.p6.{p}"),
    ("pyramid.p7.{p}", "backbone.fpn.top_blocks.p7.{p}"),
    ("text_encoder.bert.{rest}", "language_backbone.body.model.{rest}"),
    (PROMPT_OFFSET, PUBLISHED_PROMPT_OFFSET),
)
_PREDICTOR = (
    ("predictor.class_logits.{p}", "rpn.head.cls_logits.{p}"),
    ("predictor.box.{p}", "rpn.head.bbox_pred.{p}"),
    ("predictor.centerness.{p}", "rpn.head.centerness.{p}"),
    ("predictor.text_projection.{p}", "rpn.head.dot_product_projection_text.{p}"),
    ("predictor.level_scales.{n}.scale", "rpn.head.scales.{n}.scale"),
    ("predictor.log_scale", "rpn.head.log_scale"),
    ("predictor.text_bias", "rpn.head.bias_lang"),
    ("predictor.bias", "rpn.head.bias0"),
)
# Below "tower.blocks.{n}." and below `_TOWER`.
_FUSION = (
    ("fusion.image_scale", "b_attn.gamma_v"),
    ("fusion.text_scale", "b_attn.gamma_l"),
    ("fusion.image_norm.{p}", "b_attn.layer_norm_v.{p}"),
    ("fusion.text_norm.{p}", "b_attn.layer_norm_l.{p}"),
    ("fusion.attention.image_query.{p}", "b_attn.attn.v_proj.{p}"),
    ("fusion.attention.text_key.{p}", "b_attn.attn.l_proj.{p}"),
    ("fusion.attention.image_value.{p}", "b_attn.attn.values_v_proj.{p}"),
    ("fusion.attention.text_value.{p}", "b_attn.attn.values_l_proj.{p}"),
    ("fusion.attention.image_output.{p}", "b_attn.attn.out_v_proj.{p}"),
    ("fusion.attention.text_output.{p}", "b_attn.attn.out_l_proj.{p}"),
)
_TEXT_LAYER = (
    ("text_layer.query.{p}", "attention.self.query.{p}"),
    ("text_layer.key.{p}", "attention.self.key.{p}"),
    ("text_layer.value.{p}", "attention.self.value.{p}"),
    ("text_layer.attention_output.{p}", "attention.output.dense.{p}"),
    ("text_layer.attention_norm.{p}", "attention.output.LayerNorm.{p}"),
    ("text_layer.intermediate.{p}", "intermediate.dense.{p}"),
    ("text_layer.output.{p}", "output.dense.{p}"),
    ("text_layer.output_norm.{p}", "output.LayerNorm.{p}"),
)
_DYCONV = (
    ("dyconv.coarser.conv.{p}", "DyConv.0.conv.{p}"),
    ("dyconv.coarser.norm.{p}", "DyConv.0.bn.{p}"),
    ("dyconv.same.conv.{p}", "DyConv.1.conv.{p}"),
    ("dyconv.same.norm.{p}", "DyConv.1.bn.{p}"),
    ("dyconv.finer.conv.{p}", "DyConv.2.conv.{p}"),
    ("dyconv.finer.norm.{p}", "DyConv.2.bn.{p}"),
    ("dyconv.offset.{p}", "offset.{p}"),
    ("dyconv.level_attention.{p}", "AttnConv.1.{p}"),
    ("dyconv.relu.reduce.{p}", "relu.fc.0.{p}"),
    ("dyconv.relu.expand.{p}", "relu.fc.2.{p}"),
)

# Buffers that follow from the architecture; files of 2022 carry some or all of them.
_DERIVED = re.compile(
    r"backbone\.body\.layers\.\d+\.blocks\.\d+\.attn\.relative_position_index"
    r"|language_backbone\.body\.model\.embeddings\.(position_ids|token_type_ids)"
    r"|rpn\.anchor_generator\.cell_anchors\.\d+"
)
# Parameters of a head that only some pre-training files carry.
_EXTRA = re.compile(r"rpn\.head\.mlm_head\..+")

_FIELDS = {"{n}": r"(?P<n>\d+)", "{m}": r"(?P<m>\d+)", "{p}": "(?P<p>weight|bias)",
           "{rest}": "(?P<rest>.+)"}  # fmt: skip


def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"(\{\w+\})", template)
    return re.compile("".join(_FIELDS.get(piece) or re.escape(piece) for piece in pieces))


@dataclass(frozen=True)
class _Pair:
    """Two templates of one name; the published number {n} is step * ours + start."""

    ours: str
    published: str
    step: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "_our_pattern", _pattern(self.ours))
        object.__setattr__(self, "_published_pattern", _pattern(self.published))

    def to_published(self, name: str) -> str | None:
        match = self._our_pattern.fullmatch(name)
        if match is None:
            return None
        fields = match.groupdict()
        if "n" in fields:
            fields["n"] = self.step * int(fields["n"]) + self.start
        return self.published.format(**fields)

    def to_ours(self, name: str) -> str | None:
        match = self._published_pattern.fullmatch(name)
        if match is None:
            return None
        fields = match.groupdict()
        if "n" in fields:
            number, remainder = divmod(int(fields["n"]) - self.start, self.step)
            if number < 0 or remainder:
                return None
            fields["n"] = number
        return self.ours.format(**fields)


@cache
def _pairs(fused: bool) -> tuple[_Pair, ...]:
    pairs = [_Pair(*names) for names in _BACKBONE + _PREDICTOR]
    pairs += [
        _Pair("backbone.output_norms.{n}.{p}", "backbone.body.norm{n}.{p}", start=1),
        _Pair("pyramid.laterals.{n}.{p}", "backbone.fpn.fpn_inner{n}.{p}", start=2),
        _Pair("pyramid.outputs.{n}.{p}", "backbone.fpn.fpn_layer{n}.{p}", start=2),
    ]
    # One flat list in the published model: fusion, text layer, DyConv, fusion, ...
    parts = (_FUSION, _TEXT_LAYER, _DYCONV) if fused else (_DYCONV,)
    for start, part in enumerate(parts):
        pairs += [
            _Pair(f"tower.blocks.{{n}}.{ours}", f"{_TOWER}.{theirs}", step=len(parts), start=start)
            for ours, theirs in part
        ]
    return tuple(pairs)


def published_name(name: str, *, fused: bool) -> str:
    """The published name of one of our parameters.

    Args:
        name: in the state dict of `GLIP`.
        fused: whether the model has early fusion; see `has_fusion`.

    Raises:
        KeyError: the name is not one of ours.
    """
    for pair in _pairs(fused):
        published = pair.to_published(name)
        if published is not None:
            return published
    raise KeyError(f"{name!r} is no parameter of a GLIP {_kind(fused)}")


def our_name(name: str, *, fused: bool) -> str | None:
    """Our name of a published tensor, or None if it has no place in the model.

    Args:
        name: in a published checkpoint, without "module.".
        fused: whether the checkpoint's model has early fusion; see `has_fusion`.

    Returns:
        None for derived buffers and known extras (`is_derived`, `is_known_extra`).

    Raises:
        KeyError: the name is not known.
    """
    if is_derived(name) or is_known_extra(name):
        return None
    for pair in _pairs(fused):
        ours = pair.to_ours(name)
        if ours is not None:
            return ours
    raise KeyError(f"{name!r} is in no published GLIP {_kind(fused)}")


def _kind(fused: bool) -> str:
    return "with fusion" if fused else "without fusion"


def has_fusion(names: Iterable[str]) -> bool:
    """Whether the parameter names, ours or published, belong to a model with early fusion."""
    return any(".b_attn." in name or ".fusion." in name for name in names)


def is_prompt_offset(name: str) -> bool:
    """Whether a name, ours or published, is the learned prompt's, which any file may lack."""
    return name in (PROMPT_OFFSET, PUBLISHED_PROMPT_OFFSET)


def is_derived(name: str) -> bool:
    """Whether a published tensor follows from the architecture, so that we compute it instead."""
    return _DERIVED.fullmatch(name) is not None


def is_known_extra(name: str) -> bool:
    """Whether a published tensor belongs to what no model of ours has: the MLM head."""
    return _EXTRA.fullmatch(name) is not None
