"""Pictures with captions to be asked about, and the boxes that answer each of their phrases."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco_file import ImageRecord
from glipkit.data.datasets.grounding import GroundingSource, load_grounding
from glipkit.data.datasets.grounding_file import GroundingRecord
from glipkit.data.datasets.json_values import is_integer
from glipkit.structures.boxes import from_xywh
from glipkit.structures.prompts import Phrase, Prompt

logger = logging.getLogger(__name__)

ASKED = "tokens_positive_eval"  # of an image record: for each phrase its ranges of the caption

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class JudgedCaption:
    """One caption of one picture, and what a detector should find for its phrases."""

    record_id: int  # of the image record in the file
    prompt: Prompt
    # For each phrase (M, 4) float64, x1 y1 x2 y2 in pixels. Without a box (M = 0) a phrase is asked
    # and not judged (BEHAVIOUR 15).
    boxes: tuple[Tensor, ...]
    num_unasked: int  # boxes whose words no phrase asks for

    @property
    def num_judged(self) -> int:
        """Phrases that have a box."""
        return sum(len(boxes) > 0 for boxes in self.boxes)


@dataclass(frozen=True, slots=True)
class CaptionedPictures:
    """The pictures of a grounding json, each with those of its captions that can be judged.

    The records of one file and size are one picture, known by the id of the first of them.
    """

    source: GroundingSource
    images: tuple[ImageRecord, ...]  # in the file's order
    records: tuple[tuple[int, ...], ...]  # for each picture its records, as indices of the file

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
        file = self.source.file
        return tuple(judged_caption(file[record], file.path) for record in self.records[index])

    def first(self, count: int) -> "CaptionedPictures":
        """The same dataset cut to its first `count` pictures (TEST.SUBSET)."""
        return replace(self, images=self.images[:count], records=self.records[:count])


def load_captioned(spec: DatasetSpec) -> CaptionedPictures:
    """Load a grounding json to judge a detector by, and say in the log what is left out.

    A caption none of whose phrases has a box says nothing about a detector: it is not asked.

    Raises:
        FileNotFoundError: the annotation file or an image folder is not there.
        ValueError: the file is not usable (see `load_grounding`), its `tokens_positive_eval` has
            another form, or no phrase has a box.
    """
    source = load_grounding(spec)
    file = source.file
    pictures: dict[tuple[Path, tuple[int, int]], list[int]] = {}
    counts: Counter[str] = Counter()
    for index in range(len(file)):
        record = file[index]
        caption = judged_caption(record, file.path)
        counts["judged"] += caption.num_judged
        counts["boxless"] += len(caption.boxes) - caption.num_judged
        counts["unasked"] += caption.num_unasked
        if caption.num_judged:
            pictures.setdefault((source.path(index), record.size), []).append(index)
    if not pictures:
        raise ValueError(
            f"{spec.ann_file}: none of its {len(file)} captions has a phrase with a box, so there "
            f"is nothing to judge; expected annotations whose tokens_positive are among {ASKED}"
        )
    groups = tuple(map(tuple, pictures.values()))
    heads = (file[group[0]] for group in groups)
    images = tuple(ImageRecord(head.image_id, head.file_name, head.size) for head in heads)
    dataset = CaptionedPictures(source, images, groups)
    logger.info(
        "%s: %d pictures, %d captions, %d phrases with boxes",
        *(spec.name, len(dataset), dataset.num_captions, counts["judged"]),
    )
    if counts["boxless"] or counts["unasked"] or dataset.num_captions < len(file):
        logger.info(
            "%s: not judged are %d phrases without a box, and %d boxes whose words are no phrase; "
            "not asked are %d captions without a phrase to judge",
            *(spec.name, counts["boxless"], counts["unasked"], len(file) - dataset.num_captions),
        )
    return dataset


def judged_caption(record: GroundingRecord, path: Path) -> JudgedCaption:
    """The phrases of a record, and the boxes of each.

    The phrases are those of `tokens_positive_eval`, and a box answers a phrase when they share a
    range of characters. Where a record has no such list, boxes with the same `tokens_positive` are
    one phrase, as in training. Crowds answer nothing. A box's x2 is x + width (BEHAVIOUR 15).

    Args:
        record: of a grounding file.
        path: of that file, for messages.

    Raises:
        ValueError: `tokens_positive_eval` is no list of lists of character ranges.
    """
    single = [index for index, is_crowd in enumerate(record.is_crowd.tolist()) if not is_crowd]
    shown = [record.spans[index] for index in single]
    listed = record.extras.get(ASKED)
    if listed is None:
        asked = list(dict.fromkeys(shown))
        answers = [[index for index, ranges in enumerate(shown) if ranges == each]
                   for each in asked]  # fmt: skip
    else:
        asked = [_ranges(each, record, path) for each in _listed(listed, record, path)]
        answers = [[index for index, ranges in enumerate(shown) if set(ranges) & set(each)]
                   for each in asked]  # fmt: skip
    boxes = from_xywh(torch.from_numpy(record.boxes[single]).double())
    return JudgedCaption(
        record_id=record.image_id,
        prompt=Prompt(
            record.caption,
            tuple(
                Phrase(" ".join(record.caption[start:end] for start, end in each), each)
                for each in asked
            ),
        ),
        boxes=tuple(boxes[index] for index in answers),
        num_unasked=len(single) - len({index for each in answers for index in each}),
    )


def _listed(listed: Any, record: GroundingRecord, path: Path) -> Sequence[Any]:
    if not isinstance(listed, list):
        raise _malformed(listed, record, path)
    return listed


def _ranges(listed: Any, record: GroundingRecord, path: Path) -> Ranges:
    """A phrase's ranges that lie in the caption, as `read_grounding_file` takes those of boxes."""
    if not isinstance(listed, list):
        raise _malformed(listed, record, path)
    length = len(record.caption)
    ranges = []
    for each in listed:
        if not (isinstance(each, list) and len(each) == 2 and all(map(is_integer, each))):
            raise _malformed(listed, record, path)
        start, end = each
        if 0 <= start < min(end, length):
            ranges.append((start, min(end, length)))
    return tuple(ranges)


def _malformed(listed: Any, record: GroundingRecord, path: Path) -> ValueError:
    return ValueError(
        f"{path}: {ASKED} of image record {record.image_id} must give each phrase a list of "
        f"character ranges, [[[start, end], ...], ...], got {str(listed)[:100]}"
    )
