"""Every parameter gets the rate and decay that BEHAVIOUR 14 gives its published name."""

import json
import re
from pathlib import Path

import pytest
import torch
from tiny import CHANNELS, TEXT_DIM, tiny_glip
from torch import nn
from torch.testing import assert_close

from glipkit.config.load import load_config
from glipkit.engine.naming import published_names
from glipkit.engine.optimizer import Rates, clip_gradients, make_optimizer, overview
from glipkit.engine.tuning import prepare
from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.build import build_model
from glipkit.modeling.criterion import Criterion
from glipkit.modeling.head.contrastive import ContrastiveAlignment
from glipkit.modeling.head.masked_language import MaskedLanguageHead
from glipkit.modeling.learner import Learner

PRETRAIN = Path(__file__).parents[2] / "configs" / "pretrain"
# Each number another one, so that no two can be taken for each other.
RATES = Rates(
    base=1.0,
    text=0.1,
    backbone_factor=0.25,
    text_layer_factor=0.75,
    bias_factor=2.0,
    decay=0.01,
    decay_bias=0.0005,
    decay_norm_factor=0.5,
)
# Published names of GLIP-T, rate, decay; the first line that fits counts, and every line fits some.
EXPECTED = [
    (r"backbone\.body\..*relative_position_bias_table", 0.5, 0.0005),
    (r"backbone\.body\..*norm\d?\.weight", 0.25, 0.005),
    (r"backbone\.body\..*norm\d?\.bias", 0.5, 0.00025),
    (r"backbone\.body\..*\.bias", 0.5, 0.0005),
    (r"backbone\.body\..*(qkv|proj|fc\d|reduction)\.weight", 0.25, 0.01),
    (r"backbone\.fpn\..*\.weight", 1.0, 0.01),
    (r"backbone\.fpn\..*\.bias", 2.0, 0.0005),
    (r"language_backbone\..*LayerNorm\.weight", 0.1, 0.005),
    (r"language_backbone\..*LayerNorm\.bias", 0.2, 0.00025),
    (r"language_backbone\..*\.bias", 0.2, 0.0005),
    (r"language_backbone\..*\.weight", 0.1, 0.01),
    (r"rpn\.head\.dyhead_tower\.\d+\.(DyConv\.\d\.)?bn\.weight", 1.0, 0.01),  # no norm by name
    (r"rpn\.head\.dyhead_tower\..*layer_norm_[lv]\.weight", 1.0, 0.005),
    (r"rpn\.head\.dyhead_tower\..*layer_norm_[lv]\.bias", 2.0, 0.00025),
    (r"rpn\.head\.dyhead_tower\..*LayerNorm\.weight", 0.75, 0.005),
    (r"rpn\.head\.dyhead_tower\..*LayerNorm\.bias", 1.5, 0.00025),
    (r"rpn\.head\.dyhead_tower\..*(self\.(query|key|value)|dense)\.bias", 1.5, 0.0005),
    (r"rpn\.head\.dyhead_tower\..*(self\.(query|key|value)|dense)\.weight", 0.75, 0.01),
    (r"rpn\.head\.dyhead_tower\..*gamma_[lv]", 1.0, 0.01),
    (r"rpn\.head\.(bias_lang|bias0)", 2.0, 0.0005),
    (r"rpn\.head\.log_scale", 1.0, 0.01),
    (r"rpn\.head\.scales\.\d\.scale", 1.0, 0.01),
    (r"rpn\.head\..*\.bias", 2.0, 0.0005),
    (r"rpn\.head\..*\.weight", 1.0, 0.01),
]


