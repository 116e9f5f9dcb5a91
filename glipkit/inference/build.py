"""From a model's name to a detector that answers questions: what `glipkit.load` does."""

import logging
import os
from collections.abc import Mapping

import torch
from torch import Tensor
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.data.build import build_test_transform
from glipkit.engine.checkpoint import LoadReport, load_weights, match_weights, weights_hash
from glipkit.engine.naming import describe, detect_layout, published_names
from glipkit.engine.shared_text import read_weights
from glipkit.engine.tensor_files import CheckpointError
from glipkit.engine.tuned import has_prompt_offset, load_tuned
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.inference.detector import PhraseDetector
from glipkit.inference.known import DEFAULT_THRESHOLD, KNOWN, SHIPPED, KnownModel
from glipkit.inference.models import ModelFiles, find_model, model_folders
from glipkit.modeling.build import PRECISIONS, build_detector, build_model
from glipkit.modeling.glip import GLIP
from glipkit.programs.evaluation import CAPTIONS, offset_override

logger = logging.getLogger(__name__)

# A configuration may ask for what suits an evaluation of hours: kernels made for one size.
_ONE_PICTURE_AT_A_TIME = ("TEST.CUDA_GRAPHS", "False", "TEST.COMPILE", "False")


def load(
    model: str | os.PathLike[str] = "nano",
    *,
    device: str | torch.device | None = None,
    precision: str = "float32",
    weights: str | os.PathLike[str] | None = None,
) -> PhraseDetector:
    """A detector that finds what words name.

        detector = glipkit.load("nano")
        found = detector("street.jpg", "a red circle . the small star on the left")

    Nothing is downloaded. "nano" comes with glipkit; the published models are looked for under
    their published file names in the folder that GLIPKIT_MODELS names, in MODEL/, and in the cache
    of the Hugging Face hub, where the tools leave what they fetched.

    Args:
        model: one of `glipkit.inference.known.KNOWN`: "nano", "glip-t", "glip-t-a", "glip-t-b",
            "glip-t-c", "glip-l"; or the folder of a run, with its config.yaml and weights; or a
            file of weights (.pth, .safetensors), whose architecture is told by the config.yaml
            beside it or else by its names and shapes; or a YAML file, with `weights`.
        device: "cpu", "cuda", "cuda:1"; None is a GPU where there is one.
        precision: of matrix products: "float32", "bfloat16", or "int8" (x86 CPUs only).
        weights: other weights than those that go with `model`, or what fine-tuning saved on top of
            them; with the folder of a run that tuned a part, what it was tuned of.

    Raises:
        TypeError: `model` is neither text nor a path.
        ValueError: there is no such model, device or precision, or the weights do not fit.
        FileNotFoundError: a file is not on this machine; says which, and where it goes.
    """
    place = find_device(device)
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; known: {', '.join(PRECISIONS)}")
    files = find_model(model, weights)
    config = files.config
    if config is None:
        tensors = read_weights(files.weights, roots=tuple(model_folders()))
        config = recognise(tensors, source=str(files.weights)).config_file
    offsets = offset_override(files.tuned) or offset_override(files.weights)
    overrides = ("TEST.PRECISION", precision, *_ONE_PICTURE_AT_A_TIME, *offsets)
    cfg = load_config([config], overrides, quiet=config.is_relative_to(SHIPPED))
    warn_of_descriptions(cfg, str(config))
    tokenizer = load_vocabulary(cfg)  # before anything large is made
    net = build_model(cfg, roots=tuple(model_folders()))
    _load_weights(net, files)
    return build_phrase_detector(
        *(cfg, net.eval().to(place), tokenizer),
        name=files.name,
        default_threshold=files.default_threshold,
    )


def warn_of_descriptions(cfg: CfgNode, source: str) -> None:
    """Say that a configuration with GLIPKNOW.* does not describe what the caller asks."""
    if cfg.GLIPKNOW.KNOWLEDGE_FILE or cfg.GLIPKNOW.PARALLEL_LANGUAGE_INPUT:
        logger.warning(
            "%s tells classes what they are (GLIPKNOW.*), which evaluations do "
            "(tools/test_grounding_net.py); here words are asked as they are given",
            source,
        )


