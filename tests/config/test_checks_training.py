"""What a training run refuses, in which words; and that evaluation asks none of it."""

import logging
from pathlib import Path

import pytest
from yacs.config import CfgNode

from glipkit.config import ConfigError, load_config, load_tasks

CONFIGS = Path(__file__).parents[2] / "configs"
GLIP_T = CONFIGS / "pretrain/glip_Swin_T_O365_GoldG.yaml"
GLIP_A = CONFIGS / "pretrain/glip_A_Swin_T_O365.yaml"
PRETRAIN = sorted((CONFIGS / "pretrain").glob("*.yaml"))
WHOLE = ("pretrain", "nano")  # folders of files that describe a model
TASKS = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in WHOLE)
RACCOON = CONFIGS / "odinw_13/Raccoon_Raccoon.v2-raw.coco.yaml"
FUSE = "MODEL.DYHEAD.FUSE_CONFIG"
# DESIGN 6, what GLIP's users type after finetune.py's flags.
FINE_TUNING = (
    *("SOLVER.USE_AMP", "True", "TEST.DURING_TRAINING", "True", "TEST.IMS_PER_BATCH", "4"),
    *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.WEIGHT_DECAY", "0.05", "TEST.EVAL_TASK", "detection"),
    *("DATASETS.TRAIN_DATASETNAME_SUFFIX", "_grounding"),
    *("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "2", "MODEL.DYHEAD.USE_CHECKPOINT", "True"),
    *("SOLVER.FIND_UNUSED_PARAMETERS", "False", "SOLVER.TEST_WITH_INFERENCE", "True"),
    *("SOLVER.USE_AUTOSTEP", "True", "DATASETS.USE_OVERRIDE_CATEGORY", "True"),
    *("SOLVER.SEED", "10", "DATASETS.SHUFFLE_SEED", "3", "DATASETS.USE_CAPTION_PROMPT", "True"),
    *("DATASETS.DISABLE_SHUFFLE", "True", "SOLVER.STEP_PATIENCE", "3"),
    *("SOLVER.CHECKPOINT_PER_EPOCH", "1.0", "SOLVER.AUTO_TERMINATE_PATIENCE", "8"),
    *("SOLVER.MODEL_EMA", "0.0"),
)
MODES = ("full", "linear_prob", *(f"language_prompt_v{n}" for n in (1, 2, 3, 4)))


def learning(*overrides: str, files: tuple[Path, ...] = (GLIP_T,)) -> CfgNode:
    """The configuration of a training run; evaluation takes the same one without a word."""
    load_config(files, overrides)
    return load_config(files, overrides, training=True)


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda path: path.stem)
def test_published_models_can_be_trained(path: Path) -> None:
    assert load_config([path], training=True).SOLVER.OPTIMIZER == "ADAMW"


