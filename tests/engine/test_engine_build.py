"""What the SOLVER keys mean for a training run."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.engine.build import (
    build_ema,
    build_loop_settings,
    build_optimizer,
    build_schedule,
    total_steps,
)

PRETRAIN = Path(__file__).parents[2] / "configs" / "pretrain"
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def configured(*overrides: Any, model: str = "glip_Swin_T_O365_GoldG") -> CfgNode:
    return load_config([PRETRAIN / f"{model}.yaml"], [str(word) for word in overrides])


def learner() -> nn.Module:
    return nn.ModuleDict({"model": nn.Linear(2, 2), "criterion": nn.Identity()})


def test_glip_t_as_published() -> None:
    cfg = configured()
    optimizer = build_optimizer(cfg, learner())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (1e-4, 1e-4),
        (2e-4, 0),
    ]
    plan = build_schedule(cfg, optimizer, steps_per_epoch=1000).plan
    assert (plan.total_steps, plan.milestones) == (30_000, (20_100, 26_700))
    assert (plan.warmup_steps, plan.warmup_factor, plan.gamma) == (2000, 0.001, 0.1)
    assert plan.decay_ratio is None
    settings = build_loop_settings(cfg, CPU, 1000)
    assert (settings.total_steps, settings.save_every) == (30_000, 2500)
    assert (settings.clip_norm, settings.norm_type) == (1.0, 2.0)
    assert not settings.evaluates
    assert build_ema(cfg, learner()).decay == 0.999


def test_glip_l_as_published() -> None:
    cfg = configured(model="glip_Swin_L")
    plan = build_schedule(cfg, build_optimizer(cfg, learner()), steps_per_epoch=1000).plan
    assert (plan.total_steps, plan.milestones) == (1_000_000, (670_000, 890_000))
    assert plan.decay_ratio == 0.667
    assert plan.decay_factor(446_889) == 1.0
    assert plan.decay_factor(446_890) == 0.1
    assert build_ema(cfg, learner()) is None
    assert build_loop_settings(cfg, CPU, 1000).autocast_dtype is None


def test_epochs_go_before_steps() -> None:
    assert total_steps(configured("SOLVER.MAX_EPOCH", 3, "SOLVER.MAX_ITER", 7), 5) == 15
    assert total_steps(configured("SOLVER.MAX_EPOCH", 0, "SOLVER.MAX_ITER", 7), 5) == 7


@pytest.mark.parametrize(
    ("per_epoch", "every"), [(1.0, 12), (2.0, 6), (5.0, 2), (0.5, 24), (100.0, 1), (-1.0, 2500)]
)
def test_checkpoints_per_epoch(per_epoch: float, every: int) -> None:
    cfg = configured("SOLVER.CHECKPOINT_PER_EPOCH", per_epoch)
    assert build_loop_settings(cfg, CPU, steps_per_epoch=12).save_every == every


def test_patience() -> None:
    optimizer = build_optimizer(configured(), learner())
    plain = build_schedule(configured("SOLVER.STEP_PATIENCE", 3), optimizer, 10).patience
    assert (plain.before_step, plain.before_end) == (None, None)
    words = ("SOLVER.USE_AUTOSTEP", True, "SOLVER.STEP_PATIENCE", 3,
             "SOLVER.AUTO_TERMINATE_PATIENCE", 8)  # fmt: skip
    both = build_schedule(configured(*words), optimizer, 10).patience
    assert (both.before_step, both.before_end) == (3, 8)


@pytest.mark.parametrize(
    ("words", "device", "expected"),
    [
        (("SOLVER.USE_AMP", False), CUDA, None),
        (("SOLVER.USE_AMP", True), CUDA, torch.bfloat16),
        (("SOLVER.USE_AMP", True), CPU, None),
        (("SOLVER.USE_AMP", True, "SOLVER.AMP_DTYPE", "bfloat16"), CPU, torch.bfloat16),
        (("SOLVER.USE_AMP", True, "SOLVER.AMP_DTYPE", "float16"), CUDA, torch.float16),
    ],
)
def test_half_precision(
    words: tuple, device: torch.device, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert build_loop_settings(configured(*words), device, 10).autocast_dtype is expected


def test_what_half_precision_comes_to_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = configured("SOLVER.USE_AMP", True)
    with caplog.at_level(logging.INFO):
        build_loop_settings(cfg, CPU, 10)
    assert "SOLVER.AMP_DTYPE bfloat16 insists" in caplog.text
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    build_loop_settings(cfg, CUDA, 10)
    assert "SOLVER.AMP_DTYPE float16 suits it" in caplog.text


def test_the_mean_is_judged_only_where_asked() -> None:
    words = ("SOLVER.USE_EMA_FOR_MONITOR", True, "TEST.DURING_TRAINING", True)
    settings = build_loop_settings(configured(*words), CPU, 10)
    assert (settings.judges_mean, settings.evaluates) == (True, True)
    assert not build_loop_settings(configured(), CPU, 10).judges_mean


def test_a_batch_that_has_no_such_pieces() -> None:
    words = ("SOLVER.IMS_PER_BATCH", 6, "SOLVER.ACCUMULATION", 4)
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH 6 .*ACCUMULATION 4 .*multiple of 4"):
        build_loop_settings(configured(*words), CPU, 10)


def test_a_warm_up_that_never_ends_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    cfg = configured("SOLVER.MAX_EPOCH", 2)
    with caplog.at_level(logging.WARNING):
        build_schedule(cfg, build_optimizer(cfg, learner()), steps_per_epoch=10)
    assert "SOLVER.WARMUP_ITERS is 2000, the run has 20 steps" in caplog.text


def test_groups_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        build_optimizer(configured(), learner())
    assert "ADAMW" in caplog.text
    assert "0.0002" in caplog.text
