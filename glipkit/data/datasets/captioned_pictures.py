"""Pictures with captions to be asked about, and the boxes that answer each of their phrases."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from glipkit.data.catalog import EXPRESSIONS, PHRASES, DatasetSpec
from glipkit.data.datasets.coco_file import ImageRecord
from glipkit.data.datasets.grounding import GroundingSource, load_grounding
from glipkit.data.datasets.grounding_file import GroundingRecord
from glipkit.data.datasets.judged_caption import (
    ASKED,
    JudgedCaption,
    judged_caption,
    judged_expression,
)
from glipkit.data.datasets.phrase_types import PhraseTypes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptionedPictures:
    """The pictures of a grounding file, each with those of its captions that can be judged.

    The records of one file and size are one picture, known by the id of the first of them.
    """

    source: GroundingSource
    images: tuple[ImageRecord, ...]  # in the file's order
    records: tuple[tuple[int, ...], ...]  # for each picture its records, as indices of the file
    judged: str = PHRASES  # or EXPRESSIONS
    merged: bool = False  # the boxes of a phrase are made one, around all of them
    # Record, as an index of the file -> the types of its phrases, where another file tells them.
    types: Mapping[int, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    # How many of the whole file are not judged, by what they are.
    not_judged: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.source.name

    @property
    def digest(self) -> str:
        """SHA-256 of the annotation file, in hex."""
        return self.source.file.digest

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the pictures lie."""
        return self.source.folders

    @property
    def num_captions(self) -> int:
        """Captions of all pictures."""
        return sum(map(len, self.records))

    def path(self, index: int) -> Path:
        """Where picture `index` lies."""
        return self.source.path(self.records[index][0])

    def captions(self, index: int) -> tuple[JudgedCaption, ...]:
        """The captions of picture `index`, in the file's order; at least one."""
        return tuple(self.caption(record) for record in self.records[index])

    def caption(self, record: int) -> JudgedCaption:
        """The caption of record `record` of the file."""
        file = self.source.file
        if self.judged == EXPRESSIONS:
            return judged_expression(file[record], file.path)
        caption = judged_caption(file[record], file.path, merged=self.merged)
        if (types := self.types.get(record)) is not None:
            return replace(caption, groups=types)
        return caption

    def first(self, count: int) -> "CaptionedPictures":
        """The same dataset cut to its first `count` pictures (TEST.SUBSET).

        What is not judged was counted in the whole file, so of fewer pictures nothing is said.
        """
        images, records = self.images[:count], self.records[:count]
        known = self.not_judged if len(images) == len(self) else {}
        return replace(self, images=images, records=records, not_judged=known)


def load_captioned(spec: DatasetSpec, *, merged: bool = False) -> CaptionedPictures:
    """Load captions with boxes to judge a detector by, and say in the log what is left out.

    A caption none of whose phrases has a box says nothing about a detector: it is not asked.

    Args:
        spec: where they lie, and how they are judged.
        merged: the boxes of a phrase count as one box around all of them.

    Raises:
        FileNotFoundError: an annotation file or an image folder is not there.
        ValueError: a file is not usable (see `load_grounding`), has records that are judged in
            another way, or no phrase has a box.
    """
    source = load_grounding(spec)
    file = source.file
    types = PhraseTypes(spec.entities, spec.ann_file) if spec.entities else None
    dataset = CaptionedPictures(source, (), (), judged=spec.judged, merged=merged)
    pictures: dict[tuple[Path, tuple[int, int]], list[int]] = {}
    types_of, boxless, outside, counts = {}, [], [], Counter()
    for index in range(len(file)):
        record = file[index]
        _check_record(record, spec)
        caption = dataset.caption(index)
        counts["judged"] += caption.num_judged
        counts["boxless"] += caption.num_boxless
        counts["unasked"] += caption.num_unasked
        if caption.num_boxless:
            boxless.append(caption.record_id)
        if caption.num_outside:
            outside.append(caption.record_id)
        if caption.num_judged:
            pictures.setdefault((source.path(index), record.size), []).append(index)
            if types is not None:
                types_of[index] = types(record, caption.prompt.phrases)
    if not pictures:
        raise ValueError(
            f"{spec.ann_file}: none of its {len(file)} captions has a phrase with a box, so there "
            f"is nothing to judge; expected annotations whose tokens_positive are among {ASKED}"
        )
    groups = tuple(map(tuple, pictures.values()))
    heads = (file[group[0]] for group in groups)
    dataset = replace(
        dataset,
        images=tuple(ImageRecord(head.image_id, head.file_name, head.size) for head in heads),
        records=groups,
        types=types_of,
    )
    counts["not asked"] = len(file) - dataset.num_captions
    _report(dataset, counts, boxless, outside)
    return replace(dataset, not_judged=_not_judged(spec.judged, counts))


