"""One forward pass of a golden file's inputs, and everything seen on the way."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from glipkit.modeling.glip import GLIP, GroundingOutput
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch, TokenizedPrompt, batch_prompts

LEVELS = ("P3", "P4", "P5", "P6", "P7")
FUSED, UNFUSED = "glip_Swin_T_O365_GoldG", "glip_A_Swin_T_O365"
# GLIP-T(B) is GLIP-T's architecture; its goldens are of another picture (golden/README.md).
ARCHITECTURES = {FUSED: FUSED, "glip_Swin_T_O365": FUSED, UNFUSED: UNFUSED}
INPUTS = {FUSED: "inputs_seed0", "glip_Swin_T_O365": "inputs_single_seed0", UNFUSED: "inputs_seed0"}


class Case(NamedTuple):
    """What is run."""

    config: str
    caption: str  # "det": the 80 classes of COCO, "free": a sentence
    trimmed: bool  # text cut to the caption, as we run it, or padded to 256, as the reference does

    def __str__(self) -> str:
        return f"{self.config}-{self.caption}-{'trimmed' if self.trimmed else 'padded'}"

    @property
    def fused(self) -> bool:
        """Whether the text meets the picture in the tower."""
        return ARCHITECTURES[self.config] == FUSED


@dataclass
class Run:
    """Inputs, goldens, and the tensors of one pass under the golden files' names."""

    case: Case
    goldens: dict[str, np.ndarray]
    images: ImageBatch
    prompts: PromptBatch
    seen: dict[str, Tensor] = field(default_factory=dict)
    output: GroundingOutput | None = None

    def names(self, prefix: str) -> list[str]:
        """The goldens whose name begins so, each once."""
        found = {key.removesuffix(".sample") for key in self.goldens if key.startswith(prefix)}
        return sorted(name for name in found if not name.endswith((".shape", ".stats")))


def prepare(folder: Path, case: Case) -> Run:
    """The inputs of a case, from the folder of the golden files."""
    goldens = dict(np.load(folder / f"forward_{case.config}_{case.caption}_seed0.npz"))
    inputs = np.load(folder / f"{INPUTS[case.config]}.npz")
    sizes = tuple((int(h), int(w)) for h, w in inputs["image_sizes_hw"])
    prompt = golden_prompt(goldens)
    if case.trimmed:
        prompts = batch_prompts([prompt] * len(sizes))
    else:
        prompts = PromptBatch(
            prompt.token_ids.expand(len(sizes), -1),
            prompt.token_mask.expand(len(sizes), -1),
            (prompt.phrase_tokens,) * len(sizes),
        )
    return Run(case, goldens, ImageBatch(torch.from_numpy(inputs["batch"]), sizes), prompts)


def golden_prompt(goldens: dict[str, np.ndarray]) -> TokenizedPrompt:
    """The caption as the reference read it; label i is phrase i - 1."""
    labels = json.loads(str(goldens["positive_map_json"]))
    phrase_tokens = torch.zeros(len(labels), 256, dtype=torch.long)
    for label, tokens in labels.items():
        for token in tokens:
            phrase_tokens[int(label) - 1, token] += 1
    return TokenizedPrompt(
        torch.from_numpy(goldens["input_ids"][0]),
        torch.from_numpy(goldens["attention_mask"][0]).bool(),
        phrase_tokens,
    )


def forward(model: GLIP, run: Run) -> Run:
    """Run the model while someone writes down what passes."""
    hooks = []

    def record(module: nn.Module, write: Callable[..., dict[str, Tensor]]) -> None:
        hooks.append(module.register_forward_hook(lambda _m, _i, out: run.seen.update(write(out))))

    record(
        model.text_encoder, lambda out: {"lang.hidden": out.hidden, "lang.embedded": out.embedded}
    )
    record(model.pyramid, lambda out: _levels("fpn", out))
    number = 0
    for block in model.tower.blocks:
        for kind, part, write in (
            ("VLFuse", block.fusion, lambda name, out: _levels(name, out[0]) | _text(name, out[1])),
            ("BertEncoderLayer", block.text_layer, lambda name, out: _text(name, out)),
            ("DyConv", block.dyconv, lambda name, out: _levels(name, out)),
        ):
            if part is not None:
                name = f"tower.{number:02}.{kind}"
                record(part, lambda out, write=write, name=name: write(name, out))
                number += 1
    try:
        with torch.inference_mode():
            run.output = model(run.images, run.prompts)
            stages = model.backbone.all_stages(run.images.pixels)
    finally:
        for hook in hooks:
            hook.remove()
    run.seen |= {f"swin.stage{number}": x for number, x in enumerate(stages, start=2)}
    return run


def _levels(name: str, maps: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {f"{name}.{level}": x for level, x in zip(LEVELS, maps)}


def _text(name: str, hidden: Tensor) -> dict[str, Tensor]:
    return {f"{name}.lang": hidden}
