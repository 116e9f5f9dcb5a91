"""A text encoder that nobody trained stays out of a file of weights, and is put back on reading.

Frozen, it is the same in every file and as large as ten of the models that are trained around it.
The header of such a file names the encoder, which an installed package or a folder carries, and the
hash of its values, so that no other one takes its place unseen.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from glipkit.engine.encoder_names import bert_places, is_bert
from glipkit.engine.naming import summarise
from glipkit.engine.tensor_files import CheckpointError, read_metadata, read_tensors
from glipkit.grounding.language_files import ROOTS, find_file, how_to_get

TEXT_FILES = ("model.safetensors", "pytorch_model.bin")  # either is enough, the first is preferred

# In the header of a file without its text encoder.
TEXT_ENCODER = "text_encoder"
TEXT_ENCODER_HASH = "text_encoder_sha256"
_PART = "text_encoder."


def read_weights(
    path: str | Path, *, part: str | None = None, roots: Sequence[str | Path] = ROOTS
) -> dict[str, Tensor]:
    """The named tensors of a checkpoint file, with the text encoder that it left out.

    Args:
        path: see `read_tensors`.
        part: see `read_tensors`.
        roots: where users put model files, text encoders among them, in order.

    Raises:
        FileNotFoundError: there is no such file, or the text encoder it names is not installed.
        CheckpointError: it is not usable, or was trained with other values of that encoder.
    """
    tensors, said = read_tensors(path, part=part), read_metadata(path)
    if TEXT_ENCODER not in said:
        return tensors
    name = said[TEXT_ENCODER]
    file, encoder = _text_encoder(name, roots, wanted_by=path)
    found = tensor_hash(encoder)
    if found != said.get(TEXT_ENCODER_HASH):
        raise CheckpointError(
            f"{path} was trained with another text encoder than {file}: with values of SHA-256 "
            f"{said.get(TEXT_ENCODER_HASH)}, not {found}. Install the version of {name} that "
            "constraints.txt names"
        )
    return tensors | encoder


def leave_text_out(
    tensors: Mapping[str, Tensor],
    name: str,
    *,
    source: str,
    roots: Sequence[str | Path] = ROOTS,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights without their text encoder, and what the header of their file has to say of it.

    Args:
        tensors: of a whole model, by our names.
        name: of the encoder: an installed package or a folder.
        source: what to call the weights.
        roots: where users put model files, in order.

    Returns:
        What `write_tensors` takes: the other tensors, and metadata.

    Raises:
        FileNotFoundError: there is no such encoder here.
        CheckpointError: the model's encoder is not bit for bit that one.
    """
    file, encoder = _text_encoder(name, roots, wanted_by=source)
    own = {key: tensor for key, tensor in tensors.items() if key.startswith(_PART)}
    differing = [
        key for key in sorted({*own, *encoder}) if not _equal(own.get(key), encoder.get(key))
    ]
    if differing:
        raise CheckpointError(
            f"{source}: its text encoder is not that of {file}, so it cannot be left out: "
            f"{len(differing)} of {len(encoder)} tensors differ, {summarise(differing, limit=3)}. "
            "Was it trained (MODEL.LANGUAGE_BACKBONE.FREEZE False)?"
        )
    rest = {key: tensor for key, tensor in tensors.items() if key not in own}
    return rest, {TEXT_ENCODER: name, TEXT_ENCODER_HASH: tensor_hash(encoder)}


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over tensors in the order of their names: each with name, type, shape and bytes.

    Args:
        tensors: on any device.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _text_encoder(
    name: str, roots: Sequence[str | Path], *, wanted_by: str | Path
) -> tuple[Path, dict[str, Tensor]]:
    """Where an encoder is, and its tensors by our names; nothing is fetched."""
    file = find_file(name, TEXT_FILES, roots=roots)
    if file is None:
        raise FileNotFoundError(
            f"{wanted_by} needs the text encoder {name!r}, which is not here: "
            f"{how_to_get(name, roots)}"
        )
    tensors = read_tensors(file)
    if not is_bert(tensors):
        raise CheckpointError(f"{file} is no BERT: it begins with {', '.join(list(tensors)[:4])}")
    return file, {place: tensors[key] for key, place in bert_places(tensors).items() if place}


def _equal(own: Tensor | None, other: Tensor | None) -> bool:
    if own is None or other is None or own.dtype != other.dtype:
        return False
    return torch.equal(own, other)
