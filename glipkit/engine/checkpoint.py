"""Weights in and out of models: what fits is loaded, what does not is named."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from glipkit import __version__
from glipkit.engine.naming import (
    NEVER_RUN,
    Layout,
    describe,
    detect_layout,
    differing_buffers,
    our_names,
    published_names,
    summarise,
    to_published,
)
from glipkit.engine.shared_text import read_weights, tensor_hash
from glipkit.engine.tensor_files import (
    CheckpointError,
    read_metadata,
    read_tensors,
    write_tensors,
)
from glipkit.grounding.language_files import ROOTS
from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.official import (
    PROMPT_OFFSET,
    is_derived,
    is_known_extra,
    is_prompt_offset,
)

__all__ = [
    "CheckpointError",
    "LoadReport",
    "load_weights",
    "match_weights",
    "read_tensors",
    "save_weights",
    "weights_hash",
]

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]

# In the header of what fine-tuning saved beside a reference to its base (`glipkit.engine.tuned`).
TUNED_MODE = "glipkit_mode"
TUNED_BASE = "glipkit_base"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of every tensor of a file, and of every tensor of the model.

    Names are those of the file's layout, so that they can be looked up in the file; `str()` is a
    table for people.
    """

    source: str
    layout: Layout
    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # the model has it, the file does not
    unexpected: tuple[str, ...]  # the file has it, the model does not
    wrong_shape: dict[str, tuple[Shape, Shape]]  # (in the file, in the model)
    ignored: tuple[str, ...]  # derived buffers and extras that the model has no place for
    converted: dict[str, int]  # "float16 -> float32": number of tensors

    @property
    def fits(self) -> bool:
        """Whether every tensor found its place and no place stayed empty."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def __str__(self) -> str:
        shapes = [
            f"{n}: {a} in the file, {b} in the model" for n, (a, b) in self.wrong_shape.items()
        ]
        rows = [
            ("loaded", len(self.loaded), ""),
            ("missing", len(self.missing), summarise(self.missing)),
            ("unexpected", len(self.unexpected), summarise(self.unexpected)),
            ("wrong shape", len(shapes), "; ".join(shapes[:10])),
            ("ignored", len(self.ignored), summarise(self.ignored)),
            ("converted", sum(self.converted.values()), ", ".join(self.converted)),
        ]
        lines = [f"  {word:<12}{count:>5}  {names}".rstrip() for word, count, names in rows]
        return "\n".join([f"{self.source} ({self.layout} names)", *lines])


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    strict: bool = True,
    roots: Sequence[str | Path] = ROOTS,
) -> LoadReport:
    """Copy a file's weights into a model.

    The file may be a published one or ours, float32 or lower: values are converted to what the
    model holds; a text encoder that it left out is taken from where it is installed (see
    `read_weights`). A model stays untouched when an error is raised. A learned prompt that only
    one of the two has does not keep them apart: the model's becomes zero, the file's is left out.

    Args:
        model: a GLIP with real memory, on any device.
        path: see `read_tensors`.
        strict: refuse a file that leaves a place empty or has something left over. Otherwise load
            what fits, and log the report as a warning.
        roots: where users put model files, in order; a text encoder that the file left out, say.

    Raises:
        FileNotFoundError: there is no such file, or no text encoder that it needs.
        CheckpointError: it is not usable, or (strict) it does not fit or has numbers that are not
            finite, with the names.
        ValueError: the model has no memory yet (it is on the meta device).
    """
    own = own_tensors(model)
    if any(tensor.is_meta for tensor in own.values()):
        raise ValueError(
            "the model is on the meta device and has no memory to load into; build it on a real "
            "device, or call model.to_empty(device=...) first"
        )
    refuse_tuned(path)
    tensors = read_weights(path, roots=roots)
    report = match_weights(own, tensors, source=str(path))
    if strict and not report.fits:
        raise CheckpointError(_misfit(report, own, tensors))
    if not report.loaded:
        raise CheckpointError(f"nothing in {path} fits the model:\n{report}")
    _check_finite(tensors, report, strict=strict)
    places = our_names(tensors, report.layout)
    with torch.no_grad():
        for name in report.loaded:
            own[places[name]].copy_(tensors[name])
        if report.fits and PROMPT_OFFSET in own and PROMPT_OFFSET not in places.values():
            own[PROMPT_OFFSET].zero_()
    logger.log(logging.INFO if report.fits else logging.WARNING, "%s", report)
    for name in filter(is_prompt_offset, report.ignored):
        _say_left_out(name, tensors[name], source=str(path))
    if report.layout == "published":
        _compare_buffers(tensors, _anchors(model), source=str(path))
    return report


def refuse_tuned(path: str | Path) -> None:
    """Say what is missing when a file that holds only what was tuned is given as a whole model.

    Raises:
        CheckpointError: it is such a file; names the weights it was tuned from.
    """
    said = read_metadata(path)
    if TUNED_MODE in said:
        base = said.get(TUNED_BASE) or "BASE"
        raise CheckpointError(
            f"{path} holds only what {said[TUNED_MODE]} tuned, not a whole model; give it beside "
            f"the weights it was tuned from: --weight {base} --tuned {path}"
        )


def match_weights(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, source: str
) -> LoadReport:
    """Which tensor of a file goes where in a model; copies nothing, reads no values.

    Args:
        own: the model's state dict, our names.
        tensors: the file's, either layout.
        source: what to call the file.

    Raises:
        CheckpointError: the names are no GLIP's, or a weight is not made of floating-point numbers.
    """
    layout = detect_layout(tensors, source=source)
    places = our_names(tensors, layout)
    published = published_names(own)
    loaded, unexpected, ignored = [], [], []
    wrong_shape: dict[str, tuple[Shape, Shape]] = {}
    converted: Counter[str] = Counter()
    for name, place in places.items():
        tensor = tensors[name]
        if place not in own:
            optional = place is None or is_known_extra(name) or is_prompt_offset(name)
            (ignored if optional else unexpected).append(name)
        elif tensor.shape == own[place].shape:
            if tensor.dtype != own[place].dtype:
                converted[_conversion(source, name, tensor.dtype, own[place].dtype)] += 1
            loaded.append(name)
        elif published[place].startswith(NEVER_RUN):
            ignored.append(name)
        else:
            wrong_shape[name] = (tuple(tensor.shape), tuple(own[place].shape))
    present = set(places.values())
    missing = [name for name in own if name not in present and not is_prompt_offset(name)]
    if layout == "published":
        missing = [published[name] for name in missing]
    return LoadReport(
        source=source,
        layout=layout,
        loaded=tuple(loaded),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        wrong_shape=wrong_shape,
        ignored=tuple(ignored),
        converted=dict(converted),
    )


def save_weights(model: nn.Module, path: str | Path, *, layout: Layout = "ours") -> None:
    """Write a model's weights, completely or not at all.

    Args:
        model: a GLIP.
        path: `.safetensors`; or `.pth`, `.pt`, `.bin`, which hold `{"model": weights}`.
        layout: names and buffers: ours, or exactly those of the published files.

    Raises:
        ValueError: the suffix or the layout is unknown.
        CheckpointError: the model has a weight that the published layout has no name for.
    """
    if layout not in ("ours", "published"):
        raise ValueError(f"layout must be 'ours' or 'published', got {layout!r}")
    tensors = own_tensors(model)
    if layout == "published":
        tensors = to_published(tensors, _anchors(model))
    write_tensors(tensors, path, metadata=file_metadata(layout))


def file_metadata(layout: Layout) -> dict[str, str]:
    """What a safetensors file says about itself."""
    return {"glipkit_layout": layout, "glipkit_version": __version__}


def weights_hash(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """A name for the values a model computes with: the same for the same weights in any file.

    SHA-256 over the published names in alphabetical order, each with dtype, shape and bytes.
    Derived buffers, extras without a place and the classifier that is never run do not count, nor
    does a learned prompt of zeros: it is as good as none.

    Args:
        weights: a model, or what `read_tensors` gave.

    Returns:
        64 hexadecimal digits.
    """
    tensors = own_tensors(weights) if isinstance(weights, nn.Module) else weights
    if detect_layout(tensors) == "published":
        by_name = {n: t for n, t in tensors.items() if not (is_derived(n) or is_known_extra(n))}
    else:
        by_name = {theirs: tensors[ours] for ours, theirs in published_names(tensors).items()}
    return tensor_hash({n: t for n, t in by_name.items() if not _is_silent(n, t)})


def _is_silent(published: str, tensor: Tensor) -> bool:
    """Whether no answer depends on a weight."""
    return published.startswith(NEVER_RUN) or (is_prompt_offset(published) and not tensor.any())


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict by GLIP's own names, also from inside DistributedDataParallel or compile."""
    wrappers = ("module.", "_orig_mod.")
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        while name.startswith(wrappers):
            name = name.split(".", 1)[1]
        state[name] = tensor
    return state


