"""What a training run starts from: a whole GLIP, encoders that were trained alone, or nothing."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor
from transformers import BertConfig

from glipkit.engine.checkpoint import load_weights
from glipkit.engine.encoder_files import EncoderWeights, match_encoder
from glipkit.engine.encoder_names import bert_places, is_bert, is_swin, swin_places
from glipkit.engine.naming import detect_layout, our_names, summarise
from glipkit.engine.shared_text import TEXT_FILES, read_weights
from glipkit.engine.tensor_files import CheckpointError, list_files, read_tensors
from glipkit.engine.weights import find_weights
from glipkit.grounding.language_files import BERT_UNCASED, fetch_file, find_file, folders
from glipkit.modeling.glip import GLIP

logger = logging.getLogger(__name__)

# First word of a parameter's name -> what people call the part.
PARTS = {
    "backbone": "image encoder",
    "pyramid": "pyramid",
    "text_encoder": "text encoder",
    "tower": "tower",
    "predictor": "predictor",
    "prompt_offset": "prompt offset",
}
# What no start gives, and does not have to: the norms between a classifier and a pyramid start as
# the identity, the prompt offset as zero, and the classifier is never run (BEHAVIOUR 7).
_BORN_READY = ("backbone.output_norms.", "prompt_offset.", "predictor.class_logits.")


@dataclass(frozen=True, slots=True)
class PartStart:
    """Where the weights of one part of the model are from."""

    name: str
    source: str  # a file; empty where there was none
    loaded: int  # tensors
    total: int
    initial: tuple[str, ...]  # names of those that are as the model was built

    @property
    def random(self) -> tuple[str, ...]:
        """The tensors that know nothing yet and should."""
        return tuple(name for name in self.initial if not name.startswith(_BORN_READY))


@dataclass(frozen=True, slots=True)
class StartReport:
    """What a run starts from, part by part; `str()` is a table for people."""

    kind: Literal["glip", "image encoder", "nothing"]  # what MODEL.WEIGHT is
    path: Path | None  # of MODEL.WEIGHT
    parts: tuple[PartStart, ...]
    aside: dict[str, tuple[str, ...]]  # file -> names in it that a detector has no use for
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        rows = [("part", "from", "tensors", "as initialised")]
        for part in self.parts:
            left = summarise(part.initial, limit=3) if part.loaded else "all"
            source = part.source or "nowhere"
            rows.append((part.name, source, f"{part.loaded}/{part.total}", left))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}"
            for row in rows
        ]
        lines += [f"  left aside of {source}: {summarise(n)}" for source, n in self.aside.items()]
        lines += [f"  WARNING: {warning}" for warning in self.warnings]
        return "\n".join(["what training starts from", *(line.rstrip() for line in lines)])


def start_weights(
    model: GLIP,
    spec: str | Path,
    *,
    text_encoder: str,
    strict: bool = True,
    root: str | Path = "MODEL",
    fetch: bool = True,
) -> StartReport:
    """Give a model the weights that its training starts from, and say what stays random.

    `spec` may be a GLIP (published or ours), which is loaded as `load_weights` does; or a Swin
    classifier in the spelling of its authors, timm or torchvision, which goes into the image
    encoder. Where no text encoder comes with it, that one's own weights are looked for: in its
    folder, in the hub's cache, on the hub. A model stays untouched when an error is raised.

    Args:
        model: with real memory, just built.
        spec: MODEL.WEIGHT: a path, a name in `root`, `hf://owner/repository/file`; empty for none.
        text_encoder: MODEL.LANGUAGE_BACKBONE.MODEL_TYPE: a folder or a name.
        strict: refuse a file that does not fit; otherwise load what fits, and name the rest.
        root: the folder of weights.
        fetch: ask the hub for a text encoder that is nowhere here.

    Raises:
        FileNotFoundError: `spec` is nowhere.
        CheckpointError: a file is not usable, or does not fit the model.
        ValueError: the model has no memory yet (it is on the meta device).
    """
    own = model.state_dict()
    if any(tensor.is_meta for tensor in own.values()):
        raise ValueError(
            "the model is on the meta device and has no memory to load into; build it on a real "
            "device, or call model.to_empty(device=...) first"
        )
    path = find_weights(spec, root) if str(spec) else None
    tensors = read_weights(path, roots=(root,)) if path else {}
    kind = _kind(tensors, path)
    places: dict[str, str | None] = {}
    if kind == "glip":
        places = our_names(tensors, detect_layout(tensors, source=str(path)))
    given, no_text = [], ""
    if kind == "image encoder":
        given.append(
            match_encoder(
                own, tensors, swin_places(tensors), part="backbone", source=str(path), strict=strict
            )
        )
    if not any(place and place.startswith("text_encoder.") for place in places.values()):
        text, no_text = _text_weights(
            own, text_encoder, model.text_encoder.bert.config, Path(root), strict, fetch
        )
        given += [text] if text else []
    sources: dict[str, str] = {}  # our name -> file
    if kind == "glip":
        loaded = load_weights(model, path, strict=strict, roots=(root,)).loaded
        sources = {place: str(path) for name in loaded if (place := places[name])}
    for weights in given:
        weights.copy_into(own)
        sources |= dict.fromkeys(weights.values, weights.source)
    parts = _parts(own, sources)
    report = StartReport(
        kind=kind,
        path=path,
        parts=parts,
        aside={weights.source: weights.aside for weights in given if weights.aside},
        warnings=_warnings(kind, parts, given, no_text),
    )
    logger.log(logging.WARNING if report.warnings else logging.INFO, "%s", report)
    return report


def _kind(tensors: Mapping[str, Tensor], path: Path | None) -> str:
    if path is None:
        return "nothing"
    if is_swin(tensors):
        return "image encoder"
    if is_bert(tensors):
        raise CheckpointError(
            f"{path} is a text encoder alone; MODEL.WEIGHT takes a GLIP or a Swin. Put it, as "
            f"{TEXT_FILES[0]} or {TEXT_FILES[1]} with its config.json, into the folder that "
            "MODEL.LANGUAGE_BACKBONE.MODEL_TYPE names"
        )
    return "glip"


def _text_weights(
    own: Mapping[str, Tensor],
    name: str,
    architecture: BertConfig,
    root: Path,
    strict: bool,
    fetch: bool,
) -> tuple[EncoderWeights | None, str]:
    """The text encoder's own weights, or why there are none."""
    path, reason = _find_text(name, architecture, root, fetch)
    if path is None:
        return None, reason
    tensors = read_tensors(path)
    if not is_bert(tensors):
        raise CheckpointError(
            f"{path} is no BERT: it begins with {', '.join(list(tensors)[:4])}; expected "
            "embeddings.word_embeddings.weight and so on, with or without 'bert.' before them"
        )
    places = bert_places(tensors)
    return match_encoder(
        own, tensors, places, part="text_encoder", source=str(path), strict=strict
    ), ""


