"""What each mode trains, and that nothing else moves."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_glip
from torch import nn
from tuned_models import predictions, step, tuned

from glipkit.config.load import load_config
from glipkit.engine.build import build_tuning_plan
from glipkit.engine.tuning import MODES, prepare
from glipkit.modeling.build import build_criterion, build_model
from glipkit.modeling.official import published_name

PRETRAIN = Path(__file__).parents[2] / "configs" / "pretrain"
EVERYTHING = ("backbone", "pyramid", "text_encoder", "tower", "predictor", "prompt_offset")
NEVER = "predictor.class_logits"
PROJECTIONS = {
    *("predictor.box.weight", "predictor.box.bias"),
    *("predictor.centerness.weight", "predictor.centerness.bias"),
    *("predictor.text_projection.weight", "predictor.text_projection.bias"),
    *("predictor.log_scale", "predictor.text_bias", "predictor.bias"),
}
NOT_PROJECTIONS = (NEVER, "predictor.level_scales")
# By hand from DESIGN 6: the parts that are frozen.
FROZEN = {
    "full": (NEVER,),
    "linear_prob": (*(p for p in EVERYTHING if p != "predictor"), *NOT_PROJECTIONS),
    "language_prompt_v1": tuple(p for p in EVERYTHING if p != "text_encoder"),
    "language_prompt_v2": tuple(p for p in EVERYTHING if p != "prompt_offset"),
    "language_prompt_v3": ("backbone", "pyramid", "tower", "prompt_offset", *NOT_PROJECTIONS),
    "language_prompt_v4": ("backbone", "pyramid", "text_encoder", "tower", *NOT_PROJECTIONS),
}


def below(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("mode", MODES)
def test_a_step_changes_what_the_mode_trains_and_nothing_else(mode: str, fused: bool) -> None:
    before = tiny_glip(fused, prompt_offset=True).state_dict()
    model, plan = tuned(mode, fused=fused)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if not below(name, FROZEN[mode])}
    assert set(plan.trained) == changed
    assert plan.is_partial is (mode != "full")
    if mode in ("linear_prob", "language_prompt_v4"):
        assert changed - {"prompt_offset.weight"} == PROJECTIONS
    if mode == "language_prompt_v2":
        assert changed == {"prompt_offset.weight"}


@pytest.mark.parametrize("mode", MODES)
def test_frozen_parts_are_in_evaluation_mode_down_to_their_dropouts(mode: str) -> None:
    model = tiny_glip(prompt_offset=True)
    plan = prepare(model, mode=mode)
    assert not any(module.training for module in model.modules())  # `prepare` leaves modes alone
    holder = nn.ModuleDict({"model": model, "heads": nn.Dropout()})
    for _ in range(2):
        plan.train(holder)
        wrong = [n for n, m in model.named_modules() if m.training is below(n, FROZEN[mode])]
        assert wrong == []
        assert holder["heads"].training
        holder.eval()


@pytest.mark.parametrize(
    ("mode", "drops"),
    [("full", True), ("language_prompt_v1", True), ("language_prompt_v2", False),
     ("linear_prob", False)],
)  # fmt: skip
def test_frozen_parts_drop_nothing(mode: str, drops: bool) -> None:
    model = tiny_glip(prompt_offset=True)
    prepare(model, mode=mode).train(model)
    with torch.no_grad():
        one, other = predictions(model), predictions(model)
    assert all(torch.equal(a, b) for a, b in zip(one, other)) is not drops


@pytest.mark.parametrize("model", ["glip_Swin_L", "glip_Swin_T_O365_GoldG"])
def test_published_runs_froze_the_same(model: str, golden: Path) -> None:
    """FREEZE_CONV_BODY_AT: the default 2 for Swin-L, -1 for Swin-T (BEHAVIOUR 2)."""
    entries = json.loads((golden / "manifests" / f"{model}.json").read_text())["entries"]
    cfg = load_config([PRETRAIN / f"{model}.yaml"])
    with torch.device("meta"):
        learner = build_model(cfg)
    plan = build_tuning_plan(cfg, learner)
    frozen = {n for n, p in learner.named_parameters() if not p.requires_grad}
    assert {published_name(name, fused=True) for name in frozen} == {
        entry["name"] for entry in entries if entry.get("requires_grad") is False
    }
    plan.train(learner)
    large = model == "glip_Swin_L"
    assert learner.backbone.patch_embed.training is not large
    assert learner.backbone.stages[0].blocks[1].drop_path.training is not large
    assert learner.backbone.stages[1].blocks[1].drop_path.training
    assert not plan.is_partial


@pytest.mark.parametrize(
    ("freeze_at", "frozen"),
    [
        (-1, ()),
        (0, ("patch_embed",)),
        (1, ("patch_embed",)),
        (2, ("patch_embed", "stages.0")),
        (4, ("patch_embed", "stages.0", "stages.1", "stages.2")),
    ],
)
def test_stages_are_counted_from_the_patch_embedding(freeze_at, frozen) -> None:
    model = tiny_glip()
    prepare(model, freeze_at=freeze_at)
    for name, parameter in model.backbone.named_parameters():
        assert parameter.requires_grad is not below(name, frozen)
    with pytest.raises(ValueError, match=r"FREEZE_CONV_BODY_AT is 6; expected -1 .* to 5"):
        prepare(model, freeze_at=6)


def test_without_a_mode_the_switches_decide() -> None:
    model = tiny_glip(prompt_offset=True)
    plan = prepare(model, freeze_backbone=True, freeze_text=True)
    frozen = ("backbone", "text_encoder", NEVER)
    assert set(plan.trained) == {n for n, _ in model.named_parameters() if not below(n, frozen)}
    assert not plan.is_partial  # pre-training with a frozen encoder has no base to refer to
    plan = prepare(model, freeze_pyramid=True, freeze_head=True)
    frozen = ("pyramid", "tower", "predictor")
    assert set(plan.trained) == {n for n, _ in model.named_parameters() if not below(n, frozen)}
    plan = prepare(model, linear_prob=True)
    assert set(plan.trained) == PROJECTIONS | {"prompt_offset.weight"}
    assert plan.is_partial


def test_a_later_plan_forgets_the_earlier() -> None:
    model = tiny_glip()
    prepare(model, mode="linear_prob")
    prepare(model, mode="full")
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == [
        f"{NEVER}.weight",
        f"{NEVER}.bias",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "prompt"}, r"OVERRIDE is 'prompt'; known: None, 'full', .*'language_prompt_v4'"),
        ({"mode": "language_prompt_v1", "freeze_text": True},
         r"OVERRIDE 'language_prompt_v1' and MODEL\.LANGUAGE_BACKBONE\.FREEZE True contradict"),
        ({"mode": "full", "freeze_backbone": True}, r"'full' and MODEL\.BACKBONE\.FREEZE True"),
        ({"mode": "full", "linear_prob": True}, r"'full' and MODEL\.LINEAR_PROB True"),
        ({"mode": "linear_prob", "freeze_head": True}, r"'linear_prob' and MODEL\.RPN\.FREEZE"),
        ({"linear_prob": True, "freeze_head": True},
         r"MODEL\.RPN\.FREEZE True and MODEL\.LINEAR_PROB True contradict"),
        ({"mode": "language_prompt_v4"}, r"'language_prompt_v4' trains a learned prompt, and the "),
        ({"freeze_backbone": True, "freeze_pyramid": True, "freeze_text": True,
          "freeze_head": True},
         r"nothing is left to train: everything is frozen by MODEL\.BACKBONE\.FREEZE, MODEL\.FPN"),
    ],
)  # fmt: skip
def test_contradictions_name_the_keys(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(tiny_glip(), **arguments)


@pytest.mark.parametrize("mode", ["linear_prob", "language_prompt_v2"])
def test_a_mode_may_be_said_twice(mode: str) -> None:
    model = tiny_glip(prompt_offset=True)
    once = prepare(model, mode=mode)
    assert prepare(model, mode=mode, freeze_backbone=True, linear_prob=True) == once


def test_heads_of_losses_learn_where_the_whole_head_does() -> None:
    model = tiny_glip(prompt_offset=True)
    criterion = nn.ModuleDict({"masked_language": nn.Linear(2, 3)})
    for mode in MODES:
        plan = prepare(model, mode=mode, criterion=criterion)
        assert criterion["masked_language"].weight.requires_grad is (mode == "full")
        assert "\ncriterion " in plan.report()
        assert not any(name.startswith("masked_language") for name in plan.trained)


def test_the_report_says_what_is_trained() -> None:
    model = tiny_glip(prompt_offset=True)
    lines = prepare(model, mode="linear_prob").report().splitlines()
    counts = {n: p.numel() for n, p in model.named_parameters()}
    head = sum(count for name, count in counts.items() if name in PROJECTIONS)
    assert [line.split()[0] for line in lines] == ["module", *EVERYTHING, "total"]
    assert lines[1].endswith("frozen")
    assert lines[5].endswith("trained, except class_logits, level_scales")
    assert lines[-1].split()[1:6] == [
        "9", "of", str(len(counts)), f"{head:,}", f"{sum(counts.values()):,}",
    ]  # fmt: skip
    assert "trained, except patch_embed, stages.0" in prepare(model, freeze_at=2).report()


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ("SOLVER.TUNING_HIGHLEVEL_OVERRIDE language_prompt_v2", {"prompt_offset"}),
        ("SOLVER.TUNING_HIGHLEVEL_OVERRIDE language_prompt_v3", {"text_encoder", "predictor"}),
        (
            "MODEL.BACKBONE.FREEZE True MODEL.FPN.FREEZE True MODEL.RPN.FREEZE True "
            "MODEL.DYHEAD.FUSE_CONFIG.ADD_LINEAR_LAYER True",
            {"text_encoder", "prompt_offset"},
        ),
        ("MODEL.LINEAR_PROB True", {"predictor"}),
        (
            "MODEL.LANGUAGE_BACKBONE.FREEZE True MODEL.BACKBONE.FREEZE True",
            {"pyramid", "tower", "predictor"},
        ),
    ],
)
def test_the_configuration_decides(keys: str, parts: set[str]) -> None:
    words = ["MODEL.DYHEAD.FUSE_CONFIG.MLM_LOSS", "True", *keys.split()]
    cfg = load_config([PRETRAIN / "glip_Swin_T_O365_GoldG.yaml"], words)
    with torch.device("meta"):
        model, criterion = build_model(cfg), build_criterion(cfg)
    plan = build_tuning_plan(cfg, model, criterion)
    assert {name.split(".")[0] for name in plan.trained} == parts
    assert {p.requires_grad for p in criterion.parameters()} == {"tower" in parts}


def test_steps_after_an_evaluation_are_steps_of_training() -> None:
    model = tiny_glip(prompt_offset=True)
    plan = prepare(model, mode="language_prompt_v3")
    plan.train(model)
    step(model)
    model.eval()
    plan.train(model)
    assert model.text_encoder.bert.embeddings.dropout.training
    assert not model.tower.blocks[0].fusion.attention.text_dropout.training
    assert not model.pyramid.drop_block.training
