"""`glipkit info`: what is in a file of weights."""

import argparse
import json
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

from glipkit.engine.checkpoint import weights_hash
from glipkit.engine.naming import describe, detect_layout, our_names, published_names
from glipkit.engine.shared_text import TEXT_ENCODER, read_weights
from glipkit.engine.tensor_files import CheckpointError, read_metadata, read_tensors
from glipkit.engine.weights import PUBLISHED_FILES
from glipkit.inference.build import recognise
from glipkit.inference.known import KNOWN
from glipkit.inference.models import find_model, model_folders
from glipkit.runtime.logs import setup_logging
from glipkit.shell.tables import table


def run(args: argparse.Namespace) -> int:
    """Describe it."""
    setup_logging(level=logging.ERROR)  # of other models' files, which are only compared with
    facts = describe_model(args.model)
    sys.stdout.write((json.dumps(facts, indent=2) if args.json else _page(facts)) + "\n")
    return 0


def describe_model(model: str) -> dict[str, Any]:
    """Everything that is to be known about a model without running it, as plain data.

    Raises:
        FileNotFoundError: it is not on this machine.
        ValueError: there is no such model, or the file is not of a GLIP.
    """
    files = find_model(model)
    path = files.tuned or files.weights
    tensors = read_tensors(path)
    layout = detect_layout(tensors, source=str(path))
    facts: dict[str, Any] = {
        "name": files.name,
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": _format(path),
        "names": layout,
        "metadata": read_metadata(path),
        "tensors": len(tensors),
        "types": _types(tensors),
        "parameters_in_file": sum(tensor.numel() for tensor in tensors.values()),
        "parts": _parts(tensors, layout),
        "config": None if files.config is None else str(files.config),
    }
    if files.tuned is not None:
        return facts | {"tuned_from": str(files.weights), "architecture": None, "fits": []}
    whole, text_encoder = _text_encoder(path, tensors)
    names = published_names(whole) if layout == "ours" else {name: name for name in whole}
    return facts | {
        "parts": _parts(whole, layout),
        "architecture": describe({names[name]: tensor.shape for name, tensor in whole.items()}),
        "fits": _fits(whole, path),
        "published_as": path.name if path.name in PUBLISHED_FILES else None,
        "text_encoder": text_encoder,
        "hash": weights_hash(whole),
    }


def _format(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK"):
        return "torch.save (zip)"
    return "safetensors" if head[8:] == b"{" else "torch.save (torch 1.x)"


def _types(tensors: dict[str, Tensor]) -> dict[str, int]:
    kinds = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    return dict(kinds.most_common())


def _parts(tensors: dict[str, Tensor], layout: Any) -> dict[str, int]:
    """Numbers in each part of the model, by our names; what has no place with us is "beside it"."""
    sizes: Counter[str] = Counter()
    for name, ours in our_names(tensors, layout).items():
        part = "beside the model" if ours is None else ours.split(".", 1)[0].replace("_", " ")
        sizes[part] += tensors[name].numel()
    return dict(sizes)


def _text_encoder(path: Path, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """All weights of the model, and where those of the text encoder are."""
    said = read_metadata(path)
    if TEXT_ENCODER not in said:
        return tensors, "in the file"
    try:
        whole = read_weights(path, roots=tuple(model_folders()))
    except FileNotFoundError as error:
        return tensors, f"{said[TEXT_ENCODER]}, not in the file and not installed: {error}"
    return whole, f"{said[TEXT_ENCODER]}, not in the file; installed, and its hash agrees"


def _fits(tensors: dict[str, Tensor], path: Path) -> list[str]:
    """The known models whose names and shapes these are."""
    try:
        found = recognise(tensors, source=str(path))
    except CheckpointError:
        return []
    return [key for key, known in KNOWN.items() if known.config == found.config]


def _page(facts: dict[str, Any]) -> str:
    total = sum(facts["parts"].values())
    rows = [["part", "parameters", "share"]]
    for part, count in facts["parts"].items():
        rows.append([part, f"{count:,}", f"{100 * count / max(total, 1):.1f} %"])
    rows.append(["all", f"{total:,}", ""])
    if facts["parameters_in_file"] != total:
        rows.append(["of these in the file", f"{facts['parameters_in_file']:,}", ""])
    known = "; ".join(f"{key} ({KNOWN[key].about})" for key in facts["fits"])
    lines = {
        "file": f"{facts['file']} ({facts['bytes'] / 1e6:.1f} MB, {facts['format']})",
        "architecture": facts["architecture"],
        "can be": known or "none of the known models: keep its config.yaml beside it",
        "published as": facts.get("published_as"),
        "tuned from": facts.get("tuned_from"),
        "config": facts["config"],
        "text encoder": facts.get("text_encoder"),
        "tensors": f"{facts['tensors']} ({_counted(facts['types'])}), {facts['names']} names",
        "hash": facts.get("hash"),
        "header": "; ".join(f"{key}: {value}" for key, value in facts["metadata"].items()),
    }
    said = [f"{key:<14}{value}" for key, value in lines.items() if value]
    return "\n".join([*said, "", table(rows)])


def _counted(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())
