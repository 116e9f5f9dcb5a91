"""The parts list: what a configuration means in modules. No other file of this package reads it."""

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import BertConfig
from yacs.config import CfgNode

from glipkit.grounding.language_files import ROOTS
from glipkit.layers.cross_attention import CrossModalityAttention
from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.backbone.fpn import FeaturePyramid
from glipkit.modeling.backbone.swin import SwinTransformer
from glipkit.modeling.captured import CapturedModel, compile_dense
from glipkit.modeling.criterion import Criterion
from glipkit.modeling.glip import GLIP
from glipkit.modeling.head.contrastive import ContrastiveAlignment
from glipkit.modeling.head.dyconv import DyConv
from glipkit.modeling.head.fusion import VLFuse
from glipkit.modeling.head.masked_language import MaskedLanguageHead
from glipkit.modeling.head.predictor import GroundingPredictor
from glipkit.modeling.head.text_layer import TextLayer
from glipkit.modeling.head.tower import Tower, TowerBlock
from glipkit.modeling.joining import Joiner
from glipkit.modeling.language.bert import BertEncoder, bert_architecture
from glipkit.modeling.language.prompt_tuning import PromptOffset
from glipkit.modeling.learner import Learner
from glipkit.modeling.multi_prompt import Dense, Detector
from glipkit.modeling.postprocess import Postprocessor
from glipkit.modeling.quantized import quantized

Part = TypeVar("Part")
logger = logging.getLogger(__name__)

BACKBONES = {"SWINT-FPN-RETINANET": SwinTransformer}  # MODEL.BACKBONE.CONV_BODY
FUSIONS = {"MHA-B": CrossModalityAttention}  # MODEL.DYHEAD.FUSE_CONFIG.TYPE
COARSEST_MAP = 32  # stride in pixels of the last of the image encoder's four stages
PROMPT_TUNING_MODES = ("language_prompt_v2", "language_prompt_v4")  # DESIGN 6
# TEST.PRECISION -> autocast; 8-bit layers take and return float32
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "int8": None}

# One for each model: compiling takes minutes, and many test sets may follow each other.
_COMPILED: WeakKeyDictionary[GLIP, GLIP] = WeakKeyDictionary()

# [PAD], [CLS] and [SEP] of the vocabulary that all these text encoders share (bert-base-uncased).
_SPECIAL_TOKEN_IDS = (0, 101, 102)


def pick(parts: Mapping[str, Part], name: str, *, key: str) -> Part:
    """The part that a configuration names.

    Args:
        parts: what there is.
        name: what is asked for.
        key: where it was asked, for the error.

    Raises:
        ValueError: there is no such part.
    """
    if name not in parts:
        raise ValueError(f"{key} is {name!r}; known: {', '.join(sorted(parts))}")
    return parts[name]


def build_model(cfg: CfgNode, *, roots: Sequence[str | Path] = ROOTS) -> GLIP:
    """The detector that `cfg.MODEL` describes, with random weights.

    Args:
        cfg: the configuration.
        roots: where users put model files, in order: what the text encoder looks like, say.

    Raises:
        ValueError: the configuration names a part that does not exist, or two that do not fit.
        FileNotFoundError: the text encoder is neither known nor a folder.
    """
    channels = cfg.MODEL.BACKBONE.OUT_CHANNELS
    fuse = cfg.MODEL.DYHEAD.FUSE_CONFIG
    backbone = build_backbone(cfg)
    text_encoder = build_text_encoder(cfg, roots)
    predictor = GroundingPredictor(
        channels,
        text_dim=text_encoder.width,
        num_levels=len(cfg.MODEL.RPN.ANCHOR_STRIDE),
        prior=cfg.MODEL.DYHEAD.PRIOR_PROB,
    )
    nn.init.constant_(predictor.log_scale, cfg.MODEL.DYHEAD.LOG_SCALE)
    return GLIP(
        backbone=backbone,
        pyramid=FeaturePyramid(
            backbone.out_channels,
            channels=channels,
            drop_block=cfg.MODEL.FPN.DROP_PROB if cfg.MODEL.FPN.DROP_BLOCK else 0.0,
            drop_block_size=cfg.MODEL.FPN.DROP_SIZE,
            extra_levels=len(cfg.MODEL.RPN.ANCHOR_STRIDE) - len(backbone.out_channels),
        ),
        text_encoder=text_encoder,
        tower=build_tower(cfg, text_encoder.bert.config),
        predictor=predictor,
        anchors=AnchorGenerator(
            strides=cfg.MODEL.RPN.ANCHOR_STRIDE, sizes=cfg.MODEL.RPN.ANCHOR_SIZES
        ),
        aligns_fused_text=fuse.USE_FUSED_FEATURES_DOT_PRODUCT,
        prompt_offset=build_prompt_offset(cfg, text_encoder.width),
    )