def _check_record(record: GroundingRecord, spec: DatasetSpec) -> None:
    """Refuse what is judged by another protocol: its figure would look right."""
    where = f"{spec.ann_file}: image record {record.image_id} ({record.caption[:60]!r})"
    collection = str(record.extras.get("dataset_name") or "")
    key = f"DATASETS.REGISTER.{spec.name}.judged"
    if spec.judged == EXPRESSIONS:
        has_phrases = record.extras.get(ASKED) is not None
        if has_phrases or collection.startswith("flickr"):
            said = ASKED if has_phrases else f"dataset_name {collection!r}"
            raise ValueError(
                f"{where} is a caption with phrases ({said}), but {spec.name!r} is judged as "
                f"referring expressions, which mean one thing; set {key}: phrases, or name a "
                "RefCOCO file (finetune_refcoco_val.json)"
            )
        return
    if collection.startswith("refcoco"):
        raise ValueError(
            f"{where} is a referring expression (dataset_name {collection!r}), but {spec.name!r} "
            f"is judged by its phrases; set {key}: expressions, use the name of a published set "
            "(refcoco_val), or name a file of captions (final_flickr_separateGT_val.json)"
        )
    if collection == "flickr" and record.extras.get(ASKED) is None:
        raise ValueError(
            f"{where} is of Flickr30K (dataset_name 'flickr'), but has no {ASKED}, which lists the "
            "phrases to judge; take final_flickr_separateGT_<split>.json of MDETR's annotations, "
            "or have the original files judged (flickr30k_entities_<split>, see DATASET.md)"
        )


def _report(
    dataset: CaptionedPictures, counts: Counter[str], boxless: list[int], outside: list[int]
) -> None:
    logger.info(
        "%s: %d pictures, %d captions, %d phrases with boxes",
        *(dataset.name, len(dataset), dataset.num_captions, counts["judged"]),
    )
    if dataset.judged == EXPRESSIONS and boxless:
        logger.warning(
            "%s: left out are %d expressions without a usable box, the first of record %d of %s",
            *(dataset.name, len(boxless), boxless[0], dataset.source.file.path),
        )
    elif counts["boxless"] or counts["unasked"] or counts["not asked"]:
        logger.info(
            "%s: not judged are %d phrases without a box, and %d boxes whose words are no phrase; "
            "not asked are %d captions without a phrase to judge",
            *(dataset.name, counts["boxless"], counts["unasked"], counts["not asked"]),
        )
    if outside:
        logger.warning(
            "%s: %d records of %s ask for characters outside their caption, the first record %d; "
            "those ranges are left out, correct %s there",
            *(dataset.name, len(outside), dataset.source.file.path, outside[0], ASKED),
        )


def _not_judged(judged: str, counts: Counter[str]) -> dict[str, int]:
    if judged == EXPRESSIONS:
        return {"expressions_without_box": counts["boxless"]}
    return {"phrases_without_box": counts["boxless"], "captions_not_asked": counts["not asked"]}
