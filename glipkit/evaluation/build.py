"""cfg -> how detections are judged, and under which protocol."""

from typing import Any

from yacs.config import CfgNode

from glipkit.data.caption_test_set import CaptionTestSet
from glipkit.data.catalog import EXPRESSIONS
from glipkit.data.datasets.lvis import LvisDetection
from glipkit.data.test_set import TestSet
from glipkit.data.wording_test_set import WordingTestSet
from glipkit.evaluation.coco import CocoEvaluator
from glipkit.evaluation.evaluator import Evaluator
from glipkit.evaluation.lvis import LvisEvaluator
from glipkit.evaluation.phrase_recall import PhraseRecall
from glipkit.evaluation.referring import ReferringAccuracy
from glipkit.evaluation.wording import WordingEvaluator
from glipkit.runtime.distributed import world_size


def build_evaluator(test_set: TestSet, cfg: CfgNode | None = None) -> Evaluator:
    """The judge of a test set: AP of classes, recall of phrases, accuracy of expressions."""
    if isinstance(test_set, WordingTestSet):
        judges = [build_evaluator(run.test_set, cfg) for run in test_set.runs]
        return WordingEvaluator(test_set, judges)
    if isinstance(test_set, CaptionTestSet):
        expressions = test_set.dataset.judged == EXPRESSIONS
        return (ReferringAccuracy if expressions else PhraseRecall)(test_set.dataset)
    if isinstance(test_set.dataset, LvisDetection):
        normal_ap = cfg is not None and cfg.DATASETS.LVIS_USE_NORMAL_AP
        return LvisEvaluator(test_set.dataset, test_set.category_ids, normal_ap=normal_ap)
    return CocoEvaluator(test_set.dataset, test_set.category_ids)


def images_per_rank(cfg: CfgNode) -> int:
    """This process's part of TEST.IMS_PER_BATCH, which counts all processes together."""
    return max(cfg.TEST.IMS_PER_BATCH // world_size(), 1)


def describe_protocol(cfg: CfgNode, *, weights: str) -> dict[str, Any]:
    """What answers depend on besides the test set and the metric, as plain data.

    Args:
        cfg: the configuration.
        weights: hash of the model's weights.
    """
    atss = cfg.MODEL.ATSS
    swin, head, language = cfg.MODEL.SWINT, cfg.MODEL.DYHEAD, cfg.MODEL.LANGUAGE_BACKBONE
    return {
        "model": {
            "backbone": cfg.MODEL.BACKBONE.CONV_BODY,
            "embed_dim": swin.EMBED_DIM,
            "depths": list(swin.DEPTHS),
            "heads": list(swin.NUM_HEADS),
            "anchor_sizes": list(cfg.MODEL.RPN.ANCHOR_SIZES),
            "anchor_strides": list(cfg.MODEL.RPN.ANCHOR_STRIDE),
            "tower_blocks": head.NUM_CONVS,
            "norm_groups": cfg.MODEL.GROUP_NORM.NUM_GROUPS,
            "early_fusion": head.FUSE_CONFIG.EARLY_FUSE_ON,
            "fusion_heads": head.FUSE_CONFIG.NUM_HEADS,
            "text_encoder": language.MODEL_TYPE,
            "text_heads": language.NUM_HEADS,
            "text_layers_averaged": language.N_LAYERS,
            "special_tokens_masked": language.MASK_SPECIAL,
        },
        "weights": weights,
        "precision": cfg.TEST.PRECISION,
        "chunk_size": cfg.TEST.CHUNKED_EVALUATION,
        "score_aggregation": head.SCORE_AGG,
        "score_threshold": atss.INFERENCE_TH,
        "nms_threshold": atss.NMS_TH,
        "candidates_per_level": atss.PRE_NMS_TOP_N,
        "detections_per_image": atss.DETECTIONS_PER_IMG,
        "augmentation": _describe_augmentation(cfg),
    }


def _describe_augmentation(cfg: CfgNode) -> dict[str, Any] | None:
    """How each picture is asked several times, and the answers joined; None if it is not."""
    test = cfg.TEST
    if not test.USE_MULTISCALE and test.SPECIAL_NMS == "none":
        return None
    described: dict[str, Any] = {"joined_by": test.SPECIAL_NMS, "iou_threshold": test.TH}
    if test.SPECIAL_NMS == "soft-nms-gaussian":
        described["sigma"] = test.SOFT_NMS_SIGMA
    described["candidates_per_view"] = test.PRE_NMS_TOP_N
    if test.USE_MULTISCALE:
        described["scales"] = list(test.SCALES)
        described["longest_side"] = test.MAX_SIZE
        described["box_sides"] = [list(each) for each in test.RANGES]
        described["flip"] = "except captions that say left or right" if test.FLIP else None
    return described