def build_backbone(cfg: CfgNode) -> SwinTransformer:
    """The image encoder."""
    backbone = pick(BACKBONES, cfg.MODEL.BACKBONE.CONV_BODY, key="MODEL.BACKBONE.CONV_BODY")
    swin, strides = cfg.MODEL.SWINT, cfg.MODEL.RPN.ANCHOR_STRIDE
    return backbone(
        embed_dim=swin.EMBED_DIM,
        depths=swin.DEPTHS,
        num_heads=swin.NUM_HEADS,
        window=swin.WINDOW_SIZE,
        mlp_ratio=swin.MLP_RATIO,
        drop_path=swin.DROP_PATH_RATE,
        recompute=cfg.MODEL.BACKBONE.USE_CHECKPOINT,
        num_maps=strides.index(COARSEST_MAP) + 1,  # the pyramid begins with the finest anchors
    )


def build_text_encoder(cfg: CfgNode, roots: Sequence[str | Path] = ROOTS) -> BertEncoder:
    """The text encoder, with random weights."""
    language = cfg.MODEL.LANGUAGE_BACKBONE
    return BertEncoder(
        _text_architecture(cfg, roots),
        averaged_layers=language.N_LAYERS,
        unseen_token_ids=_SPECIAL_TOKEN_IDS if language.MASK_SPECIAL else (),
        recompute=language.USE_CHECKPOINT,
    )


def _text_architecture(cfg: CfgNode, roots: Sequence[str | Path] = ROOTS) -> BertConfig:
    """What MODEL_TYPE's folder describes, or else the numbers beside that key."""
    language = cfg.MODEL.LANGUAGE_BACKBONE
    architecture = bert_architecture(
        language.MODEL_TYPE,
        width=language.LANG_DIM,
        depth=language.NUM_LAYERS,
        num_heads=language.NUM_HEADS,
        mlp_width=language.MLP_DIM,
        roots=roots,
    )
    if architecture.hidden_size != language.LANG_DIM:
        raise ValueError(
            f"the text encoder {language.MODEL_TYPE!r} has {architecture.hidden_size} channels, "
            f"but MODEL.LANGUAGE_BACKBONE.LANG_DIM is {language.LANG_DIM}; make them the same"
        )
    return architecture


def build_prompt_offset(cfg: CfgNode, text_dim: int) -> PromptOffset | None:
    """The learned prompt, where ADD_LINEAR_LAYER asks for one or the tuning mode trains it."""
    asked = cfg.MODEL.DYHEAD.FUSE_CONFIG.ADD_LINEAR_LAYER
    tuned = cfg.SOLVER.TUNING_HIGHLEVEL_OVERRIDE in PROMPT_TUNING_MODES
    return PromptOffset(text_dim) if asked or tuned else None


def build_tower(cfg: CfgNode, text: BertConfig) -> Tower:
    """The tower: NUM_CONVS rounds, whose text layers are layers of `text`'s architecture."""
    blocks = (_build_block(cfg, text) for _ in range(cfg.MODEL.DYHEAD.NUM_CONVS))
    return Tower(blocks, recompute=cfg.MODEL.DYHEAD.USE_CHECKPOINT)


def _build_block(cfg: CfgNode, text: BertConfig) -> TowerBlock:
    channels = cfg.MODEL.DYHEAD.CHANNELS
    dyconv = DyConv(channels, norm_groups=cfg.MODEL.GROUP_NORM.NUM_GROUPS)
    fuse = cfg.MODEL.DYHEAD.FUSE_CONFIG
    if not fuse.EARLY_FUSE_ON:
        return TowerBlock(None, None, dyconv)
    attention = pick(FUSIONS, fuse.TYPE, key="MODEL.DYHEAD.FUSE_CONFIG.TYPE")(
        channels,
        text.hidden_size,
        embed_dim=fuse.EMBED_DIM,
        num_heads=fuse.NUM_HEADS,
        dropout=fuse.JOINT_EMB_DROPOUT,
    )
    fusion = VLFuse(
        attention,
        image_dim=channels,
        text_dim=text.hidden_size,
        num_blocks=cfg.MODEL.DYHEAD.NUM_CONVS,
    )
    text_layer = TextLayer(
        text.hidden_size,
        num_heads=text.num_attention_heads,
        hidden_dim=text.intermediate_size,
        dropout=text.hidden_dropout_prob,
        eps=text.layer_norm_eps,
    )
    return TowerBlock(fusion, text_layer, dyconv)


