"""What must hold for a whole configuration: supported values, ranges, no contradictions."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from yacs.config import CfgNode

from glipkit.config.errors import ConfigError

_FUSE = "MODEL.DYHEAD.FUSE_CONFIG"

# Keys that choose a part, and the choices that exist here. Published names, whole list.
SUPPORTED: dict[str, tuple[object, ...]] = {
    "MODEL.RPN_ARCHITECTURE": ("VLDYHEAD",),
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN", "GeneralizedVLRCNN"),
    "MODEL.RPN_ONLY": (True,),
    "MODEL.BACKBONE.CONV_BODY": ("SWINT-FPN-RETINANET",),
    "MODEL.SWINT.APE": (False,),
    "MODEL.SWINT.VERSION": ("v1",),
    "MODEL.SWINT.OUT_NORM": (True,),
    "MODEL.SWINT.LAYER_SCALE": (0,),
    "MODEL.FPN.USE_GN": (False,),
    "MODEL.FPN.USE_RELU": (False,),
    "MODEL.FPN.USE_DYRELU": (False,),
    "MODEL.FPN.USE_SPP": (False,),
    "MODEL.FPN.USE_PAN": (False,),
    "MODEL.FPN.USE_DYHEAD": (False,),
    "MODEL.GROUP_NORM.DIM_PER_GP": (-1,),
    "MODEL.GROUP_NORM.EPSILON": (1e-5,),
    "MODEL.RPN.USE_FPN": (True,),
    "MODEL.RPN.ASPECT_RATIOS": ((1.0,),),
    "MODEL.RPN.SCALES_PER_OCTAVE": (1,),
    "MODEL.RPN.ANCHOR_SHIFT": ((0.0, 0.0, 0.0, 0.0),),
    "MODEL.RPN.USE_RELATIVE_SIZE": (False,),
    "MODEL.DYHEAD.SCORE_AGG": ("MEAN", "MAX", "POWER", "ONEHOT"),
    "MODEL.DYHEAD.USE_GN": (True,),
    "MODEL.DYHEAD.USE_DFCONV": (True,),
    "MODEL.DYHEAD.USE_DYFUSE": (True,),
    "MODEL.DYHEAD.USE_DYRELU": (True,),
    "MODEL.DYHEAD.USE_SYNCBN": (False,),
    "MODEL.DYHEAD.USE_NSYNCBN": (False,),
    "MODEL.DYHEAD.GROUPS": (1,),
    "MODEL.DYHEAD.CONV_FUNC": ("",),
    f"{_FUSE}.USE_LAYER_SCALE": (True,),
    f"{_FUSE}.SEPARATE_BIDIRECTIONAL": (False,),
    f"{_FUSE}.STABLE_SOFTMAX_2D": (False,),
    f"{_FUSE}.USE_CLASSIFICATION_LOSS": (False,),
    f"{_FUSE}.USE_TOKEN_LOSS": (False,),
    f"{_FUSE}.USE_DOT_PRODUCT_TOKEN_LOSS": (True,),
    "INPUT.FORMAT": ("",),
    "INPUT.FIX_RES": (False,),
    "DATASETS.ONE_HOT": (False,),
    "DATASETS.USE_SUPRESS_QUERY": (False,),
    "DATASETS.FLICKR_GT_TYPE": ("separate", "merged"),
    "SOLVER.OPTIMIZER": ("SGD", "ADAMW"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("full_model",),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "SOLVER.TUNING_HIGHLEVEL_OVERRIDE": (
        None,
        "full",
        "linear_prob",
        "language_prompt_v1",
        "language_prompt_v2",
        "language_prompt_v3",
        "language_prompt_v4",
    ),
    "SOLVER.PARALLEL": ("ddp", "fsdp"),
    "SOLVER.AMP_DTYPE": ("", "bfloat16", "float16"),
    "TEST.EVAL_TASK": ("", "detection", "grounding"),
    "TEST.PRECISION": ("float32", "bfloat16", "int8"),
    "GLIPKNOW.LAN_FEATURE_AGG_TYPE": ("first", "mean"),
    "TEST.SPECIAL_NMS": ("none", "vote", "soft-nms", "soft-nms-gaussian", "soft-vote"),
    # Known to GLIP and not yet built: rather an error than an answer to another question.
}

_AT_LEAST_ONE = (
    "MODEL.BACKBONE.OUT_CHANNELS",
    "MODEL.SWINT.EMBED_DIM",
    "MODEL.SWINT.WINDOW_SIZE",
    "MODEL.LANGUAGE_BACKBONE.LANG_DIM",
    "MODEL.LANGUAGE_BACKBONE.NUM_LAYERS",
    "MODEL.LANGUAGE_BACKBONE.NUM_HEADS",
    "MODEL.LANGUAGE_BACKBONE.MLP_DIM",
    "MODEL.LANGUAGE_BACKBONE.N_LAYERS",
    "MODEL.GROUP_NORM.NUM_GROUPS",
    "MODEL.ATSS.PRE_NMS_TOP_N",
    "MODEL.ATSS.DETECTIONS_PER_IMG",
    "MODEL.DYHEAD.NUM_CONVS",
    "MODEL.DYHEAD.CHANNELS",
    "MODEL.DYHEAD.TOPK",
    f"{_FUSE}.EMBED_DIM",
    f"{_FUSE}.NUM_HEADS",
    f"{_FUSE}.CONTRASTIVE_HIDDEN_DIM",
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.MAX_SIZE_TRAIN",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.ACCUMULATION",
    "SOLVER.MAX_SKIPPED_STEPS",
    "SOLVER.LOG_PERIOD",
    "TEST.IMS_PER_BATCH",
    "GLIPKNOW.GPT3_NUM",
)
_AT_LEAST_ZERO = (
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.SIZE_DIVISIBILITY",
    "DATASETS.FEW_SHOT",
    "TEST.CHUNK_BATCH",
    "MODEL.ATSS.REG_LOSS_WEIGHT",
    f"{_FUSE}.TOKEN_GAMMA",
    f"{_FUSE}.DOT_PRODUCT_TOKEN_LOSS_WEIGHT",
    f"{_FUSE}.CONTRASTIVE_ALIGN_LOSS_WEIGHT",
    f"{_FUSE}.MLM_LOSS_COEF",
    "SOLVER.MAX_EPOCH",
    "SOLVER.BASE_LR",
    "SOLVER.LANG_LR",
    "SOLVER.WEIGHT_DECAY",
)
_MINUS_ONE_OR_POSITIVE = (
    "TEST.SUBSET",
    "TEST.CHUNKED_EVALUATION",
    "TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM",
    "DATASETS.GENERAL_COPY",
    "DATASETS.MAX_BOX",
    "GLIPKNOW.MAX_NUM_CLASSES_PER_BATCH_TRAIN",
)
# Neighbouring levels, with the image encoder's coarsest map among them; that of GLIP is the first.
_PYRAMIDS = tuple(
    tuple(2**exponent for exponent in range(finest, coarsest + 1))
    for finest in (3, 4, 5)
    for coarsest in (7, 6, 5)
)
_POSITIONS = ("MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN",)
_SHARES = (
    "MODEL.ATSS.INFERENCE_TH",
    "MODEL.ATSS.NMS_TH",
    "MODEL.SWINT.DROP_PATH_RATE",
    "MODEL.FPN.DROP_PROB",
    f"{_FUSE}.JOINT_EMB_DROPOUT",
    f"{_FUSE}.TOKEN_ALPHA",
    "AUGMENT.FLIP_PROB_TRAIN",
    "AUGMENT.VERTICAL_FLIP_PROB_TRAIN",
    "SOLVER.MODEL_EMA",
    "SOLVER.COSINE_START",
    "TEST.TH",
)


def flatten(cfg: Mapping, prefix: str = "") -> dict[str, object]:
    """Full key -> value; DATASETS.REGISTER is one value."""
    flat: dict[str, object] = {}
    for name, value in cfg.items():
        key = prefix + name
        if isinstance(value, CfgNode) and not value.is_new_allowed():
            flat |= flatten(value, key + ".")
        else:
            flat[key] = value
    return flat


@dataclass(frozen=True, slots=True)
class Values:
    """All values, and who gave them: what a message needs."""

    value: dict[str, object]
    where: Mapping[str, str]

    def said(self, key: str) -> str:
        """Key, value and origin."""
        return f"{key} is {self.value[key]!r} ({self.where.get(key, 'the default')})"

    def contradict(self, first: str, second: str, why: str) -> None:
        """Refuse two keys together.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{self.said(first)} and {self.said(second)}, which contradict each other: {why}"
        )