def _conversion(source: str, name: str, given: torch.dtype, wanted: torch.dtype) -> str:
    words = f"{given} -> {wanted}".replace("torch.", "")
    if given.is_floating_point != wanted.is_floating_point:
        raise CheckpointError(
            f"{source}: {name} would have to be converted {words}; expected floating-point weights "
            "(a quantised checkpoint cannot be loaded)"
        )
    return words


def _check_finite(tensors: Mapping[str, Tensor], report: LoadReport, *, strict: bool) -> None:
    """A model with one NaN finds nothing, and would seem to be merely bad."""
    broken = [
        name
        for name in report.loaded
        if tensors[name].is_floating_point() and not torch.isfinite(tensors[name].float()).all()
    ]
    if not broken:
        return
    message = f"{report.source} holds NaN or infinite numbers in {summarise(broken)}"
    if strict:
        raise CheckpointError(
            f"{message}; it cannot find anything. Take a checkpoint from before its training broke"
        )
    logger.warning("%s", message)


def _say_left_out(name: str, offset: Tensor, *, source: str) -> None:
    if offset.any():
        logger.warning(
            "%s has a learned prompt (%s) that this model has no place for, so it answers as "
            "without; build the model with MODEL.DYHEAD.FUSE_CONFIG.ADD_LINEAR_LAYER True",
            source,
            name,
        )


