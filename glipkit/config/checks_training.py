"""What must hold before anything is learnt; evaluation reads the same files and asks none of it."""

import re
from collections.abc import Callable, Mapping

from glipkit.config.checks import Values, check_range
from glipkit.config.errors import ConfigError

_FUSE = "MODEL.DYHEAD.FUSE_CONFIG"
_COPIES = tuple(
    f"DATASETS.{name}_COPY"
    for name in ("COCO", "LVIS", "FLICKR", "MIXED", "OBJECT365", "VG", "OI", "IN")
)
# (keys, what is wanted, the test)
_RANGES: tuple[tuple[tuple[str, ...], str, Callable], ...] = (
    (
        ("SOLVER.CHECKPOINT_PERIOD", "SOLVER.STEP_PATIENCE", "MODEL.DYHEAD.TOPK", *_COPIES),
        "at least 1",
        lambda value: value >= 1,
    ),
    (
        (
            "SOLVER.WARMUP_ITERS",
            "SOLVER.MIN_LR",
            "SOLVER.BIAS_LR_FACTOR",
            "SOLVER.BACKBONE_BODY_LR_FACTOR",
            "SOLVER.TEXT_LAYER_LR_FACTOR",
            "SOLVER.WEIGHT_DECAY_BIAS",
            "SOLVER.WEIGHT_DECAY_NORM_FACTOR",
            "AUGMENT.BRIGHTNESS",
            "AUGMENT.CONTRAST",
            "AUGMENT.SATURATION",
            "MODEL.ATSS.REG_LOSS_WEIGHT",
            f"{_FUSE}.TOKEN_GAMMA",
            f"{_FUSE}.DOT_PRODUCT_TOKEN_LOSS_WEIGHT",
            f"{_FUSE}.CONTRASTIVE_ALIGN_LOSS_WEIGHT",
            f"{_FUSE}.MLM_LOSS_COEF",
        ),
        "at least 0",
        lambda value: value >= 0,
    ),
    (
        ("SOLVER.SEED", "DATASETS.SHUFFLE_SEED"),
        "0 to 4294967295, what every source of chance takes",
        lambda value: 0 <= value < 1 << 32,
    ),
    (
        ("SOLVER.WARMUP_FACTOR", "SOLVER.GAMMA", "SOLVER.WEIGHT_DECAY_SCHEDULE_RATIO"),
        "more than 0 and at most 1",
        lambda value: 0 < value <= 1,
    ),
    (
        (
            "SOLVER.MODEL_EMA",
            "SOLVER.MOMENTUM",
            "MODEL.SWINT.DROP_PATH_RATE",
            f"{_FUSE}.JOINT_EMB_DROPOUT",
        ),
        "at least 0 and less than 1",
        lambda value: 0 <= value < 1,
    ),
    (("MODEL.DYHEAD.PRIOR_PROB",), "more than 0 and less than 1", lambda value: 0 < value < 1),
    (("AUGMENT.HUE",), "between 0 and 0.5", lambda value: 0 <= value <= 0.5),
    (("SOLVER.CLIP_GRADIENTS.NORM_TYPE",), "more than 0", lambda value: value > 0),
    (
        ("SOLVER.AUTO_TERMINATE_PATIENCE",),
        "-1 (never) or at least 1",
        lambda value: value == -1 or value >= 1,
    ),
    (
        ("SOLVER.CHECKPOINT_PER_EPOCH",),
        "-1 (CHECKPOINT_PERIOD decides) or more than 0",
        lambda value: value == -1 or value > 0,
    ),
    (("DATASETS.RANDOM_SAMPLE_NEG",), "-1 (all) or at least 0", lambda value: value >= -1),
    (
        ("MODEL.BACKBONE.FREEZE_CONV_BODY_AT",),
        "-1 (nothing) to 5 (the patch embedding and all four stages)",
        lambda value: -1 <= value <= 5,
    ),
)
# Modes that train what MODEL.LINEAR_PROB freezes (DESIGN 6).
_MORE_THAN_PROBING = ("full", "language_prompt_v1", "language_prompt_v3")
_PREPARED_SHOTS = re.compile(r"fewshot_.*shot(\d+)_seed\d+\.json$")