def settings_of(optimizer: torch.optim.Optimizer) -> dict[int, tuple[float, float]]:
    return {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_every_parameter_of_glip_t(golden: Path) -> None:
    manifest = json.loads((golden / "manifests" / "glip_Swin_T_O365_GoldG.json").read_text())
    trained = {e["name"] for e in manifest["entries"] if e.get("requires_grad")}
    with torch.device("meta"):
        model = build_model(load_config([PRETRAIN / "glip_Swin_T_O365_GoldG.yaml"]))
    prepare(model)
    optimizer = make_optimizer(model_only(model), RATES)
    found = settings_of(optimizer)
    parameters = dict(model.named_parameters())
    theirs = published_names(parameters)
    assert {theirs[name] for name, p in parameters.items() if id(p) in found} == trained

    lines = set()
    for name, parameter in parameters.items():
        if id(parameter) in found:
            line = next(line for line in EXPECTED if re.fullmatch(line[0], theirs[name]))
            lines.add(line)
            assert found[id(parameter)] == pytest.approx(line[1:]), theirs[name]
    assert lines == set(EXPECTED)
    # Equal ones share a group; the lines above have sixteen different pairs.
    assert len(optimizer.param_groups) == len({line[1:] for line in EXPECTED}) == 16


def model_only(model: nn.Module) -> Learner:
    return Learner(model, Criterion(ATSSAssigner()))


def test_the_offset_and_the_heads_of_losses_are_groups_of_the_head() -> None:
    learner = Learner(
        tiny_glip(prompt_offset=True),
        Criterion(
            ATSSAssigner(),
            contrastive=ContrastiveAlignment(CHANNELS, text_dim=TEXT_DIM),
            masked_language=MaskedLanguageHead(TEXT_DIM, vocabulary_size=50),
        ),
    )
    found = settings_of(make_optimizer(learner, RATES))
    criterion = learner.criterion
    expected = [
        (learner.model.prompt_offset.weight, (1.0, 0.01)),
        (criterion.contrastive.image_projection.weight, (1.0, 0.01)),
        (criterion.contrastive.image_projection.bias, (2.0, 0.0005)),
        (criterion.masked_language.norm.weight, (1.0, 0.005)),
        (criterion.masked_language.decoder.bias, (2.0, 0.0005)),
    ]
    for parameter, wanted in expected:
        assert found[id(parameter)] == pytest.approx(wanted)
    assert len(found) == sum(p.requires_grad for p in learner.parameters())


def test_a_wrapper_changes_nothing() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    learner = model_only(tiny_glip())
    plain = settings_of(make_optimizer(learner, RATES))
    assert settings_of(make_optimizer(Wrapper(learner), RATES)) == plain


def test_frozen_parameters_are_left_out_and_the_others_keep_their_names() -> None:
    model = tiny_glip()
    prepare(model, mode="language_prompt_v1")
    optimizer = make_optimizer(model_only(model), RATES)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert settings_of(optimizer).keys() == {id(p) for p in trained}
    assert {g["lr"] for g in optimizer.param_groups} == {0.1, 0.2}


def test_groups_come_in_the_order_of_the_model() -> None:
    runs = [make_optimizer(model_only(tiny_glip()), RATES) for _ in range(2)]
    shapes = [[[p.shape for p in g["params"]] for g in each.param_groups] for each in runs]
    assert shapes[0] == shapes[1]


def test_kinds() -> None:
    learner = model_only(tiny_glip())
    assert type(make_optimizer(learner, RATES)) is torch.optim.AdamW
    sgd = make_optimizer(learner, RATES, kind="SGD", momentum=0.7)
    assert {group["momentum"] for group in sgd.param_groups} == {0.7}
    with pytest.raises(ValueError, match=r"SOLVER.OPTIMIZER must be .* got 'ADAM'"):
        make_optimizer(learner, RATES, kind="ADAM")


def test_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="every parameter is frozen"):
        make_optimizer(model_only(tiny_glip()).requires_grad_(False), RATES)


def test_overview_counts_all() -> None:
    learner = nn.ModuleDict({"model": nn.Linear(1000, 2), "criterion": nn.Identity()})
    lines = overview(make_optimizer(learner, RATES)).splitlines()
    assert lines[0].split() == ["tensors", "parameters", "rate", "decay"]
    assert [line.split() for line in lines[1:]] == [
        ["1", "2,000", "1", "0.01"],
        ["1", "2", "2", "0.0005"],
    ]


def test_clipping_is_over_all_gradients_together() -> None:
    a, b, unused = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert_close(clip_gradients([a, b, unused], largest=1.0), torch.tensor(5.0))
    assert_close(a.grad, torch.tensor([0.6, 0.0]), rtol=1e-5, atol=0)
    assert_close(b.grad, torch.tensor([0.0, 0.8]), rtol=1e-5, atol=0)
    assert unused.grad is None


def test_small_gradients_are_left_alone() -> None:
    a = nn.Parameter(torch.zeros(2))
    a.grad = torch.tensor([0.03, 0.04])
    for largest in (1.0, None):
        assert_close(clip_gradients([a], largest=largest), torch.tensor(0.05))
        assert_close(a.grad, torch.tensor([0.03, 0.04]), rtol=0, atol=0)


def test_other_norms_and_none_at_all() -> None:
    a = nn.Parameter(torch.zeros(2))
    a.grad = torch.tensor([-3.0, 1.0])
    assert_close(clip_gradients([a], largest=None, norm_type=float("inf")), torch.tensor(3.0))
    a.grad = torch.tensor([float("nan"), 1.0])
    assert clip_gradients([a], largest=1.0).isnan()
    assert_close(clip_gradients([nn.Parameter(torch.zeros(1))], largest=1.0), torch.tensor(0.0))
