"""What files of an image encoder or a text encoder alone call their tensors, in our names.

A Swin classifier comes in three spellings: that of its authors (`layers.0.downsample`, which GLIP's
pre-training starts from), timm's (the step between two stages belongs to the later one:
`layers.1.downsample`) and torchvision's (`features.2.reduction`). The tensors are the same ones.
"""

import re
from collections.abc import Iterable

from glipkit.modeling.official import our_name

# Swin: the classifier, the norm before it (the pyramid has norms of its own), and what follows from
# the architecture.
_SWIN_ASIDE = re.compile(r"head(\.fc)?\.(weight|bias)|norm\.(weight|bias)")
_SWIN_DERIVED = re.compile(r".*\.(relative_position_index|attn_mask)")
# BERT: the sentence vector, what predicts words, and buffers of old files.
_BERT_ASIDE = re.compile(
    r"pooler\..+|cls\..+|qa_outputs\..+|classifier\..+|embeddings\.(position_ids|token_type_ids)"
)
_TIMM_STEP = re.compile(r"layers\.(\d+)\.downsample\.")
_TORCHVISION = (
    (re.compile(r"features\.0\.0\."), lambda _: "patch_embed.proj."),
    (re.compile(r"features\.0\.2\."), lambda _: "patch_embed.norm."),
    (
        re.compile(r"features\.(\d+)\.(norm|reduction)\."),
        lambda found: f"layers.{int(found[1]) // 2 - 1}.downsample.{found[2]}.",
    ),
    (
        re.compile(r"features\.(\d+)\.(\d+)\."),
        lambda found: f"layers.{int(found[1]) // 2}.blocks.{found[2]}.",
    ),
)
_TORCHVISION_MLP = {".mlp.0.": ".mlp.fc1.", ".mlp.3.": ".mlp.fc2."}


def is_swin(names: Iterable[str]) -> bool:
    """Whether the names are those of a Swin classifier, in one of the three spellings."""
    names = set(names)
    return "patch_embed.proj.weight" in names or "features.0.0.weight" in names


def is_bert(names: Iterable[str]) -> bool:
    """Whether the names are those of a BERT, with or without `bert.` before them."""
    return any(name.removeprefix("bert.") == "embeddings.word_embeddings.weight" for name in names)


def swin_places(names: Iterable[str]) -> dict[str, str | None]:
    """Where each tensor of a Swin classifier belongs.

    Args:
        names: all names of the file; see `is_swin`.

    Returns:
        Name -> our name; None for what a detector has no use for. Names of nobody stay as they
        are.
    """
    names = list(names)
    if "features.0.0.weight" in names:
        authors = {name: _from_torchvision(name) for name in names}
    elif any(name.startswith("layers.0.downsample.") for name in names):
        authors = {name: name for name in names}
    else:
        authors = {name: _TIMM_STEP.sub(_earlier, name, count=1) for name in names}
    return {name: _backbone_place(name, theirs) for name, theirs in authors.items()}


def bert_places(names: Iterable[str]) -> dict[str, str | None]:
    """Where each tensor of a BERT belongs; as `swin_places`.

    Files converted from TensorFlow, the one of bert-base-uncased among them, call the parameters of
    a norm gamma and beta.
    """
    places: dict[str, str | None] = {}
    for name in names:
        theirs = name.removeprefix("bert.")
        if _BERT_ASIDE.fullmatch(theirs):
            places[name] = None
        elif theirs.startswith(("embeddings.", "encoder.layer.")):
            theirs = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", theirs)
            theirs = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", theirs)
            places[name] = f"text_encoder.bert.{theirs}"
        else:
            places[name] = name
    return places


def _from_torchvision(name: str) -> str:
    for pattern, write in _TORCHVISION:
        if pattern.match(name):
            name = pattern.sub(write, name, count=1)
            break
    for theirs, authors in _TORCHVISION_MLP.items():
        name = name.replace(theirs, authors)
    return name


def _earlier(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) - 1}.downsample."


def _backbone_place(name: str, authors: str) -> str | None:
    if _SWIN_ASIDE.fullmatch(authors) or _SWIN_DERIVED.fullmatch(authors):
        return None
    try:
        return our_name(f"backbone.body.{authors}", fused=False)
    except KeyError:
        return name
