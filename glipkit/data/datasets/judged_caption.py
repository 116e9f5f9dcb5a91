"""One caption as something to judge a detector by: its phrases, and the boxes that answer them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glipkit.data.datasets.grounding_file import SLACK, GroundingRecord
from glipkit.data.datasets.json_values import is_integer
from glipkit.structures.boxes import from_xywh
from glipkit.structures.prompts import Phrase, Prompt

# Of an image record, for each phrase:
ASKED = "tokens_positive_eval"  # its ranges of the caption
TYPES = "phrase_types"  # optional: what it is, ["people"], say
BOXLESS = "phrases_without_box"  # optional: how many phrases are left out of these, as none has one
ALL = "all"  # what every phrase is counted under; no type may have this name

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class JudgedCaption:
    """One caption of one picture, and what a detector should find for its phrases."""

    record_id: int  # of the image record in the file
    prompt: Prompt
    # For each phrase (M, 4) float64, x1 y1 x2 y2 in pixels. Without a box (M = 0) a phrase is asked
    # and not judged (BEHAVIOUR 15).
    boxes: tuple[Tensor, ...]
    # For each phrase what it is counted under besides ALL: its types, or the collection of a
    # referring expression.
    groups: tuple[tuple[str, ...], ...]
    num_unasked: int = 0  # boxes whose words no phrase asks for
    num_left_out: int = 0  # phrases that have no box and are not asked
    num_outside: int = 0  # phrases with a range outside the caption, which nobody can ask for

    @property
    def num_judged(self) -> int:
        """Phrases that have a box."""
        return sum(len(boxes) > 0 for boxes in self.boxes)

    @property
    def num_boxless(self) -> int:
        """Phrases that have none."""
        return len(self.boxes) - self.num_judged + self.num_left_out


def judged_caption(record: GroundingRecord, path: Path, *, merged: bool = False) -> JudgedCaption:
    """The phrases of a record, and the boxes of each.

    The phrases are those of `tokens_positive_eval`, and a box answers a phrase when they share a
    range of characters. Where a record has no such list, boxes with the same `tokens_positive` are
    one phrase, as in training. Crowds answer nothing. A box's x2 is x + width (BEHAVIOUR 15).

    Args:
        record: of a grounding file.
        path: of that file, for messages.
        merged: make one box of those of a phrase, the smallest around them.

    Raises:
        ValueError: `tokens_positive_eval` is no list of lists of character ranges, or
            `phrase_types` does not fit it.
    """
    single = [index for index, is_crowd in enumerate(record.is_crowd.tolist()) if not is_crowd]
    shown = [record.spans[index] for index in single]
    listed, num_outside = record.extras.get(ASKED), 0
    if listed is None:
        asked = list(dict.fromkeys(shown))
        answers = [[index for index, ranges in enumerate(shown) if ranges == each]
                   for each in asked]  # fmt: skip
    else:
        ranges_of = [_ranges(each, record, path) for each in _listed(listed, record, path)]
        asked = [_inside(each, record.caption) for each in ranges_of]
        num_outside = sum(len(kept) < len(each) for kept, each in zip(asked, ranges_of))
        answers = [[index for index, ranges in enumerate(shown) if set(ranges) & set(each)]
                   for each in asked]  # fmt: skip
    boxes = from_xywh(torch.from_numpy(record.boxes[single]).double())
    truth = tuple(boxes[index] for index in answers)
    return JudgedCaption(
        record_id=record.image_id,
        prompt=_prompt(record.caption, asked),
        boxes=tuple(map(enclosing, truth)) if merged else truth,
        groups=_types(record, len(asked), path),
        num_unasked=len(single) - len({index for each in answers for index in each}),
        num_left_out=_left_out(record),
        num_outside=num_outside,
    )


def judged_expression(record: GroundingRecord, path: Path) -> JudgedCaption:
    """A referring expression: a caption that means one thing, whose box is the only one.

    What is asked are the words that its box names in `tokens_positive`, within the whole caption:
    with those a model is trained. Without a box there is nothing to ask. A box that is marked as a
    crowd counts, as somebody said where it is.

    Args:
        record: of a grounding file.
        path: of that file, for messages.

    Raises:
        ValueError: it has several boxes.
    """
    if len(record.boxes) > 1:
        raise ValueError(
            f"{path}: image record {record.image_id} ({record.caption[:60]!r}) has "
            f"{len(record.boxes)} boxes, but a referring expression means one thing; leave one "
            "annotation for each expression, or have the file judged by its phrases: judged: "
            "phrases in DATASETS.REGISTER"
        )
    collection = record.extras.get("dataset_name")
    boxes = from_xywh(torch.from_numpy(record.boxes).double())
    return JudgedCaption(
        record_id=record.image_id,
        prompt=_prompt(record.caption, record.spans),
        boxes=tuple(box[None] for box in boxes),
        groups=((collection,) if _is_type(collection) else (),) * len(boxes),
        num_left_out=int(len(boxes) == 0),
    )


def enclosing(boxes: Tensor) -> Tensor:
    """The smallest box around all, (1, 4); of none, (0, 4).

    Args:
        boxes: (M, 4) x1 y1 x2 y2.
    """
    if not len(boxes):
        return boxes
    return torch.cat([boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)])[None]


def _prompt(caption: str, asked: Sequence[Ranges]) -> Prompt:
    return Prompt(
        caption,
        tuple(
            Phrase(" ".join(caption[start:end] for start, end in ranges), ranges)
            for ranges in asked
        ),
    )


def _listed(listed: Any, record: GroundingRecord, path: Path) -> Sequence[Any]:
    if not isinstance(listed, list):
        raise _malformed(listed, record, path)
    return listed


def _ranges(listed: Any, record: GroundingRecord, path: Path) -> Ranges:
    if not isinstance(listed, list):
        raise _malformed(listed, record, path)
    for each in listed:
        if not (isinstance(each, list) and len(each) == 2 and all(map(is_integer, each))):
            raise _malformed(listed, record, path)
    return tuple(map(tuple, listed))


def _inside(ranges: Ranges, caption: str) -> Ranges:
    """Those that lie in the caption, as `read_grounding_file` takes those of boxes."""
    length = len(caption)
    return tuple(
        (start, min(end, length))
        for start, end in ranges
        if 0 <= start < min(end, length) and end <= length + SLACK
    )


def _types(record: GroundingRecord, count: int, path: Path) -> tuple[tuple[str, ...], ...]:
    listed = record.extras.get(TYPES)
    if listed is None:
        return ((),) * count
    sound = isinstance(listed, list) and len(listed) == count
    if not (sound and all(isinstance(each, list) and all(map(_is_type, each))
                          for each in listed)):  # fmt: skip
        raise ValueError(
            f"{path}: {TYPES} of image record {record.image_id} must give each of its {count} "
            f'phrases a list of types, [["people"], ...], none of them {ALL!r} (that is every '
            f"phrase), got {str(listed)[:100]}"
        )
    return tuple(map(tuple, listed))


def _is_type(word: Any) -> bool:
    return isinstance(word, str) and word not in ("", ALL)


def _left_out(record: GroundingRecord) -> int:
    count = record.extras.get(BOXLESS, 0)
    return count if is_integer(count) and count > 0 else 0


def _malformed(listed: Any, record: GroundingRecord, path: Path) -> ValueError:
    return ValueError(
        f"{path}: {ASKED} of image record {record.image_id} must give each phrase a list of "
        f"character ranges, [[[start, end], ...], ...], got {str(listed)[:100]}"
    )