def check_training(value: Mapping[str, object], where: Mapping[str, str]) -> None:
    """Refuse what would surely go wrong in a training run, before anything is read or built.

    Args:
        value: full key -> value, all keys; see `checks.flatten`.
        where: key -> file and line, or override, that set it; other keys have their default.

    Raises:
        ConfigError: a value out of range, or two keys that contradict each other; names the key or
            keys, what was expected, what came, and where.
    """
    values = Values(dict(value), where)
    for keys, wanted, holds in _RANGES:
        check_range(values, keys, wanted, holds)
    _check_length(values)
    _check_schedule(values)
    _check_monitoring(values)
    _check_batches(values)
    _check_pictures(values)
    _check_captions(values)
    _check_shots(values)
    _check_losses(values)
    _check_tuning(values)
    _check_knowledge(values)


def _check_length(values: Values) -> None:
    epochs, steps = "SOLVER.MAX_EPOCH", "SOLVER.MAX_ITER"
    if values.value[epochs] == 0 and values.value[steps] < 1:
        values.contradict(epochs, steps, "one of them must say how long to train")


def _check_schedule(values: Values) -> None:
    steps, cosine, automatic = "SOLVER.STEPS", "SOLVER.USE_COSINE", "SOLVER.USE_AUTOSTEP"
    if values.value[cosine] and values.value[automatic]:
        values.contradict(cosine, automatic, "there is one learning rate, and each would set it")
    if values.value[cosine]:
        base, lowest = "SOLVER.BASE_LR", "SOLVER.MIN_LR"
        if values.value[lowest] > values.value[base]:
            values.contradict(lowest, base, "the cosine falls from BASE_LR to MIN_LR")
    replaced = values.value[cosine] or values.value[automatic]
    if replaced and not values.value["SOLVER.WEIGHT_DECAY_SCHEDULE"]:
        return  # nobody asks for STEPS
    places = values.value[steps]
    shares = [0 < place < 1 for place in places]
    if any(shares) and not all(shares):
        raise ConfigError(
            f"{values.said(steps)}; expected either steps, (60000, 80000), or shares of the run, "
            "(0.67, 0.89), not both"
        )
    if any(place <= 0 for place in places) or sorted(set(places)) != list(places):
        raise ConfigError(f"{values.said(steps)}; expected numbers above 0 in ascending order")


def _check_monitoring(values: Values) -> None:
    """Validation AP during training, and what waits for it."""
    evaluates, patience = "TEST.DURING_TRAINING", "SOLVER.AUTO_TERMINATE_PATIENCE"
    automatic = "SOLVER.USE_AUTOSTEP"
    if not values.value[evaluates]:
        if values.value[automatic]:
            values.contradict(
                automatic, evaluates, "the rate falls when validation AP stands still"
            )
        if values.value[patience] > 0:
            values.contradict(patience, evaluates, "the end comes when validation AP stands still")
    elif not values.value["DATASETS.TEST"]:
        values.contradict(evaluates, "DATASETS.TEST", "there is nothing to evaluate on")
    judges, decay = "SOLVER.USE_EMA_FOR_MONITOR", "SOLVER.MODEL_EMA"
    if values.value[judges] and values.value[decay] == 0:
        values.contradict(judges, decay, "without a decay above 0 there is no running mean")


def _check_batches(values: Values) -> None:
    pictures, pieces = "SOLVER.IMS_PER_BATCH", "SOLVER.ACCUMULATION"
    if values.value[pictures] % values.value[pieces]:
        values.contradict(pictures, pieces, "the pieces of a step must be of one size")
    half, kind = "SOLVER.USE_AMP", "SOLVER.AMP_DTYPE"
    if values.value[kind] and not values.value[half]:
        values.contradict(half, kind, "the kind of half precision says nothing without it")