def build_phrase_detector(
    cfg: CfgNode,
    model: GLIP,
    tokenizer: Tokenizer,
    *,
    name: str,
    default_threshold: float = DEFAULT_THRESHOLD,
) -> PhraseDetector:
    """A detector around a model that is loaded already; pictures and words as in evaluation.

    Args:
        cfg: the model's configuration.
        model: on its device, in evaluation mode.
        tokenizer: of its text encoder.
        name: what to call it.
        default_threshold: on scores, where a call names none.
    """
    return PhraseDetector(
        build_detector(cfg, model),
        tokenizer,
        build_test_transform(cfg),
        name=name,
        default_threshold=default_threshold,
        divisor=cfg.DATALOADER.SIZE_DIVISIBILITY,
        max_tokens=cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN,
        separator=cfg.DATASETS.SEPARATION_TOKENS,
        chunk_size=cfg.TEST.CHUNKED_EVALUATION,
    )


def find_device(device: str | torch.device | None) -> torch.device:
    """Where a model goes: what was said, or a GPU where there is one.

    Raises:
        ValueError: glipkit does not run there, or this machine has no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {device!r}; glipkit runs on cpu, cuda or cuda:1") from error
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}; glipkit runs on cpu, cuda or cuda:1")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {str(place)!r}, but this machine has {torch.cuda.device_count()} GPUs that "
            "torch can use; leave device out, or say cpu"
        )
    return place


def load_vocabulary(cfg: CfgNode) -> Tokenizer:
    """The vocabulary of a configuration, from the folders of models or what is installed.

    Raises:
        FileNotFoundError: it is not on this machine; says where it goes.
    """
    name = cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE
    return Tokenizer.load(name, roots=tuple(model_folders()), fetch=False)


def _load_weights(model: GLIP, files: ModelFiles) -> None:
    load_weights(model, files.weights, roots=tuple(model_folders()))
    if files.tuned is None:
        return
    said = load_tuned(model, files.tuned, base_hash=weights_hash(model)).extra
    if has_prompt_offset(files.tuned):  # of no use at the positions of other words (BEHAVIOUR 16)
        logger.warning(
            "%s has a learned prompt, which belongs to the words it was learnt with: %s",
            files.tuned,
            said.get(CAPTIONS, "unknown ones"),
        )


def recognise(tensors: Mapping[str, Tensor], *, source: str) -> KnownModel:
    """The known model whose architecture has these names and shapes.

    Args:
        tensors: of a whole model, published names or ours; their values are not looked at.
        source: what to call the file they are from.

    Raises:
        CheckpointError: none fits, or several that compute differently do.
    """
    reports: dict[str, LoadReport] = {}
    rows = []
    first = {known.config: key for key, known in reversed(KNOWN.items())}  # a key for each
    for key in sorted(first.values(), key=list(KNOWN).index):
        cfg = load_config([KNOWN[key].config_file], quiet=True)
        try:
            with torch.device("meta"):  # names and shapes alone
                own = build_model(cfg, roots=tuple(model_folders())).state_dict()
        except FileNotFoundError as error:  # of its text encoder, which is not installed
            rows.append(f"  {key}: not compared, {error}")
            continue
        reports[key] = match_weights(own, tensors, source=source)
        rows.append(_row(key, reports[key], len(tensors)))
    fitting = [key for key, report in reports.items() if report.fits]
    if len({_settings(KNOWN[key]) for key in fitting}) == 1:
        return KNOWN[fitting[0]]
    layout = detect_layout(tensors, source=source)
    published = published_names(tensors) if layout == "ours" else {n: n for n in tensors}
    found = describe({published[name]: tensor.shape for name, tensor in tensors.items()})
    fits = " and ".join(fitting) or "no known model"
    raise CheckpointError(
        f"{source} does not say what it is of, and fits {fits}: "
        f"it has {found}. Compared by names and shapes with\n"
        + "\n".join(rows)
        + "\nPut the config.yaml of its run beside it, or load its YAML file: "
        f"glipkit.load('model.yaml', weights={source!r})"
    )


def _settings(known: KnownModel) -> tuple[str, ...]:
    """What a model computes with besides its weights, comparable."""
    cfg = load_config([known.config_file], quiet=True)
    parts = (cfg.MODEL, cfg.INPUT, cfg.TEST, cfg.DATALOADER.SIZE_DIVISIBILITY)
    return tuple(str(part) for part in parts)


def _row(key: str, report: LoadReport, total: int) -> str:
    return (
        f"  {key}: {len(report.loaded)} of {total} tensors fit, {len(report.missing)} missing, "
        f"{len(report.unexpected)} unexpected, {len(report.wrong_shape)} of another shape"
    )
