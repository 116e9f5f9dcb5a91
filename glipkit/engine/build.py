"""What a configuration means for a training run. No other file of this package reads it."""

from torch import nn
from yacs.config import CfgNode

from glipkit.engine.tuning import TuningPlan, prepare
from glipkit.modeling.glip import GLIP


def build_tuning_plan(cfg: CfgNode, model: GLIP, criterion: nn.Module | None = None) -> TuningPlan:
    """What of the model learns; switches gradients accordingly.

    Args:
        cfg: the configuration.
        model: built for the same configuration.
        criterion: of the learner, so that heads of losses freeze with the head of the model.

    Raises:
        ValueError: the keys contradict each other, or leave nothing to train.
    """
    return prepare(
        model,
        mode=cfg.SOLVER.TUNING_HIGHLEVEL_OVERRIDE,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT,
        freeze_backbone=cfg.MODEL.BACKBONE.FREEZE,
        freeze_pyramid=cfg.MODEL.FPN.FREEZE,
        freeze_text=cfg.MODEL.LANGUAGE_BACKBONE.FREEZE,
        freeze_head=cfg.MODEL.RPN.FREEZE,
        linear_prob=cfg.MODEL.LINEAR_PROB,
        criterion=criterion,
    )