def _anchors(model: nn.Module) -> AnchorGenerator:
    found = (module for module in model.modules() if isinstance(module, AnchorGenerator))
    return next(found, AnchorGenerator())


def _compare_buffers(
    tensors: Mapping[str, Tensor], anchors: AnchorGenerator, *, source: str
) -> None:
    differing = differing_buffers(tensors, anchors)
    if differing:
        logger.warning(
            "%s was made with other derived buffers than this model computes: %s. "
            "If they are anchor cells, MODEL.RPN.ANCHOR_SIZES or ANCHOR_STRIDE differ",
            source,
            summarise(differing),
        )


def _misfit(report: LoadReport, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """The report as an error, with what it probably means."""
    message = f"the weights do not fit the model:\n{report}"
    published = published_names(tensors) if report.layout == "ours" else {n: n for n in tensors}
    file_shapes = {published[name]: tensor.shape for name, tensor in tensors.items()}
    model_shapes = {theirs: own[ours].shape for ours, theirs in published_names(own).items()}
    file_is, model_is = describe(file_shapes), describe(model_shapes)
    if len(report.loaded) < len(own) // 10:
        names = ", ".join(list(tensors)[:4])
        return f"{message}\nAlmost nothing matches: another detector's file? It begins with {names}"
    if file_is != model_is:
        return (
            f"{message}\nThe file is of another model than --config-file describes.\n"
            f"  file:  {file_is}\n  model: {model_is}"
        )
    return f"{message}\nTo load what fits all the same: --partial-weight, or strict=False in Python"
