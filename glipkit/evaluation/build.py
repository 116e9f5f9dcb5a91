"""cfg -> how detections are judged, and under which protocol."""

from typing import Any

from yacs.config import CfgNode

from glipkit.data.test_set import TestSet
from glipkit.evaluation.coco import CocoEvaluator
from glipkit.evaluation.evaluator import Evaluator


def build_evaluator(test_set: TestSet) -> Evaluator:
    """The judge of a test set."""
    return CocoEvaluator(test_set.dataset, test_set.category_ids)


def describe_protocol(cfg: CfgNode, *, weights: str) -> dict[str, Any]:
    """What answers depend on besides the test set, as plain data.

    Args:
        cfg: the configuration.
        weights: hash of the model's weights.
    """
    atss = cfg.MODEL.ATSS
    return {
        "weights": weights,
        "metric": "COCO box AP (pycocotools)",
        "precision": cfg.TEST.PRECISION,
        "chunk_size": cfg.TEST.CHUNKED_EVALUATION,
        "score_aggregation": cfg.MODEL.DYHEAD.SCORE_AGG,
        "score_threshold": atss.INFERENCE_TH,
        "nms_threshold": atss.NMS_TH,
        "candidates_per_level": atss.PRE_NMS_TOP_N,
        "detections_per_image": atss.DETECTIONS_PER_IMG,
    }
