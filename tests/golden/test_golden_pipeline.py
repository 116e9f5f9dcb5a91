"""What ratios are measured against gives the published numbers itself: GLIP-T, COCO's 80 names."""

import logging
from pathlib import Path

import pytest
import torch
from golden import compare
from golden.compare import assert_follows, golden_tensor
from golden.forward_run import FUSED, LEVELS, Case, Run, prepare
from reference.pipeline import PublishedModel, PublishedPipeline
from torch import Tensor, nn

from glipkit.config.load import load_config
from glipkit.modeling.build import build_model, build_postprocessor
from glipkit.modeling.fill import fill_model

pytestmark = pytest.mark.slow
logger = logging.getLogger(__name__)

PRETRAIN = Path(__file__).parents[2] / "configs" / "pretrain"


@pytest.fixture(scope="module")
def pipeline() -> PublishedPipeline:
    cfg = load_config([PRETRAIN / f"{FUSED}.yaml"])
    with torch.device("meta"):
        empty = build_model(cfg)
    model = empty.to_empty(device="cpu").eval()
    fill_model(model, seed=0)
    return PublishedPipeline.of(model, build_postprocessor(cfg))


@pytest.fixture(scope="module")
def run(pipeline: PublishedPipeline, golden: Path) -> Run:
    run = prepare(golden, Case(FUSED, "det", trimmed=False))
    watch(pipeline.model, run.seen)
    with torch.no_grad():
        run.output = pipeline.forward(run.images, run.prompts)
    return run


def watch(model: PublishedModel, seen: dict[str, Tensor]) -> None:
    """Modules of the tower are numbered as the golden tensors are."""

    def levels(name: str, maps: list[Tensor]) -> None:
        seen.update({f"{name}.{level}": x for level, x in zip(LEVELS, maps)})

    def of_tower(name: str, part: nn.Module) -> None:
        def write(_module: nn.Module, _inputs: object, out: object) -> None:
            maps, hidden = out if isinstance(out, tuple) else (out, None)
            if isinstance(out, Tensor):
                maps, hidden = [], out
            levels(name, maps)
            if hidden is not None:
                seen[f"{name}.lang"] = hidden

        part.register_forward_hook(write)

    kinds = ("VLFuse", "BertEncoderLayer", "DyConv")
    for number, part in enumerate(model.rpn.head.dyhead_tower):
        of_tower(f"tower.{number:02}.{kinds[number % 3]}", part)
    model.backbone.fpn.register_forward_hook(lambda _m, _i, out: levels("fpn", out))
    model.language_backbone.register_forward_hook(
        lambda _m, _i, out: seen.update(zip(("lang.hidden", "lang.embedded"), out))
    )


def test_every_tensor(run: Run) -> None:
    names = run.names("tower.") + run.names("fpn.") + ["lang.hidden", "lang.embedded"]
    assert len(names) == 6 * 12 + 5 + 2
    for name in names:
        kind, text = name.split(".")[0], name.endswith(".lang")
        tower = compare.TOWER_TEXT if text else compare.TOWER_IMAGE
        limit = {"fpn": compare.PYRAMID, "lang": compare.TEXT}.get(kind, tower)
        far = assert_follows(run.seen[name], golden_tensor(run.goldens, name), limit)
        logger.info("%s: relative L2 %.1e, largest difference %.1e", name, *far)
    for name, level in zip(LEVELS, run.output.levels):
        expected = golden_tensor(run.goldens, f"head.dot_product_logits.{name}")
        assert_follows(level.token_logits, expected, compare.LOGITS)


def test_detections(pipeline: PublishedPipeline, run: Run) -> None:
    for image, size in enumerate(run.images.sizes):
        tokens = run.prompts.phrase_tokens[image]
        boxes, scores, labels = pipeline.decide(run.output, tokens, size, picture=image)
        expected = [run.goldens[f"det.MEAN.{image}.{w}"] for w in ("boxes", "scores", "labels")]
        missing = compare.count_unmatched((boxes, scores, labels + 1), expected)
        logger.info("picture %d: %d of %d without a partner", image, missing, len(boxes))
        assert len(boxes) >= 100
        assert missing <= 3
