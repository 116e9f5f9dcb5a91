"""What a configuration means for a training run. No other file of this package reads it."""

import logging
import math

import torch
from torch import nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from glipkit.engine.ema import Ema
from glipkit.engine.loop_state import LoopSettings
from glipkit.engine.optimizer import Rates, make_optimizer, overview
from glipkit.engine.schedule import Patience, Plan, Schedule, milestones
from glipkit.engine.tuning import TuningPlan, prepare
from glipkit.modeling.glip import GLIP
from glipkit.runtime.distributed import world_size

logger = logging.getLogger(__name__)

_AMP = {"bfloat16": torch.bfloat16, "float16": torch.float16}  # SOLVER.AMP_DTYPE
_BFLOAT16_SINCE = (8, 0)  # compute capability


def build_optimizer(cfg: CfgNode, learner: nn.Module) -> Optimizer:
    """The optimizer of what is trained; the log has its groups.

    Raises:
        ValueError: nothing is trained.
    """
    solver = cfg.SOLVER
    rates = Rates(
        base=solver.BASE_LR,
        text=solver.LANG_LR,
        backbone_factor=solver.BACKBONE_BODY_LR_FACTOR,
        text_layer_factor=solver.TEXT_LAYER_LR_FACTOR,
        bias_factor=solver.BIAS_LR_FACTOR,
        decay=solver.WEIGHT_DECAY,
        decay_bias=solver.WEIGHT_DECAY_BIAS,
        decay_norm_factor=solver.WEIGHT_DECAY_NORM_FACTOR,
    )
    optimizer = make_optimizer(learner, rates, kind=solver.OPTIMIZER, momentum=solver.MOMENTUM)
    logger.info("%s:\n%s", solver.OPTIMIZER, overview(optimizer))
    return optimizer


def total_steps(cfg: CfgNode, steps_per_epoch: int) -> int:
    """Steps of the whole run: MAX_EPOCH passes, or MAX_ITER."""
    return cfg.SOLVER.MAX_EPOCH * steps_per_epoch or cfg.SOLVER.MAX_ITER


def build_schedule(cfg: CfgNode, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """How the optimizer's rates change.

    Args:
        cfg: the configuration.
        optimizer: whose rates.
        steps_per_epoch: batches of one pass over the data.
    """
    solver, steps = cfg.SOLVER, total_steps(cfg, steps_per_epoch)
    plan = Plan(
        total_steps=steps,
        milestones=milestones(solver.STEPS, steps),
        gamma=solver.GAMMA,
        warmup_steps=solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_method=solver.WARMUP_METHOD,
        cosine=solver.USE_COSINE,
        flat=solver.COSINE_START,
        min_rate=solver.MIN_LR,
        decay_ratio=solver.WEIGHT_DECAY_SCHEDULE_RATIO if solver.WEIGHT_DECAY_SCHEDULE else None,
    )
    if 0 < steps <= plan.warmup_steps:
        logger.warning(
            "SOLVER.WARMUP_ITERS is %d, the run has %d steps: the learning rate is never reached",
            plan.warmup_steps,
            steps,
        )
    patience = Patience(
        before_step=solver.STEP_PATIENCE if solver.USE_AUTOSTEP else None,
        before_end=(solver.AUTO_TERMINATE_PATIENCE if solver.AUTO_TERMINATE_PATIENCE > 0 else None),
    )
    return Schedule(optimizer, plan, patience)


def build_ema(cfg: CfgNode, learner: nn.Module) -> Ema | None:
    """The running mean of what is trained, if MODEL_EMA asks for one."""
    return Ema(learner, cfg.SOLVER.MODEL_EMA) if cfg.SOLVER.MODEL_EMA else None


def build_loop_settings(cfg: CfgNode, device: torch.device, steps_per_epoch: int) -> LoopSettings:
    """How long the loop runs, when it looks up, and how it computes.

    Args:
        cfg: the configuration.
        device: where the model is.
        steps_per_epoch: batches of one pass over the data.

    Raises:
        ValueError: a process's share of a batch cannot be split into ACCUMULATION pieces.
    """
    solver, clip = cfg.SOLVER, cfg.SOLVER.CLIP_GRADIENTS
    if solver.IMS_PER_BATCH % (world_size() * solver.ACCUMULATION):
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH} cannot be split evenly among "
            f"{world_size()} processes with SOLVER.ACCUMULATION {solver.ACCUMULATION} pieces each; "
            f"choose a multiple of {world_size() * solver.ACCUMULATION}"
        )
    every = solver.CHECKPOINT_PERIOD
    if solver.CHECKPOINT_PER_EPOCH > 0:
        every = max(math.floor(steps_per_epoch / solver.CHECKPOINT_PER_EPOCH), 1)
    return LoopSettings(
        total_steps=total_steps(cfg, steps_per_epoch),
        save_every=every,
        evaluates=cfg.TEST.DURING_TRAINING,
        judges_mean=solver.USE_EMA_FOR_MONITOR and solver.MODEL_EMA > 0,
        log_every=solver.LOG_PERIOD,
        max_skipped=solver.MAX_SKIPPED_STEPS,
        pieces=solver.ACCUMULATION,
        autocast_dtype=_autocast_dtype(cfg, device),
        clip_norm=clip.CLIP_VALUE if clip.ENABLED else None,
        norm_type=clip.NORM_TYPE,
    )


def _autocast_dtype(cfg: CfgNode, device: torch.device) -> torch.dtype | None:
    if not cfg.SOLVER.USE_AMP:
        return None
    if cfg.SOLVER.AMP_DTYPE:
        return _AMP[cfg.SOLVER.AMP_DTYPE]
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) < _BFLOAT16_SINCE:
            logger.warning(
                "SOLVER.USE_AMP: this GPU has no bfloat16 of its own, which makes it slow; "
                "SOLVER.AMP_DTYPE float16 suits it"
            )
        return torch.bfloat16
    logger.info(
        "SOLVER.USE_AMP: on the CPU half precision is slower on most machines, so float32 is used; "
        "SOLVER.AMP_DTYPE bfloat16 insists"
    )
    return None


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
