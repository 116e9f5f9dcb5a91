"""GLIP-T beside GroundingDINO-T of transformers: python benchmarks/grounding_dino.py.

The neighbour that people reach for: the same backbone, BERT and width, 900 queries refined by
six decoder layers in place of one anchor a position. Published sizes, random weights: time does
not depend on them, answers do, so there is nothing to compare but that both ran all parts on the
same picture and the same words.
"""

import argparse
import functools
import statistics
import sys

import torch
from model import Subject, load
from rows import Row, timed
from rows import main as program
from timing import turns
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SwinConfig,
)

from glipkit.modeling.build import build_detector

ROWS = ("glip_t_vs_grounding_dino",)
REPEATS = 3
QUERIES = 900


def build(*, quick: bool) -> GroundingDinoForObjectDetection:
    """IDEA-Research/grounding-dino-tiny by its numbers; a small one of the same parts if quick."""
    swin = SwinConfig(
        embed_dim=24 if quick else 96,
        depths=[1, 1, 2, 1] if quick else [2, 2, 6, 2],
        num_heads=[1, 2, 4, 8] if quick else [3, 6, 12, 24],
        window_size=7,
        out_indices=[2, 3, 4],
    )
    bert = BertConfig(
        hidden_size=64 if quick else 768,
        num_hidden_layers=2 if quick else 12,
        num_attention_heads=4 if quick else 12,
        intermediate_size=128 if quick else 3072,
    )
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        num_queries=QUERIES // 10 if quick else QUERIES,
        d_model=256,
        encoder_layers=2 if quick else 6,
        decoder_layers=2 if quick else 6,
        num_feature_levels=4,
        max_text_len=256,
        two_stage=True,
        decoder_bbox_embed_share=True,
        disable_custom_kernels=True,  # they are for CUDA, and are fetched from the hub
    )
    torch.manual_seed(0)
    return GroundingDinoForObjectDetection(config).eval()


def compare(name: str, arguments: argparse.Namespace) -> Row:
    """Their forward pass beside our detector with forgotten words, as they have none remembered."""
    cfg, model = load(arguments)
    detector = build_detector(cfg, model)
    subject = Subject(arguments, cfg, "coco")
    theirs = build(quick=arguments.quick).to(arguments.device)
    height, width = subject.size
    tokens = subject.prompt.token_mask.sum()
    inputs = {
        "pixel_values": subject.images.pixels[..., :height, :width].contiguous(),
        "pixel_mask": torch.ones(1, height, width, dtype=torch.long),
        "input_ids": subject.prompt.token_ids[None, :tokens],
        "attention_mask": torch.ones(1, int(tokens), dtype=torch.long),
        "token_type_ids": torch.zeros(1, int(tokens), dtype=torch.long),
    }
    inputs = {key: value.to(arguments.device) for key, value in inputs.items()}

    def ours() -> int:
        detector.forget()
        return len(subject.ask(detector)[0])

    @torch.inference_mode()
    def reference() -> torch.Tensor:
        with subject.precision(theirs):
            return theirs(**inputs).pred_boxes

    detections, boxes = ours(), reference()
    if boxes.shape != (1, theirs.config.num_queries, 4) or not boxes.isfinite().all():
        raise RuntimeError(f"GroundingDINO gave boxes of shape {tuple(boxes.shape)}, or not finite")
    if not detections:
        raise RuntimeError("our detector found nothing, so a part of its work was left out")
    seconds = turns(
        [ours, reference, lambda: subject.ask(detector)], 1 if arguments.quick else REPEATS, 0
    )
    return timed(
        name,
        seconds[:2],
        difference=None,
        tolerance=None,
        reason="another network with random weights: checked are the same picture and words, "
        "that it gave boxes for all its queries, and that ours found something",
        arguments=arguments,
        against="GroundingDINO-T of transformers, forward pass only",
        size=f"{height}x{width} pixels, {int(tokens)} tokens",
        extra={
            "detections": detections,
            "queries": theirs.config.num_queries,
            "parameters": [sum(p.numel() for p in m.parameters()) for m in (model, theirs)],
            "ours_with_prompt_cache": statistics.median(seconds[2]),
        },
    )


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`."""
    return [compare(name, arguments).as_dict() for name in arguments.names]


main = functools.partial(program, ROWS, rows, __doc__)

if __name__ == "__main__":
    sys.exit(main())
