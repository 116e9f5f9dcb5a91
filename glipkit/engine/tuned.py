"""What fine-tuning changed, saved alone: a few kilobytes beside a reference to the base weights."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from glipkit.engine.checkpoint import (
    TUNED_BASE,
    TUNED_MODE,
    CheckpointError,
    file_metadata,
    own_tensors,
)
from glipkit.engine.naming import summarise
from glipkit.engine.tensor_files import read_metadata, read_names, read_tensors, write_tensors
from glipkit.modeling.official import PROMPT_OFFSET, is_prompt_offset

logger = logging.getLogger(__name__)

TUNED_BASE_HASH = "glipkit_base_hash"
_OURS = "glipkit_"  # what begins so in a header is said by this file, and by nobody else


@dataclass(frozen=True, slots=True)
class TunedReport:
    """What a file of tuned weights brought; `str()` is a line for people."""

    source: str
    mode: str  # how it was tuned
    base: str  # file name of the weights it was tuned from
    base_hash: str  # their `weights_hash`
    loaded: tuple[str, ...]  # our names
    parameters: int
    extra: dict[str, str]  # what the writer added: class names, captions

    def __str__(self) -> str:
        return (
            f"{self.source}: {len(self.loaded)} tensors, {self.parameters:,} parameters, tuned by "
            f"{self.mode} from {self.base or 'weights without a file'} ({self.base_hash[:12]})"
        )


def save_tuned(
    weights: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    names: Sequence[str],
    *,
    base_path: str | Path,
    base_hash: str,
    mode: str,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write some of a model's weights, and what they belong to, completely or not at all.

    Of a learned prompt only the rows up to its last that is not zero are written: it learns no more
    rows than the longest caption has tokens.

    Args:
        weights: a GLIP, or its state dict by our names.
        path: `.safetensors`.
        names: which weights; `TuningPlan.trained`.
        base_path: the file the model was tuned from; its name is noted. Empty: from no file.
        base_hash: `weights_hash` of the model as tuning began.
        mode: how it was tuned, `TuningPlan.mode`.
        extra: more for the header, such as the class names.

    Raises:
        ValueError: another suffix, no names or unknown ones, or `extra` speaks for this function.
        CheckpointError: a weight is not finite.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"tuned weights are written as .safetensors, got {path}")
    if said_by_us := [key for key in extra or {} if key.startswith(_OURS)]:
        raise ValueError(f"names in extra must not begin with {_OURS!r}, got {said_by_us}")
    own = own_tensors(weights) if isinstance(weights, nn.Module) else weights
    unknown = [name for name in names if name not in own]
    if unknown or not names:
        raise ValueError(
            f"expected names of the model's weights, got {summarise(unknown) or 'none'}"
        )
    tensors = {name: own[name].detach() for name in names}
    _check_finite(tensors, source=f"what would be saved as {path}")
    if PROMPT_OFFSET in tensors:
        tensors[PROMPT_OFFSET] = _used_rows(tensors[PROMPT_OFFSET])
    metadata = file_metadata("ours") | {
        TUNED_MODE: mode,
        TUNED_BASE: Path(base_path).name if str(base_path) else "",
        TUNED_BASE_HASH: base_hash,
    }
    write_tensors(tensors, path, metadata={**(extra or {}), **metadata})


def load_tuned(model: nn.Module, path: str | Path, *, base_hash: str | None) -> TunedReport:
    """Put tuned weights onto the base weights that a model holds.

    A model stays untouched when an error is raised.

    Args:
        model: a GLIP with the base weights loaded, on any device.
        path: written by `save_tuned`.
        base_hash: `weights_hash` of the base; None does not compare, for bases that are known to
            be another form of the same weights.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is a whole model, was tuned from another base, does not fit the model,
            or has numbers that are not finite.
    """
    tensors, said = read_tuned(path)
    base = said[TUNED_BASE]
    if base_hash is not None and said[TUNED_BASE_HASH] != base_hash:
        raise CheckpointError(
            f"{path} was tuned from other weights: from {base or 'weights without a file'} with "
            f"hash {said[TUNED_BASE_HASH]}, but the model holds weights with hash {base_hash}. "
            f"Give the ones it was tuned from: --weight {base or 'BASE'} --tuned {path}"
        )
    own = own_tensors(model)
    _check_fit(tensors, own, source=str(path))
    _check_finite(tensors, source=str(path))
    with torch.no_grad():
        for name, tensor in tensors.items():
            place = own[name]
            if is_prompt_offset(name):
                place.zero_()
                place = place[: len(tensor)]
            place.copy_(tensor)
    report = TunedReport(
        source=str(path),
        mode=said[TUNED_MODE],
        base=base,
        base_hash=said[TUNED_BASE_HASH],
        loaded=tuple(tensors),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        extra={k: v for k, v in said.items() if k != "format" and not k.startswith(_OURS)},
    )
    logger.info("%s", report)
    return report


def read_tuned(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights and the header of a file of `save_tuned`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is unreadable, or no such file but a whole model, say.
    """
    said = read_metadata(path)
    missing = {TUNED_MODE, TUNED_BASE, TUNED_BASE_HASH} - said.keys()
    if TUNED_MODE in missing:
        raise CheckpointError(
            f"{path} does not say what it was tuned from; it has {len(read_names(path))} tensors. "
            f"If it is a whole model, give it as --weight {path}; --tuned is for what fine-tuning "
            "saved beside it"
        )
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))} in its header; save anew")
    return read_tensors(path), said


def has_prompt_offset(path: str | Path) -> bool:
    """Whether a file of weights, tuned or whole, has a learned prompt a model needs a place for.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is not a file of tensors.
    """
    return any(is_prompt_offset(name) for name in read_names(path))


def _used_rows(offset: Tensor) -> Tensor:
    """(rows, D) up to the last row that is not zero, at least one."""
    used = offset.ne(0).any(dim=1).nonzero()
    return offset[: int(used[-1]) + 1 if len(used) else 1]


def _check_finite(tensors: Mapping[str, Tensor], *, source: str) -> None:
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(
            f"{source} holds NaN or infinite numbers in {summarise(broken)}; take what was saved "
            "before the training broke"
        )


def _check_fit(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], *, source: str) -> None:
    if PROMPT_OFFSET in tensors and PROMPT_OFFSET not in own:
        raise CheckpointError(
            f"{source} holds a learned prompt, and the model was built without a place for one; "
            "build it with MODEL.DYHEAD.FUSE_CONFIG.ADD_LINEAR_LAYER True"
        )
    if unknown := [name for name in tensors if name not in own]:
        raise CheckpointError(
            f"{source} has weights that the model has no place for: {summarise(unknown)}. "
            "It was tuned from another model than --config-file describes"
        )
    wrong = [
        f"{name}: {tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in the model"
        for name, tensor in tensors.items()
        if not _fits(name, tensor, own[name])
    ]
    if wrong:
        raise CheckpointError(
            f"{source} has weights of another shape than the model's: {'; '.join(wrong[:10])}. "
            "It was tuned from another model than --config-file describes"
        )


def _fits(name: str, tensor: Tensor, place: Tensor) -> bool:
    if is_prompt_offset(name):
        shorter = tensor.dim() == 2 and tensor.shape[0] <= place.shape[0]
        return shorter and tensor.shape[1] == place.shape[1]
    return tensor.shape == place.shape
