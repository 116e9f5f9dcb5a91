"""cfg -> training batches: sources, how often each is shown, in which order, by whom."""

import logging

from yacs.config import CfgNode

from glipkit.data.catalog import DatasetSpec, family, find_dataset
from glipkit.data.datasets.coco import load_coco
from glipkit.data.datasets.coco_pictures import CocoPictures
from glipkit.data.datasets.grounding import load_grounding
from glipkit.data.datasets.tsv import load_tsv
from glipkit.data.detection_prompts import DetectionPrompts, draws_classes, make_detection_prompts
from glipkit.data.detection_source import DetectionSource, LabelledPictures
from glipkit.data.few_shot import few_shot, prepared_few_shot
from glipkit.data.mixture import Mixture, Part
from glipkit.data.train_loader import TrainLoader
from glipkit.data.train_sampler import TrainOrder, share_of_rank
from glipkit.data.train_set import TrainSet
from glipkit.data.train_transform import ColourJitter, TrainTransform
from glipkit.data.training.table import SourceRow, source_table
from glipkit.grounding.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def build_train_loader(
    cfg: CfgNode, tokenizer: Tokenizer, *, rank: int, world_size: int, pin_memory: bool = False
) -> TrainLoader:
    """What DATASETS.TRAIN names, as batches for one process. No model is needed for it.

    Args:
        cfg: all of it; DATASETS, INPUT, AUGMENT, DATALOADER, SOLVER and the text encoder are read.
        tokenizer: of the text encoder.
        rank: this process.
        world_size: how many processes share each batch.
        pin_memory: see `TrainLoader`; for training on a GPU.

    Raises:
        ValueError: DATASETS.TRAIN is empty or names what nobody knows, the processes cannot share
            a batch, or a file or a key is not usable; says which.
        FileNotFoundError: an annotation file or an image folder is not there.
    """
    share_of_rank(cfg.SOLVER.IMS_PER_BATCH, world_size, cfg.SOLVER.ACCUMULATION)
    parts, rows = _build_parts(cfg, tokenizer)
    mixture = Mixture(parts)
    order = TrainOrder(
        len(mixture),
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SOLVER.SEED,
        shapes=mixture.shapes() if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None,
        in_order=cfg.DATALOADER.IN_FILE_ORDER,
    )
    samples = TrainSet(
        mixture,
        tokenizer,
        build_train_transform(cfg),
        max_tokens=cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN,
        seed=cfg.SOLVER.SEED,
        hiding=_hiding(cfg),
    )
    loader = TrainLoader(
        samples,
        order,
        rank=rank,
        world_size=world_size,
        divisor=cfg.DATALOADER.SIZE_DIVISIBILITY,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pin_memory=pin_memory,
        table=source_table(rows),
    )
    logger.info(
        "Learning from %d samples an epoch, %d a step, %d steps:\n%s",
        *(loader.num_images, loader.batch_size, loader.steps_per_epoch, loader.describe()),
    )
    return loader


def find_train_set(cfg: CfgNode, name: str, *, quiet: bool = False) -> tuple[str, DatasetSpec]:
    """What a name of DATASETS.TRAIN stands for; nothing is read.

    Args:
        cfg: the configuration; DATASETS is read.
        name: in DATASETS.TRAIN.
        quiet: log nothing.

    Returns:
        The name of the prepared few-shot dataset where one is asked for and its file is there, else
        `name`; and where the dataset lies.

    Raises:
        ValueError: a name is unknown.
    """
    datasets, prepared = cfg.DATASETS, None
    known = {"registered": datasets.REGISTER, "suffix": datasets.TRAIN_DATASETNAME_SUFFIX}
    if datasets.FEW_SHOT:
        prepared = prepared_few_shot(
            name, shots=datasets.FEW_SHOT, seed=datasets.SHUFFLE_SEED, quiet=quiet, **known
        )
    return prepared or name, find_dataset(prepared or name, **known)


def build_train_transform(cfg: CfgNode) -> TrainTransform:
    """What INPUT.* and AUGMENT.* say about training pictures."""
    augment = cfg.AUGMENT
    return TrainTransform(
        min_sizes=tuple(augment.MULT_MIN_SIZE_TRAIN) or (cfg.INPUT.MIN_SIZE_TRAIN,),
        max_size=cfg.INPUT.MAX_SIZE_TRAIN,
        mean=tuple(cfg.INPUT.PIXEL_MEAN),
        std=tuple(cfg.INPUT.PIXEL_STD),
        pixel_format="bgr255" if cfg.INPUT.TO_BGR255 else "rgb",
        flip=augment.FLIP_PROB_TRAIN,
        vertical_flip=augment.VERTICAL_FLIP_PROB_TRAIN,
        flip_safe=cfg.DATASETS.FLIP_SAFE,
        colours=ColourJitter(augment.BRIGHTNESS, augment.CONTRAST, augment.SATURATION, augment.HUE),
    )


