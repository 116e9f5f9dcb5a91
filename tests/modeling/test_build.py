"""cfg -> parts: what a key changes, and what a wrong one says."""

import json
from pathlib import Path

import pytest
import torch
from transformers.models.bert.modeling_bert import BertLayer
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.modeling.build import (
    build_criterion,
    build_detector,
    build_learner,
    build_model,
    build_postprocessor,
    build_prompt_offset,
    pick,
)
from glipkit.modeling.glip import GLIP
from glipkit.modeling.multi_prompt import Detector

PRETRAIN = Path(__file__).parents[2] / "configs" / "pretrain"
TINY = {
    "MODEL.SWINT.EMBED_DIM": 8,
    "MODEL.SWINT.OUT_CHANNELS": (8, 16, 32, 64),
    "MODEL.SWINT.DEPTHS": (1, 1, 1, 1),
    "MODEL.SWINT.NUM_HEADS": (1, 1, 2, 2),
    "MODEL.BACKBONE.OUT_CHANNELS": 32,
    "MODEL.DYHEAD.CHANNELS": 32,
    "MODEL.DYHEAD.NUM_CONVS": 2,
    "MODEL.DYHEAD.FUSE_CONFIG.EMBED_DIM": 64,
    "MODEL.DYHEAD.FUSE_CONFIG.NUM_HEADS": 4,
    "MODEL.LANGUAGE_BACKBONE.LANG_DIM": 24,
    "MODEL.LANGUAGE_BACKBONE.NUM_LAYERS": 2,
    "MODEL.LANGUAGE_BACKBONE.NUM_HEADS": 4,
    "MODEL.LANGUAGE_BACKBONE.MLP_DIM": 48,
}


def tiny(name: str = "glip_Swin_T_O365_GoldG", **changes: object) -> CfgNode:
    """A published configuration made small; keyword names use `__` for dots below MODEL."""
    settings = TINY | {f"MODEL.{key.replace('__', '.')}": v for key, v in changes.items()}
    overrides = [str(word) for setting in settings.items() for word in setting]
    return load_config([PRETRAIN / f"{name}.yaml"], overrides)


def build(*args: str, **changes: object) -> GLIP:
    with torch.device("meta"):
        return build_model(tiny(*args, **changes))


def test_numbers_arrive() -> None:
    model = build(
        DYHEAD__PRIOR_PROB=0.5,
        SWINT__DROP_PATH_RATE=0.3,
        FPN__DROP_PROB=0.25,
        DYHEAD__FUSE_CONFIG__JOINT_EMB_DROPOUT=0.2,
        LANGUAGE_BACKBONE__N_LAYERS=2,
    )
    assert model.backbone.out_channels == (16, 32, 64)
    assert model.backbone.stages[3].blocks[0].drop_path.drop_prob == pytest.approx(0.3)
    assert model.pyramid.drop_block.probability == 0.25
    assert model.text_encoder.width == 24
    assert model.text_encoder.averaged_layers == 2
    assert model.text_encoder.unseen_token_ids == ()
    assert len(model.tower.blocks) == 2
    block = model.tower.blocks[0]
    assert block.fusion.attention.num_heads == 4
    assert block.fusion.attention.image_query.weight.shape == (64, 32)
    assert block.fusion.attention.image_dropout.p == 0.2
    assert block.text_layer.num_heads == 4
    assert block.text_layer.intermediate.weight.shape == (48, 24)
    assert model.anchors.strides == (8, 16, 32, 64, 128)
    assert model.aligns_fused_text


@pytest.mark.parametrize(
    ("strides", "maps", "extra"),
    [("(8, 16, 32)", 3, 0), ("(16, 32, 64)", 2, 1), ("(16, 32, 64, 128)", 2, 2)],
)
def test_the_pyramid_has_the_levels_of_the_anchors(strides: str, maps: int, extra: int) -> None:
    sizes = strides.replace("(", "(1")  # any: as many as there are levels
    changes = {"RPN__ANCHOR_STRIDE": strides, "RPN__ANCHOR_SIZES": sizes}
    model = build_model(tiny(**changes)).eval()
    assert model.backbone.out_channels == (16, 32, 64)[-maps:]
    assert (model.pyramid.p6 is not None) + (model.pyramid.p7 is not None) == extra
    levels = model.encode_image(torch.zeros(1, 3, 160, 96))
    anchors = model.anchor_levels((160, 96))
    assert [level.shape[2] * level.shape[3] for level in levels] == [len(each) for each in anchors]
    assert len(model.predictor.level_scales) == len(levels) == maps + extra


