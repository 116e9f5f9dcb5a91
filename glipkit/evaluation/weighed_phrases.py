"""Recall of phrases, and accuracy of expressions, in pictures that have weights."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from glipkit.evaluation.phrase_answers import PhraseAnswers
from glipkit.evaluation.weighed_shares import WeighedShares
from glipkit.structures.detections import Detections


def weigh_phrases(
    answers: PhraseAnswers, results: Iterable[Mapping[str, Any]], names: Sequence[str]
) -> WeighedShares:
    """The figures of captions, ready for weights.

    Args:
        answers: a judge of the dataset that has taken nothing yet.
        results: what predictions.json holds.
        names: of the figures: "R@1", "P@5", "R@all", "R@1/people".

    Raises:
        ValueError: a result is of no picture or phrase of the dataset, or the dataset has no phrase
            that a figure is of.
    """
    _take(answers, results)
    columns = [_column(name) for name in names]
    number_of = {image.image_id: place for place, image in enumerate(answers.dataset.images)}
    right = np.zeros((len(number_of), len(names)), dtype=np.int64)
    asked = right.copy()
    for hit in answers.hits():
        row = number_of[hit.image_id]
        for place, (count, group) in enumerate(columns):
            if not group or group in hit.groups:
                asked[row, place] += 1
                right[row, place] += hit.rank is not None and hit.rank <= count
    for name, count in zip(names, asked.sum(axis=0).tolist()):
        if not count:
            raise ValueError(
                f"{answers.dataset.name} has no phrase that {name} is of; are the types of its "
                "phrases (Flickr30K Entities) where they were at the evaluation?"
            )
    return WeighedShares(names, right, asked)


def _column(name: str) -> tuple[float, str]:
    """How many boxes a figure looks at, and the group of phrases it is of ("" for all)."""
    head, _, group = name.partition("/")
    count = head.rpartition("@")[2]
    if count != "all" and not count.isdecimal():
        raise ValueError(f"intervals of captions are made for R@... and P@..., not for {name}")
    return (float("inf") if count == "all" else int(count)), group


def _take(answers: PhraseAnswers, results: Iterable[Mapping[str, Any]]) -> None:
    """Give a judge what it wrote to predictions.json before."""
    of_record: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for each in results:
        of_record[each["image_id"]].append(each)
    for index, image in enumerate(answers.dataset.images):
        found, phrase_ids, start = [], [], 0
        for caption in answers.dataset.captions(index):
            for each in of_record.pop(caption.record_id, ()):
                found.append(each)
                phrase_ids.append(start + each["phrase"])
            start += len(caption.boxes)
        boxes = torch.tensor([each["box"] for each in found], dtype=torch.float32).reshape(-1, 4)
        scores = torch.tensor([each["score"] for each in found], dtype=torch.float32)
        phrases = torch.tensor(phrase_ids, dtype=torch.int64)
        answers.process(image.image_id, Detections(boxes, scores, phrases, image.size))
    if of_record:
        raise ValueError(
            f"{answers.dataset.name} has no caption with the image record {next(iter(of_record))}"
        )
