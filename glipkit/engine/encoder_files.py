"""One encoder's weights in a model: matched by name and shape, checked, and copied or refused."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from glipkit.engine.naming import summarise
from glipkit.engine.tensor_files import CheckpointError

Shapes = Mapping[str, torch.Size]

# A classifier has no use for a norm on every map; a pyramid has.
_NEVER_IN_A_FILE = "backbone.output_norms."


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """What a file has to give to one part of a model; nothing is copied yet."""

    source: str
    values: dict[str, Tensor]  # our name -> the file's tensor, of the model's shape
    aside: tuple[str, ...]  # names of the file that the model has no use for
    misfits: tuple[str, ...]  # what did not fit, in words; only where that was allowed

    def copy_into(self, own: Mapping[str, Tensor]) -> None:
        """Give a model's state dict these values, in its own precision."""
        with torch.no_grad():
            for name, tensor in self.values.items():
                own[name].copy_(tensor)


def match_encoder(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    places: Mapping[str, str | None],
    *,
    part: str,
    source: str,
    strict: bool = True,
) -> EncoderWeights:
    """Which tensor of an encoder's file goes where, with everything checked.

    Args:
        own: the model's state dict, our names.
        tensors: the file's.
        places: name in the file -> our name, None for what is left aside; see `encoder_names`.
        part: "backbone" or "text_encoder".
        source: what to call the file.
        strict: refuse a file that leaves a place of the part empty (norms that no classifier has
            excepted), or has something left over.

    Raises:
        CheckpointError: it does not fit, or holds numbers that are not finite or no weights.
    """
    values: dict[str, Tensor] = {}
    shapes, unknown = [], []
    for name, place in places.items():
        if place is None:
            continue
        if place not in own or not place.startswith(part + "."):
            unknown.append(name)
        elif tensors[name].shape == own[place].shape:
            values[place] = tensors[name]
        else:
            shapes.append(
                f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[place].shape)}"
            )
    wanted = [name for name in own if name.startswith(part + ".")]
    present = set(places.values())
    missing = [n for n in wanted if n not in present and not n.startswith(_NEVER_IN_A_FILE)]
    misfits = [f"{len(shapes)} of another shape: {'; '.join(shapes[:4])}"] if shapes else []
    misfits += [f"{len(missing)} missing: {summarise(missing)}"] if missing else []
    misfits += [f"{len(unknown)} without a place: {summarise(unknown)}"] if unknown else []
    if misfits and (strict or not values):
        own_shapes = {name: own[name].shape for name in wanted}
        theirs = {place: tensors[n].shape for n, place in places.items() if place}
        raise CheckpointError(
            f"{source} does not fit:\n  " + "\n  ".join(misfits) + _advice(part, theirs, own_shapes)
        )
    _check_numbers(values, source)
    return EncoderWeights(
        source=source,
        values=values,
        aside=tuple(name for name, place in places.items() if place is None),
        misfits=tuple(misfits),
    )


def _check_numbers(values: Mapping[str, Tensor], source: str) -> None:
    quantised = [name for name, tensor in values.items() if not tensor.is_floating_point()]
    if quantised:
        raise CheckpointError(
            f"{source}: {summarise(quantised)} are of type {values[quantised[0]].dtype}; expected "
            "floating-point weights (a quantised checkpoint cannot be loaded)"
        )
    broken = [name for name, t in values.items() if not torch.isfinite(t.float()).all()]
    if broken:
        raise CheckpointError(
            f"{source} holds NaN or infinite numbers in {summarise(broken)}; fetch it again, or "
            "take another"
        )


def _advice(part: str, theirs: Shapes, own: Shapes) -> str:
    describe = _DESCRIBE[part]
    file_is, model_is = describe(theirs), describe(own)
    if file_is == model_is:
        return ""
    message = f"\n  file:  {file_is}\n  model: {model_is}"
    if part == "text_encoder":
        return f"{message}\nMODEL.LANGUAGE_BACKBONE.MODEL_TYPE names the folder that describes it"
    windows = _window(theirs), _window(own)
    if windows[0] != windows[1]:
        message += (
            f"\nMODEL.SWINT.WINDOW_SIZE is {windows[1]}, the file's is {windows[0]}: bias tables "
            "are not interpolated. Take a file of that window, or set the key to the file's"
        )
    return f"{message}\nThe keys of MODEL.SWINT describe the model"


def describe_swin(shapes: Shapes) -> str:
    """The architecture that our names and shapes of an image encoder speak of."""
    patch = shapes.get("backbone.patch_embed.projection.weight")
    blocks: dict[int, int] = {}
    heads: dict[int, int] = {}
    for name, shape in shapes.items():
        found = re.fullmatch(r"backbone\.stages\.(\d+)\.blocks\.(\d+)\..*_bias_table", name)
        if found:
            stage = int(found[1])
            blocks[stage] = blocks.get(stage, 0) + 1
            heads[stage] = shape[-1]
    depths = "-".join(str(blocks[stage]) for stage in sorted(blocks)) or "no"
    count = "-".join(str(heads[stage]) for stage in sorted(heads)) or "no"
    return (
        f"Swin of {patch[0] if patch else 'no'} channels, {depths} blocks, {count} heads, "
        f"windows of {_window(shapes)}"
    )


def _window(shapes: Shapes) -> int | None:
    """Side of a window: a table has (2 * side - 1)**2 rows."""
    rows = next((s[0] for n, s in shapes.items() if n.endswith("_bias_table")), None)
    return None if rows is None else (round(rows**0.5) + 1) // 2


def describe_bert(shapes: Shapes) -> str:
    """The architecture that our names and shapes of a text encoder speak of."""
    inside = "text_encoder.bert."
    words = shapes.get(f"{inside}embeddings.word_embeddings.weight", ("no", "no"))
    positions = shapes.get(f"{inside}embeddings.position_embeddings.weight", ("no",))
    hidden = shapes.get(f"{inside}encoder.layer.0.intermediate.dense.weight", ("no",))
    layers = {re.sub(r".*encoder\.layer\.(\d+)\..*", r"\1", n) for n in shapes if ".layer." in n}
    return (
        f"BERT of {words[1]} features, {len(layers)} layers, MLPs of {hidden[0]}, "
        f"{words[0]} words, {positions[0]} positions"
    )


_DESCRIBE: dict[str, Callable[[Shapes], str]] = {
    "backbone": describe_swin,
    "text_encoder": describe_bert,
}