def build_postprocessor(cfg: CfgNode, joiner: Joiner | None = None) -> Postprocessor:
    """What decides which predictions are detections, or are handed to what joins them."""
    atss = cfg.MODEL.ATSS
    return Postprocessor(
        score_threshold=atss.INFERENCE_TH,
        pre_nms_top_n=atss.PRE_NMS_TOP_N,
        # Nothing overlaps by more than 1: all candidates are left for votes and soft suppression.
        nms_threshold=1.0 if joiner is not None and joiner.wants_all else atss.NMS_TH,
        detections_per_image=atss.DETECTIONS_PER_IMG if joiner is None else cfg.TEST.PRE_NMS_TOP_N,
        aggregation=cfg.MODEL.DYHEAD.SCORE_AGG,
    )


def build_joiner(cfg: CfgNode) -> Joiner | None:
    """What makes one answer of a picture's views; None where each picture is asked once, plainly.

    It belongs to evaluations, whose test sets have the views (`data.build.build_views`).
    """
    if not cfg.TEST.USE_MULTISCALE and cfg.TEST.SPECIAL_NMS == "none":
        return None
    return Joiner(
        method=cfg.TEST.SPECIAL_NMS,
        iou_threshold=cfg.TEST.TH,
        sigma=cfg.TEST.SOFT_NMS_SIGMA,
        limit=cfg.MODEL.ATSS.DETECTIONS_PER_IMG,
    )


def build_detector(cfg: CfgNode, model: GLIP, joiner: Joiner | None = None) -> Detector:
    """The model with what turns its answers into detections.

    Args:
        cfg: the configuration.
        model: on its device.
        joiner: what will join the answers, if anything will.

    Raises:
        ValueError: TEST asks for what this machine or the model's device does not have.
    """
    autocast_dtype = pick(PRECISIONS, cfg.TEST.PRECISION, key="TEST.PRECISION")
    device = next(model.parameters()).device
    if cfg.TEST.PRECISION == "int8":
        model = quantized(model)
    if cfg.TEST.PRECISION == "bfloat16" and device.type == "cpu" and not _has_bfloat16_products():
        logger.warning(
            "TEST.PRECISION bfloat16: this processor has no bfloat16 products (avx512_bf16 or "
            "AMX), so it gains nothing over float32 here"
        )
    return Detector(
        model,
        build_postprocessor(cfg, joiner),
        autocast_dtype=autocast_dtype,
        chunk_batch=cfg.TEST.CHUNK_BATCH,
        num_heads=cfg.MODEL.DYHEAD.FUSE_CONFIG.NUM_HEADS,
        dense=_build_dense(cfg, model, device),
    )


def _build_dense(cfg: CfgNode, model: GLIP, device: torch.device) -> Dense | None:
    """What runs the dense parts in the model's place; None where nothing does."""
    if cfg.TEST.CUDA_GRAPHS:
        if device.type != "cuda":
            raise ValueError(
                f"TEST.CUDA_GRAPHS is True, but the model is on {device}, and only a GPU has CUDA "
                "graphs; leave it False, or run on a GPU (--device cuda)"
            )
        return CapturedModel(model)
    if cfg.TEST.COMPILE:
        if model not in _COMPILED:
            # In a copy that shares everything: the model itself may be in training.
            _COMPILED[model] = compile_dense(copy.copy(model))
        return _COMPILED[model]
    return None


def _has_bfloat16_products() -> bool:
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if known:
        return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))
    return torch.cpu._is_avx512_bf16_supported()


def build_criterion(cfg: CfgNode) -> Criterion:
    """What judges the predictions, with the heads that exist in training only."""
    fuse = cfg.MODEL.DYHEAD.FUSE_CONFIG
    text = _text_architecture(cfg)
    contrastive = masked_language = None
    if fuse.USE_CONTRASTIVE_ALIGN_LOSS:
        contrastive = ContrastiveAlignment(
            cfg.MODEL.DYHEAD.CHANNELS,
            text_dim=text.hidden_size,
            hidden_dim=fuse.CONTRASTIVE_HIDDEN_DIM,
        )
    if fuse.MLM_LOSS:
        masked_language = MaskedLanguageHead(
            text.hidden_size, vocabulary_size=text.vocab_size, eps=text.layer_norm_eps
        )
    return Criterion(
        ATSSAssigner(cfg.MODEL.DYHEAD.TOPK),
        alpha=fuse.TOKEN_ALPHA,
        gamma=fuse.TOKEN_GAMMA,
        token_weight=fuse.DOT_PRODUCT_TOKEN_LOSS_WEIGHT,
        box_weight=cfg.MODEL.ATSS.REG_LOSS_WEIGHT,
        max_tokens=cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN,
        only_naming_tokens=fuse.MLM_OBJ_FOR_ONLY_POSITIVE,
        contrastive=contrastive,
        contrastive_weight=fuse.CONTRASTIVE_ALIGN_LOSS_WEIGHT,
        masked_language=masked_language,
        masked_language_weight=fuse.MLM_LOSS_COEF,
    )


def build_learner(cfg: CfgNode, model: GLIP) -> Learner:
    """The model with what judges it: what a training step runs."""
    return Learner(model, build_criterion(cfg))