@pytest.mark.parametrize("path", TASKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_task_can_be_trained_over_a_model(path: Path) -> None:
    (task,) = load_tasks(GLIP_T, [path], training=True)
    assert task.cfg.DATASETS.TRAIN


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", [GLIP_T, GLIP_A], ids=["fused", "not fused"])
def test_the_fine_tuning_command_stays_possible(
    model: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    tuned = ("SOLVER.TUNING_HIGHLEVEL_OVERRIDE", mode)
    prompt = ("SOLVER.BASE_LR", "0.05", "SOLVER.WEIGHT_DECAY", "0.25")
    shots = ("DATASETS.FEW_SHOT", "3", "SOLVER.MAX_EPOCH", "200", "DATASETS.GENERAL_COPY", "4")
    with caplog.at_level(logging.WARNING):
        (task,) = load_tasks(
            model, [RACCOON], [*FINE_TUNING, *tuned, *prompt, *shots], training=True
        )
    assert mode == task.cfg.SOLVER.TUNING_HIGHLEVEL_OVERRIDE
    assert "SOLVER" not in caplog.text  # every key of the command is read


@pytest.mark.parametrize(
    ("key", "word", "message"),
    [
        ("SOLVER.WARMUP_ITERS", "-1", "expected at least 0"),
        ("SOLVER.WARMUP_FACTOR", "0", "expected more than 0 and at most 1"),
        ("SOLVER.WARMUP_FACTOR", "1.5", "expected more than 0 and at most 1"),
        ("SOLVER.GAMMA", "0.0", "expected more than 0 and at most 1"),
        ("SOLVER.GAMMA", "10", "expected more than 0 and at most 1"),
        ("SOLVER.WEIGHT_DECAY_SCHEDULE_RATIO", "0", "expected more than 0"),
        ("SOLVER.MODEL_EMA", "1.0", "expected at least 0 and less than 1"),
        ("SOLVER.MOMENTUM", "1.0", "expected at least 0 and less than 1"),
        ("SOLVER.CHECKPOINT_PERIOD", "0", "expected at least 1"),
        ("SOLVER.CHECKPOINT_PER_EPOCH", "0", "expected -1 (CHECKPOINT_PERIOD decides) or more"),
        ("SOLVER.CHECKPOINT_PER_EPOCH", "-2", "expected -1"),
        ("SOLVER.AUTO_TERMINATE_PATIENCE", "0", "expected -1 (never) or at least 1"),
        ("SOLVER.STEP_PATIENCE", "0", "expected at least 1"),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "0", "expected more than 0"),
        ("SOLVER.SEED", "-5", "expected 0 to 4294967295"),
        ("DATASETS.SHUFFLE_SEED", "4294967296", "expected 0 to 4294967295"),
        ("DATASETS.COCO_COPY", "0", "expected at least 1"),
        ("DATASETS.RANDOM_SAMPLE_NEG", "-2", "expected -1 (all) or at least 0"),
        ("AUGMENT.BRIGHTNESS", "-0.1", "expected at least 0"),
        ("AUGMENT.HUE", "0.6", "expected between 0 and 0.5"),
        ("AUGMENT.MULT_MIN_SIZE_TRAIN", "(480, 0)", "expected pixels, at least 1"),
        ("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "6", "expected -1 (nothing) to 5"),
        ("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "-2", "expected -1 (nothing) to 5"),
        ("MODEL.DYHEAD.PRIOR_PROB", "0", "expected more than 0 and less than 1"),
        (f"{FUSE}.JOINT_EMB_DROPOUT", "1", "expected at least 0 and less than 1"),
        (f"{FUSE}.MLM_LOSS_COEF", "-1", "expected at least 0"),
        ("DATASETS.TRAIN", "()", "expected the data sets to learn from"),
        ("DATASETS.CONTROL_PROB", "(0.5, 0.5)", "expected four probabilities"),
        ("DATASETS.CONTROL_PROB", "(0.5, 0.5, 0.1, 0)", "expected the first three to add up to 1"),
        ("DATASETS.CONTROL_PROB", "(-0.1, 0, 0.5, 0)", "expected probabilities between 0 and 1"),
        ("DATASETS.CONTROL_PROB", "(0, 0, 0.5, 0.1)", "expected 0 as the last one"),
        ("SOLVER.STEPS", "(0.89, 0.67)", "expected numbers above 0 in ascending order"),
        ("SOLVER.STEPS", "(0.5, 0.5)", "expected numbers above 0 in ascending order"),
        ("SOLVER.STEPS", "(-0.5, 0.5)", "not both"),
        ("SOLVER.STEPS", "(-1, 100)", "expected numbers above 0"),
        ("SOLVER.STEPS", "(0.67, 80000)", "expected either steps, (60000, 80000), or shares"),
    ],
)
def test_values_that_no_training_can_use(key: str, word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        learning(key, word)
    assert str(caught.value).startswith(f"{key} is ")
    assert f"(override {key} {word})" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "first", "second"),
    [
        (("SOLVER.MAX_EPOCH", "0", "SOLVER.MAX_ITER", "0"), "MAX_EPOCH is 0", "MAX_ITER is 0"),
        (("SOLVER.USE_AUTOSTEP", "True"), "USE_AUTOSTEP is True", "DURING_TRAINING is False"),
        (("SOLVER.AUTO_TERMINATE_PATIENCE", "8"), "PATIENCE is 8", "DURING_TRAINING is False"),
        (
            ("TEST.DURING_TRAINING", "True", "DATASETS.TEST", "()"),
            "DURING_TRAINING is True",
            "DATASETS.TEST is ()",
        ),
        (
            (
                *("SOLVER.USE_COSINE", "True", "SOLVER.USE_AUTOSTEP", "True"),
                *("TEST.DURING_TRAINING", "True"),
            ),
            "USE_COSINE is True",
            "USE_AUTOSTEP is True",
        ),
        (("SOLVER.USE_COSINE", "True", "SOLVER.MIN_LR", "1"), "MIN_LR is 1.0", "BASE_LR is 0.0001"),
        (
            ("SOLVER.USE_EMA_FOR_MONITOR", "True", "SOLVER.MODEL_EMA", "0.0"),
            "USE_EMA_FOR_MONITOR is True",
            "MODEL_EMA is 0.0",
        ),
        (
            ("SOLVER.AMP_DTYPE", "float16", "SOLVER.USE_AMP", "False"),
            "USE_AMP is False",
            "AMP_DTYPE is 'float16'",
        ),
        (("SOLVER.ACCUMULATION", "3"), "IMS_PER_BATCH is 64", "ACCUMULATION is 3"),
        (("INPUT.MAX_SIZE_TRAIN", "799", "INPUT.MIN_SIZE_TRAIN", "640"), "MULT_MIN_SIZE_TRAIN is "
         "(480, 560, 640, 720, 800)", "MAX_SIZE_TRAIN is 799"),
        (("DATASETS.ADD_DET_PROMPT_ADVANCED", "True"), "ADVANCED is True", "ADD_DET_PROMPT is F"),
        (
            (
                *(f"{FUSE}.MLM_LOSS", "True", f"{FUSE}.NO_MASK_FOR_OD", "True"),
                *(f"{FUSE}.NO_MASK_FOR_GOLD", "True"),
            ),
            "NO_MASK_FOR_OD is True",
            "NO_MASK_FOR_GOLD is True",
        ),
        (
            ("MODEL.LINEAR_PROB", "True", "SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "full"),
            "LINEAR_PROB is True",
            "TUNING_HIGHLEVEL_OVERRIDE is 'full'",
        ),
        (("MODEL.LINEAR_PROB", "True", "MODEL.RPN.FREEZE", "True"), "LINEAR_PROB", "RPN.FREEZE"),
    ],
)  # fmt: skip
def test_contradictions_name_both_keys(words: tuple[str, ...], first: str, second: str) -> None:
    with pytest.raises(ConfigError) as caught:
        learning(*words)
    assert first in str(caught.value)
    assert second in str(caught.value)
    assert "contradict each other" in str(caught.value)
    assert "override" in str(caught.value)


@pytest.mark.parametrize("loss", ["MLM_LOSS", "USE_CONTRASTIVE_ALIGN_LOSS"])
def test_losses_on_fused_text_need_fusion(loss: str) -> None:
    assert learning(f"{FUSE}.{loss}", "True").MODEL.DYHEAD.FUSE_CONFIG[loss]
    with pytest.raises(ConfigError, match=rf"{loss} is True .*EARLY_FUSE_ON is False \(.*yaml:"):
        learning(f"{FUSE}.{loss}", "True", files=(GLIP_A,))


def test_prepared_shots_are_not_multiplied() -> None:
    files = (GLIP_T, RACCOON)
    prepared = ("DATASETS.TRAIN", '("train_3_30",)')
    learning(*prepared, files=files)
    learning(*prepared, "DATASETS.FEW_SHOT", "3", files=files)
    learning("DATASETS.FEW_SHOT", "5", files=files)
    with pytest.raises(ConfigError, match=r"FEW_SHOT is 5 .*holds 3 pictures per class"):
        learning(*prepared, "DATASETS.FEW_SHOT", "5", files=files)


@pytest.mark.parametrize(
    "words",
    [
        ("SOLVER.STEPS", "()"),  # the rate never falls
        ("SOLVER.STEPS", "(60000, 80000)"),
        ("SOLVER.USE_COSINE", "True", "SOLVER.STEPS", "(0.9, 0.1)"),  # nobody asks for them
        ("SOLVER.MAX_EPOCH", "1", "SOLVER.MAX_ITER", "0"),
        ("SOLVER.USE_AMP", "True", "SOLVER.AMP_DTYPE", "float16"),
        ("DATASETS.CONTROL_PROB", "(0.1, 0.2, 0.7, 0)"),
        ("MODEL.LINEAR_PROB", "True", "SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "language_prompt_v4"),
    ],
)
def test_what_looks_odd_and_works(words: tuple[str, ...]) -> None:
    assert learning(*words).is_frozen()


def test_the_weight_decay_schedule_asks_for_steps_even_where_the_rate_does_not() -> None:
    words = ("SOLVER.USE_COSINE", "True", "SOLVER.STEPS", "(0.9, 0.1)")
    with pytest.raises(ConfigError, match=r"STEPS is \(0\.9, 0\.1\) .*ascending order"):
        learning(*words, "SOLVER.WEIGHT_DECAY_SCHEDULE", "True")


def test_keys_of_other_losses_and_heads_say_what_to_set_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    learning("SOLVER.GRAD_CLIP", "1.0", "MODEL.FOCAL.LOSS_ALPHA", "0.5", "SOLVER.MULTI_MAX_ITER",
             "(5,)")  # fmt: skip
    assert caplog.records[-1].getMessage() == (
        "these keys mean nothing here: SOLVER.GRAD_CLIP (here: SOLVER.CLIP_GRADIENTS), "
        f"MODEL.FOCAL.LOSS_ALPHA (here: {FUSE}.TOKEN_ALPHA), SOLVER.MULTI_MAX_ITER"
    )