def check(cfg: CfgNode, where: Mapping[str, str]) -> None:
    """Refuse what cannot be built or run.

    Args:
        cfg: the whole tree.
        where: key -> file and line, or override, that set it; other keys have their default.

    Raises:
        ConfigError: a value that is not supported or out of range, or two keys that contradict
            each other; names the key or keys, what is known, what came, and where.
    """
    values = Values(flatten(cfg), where)
    _check_supported(values)
    _check_ranges(values)
    _check_backbone(values)
    _check_head(values)
    _check_words(values)
    _check_knowledge(values)
    _check_speed(values)
    _check_augmentation(values)
    for when in ("TEST", "TRAIN"):
        shorter, longer = f"INPUT.MIN_SIZE_{when}", f"INPUT.MAX_SIZE_{when}"
        if values.value[shorter] > values.value[longer]:
            values.contradict(
                shorter, longer, "no picture's shorter side is longer than its longer"
            )
    enabled, largest = "SOLVER.CLIP_GRADIENTS.ENABLED", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE"
    if values.value[enabled] and values.value[largest] <= 0:
        values.contradict(enabled, largest, "every gradient would be clipped away")


def _check_supported(values: Values) -> None:
    for key, known in SUPPORTED.items():
        if values.value[key] in known:
            continue
        message = f"{values.said(key)}; known: {', '.join(map(repr, known))}"
        if key not in values.where:
            message += "; start from a file of configs/pretrain (--config-file)"
        raise ConfigError(message)