def _check_pictures(values: Values) -> None:
    if not values.value["DATASETS.TRAIN"]:
        raise ConfigError(
            f"{values.said('DATASETS.TRAIN')}; expected the data sets to learn from, such as "
            '("coco_grounding_train",)'
        )
    sizes, longest = "AUGMENT.MULT_MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN"
    if any(size < 1 for size in values.value[sizes]):
        raise ConfigError(f"{values.said(sizes)}; expected pixels, at least 1")
    if any(size > values.value[longest] for size in values.value[sizes]):
        values.contradict(sizes, longest, "no picture's shorter side is longer than its longer")


def _check_captions(values: Values) -> None:
    control = "DATASETS.CONTROL_PROB"
    shares = values.value[control]
    if shares:
        why = ""
        if len(shares) != 4:
            why = "four probabilities, of (one absent, none, all, present dropped), or none"
        elif any(not 0 <= share <= 1 for share in shares):
            why = "probabilities between 0 and 1"
        elif sum(shares[:3]) > 1 + 1e-9:
            why = "the first three to add up to 1 at most: one of them happens, or a draw"
        elif shares[3] != 0:
            why = "0 as the last one: present classes are never dropped here (nor as published)"
        if why:
            raise ConfigError(f"{values.said(control)}; expected {why}")
    prefix, advanced = "DATASETS.ADD_DET_PROMPT", "DATASETS.ADD_DET_PROMPT_ADVANCED"
    if values.value[advanced] and not values.value[prefix]:
        values.contradict(advanced, prefix, "the one says how a caption begins, the other not to")


def _check_shots(values: Values) -> None:
    """A file prepared with three shots per class cannot give five."""
    wanted, register = "DATASETS.FEW_SHOT", values.value["DATASETS.REGISTER"]
    for name in values.value["DATASETS.TRAIN"]:
        file = str(register[name].get("ann_file", "")) if name in register else ""
        found = _PREPARED_SHOTS.search(file)
        if found and values.value[wanted] > int(found[1]):
            raise ConfigError(
                f"{values.said(wanted)} and {values.said('DATASETS.TRAIN')}, which contradict each "
                f"other: {file} holds {found[1]} pictures per class. Name the whole training set, "
                f"or set {wanted} 0"
            )


def _check_losses(values: Values) -> None:
    fuses, hides = f"{_FUSE}.EARLY_FUSE_ON", f"{_FUSE}.MLM_LOSS"
    if values.value[hides]:
        if not values.value[fuses]:
            values.contradict(
                hides, fuses, "hidden words are guessed from text that has read the picture"
            )
        labels, captions = f"{_FUSE}.NO_MASK_FOR_OD", f"{_FUSE}.NO_MASK_FOR_GOLD"
        if values.value[labels] and values.value[captions]:
            values.contradict(labels, captions, f"{hides} is True, and no word would be hidden")
    contrasts = f"{_FUSE}.USE_CONTRASTIVE_ALIGN_LOSS"
    if values.value[contrasts] and not values.value[fuses]:
        values.contradict(
            contrasts, fuses, "boxes are compared with text that has read the picture"
        )


def _check_tuning(values: Values) -> None:
    probing, mode = "MODEL.LINEAR_PROB", "SOLVER.TUNING_HIGHLEVEL_OVERRIDE"
    if not values.value[probing]:
        return
    if values.value[mode] in _MORE_THAN_PROBING:
        values.contradict(probing, mode, "the mode trains what linear probing freezes")
    if values.value["MODEL.RPN.FREEZE"]:
        values.contradict(probing, "MODEL.RPN.FREEZE", "linear probing trains parts of the head")


def _check_knowledge(values: Values) -> None:
    """Published keys do not say how classes are drawn for training with descriptions."""
    for key, unset in (
        ("GLIPKNOW.KNOWLEDGE_FILE", ""),
        ("GLIPKNOW.PARALLEL_LANGUAGE_INPUT", False),
        ("GLIPKNOW.MAX_NUM_CLASSES_PER_BATCH_TRAIN", -1),
    ):
        if values.value[key] != unset:
            raise ConfigError(
                f"{values.said(key)}; glipkit does not train with descriptions of classes: set it "
                f"to {unset!r} here, train with the names alone, and describe classes to "
                "tools/test_grounding_net.py (GLIPKNOW.KNOWLEDGE_FILE; docs/knowledge.md)"
            )
