"""Captions whose words have boxes, as something to learn from (OD_TO_GROUNDING, section C)."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.box_faults import fault_rows
from glipkit.data.datasets.entities import read_entities
from glipkit.data.datasets.grounding_file import (
    LEFT_OUT,
    GroundingFile,
    GroundingRecord,
    read_grounding_file,
)
from glipkit.data.images import read_image
from glipkit.data.randomness import SampleRandom
from glipkit.data.sources import GroundedImage
from glipkit.structures.boxes import clip, from_xywh
from glipkit.structures.prompts import Phrase, Prompt

logger = logging.getLogger(__name__)


class GroundingSource:
    """The captions of a grounding json, one sample each; nothing is drawn.

    A phrase is what `tokens_positive` of a box says: boxes with the same ranges answer the same
    phrase, and a box that the file lists twice with different ranges stays two boxes, as published.
    Boxes become x2 = x + w - 1, cut to [0, W - 1]; those that have no extent then, and crowds, are
    dropped with their words. A caption all of whose boxes go stays, with no phrase: a picture in
    which every word is absent. `num_boxes` tells which these are.

    Survives pickling; loader processes share the memory of the annotations.

    Args:
        spec: where the pictures lie.
        file: the annotations.

    Raises:
        ValueError: the pictures are spread over several folders, and a record does not say in which
            one its picture is.
        FileNotFoundError: a folder that records speak of is not there.
    """

    def __init__(self, spec: DatasetSpec, file: GroundingFile) -> None:
        if spec.sources:
            _check_sources(spec, file)
        self.name = spec.name
        self.file = file
        self._folders = dict(spec.sources)
        self._folder = spec.img_dir

    def __len__(self) -> int:
        return len(self.file)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the pictures lie."""
        return tuple(self._folders.values()) or (self._folder,)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) that the annotations claim for sample `index`."""
        height, width = self.file.sizes[index].tolist()
        return height, width

    def image_id(self, index: int) -> int:
        """The id of the record: another caption of the same picture has another."""
        return int(self.file.image_ids[index])

    def num_boxes(self, index: int) -> int:
        """How many boxes sample `index` has to offer; no picture is opened."""
        return int(_usable(self.file[index])[1].sum())

    def path(self, index: int) -> Path:
        """Where the picture of sample `index` lies."""
        return self._path(self.file[index])

    def load(self, index: int, chance: SampleRandom | None = None) -> GroundedImage:
        """Read sample `index`; nothing is drawn from `chance`.

        Raises:
            ImageError: the picture cannot be used.
        """
        record = self.file[index]
        boxes, usable = _usable(record)
        spans = [each for each, is_usable in zip(record.spans, usable.tolist()) if is_usable]
        columns = {each: column for column, each in enumerate(dict.fromkeys(spans))}
        answers = torch.tensor([columns[each] for each in spans], dtype=torch.int64)
        phrases = tuple(
            Phrase(" ".join(record.caption[start:end] for start, end in each), each)
            for each in columns
        )
        return GroundedImage(
            image=read_image(self._path(record), record.size),
            prompt=Prompt(record.caption, phrases),
            boxes=boxes[usable],
            box_phrases=answers[:, None] == torch.arange(len(phrases)),
            image_id=record.image_id,
        )

    def _path(self, record: GroundingRecord) -> Path:
        folder = self._folders[record.data_source] if self._folders else self._folder
        return folder / record.file_name


def load_grounding(spec: DatasetSpec) -> GroundingSource:
    """Load captions with boxes and say in the log what is odd about them.

    Args:
        spec: where they lie; a grounding json, or the files of Flickr30K Entities.

    Raises:
        FileNotFoundError: the annotation file or an image folder is not there.
        ValueError: a file is not usable (see `read_grounding_file`, `read_entities` and
            `GroundingSource`).
    """
    spec.check_files()
    read = read_entities if spec.kind == "entities" else read_grounding_file
    file = read(spec.ann_file)
    source = GroundingSource(spec, file)
    if file.faults:
        rows = fault_rows(file.faults, left_out=LEFT_OUT)
        logger.warning(
            "%s: of %d annotations in %s\n%s", spec.name, file.num_annotations, spec.ann_file, rows
        )
    return source


def _usable(record: GroundingRecord) -> tuple[Tensor, Tensor]:
    """The record's (N, 4) boxes, x1 y1 x2 y2 in pixels, and (N,) bool which ones have an extent."""
    boxes = from_xywh(torch.tensor(record.boxes), plus_one=True)
    boxes = clip(boxes, record.size)
    has_extent = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return boxes, has_extent & ~torch.tensor(record.is_crowd)


def _check_sources(spec: DatasetSpec, file: GroundingFile) -> None:
    known = [source for source, _ in spec.sources]
    for source, index in file.data_sources.items():
        if source not in known:
            said = f"data_source {source!r}" if source else "no data_source"
            raise ValueError(
                f"{spec.name}: its pictures lie in several folders, so every record of "
                f"{spec.ann_file} needs a data_source of {', '.join(known)}; record "
                f"{file.image_ids[index]} ({file.file_names[index]}) has {said}. Others can be "
                "added in DATASETS.REGISTER as <data_source>_img_dir"
            )
        spec.check_folder(source)