def _check_ranges(values: Values) -> None:
    rules = (
        (_AT_LEAST_ONE, "at least 1", lambda value: value >= 1),
        (_AT_LEAST_ZERO, "at least 0", lambda value: value >= 0),
        (_MINUS_ONE_OR_POSITIVE, "-1 or at least 1", lambda value: value == -1 or value >= 1),
        (_SHARES, "between 0 and 1", lambda value: 0 <= value <= 1),
        (_POSITIONS, "between 3 and 512, as BERT has it", lambda value: 3 <= value <= 512),
    )
    for keys, wanted, holds in rules:
        check_range(values, keys, wanted, holds)


def check_range(
    values: Values, keys: Iterable[str], wanted: str, holds: Callable[[object], bool]
) -> None:
    """Refuse the first of `keys` whose value does not hold.

    Args:
        values: of the whole configuration.
        keys: to look at.
        wanted: what is expected, in words.
        holds: whether a value is that.

    Raises:
        ConfigError: says that `wanted` was expected.
    """
    for key in keys:
        if not holds(values.value[key]):
            raise ConfigError(f"{values.said(key)}; expected {wanted}")


def _check_backbone(values: Values) -> None:
    depths, heads = "MODEL.SWINT.DEPTHS", "MODEL.SWINT.NUM_HEADS"
    if len(values.value[depths]) != 4 or len(values.value[heads]) != 4:
        values.contradict(depths, heads, "both must name the four stages")
    width, channels = "MODEL.SWINT.EMBED_DIM", "MODEL.SWINT.OUT_CHANNELS"
    doubled = tuple(values.value[width] * 2**stage for stage in range(4))
    if values.value[channels] != doubled:
        values.contradict(width, channels, f"every stage doubles the channels, so {doubled}")
    sizes, strides = "MODEL.RPN.ANCHOR_SIZES", "MODEL.RPN.ANCHOR_STRIDE"
    if len(values.value[sizes]) != len(values.value[strides]):
        values.contradict(sizes, strides, "both must name the pyramid levels")
    if values.value[strides] not in _PYRAMIDS:
        raise ConfigError(
            f"{values.said(strides)}; the levels of a pyramid are maps of the image encoder "
            "(strides 8, 16, 32) and at most two above them (64, 128), so known are "
            f"{', '.join(map(str, _PYRAMIDS))}"
        )
    pyramid, tower = "MODEL.BACKBONE.OUT_CHANNELS", "MODEL.DYHEAD.CHANNELS"
    if values.value[pyramid] != values.value[tower]:
        values.contradict(pyramid, tower, "the tower works in the channels of the pyramid")