def _build_parts(cfg: CfgNode, tokenizer: Tokenizer) -> tuple[list[Part], list[SourceRow]]:
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN names no dataset; name at least one, e.g. ('train',)")
    found = [find_train_set(cfg, name) for name in cfg.DATASETS.TRAIN]
    for name, (_, spec) in zip(cfg.DATASETS.TRAIN, found):  # before the first of them is loaded
        _check_shots(cfg, name, spec)
        spec.check_files()
    parts, rows = [], []
    for name, (found_name, spec) in zip(cfg.DATASETS.TRAIN, found):
        copies = _copies(cfg, name)
        choose = bool(cfg.DATASETS.FEW_SHOT) and found_name == name
        if spec.has_captions:
            part, boxes, classes = _captioned(cfg, spec, copies)
        else:
            part, boxes, classes = _labelled(cfg, spec, tokenizer, copies, choose=choose)
        parts.append(part)
        rows.append(
            SourceRow(part.source.name, spec.kind, len(part.source), boxes, classes, copies)
        )
    return parts, rows


def _check_shots(cfg: CfgNode, name: str, spec: DatasetSpec) -> None:
    if cfg.DATASETS.FEW_SHOT and (spec.has_captions or spec.kind == "tsv"):
        why = "has captions, not classes" if spec.has_captions else "consists of TSV files"
        raise ValueError(
            f"DATASETS.FEW_SHOT is {cfg.DATASETS.FEW_SHOT} boxes per class, but dataset {name!r} "
            f"{why}; few-shot pictures are chosen from COCO json. Set DATASETS.FEW_SHOT 0"
        )


def _captioned(cfg: CfgNode, spec: DatasetSpec, copies: int) -> tuple[Part, int, str]:
    source = load_grounding(spec)
    may_hide = not cfg.MODEL.DYHEAD.FUSE_CONFIG.NO_MASK_FOR_GOLD
    return Part(source, copies, maskable=may_hide), source.file.num_annotations, "captions"


def _labelled(
    cfg: CfgNode, spec: DatasetSpec, tokenizer: Tokenizer, copies: int, *, choose: bool
) -> tuple[Part, int | str, int]:
    words = cfg.DATASETS
    if spec.kind == "tsv":
        pictures, boxes = load_tsv(spec), "-"
    else:
        dataset = load_coco(
            spec,
            override_categories=words.OVERRIDE_CATEGORY if words.USE_OVERRIDE_CATEGORY else None,
        )
        if choose:
            dataset = few_shot(dataset, shots=words.FEW_SHOT, seed=words.SHUFFLE_SEED)
        pictures, boxes = CocoPictures(dataset), len(dataset.annotations)
    source = DetectionSource(
        pictures,
        _build_prompts(cfg, spec, pictures, tokenizer),
        clip_boxes=not words.DISABLE_CLIP_TO_IMAGE,
        use_crowd=words.USE_CROWD,
        max_boxes=words.MAX_BOX,
    )
    may_hide = not cfg.MODEL.DYHEAD.FUSE_CONFIG.NO_MASK_FOR_OD
    return Part(source, copies, maskable=may_hide), boxes, len(pictures.classes)


def _build_prompts(
    cfg: CfgNode, spec: DatasetSpec, pictures: LabelledPictures, tokenizer: Tokenizer
) -> DetectionPrompts:
    words = cfg.DATASETS
    return make_detection_prompts(
        pictures.classes,
        tokenizer,
        sampled=draws_classes(spec.kind, family(spec.name)),
        safeguard=words.SPECIAL_SAFEGUARD_FOR_COCO_GROUNDING,
        disable_shuffle=words.DISABLE_SHUFFLE,
        separator=words.SEPARATION_TOKENS,
        num_negatives=words.RANDOM_SAMPLE_NEG,
        control=words.CONTROL_PROB,
        max_labels=cfg.TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM,
        add_prefix=words.ADD_DET_PROMPT,
        add_prefix_advanced=words.ADD_DET_PROMPT_ADVANCED,
        caption_prompts=words.CAPTION_PROMPT if words.USE_CAPTION_PROMPT else None,
        max_tokens=cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN,
    )


def _copies(cfg: CfgNode, name: str) -> int:
    """Times an epoch shows a dataset; -1 is GLIP's word for once."""
    datasets = cfg.DATASETS
    by_family = {
        "coco": datasets.COCO_COPY,
        "lvis": datasets.LVIS_COPY,
        "flickr": datasets.FLICKR_COPY,
        "mixed": datasets.MIXED_COPY,
        "object365": datasets.OBJECT365_COPY,
        "vg": datasets.VG_COPY,
        "oi": datasets.OI_COPY,
        "in": datasets.IN_COPY,
    }
    copies = by_family.get(family(name), datasets.GENERAL_COPY)
    return 1 if copies == -1 else copies


def _hiding(cfg: CfgNode) -> str | None:
    """Which words the masked-language loss may ask for; see `train_set.HIDING`."""
    fuse = cfg.MODEL.DYHEAD.FUSE_CONFIG
    if not fuse.MLM_LOSS:
        return None
    return "named" if fuse.MLM_LOSS_FOR_ONLY_POSITIVES else "all"