def test_initial_values() -> None:
    model = build_model(tiny(DYHEAD__PRIOR_PROB=0.5, DYHEAD__LOG_SCALE=0.25))
    assert model.predictor.log_scale.item() == 0.25
    assert model.predictor.bias.item() == pytest.approx(0)
    assert model.tower.blocks[0].fusion.text_scale.unique().tolist() == [0.5]  # 1 / NUM_CONVS


def test_without_fusion() -> None:
    model = build("glip_A_Swin_T_O365")
    assert all(block.fusion is None and block.text_layer is None for block in model.tower.blocks)
    assert not model.aligns_fused_text


def test_drop_block_can_be_off() -> None:
    assert build(FPN__DROP_BLOCK=False).pyramid.drop_block.probability == 0


@pytest.mark.parametrize("part", ["BACKBONE", "LANGUAGE_BACKBONE", "DYHEAD"])
def test_activations_are_recomputed_where_asked(part: str) -> None:
    changes = dict.fromkeys(
        ("BACKBONE__USE_CHECKPOINT", "LANGUAGE_BACKBONE__USE_CHECKPOINT", "DYHEAD__USE_CHECKPOINT"),
        False,
    )
    model = build(**changes | {f"{part}__USE_CHECKPOINT": True})
    assert {
        "BACKBONE": all(stage.recompute for stage in model.backbone.stages),
        "LANGUAGE_BACKBONE": type(model.text_encoder.bert.encoder.layer[1]) is not BertLayer,
        "DYHEAD": model.tower.recompute,
    } == {name: name == part for name in ("BACKBONE", "LANGUAGE_BACKBONE", "DYHEAD")}
    assert build().tower.recompute  # as GLIP's files say


def test_a_learned_prompt_is_built_where_it_is_asked_for_or_trained() -> None:
    assert build().prompt_offset is None
    offset = build(DYHEAD__FUSE_CONFIG__ADD_LINEAR_LAYER=True).prompt_offset
    assert offset.weight.shape == (1000, 24)
    for mode in ("full", "linear_prob", *(f"language_prompt_v{number}" for number in range(1, 5))):
        words = ["SOLVER.TUNING_HIGHLEVEL_OVERRIDE", mode]
        offset = build_prompt_offset(load_config([PRETRAIN / "glip_Swin_L.yaml"], words), 24)
        assert (offset is not None) == (mode[-2:] in ("v2", "v4")), mode


def test_another_text_encoder_comes_from_its_folder(tmp_path: Path) -> None:
    numbers = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6,
               "intermediate_size": 96}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"} | numbers))
    model = build(LANGUAGE_BACKBONE__MODEL_TYPE=tmp_path, LANGUAGE_BACKBONE__LANG_DIM=48)
    assert model.text_encoder.width == 48
    assert len(model.text_encoder.bert.encoder.layer) == 3
    assert model.tower.blocks[1].text_layer.num_heads == 6
    assert model.tower.blocks[1].text_layer.intermediate.weight.shape == (96, 48)
    with pytest.raises(
        ValueError, match=r"has 48 channels, but MODEL\.LANGUAGE_BACKBONE\.LANG_DIM"
    ):
        build(LANGUAGE_BACKBONE__MODEL_TYPE=tmp_path)


def test_postprocessor() -> None:
    cfg = tiny(ATSS__INFERENCE_TH=0.2, ATSS__PRE_NMS_TOP_N=50, ATSS__NMS_TH=0.5,
               ATSS__DETECTIONS_PER_IMG=7, DYHEAD__SCORE_AGG="MAX")  # fmt: skip
    decide = build_postprocessor(cfg)
    assert (decide.score_threshold, decide.pre_nms_top_n, decide.nms_threshold) == (0.2, 50, 0.5)
    assert (decide.detections_per_image, decide.aggregation) == (7, "MAX")