def _check_head(values: Values) -> None:
    early, kind = f"{_FUSE}.EARLY_FUSE_ON", f"{_FUSE}.TYPE"
    fused = f"{_FUSE}.USE_FUSED_FEATURES_DOT_PRODUCT"
    if values.value[early] and values.value[kind] != "MHA-B":
        values.contradict(early, kind, "the fusion that exists here is 'MHA-B'")
    if values.value[early] != values.value[fused]:
        values.contradict(
            early, fused, "boxes are aligned with fused text exactly where text fuses"
        )
    for width, parts, why in (
        ("MODEL.DYHEAD.CHANNELS", "MODEL.GROUP_NORM.NUM_GROUPS", "groups must divide channels"),
        (f"{_FUSE}.EMBED_DIM", f"{_FUSE}.NUM_HEADS", "heads must divide channels"),
        (
            "MODEL.LANGUAGE_BACKBONE.LANG_DIM",
            "MODEL.LANGUAGE_BACKBONE.NUM_HEADS",
            "heads must divide features",
        ),
    ):
        if values.value[width] % values.value[parts]:
            values.contradict(width, parts, why)


def _check_speed(values: Values) -> None:
    graphs, compiled, precision = "TEST.CUDA_GRAPHS", "TEST.COMPILE", "TEST.PRECISION"
    if values.value[graphs] and values.value[compiled]:
        values.contradict(
            graphs, compiled, "either replaces the same part of the model; choose one"
        )
    if values.value[precision] == "int8":
        for key, why in (
            (graphs, "8-bit layers run on CPUs only"),
            (compiled, "8-bit layers are not compiled"),
        ):
            if values.value[key]:
                values.contradict(precision, key, why)


def _check_augmentation(values: Values) -> None:
    scales, ranges, largest = "TEST.SCALES", "TEST.RANGES", "TEST.MAX_SIZE"
    sigma = "TEST.SOFT_NMS_SIGMA"
    if values.value[sigma] <= 0:
        raise ConfigError(f"{values.said(sigma)}; expected above 0")
    if values.value["TEST.USE_MULTISCALE"]:
        sizes, rows = values.value[scales], values.value[ranges]
        if not sizes or min(sizes) < 1:
            raise ConfigError(f"{values.said(scales)}; expected one size or more, in pixels")
        if rows and len(rows) != len(sizes):
            values.contradict(scales, ranges, "each size needs its (from, to), or RANGES ()")
        if any(len(row) != 2 or not 0 <= row[0] < row[1] for row in rows):
            raise ConfigError(f"{values.said(ranges)}; expected (from, to) with 0 <= from < to")
        if max(sizes) > values.value[largest]:
            values.contradict(scales, largest, "a shorter side is never longer than the longer")
    elif values.value["TEST.SPECIAL_NMS"] == "none":
        return
    entering, reported = "TEST.PRE_NMS_TOP_N", "MODEL.ATSS.DETECTIONS_PER_IMG"
    if values.value[entering] < values.value[reported]:
        values.contradict(entering, reported, "more boxes are reported than enter the joining")


def _check_words(values: Values) -> None:
    names, prompts = "DATASETS.OVERRIDE_CATEGORY", "DATASETS.CAPTION_PROMPT"
    categories, records = values.value[names], values.value[prompts]
    if categories is None:
        return
    ids = Counter(record["id"] for record in categories)
    repeated = sorted(i for i, count in ids.items() if count > 1)
    if repeated:
        raise ConfigError(f"{values.where[names]}: {names} gives the ids {repeated} more than once")
    if records is not None and len(records) != len(categories):
        raise ConfigError(
            f"{names} ({values.where[names]}) has {len(categories)} classes and {prompts} "
            f"({values.where[prompts]}) has {len(records)} records; expected one record per class, "
            "in order of the ids"
        )


def _check_knowledge(values: Values) -> None:
    file, both = "GLIPKNOW.KNOWLEDGE_FILE", "GLIPKNOW.WIKI_AND_GPT3"
    kind = "GLIPKNOW.KNOWLEDGE_TYPE"
    for key in (kind, both):
        if values.value[key] and not values.value[file]:
            values.contradict(key, file, "there is no file to take descriptions from")
    if values.value[both] and values.value[kind] not in ("", "wiki", "gpt3"):
        values.contradict(both, kind, "the one asks for the kinds wiki and gpt3, and no others")
    parallel, kept = "GLIPKNOW.PARALLEL_LANGUAGE_INPUT", "GLIPKNOW.LAN_FEATURE_AGG_TYPE"
    hides = "MODEL.LANGUAGE_BACKBONE.MASK_SPECIAL"
    if values.value[parallel] and values.value[kept] == "first" and values.value[hides]:
        values.contradict(hides, kept, f"{parallel} is True, and the first token is [CLS]")
