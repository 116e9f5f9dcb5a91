"""Which names a set of weights carries, published or ours, and how it gets the other ones."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from glipkit.engine.tensor_files import CheckpointError
from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.backbone.swin import relative_positions
from glipkit.modeling.official import has_fusion, our_name, published_name

Layout = Literal["ours", "published"]

# A classifier that every published model carries and none runs (BEHAVIOUR 7). Its size follows
# NUM_CLASSES of whatever the model was last trained on, so it says nothing about a file's fitness.
NEVER_RUN = "rpn.head.cls_logits."

_TABLE = ".relative_position_bias_table"
_INDEX = ".relative_position_index"
_CELL = "rpn.anchor_generator.cell_anchors."
_LEVEL_SCALE = re.compile(r"rpn\.head\.scales\.\d+\.scale")


def detect_layout(names: Iterable[str], *, source: str = "these weights") -> Layout:
    """Whether names are those of the published files or ours.

    Args:
        names: of the tensors.
        source: what to call the file they are from.

    Raises:
        CheckpointError: they are neither.
    """
    names = list(names)
    fused = has_fusion(names)
    published = sum(_is_published(name, fused) for name in names)
    ours = sum(_is_ours(name, fused) for name in names)
    if not published and not ours:
        raise CheckpointError(
            f"{source}: none of the {len(names)} names is GLIP's, so this is another model's "
            f"checkpoint; it begins with {', '.join(names[:4])}. glipkit reads the published GLIP "
            "files (backbone.body.…, language_backbone.body.…, rpn.head.…) and its own"
        )
    return "published" if published >= ours else "ours"


def our_names(names: Iterable[str], layout: Layout) -> dict[str, str | None]:
    """Our name of each name of a set of weights.

    Args:
        names: all names of the set; the tower is numbered by what is in it.
        layout: what they are.

    Returns:
        Name -> our name; None for what has no place with us (derived buffers, known extras).
        Names of nobody stay as they are.
    """
    names = list(names)
    if layout == "ours":
        return {name: name for name in names}
    fused = has_fusion(names)
    return {
        name: our_name(name, fused=fused) if _is_published(name, fused) else name for name in names
    }


def published_names(names: Iterable[str]) -> dict[str, str]:
    """The published name of each of our names; names of nobody stay as they are."""
    names = list(names)
    fused = has_fusion(names)
    return {
        name: published_name(name, fused=fused) if _is_ours(name, fused) else name for name in names
    }


def _is_published(name: str, fused: bool) -> bool:
    try:
        our_name(name, fused=fused)
    except KeyError:
        return False
    return True


def _is_ours(name: str, fused: bool) -> bool:
    try:
        published_name(name, fused=fused)
    except KeyError:
        return False
    return True


def to_ours(
    tensors: Mapping[str, Tensor], *, source: str = "these weights"
) -> tuple[dict[str, Tensor], list[str]]:
    """Published weights under our names.

    Args:
        tensors: by published names.
        source: what to call the file they are from.

    Returns:
        The renamed weights, and the published names that have no place with us: derived buffers
        and known extras.

    Raises:
        CheckpointError: a name is unknown.
    """
    fused = has_fusion(tensors)
    unknown = [name for name in tensors if not _is_published(name, fused)]
    if unknown:
        raise CheckpointError(
            f"{source} has names that no published GLIP has: {summarise(unknown)}. Take them out, "
            "and torch.save the rest"
        )
    places = our_names(tensors, "published")
    renamed = {place: tensors[name] for name, place in places.items() if place is not None}
    return renamed, [name for name, place in places.items() if place is None]


def to_published(
    tensors: Mapping[str, Tensor], anchors: AnchorGenerator | None = None
) -> dict[str, Tensor]:
    """Our weights under the published names, with the buffers that published files carry.

    Args:
        tensors: by our names.
        anchors: whose cells the file should carry; None for those of the published models.

    Raises:
        CheckpointError: a name is unknown.
    """
    fused = has_fusion(tensors)
    unknown = [name for name in tensors if not _is_ours(name, fused)]
    if unknown:
        raise CheckpointError(f"names that have no published form: {summarise(unknown)}")
    renamed = {theirs: tensors[ours] for ours, theirs in published_names(tensors).items()}
    return renamed | derived_buffers(renamed, anchors or AnchorGenerator())


def derived_buffers(published: Mapping[str, Tensor], anchors: AnchorGenerator) -> dict[str, Tensor]:
    """What published files save although it follows from the architecture.

    The look-up table of each window attention (BEHAVIOUR 2) and one anchor cell per pyramid level
    (BEHAVIOUR 8).

    Raises:
        CheckpointError: the weights are for another number of pyramid levels than `anchors`.
    """
    buffers = {
        name.removesuffix(_TABLE) + _INDEX: _window_index(table.shape[0])
        for name, table in published.items()
        if name.endswith(_TABLE)
    }
    num_levels = sum(bool(_LEVEL_SCALE.fullmatch(name)) for name in published)
    if num_levels not in (0, len(anchors.strides)):
        raise CheckpointError(
            f"these weights are of {num_levels} pyramid levels; the anchor cells that the "
            f"published layout wants are known for {len(anchors.strides)} (strides "
            f"{anchors.strides})"
        )
    cells = anchors([(1, 1)] * len(anchors.strides)) if num_levels else ()
    return buffers | {f"{_CELL}{level}": cell.clone() for level, cell in enumerate(cells)}


def _window_index(num_rows: int) -> Tensor:
    """Row of the bias table for each (query, key) of a window, (w*w, w*w) int64."""
    window = (round(num_rows**0.5) + 1) // 2  # (2w - 1)**2 rows: dy and dx, each from 1-w to w-1
    return relative_positions(window, torch.device("cpu")).view(window**2, window**2).clone()


def differing_buffers(published: Mapping[str, Tensor], anchors: AnchorGenerator) -> list[str]:
    """Names of the derived buffers in a published file that say something else than ours."""
    stated = {name for name in published if name.endswith(_INDEX) or name.startswith(_CELL)}
    derived = derived_buffers(published, anchors) if stated else {}
    return sorted(
        name
        for name in stated
        if name not in derived
        or published[name].shape != derived[name].shape
        or not torch.allclose(published[name].double(), derived[name].double(), atol=1e-2)
    )


def describe(published_shapes: Mapping[str, torch.Size]) -> str:
    """The architecture that published names and shapes speak of, in a few words."""
    patch = published_shapes.get("backbone.body.patch_embed.proj.weight")
    blocks = _numbers(published_shapes, r"backbone\.body\.layers\.(\d+)\.blocks\.(\d+)\.")
    depths = Counter(stage for stage, _ in blocks)
    tower = len(_numbers(published_shapes, r"rpn\.head\.dyhead_tower\.(\d+)\.offset\."))
    fused = len(_numbers(published_shapes, r"rpn\.head\.dyhead_tower\.(\d+)\.b_attn\."))
    depth = "-".join(str(depths[stage]) for stage in sorted(depths)) or "none"
    return (
        f"Swin of {patch[0] if patch else 'no'} channels and {depth} blocks, "
        f"{tower} tower blocks, {fused} of them fused"
    )


def _numbers(names: Iterable[str], pattern: str) -> set[tuple[int, ...]]:
    found = (re.match(pattern, name) for name in names)
    return {tuple(int(number) for number in match.groups()) for match in found if match}


def summarise(names: Iterable[str], limit: int = 10) -> str:
    """Names in one line: those that differ in their numbers alone are counted together."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\b\d+\b", "*", name), []).append(name)
    words = [g[0] if len(g) == 1 else f"{kind} ({len(g)})" for kind, g in groups.items()]
    more = f" and {len(words) - limit} more kinds" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more