def test_criterion() -> None:
    changes = {
        "TOPK": 5, "FUSE_CONFIG__TOKEN_ALPHA": 0.3, "FUSE_CONFIG__TOKEN_GAMMA": 1.5,
        "FUSE_CONFIG__DOT_PRODUCT_TOKEN_LOSS_WEIGHT": 4.0,
        "FUSE_CONFIG__MLM_OBJ_FOR_ONLY_POSITIVE": True,
    }  # fmt: skip
    cfg = tiny(
        ATSS__REG_LOSS_WEIGHT=3.0,
        LANGUAGE_BACKBONE__MAX_QUERY_LEN=128,
        DYHEAD__FUSE_CONFIG__MLM_LOSS=False,
        **{f"DYHEAD__{key}": value for key, value in changes.items()},
    )
    criterion = build_criterion(cfg)
    assert criterion.assigner.topk == 5
    assert (criterion.alpha, criterion.gamma) == (0.3, 1.5)
    assert (criterion.token_weight, criterion.box_weight) == (4.0, 3.0)
    assert criterion.max_tokens == 128
    assert criterion.only_naming_tokens
    assert not list(criterion.parameters())  # no head is left that only training needs


def test_heads_of_the_criterion() -> None:
    changes = {
        "MLM_LOSS": True, "MLM_LOSS_COEF": 0.5, "USE_CONTRASTIVE_ALIGN_LOSS": True,
        "CONTRASTIVE_HIDDEN_DIM": 16, "CONTRASTIVE_ALIGN_LOSS_WEIGHT": 0.25,
    }  # fmt: skip
    cfg = tiny(**{f"DYHEAD__FUSE_CONFIG__{key}": value for key, value in changes.items()})
    with torch.device("meta"):
        learner = build_learner(cfg, build_model(cfg))
    criterion = learner.criterion
    assert criterion.contrastive.image_projection.weight.shape == (16, 32)
    assert criterion.contrastive.text_projection.weight.shape == (16, 24)
    assert criterion.masked_language.decoder.weight.shape == (30522, 24)
    assert (criterion.contrastive_weight, criterion.masked_language_weight) == (0.25, 0.5)
    # What is kept after training knows nothing of them.
    assert set(learner.model.state_dict()) == set(build().state_dict())


def test_detector() -> None:
    assert isinstance(build_detector(tiny(), build()), Detector)
    assert build_detector(tiny(), build()).autocast_dtype is None
    cfg = load_config([PRETRAIN / "glip_Swin_T_O365.yaml"], ["TEST.PRECISION", "bfloat16"])
    assert build_detector(cfg, build()).autocast_dtype == torch.bfloat16


def test_speed_of_the_detector(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_model(tiny()).eval()

    def detector(*overrides: str) -> Detector:
        return build_detector(load_config([PRETRAIN / "glip_Swin_T_O365.yaml"], overrides), model)

    assert detector("TEST.CHUNK_BATCH", "7").chunk_batch.asked == 7
    assert detector().model is model
    with pytest.raises(ValueError, match=r"CUDA_GRAPHS is True, but the model is on cpu"):
        detector("TEST.CUDA_GRAPHS", "True")
    with pytest.raises(ValueError, match=r"int8 is for CPUs, and the model is on meta"):
        build_detector(
            load_config([PRETRAIN / "glip_Swin_T_O365.yaml"], ["TEST.PRECISION", "int8"]), build()
        )
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    detector("TEST.PRECISION", "bfloat16")
    assert len(caplog.messages) == 1
    assert "gains nothing over float32" in caplog.text
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    detector("TEST.PRECISION", "bfloat16")
    assert len(caplog.messages) == 1


def test_a_model_is_compiled_once_and_left_as_it_is() -> None:
    model = build_model(tiny()).eval()
    cfg = load_config([PRETRAIN / "glip_Swin_T_O365.yaml"], ["TEST.COMPILE", "True"])
    first, second = build_detector(cfg, model), build_detector(cfg, model)
    assert first._dense is second._dense is not model
    assert "ground" in vars(first._dense)
    assert "ground" not in vars(model)


def test_pick_names_what_there_is() -> None:
    assert pick({"a": 1}, "a", key="K") == 1
    with pytest.raises(ValueError, match=r"MODEL\.KIND is 'c'; known: a, b"):
        pick({"b": 1, "a": 2}, "c", key="MODEL.KIND")