def _find_text(
    name: str, architecture: BertConfig, root: Path, fetch: bool
) -> tuple[Path | None, str]:
    here = folders(name, (root,))
    is_described = any((folder / "config.json").is_file() for folder in here)
    is_base = name in BERT_UNCASED and _is_bert_base(architecture)
    if name in BERT_UNCASED and not (is_described or is_base):
        # Built from the numbers beside MODEL_TYPE: the name stands for its words alone.
        return None, (
            f"it has {architecture.hidden_size} features and {architecture.num_hidden_layers} "
            f"layers, so the weights of {name} (768 and 12) are not its own"
        )
    found = find_file(name, TEXT_FILES, roots=(root,))
    if found is not None:
        return found, ""
    pieces = [f for folder in here for f in sorted(folder.glob("*.index.json"))]
    if pieces:
        raise CheckpointError(
            f"{pieces[0]} lists weights in several files; expected one, {TEXT_FILES[0]}. Write it "
            "with save_pretrained(folder, max_shard_size='10GB')"
        )
    place = list_files(here[0]) if here else f"there is no folder {root / name}"
    reason = f"{place}; put its {TEXT_FILES[0]} or {TEXT_FILES[1]} there"
    if not (fetch and is_base):
        return None, reason
    try:
        logger.info("looking for the weights of %s on the Hugging Face hub", name)
        return fetch_file(name, TEXT_FILES[0]), ""
    except FileNotFoundError as error:
        return None, f"{reason} ({error})"


def _is_bert_base(architecture: BertConfig) -> bool:
    base = BertConfig()
    numbers = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return all(getattr(architecture, key) == getattr(base, key) for key in numbers)


def _parts(own: Mapping[str, Tensor], sources: Mapping[str, str]) -> tuple[PartStart, ...]:
    parts = []
    for key, name in PARTS.items():
        names = [each for each in own if each.startswith(key + ".")]
        if not names:
            continue
        loaded = [each for each in names if each in sources]
        parts.append(
            PartStart(
                name=name,
                source=", ".join(dict.fromkeys(sources[each] for each in loaded)),
                loaded=len(loaded),
                total=len(names),
                initial=tuple(each for each in names if each not in sources),
            )
        )
    return tuple(parts)


def _warnings(
    kind: str, parts: tuple[PartStart, ...], given: list[EncoderWeights], no_text: str
) -> tuple[str, ...]:
    """What a person should know before spending days on this run."""
    lines = []
    if kind == "nothing" and not given:
        lines.append(
            "ALL weights are random: MODEL.WEIGHT is empty. Fine-tuning starts from a GLIP, "
            "pre-training from an ImageNet Swin (--weight FILE or MODEL.WEIGHT FILE)"
        )
    for part in parts:
        if not part.random:
            continue
        how = "is" if not part.loaded else f"is in part ({len(part.random)} tensors)"
        if part.name == "image encoder":
            advice = "name an ImageNet Swin or a GLIP in MODEL.WEIGHT"
            lines.append(f"the image encoder {how} random: {advice}")
        elif part.name == "text encoder":
            lines.append(f"the text encoder {how} random: {no_text or 'the file is not whole'}")
        elif kind == "glip":
            lines.append(f"the {part.name} {how} random: {summarise(part.random, limit=3)}")
    lines += [f"{weights.source}: {misfit}" for weights in given for misfit in weights.misfits]
    return tuple(lines)
