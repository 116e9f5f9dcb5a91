"""A few pictures to learn from: prepared files where there are any, else a repeatable choice."""

import logging
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from glipkit.data.catalog import find_dataset
from glipkit.data.datasets.box_faults import OUTSIDE, UNUSABLE, box_fault
from glipkit.data.datasets.coco import CocoDetection

logger = logging.getLogger(__name__)


def prepared_few_shot(
    name: str,
    *,
    shots: int,
    seed: int,
    registered: Mapping[str, Mapping[str, Any]],
    suffix: str = "",
    instead: str = "pictures are chosen anew",
    quiet: bool = False,
) -> str | None:
    """The dataset in which somebody has already chosen the pictures of `name`.

    ODinW's files register them as `<name>_<shots>_<seed>`, for instance "train_3_30".

    Args:
        name: of the whole dataset, as DATASETS.TRAIN has it.
        shots: boxes per class (DATASETS.FEW_SHOT).
        seed: DATASETS.SHUFFLE_SEED.
        registered: DATASETS.REGISTER.
        suffix: DATASETS.TRAIN_DATASETNAME_SUFFIX.
        instead: what is done where a file is missing, for the log.
        quiet: log nothing, where nothing is read either.

    Returns:
        A name of `registered`, or None if there is none or its file is missing; then choose with
        `few_shot`, say. The log says so, since these are not the pictures of published results.
    """
    prepared = f"{name}_{shots}_{seed}"
    if not {prepared, prepared + suffix} & set(registered):
        return None
    file = find_dataset(prepared, registered=registered, suffix=suffix).ann_file
    if file.is_file():
        if not quiet:
            logger.info("%s: the %d-shot pictures of %s (seed %d)", name, shots, file, seed)
        return prepared
    if not quiet:
        logger.warning(
            "%s: the prepared %d-shot file %s (DATASETS.REGISTER.%s) is not there; %s, so results "
            "will differ a little from those with that file",
            *(name, shots, file.absolute(), prepared, instead),
        )
    return None


def few_shot(dataset: CocoDetection, *, shots: int, seed: int) -> CocoDetection:
    """As few pictures as it takes to have every class `shots` times, or nearly so.

    Pictures are looked at in an order that the seed decides, and taken when they show a class that
    has not enough boxes yet. They come whole: all their boxes count, so classes that share a
    picture with a rarer one end up with more. The same seed takes the same pictures.

    Args:
        dataset: to choose from; pictures without a box that can be learnt from are never taken.
        shots: boxes wanted of each class, at least 1; crowd and broken boxes do not count.
        seed: 0 looks at the pictures in the order of the file.

    Returns:
        The chosen pictures in the order of the file, with all their annotations. The log names
        classes that have fewer boxes.

    Raises:
        ValueError: `shots` is not positive, or no picture has a box.
    """
    if shots < 1:
        raise ValueError(f"shots per class must be at least 1, got {shots} (DATASETS.FEW_SHOT)")
    boxes_of = _boxes_by_picture(dataset)
    order = list(boxes_of)
    if seed:
        random.Random(seed).shuffle(order)
    found: Counter[int] = Counter()
    wanted = {category.category_id for category in dataset.categories}
    chosen = []
    for index in order:
        if not wanted:
            break
        if wanted & set(boxes_of[index]):
            chosen.append(index)
            found += boxes_of[index]
            wanted = {category for category in wanted if found[category] < shots}
    if not chosen:
        raise ValueError(
            f"dataset {dataset.name!r}: none of its {len(dataset)} pictures has a box to learn "
            "from, so no few-shot pictures can be chosen"
        )
    _report(dataset, shots, seed, len(chosen), found)
    return dataset.subset(sorted(chosen))


def _boxes_by_picture(dataset: CocoDetection) -> dict[int, Counter[int]]:
    """Picture (in the file's order) -> category -> boxes; no pictures without."""
    row_of = {image.image_id: row for row, image in enumerate(dataset.images)}
    boxes_of: dict[int, Counter[int]] = {}
    for each in dataset.annotations:
        row = row_of[each["image_id"]]
        fault = box_fault(each["bbox"], dataset.images[row].size)
        is_broken = fault in UNUSABLE or fault == OUTSIDE
        if not is_broken and not each.get("iscrowd"):
            boxes_of.setdefault(row, Counter())[each["category_id"]] += 1
    return dict(sorted(boxes_of.items()))


def _report(
    dataset: CocoDetection, shots: int, seed: int, num_chosen: int, found: Counter[int]
) -> None:
    logger.info(
        "%s: %d shots per class (seed %d) are %d of %d pictures with %d boxes",
        dataset.name,
        shots,
        seed,
        num_chosen,
        len(dataset),
        found.total(),
    )
    rare = [
        f"{category.name!r} ({found[category.category_id]})"
        for category in dataset.categories
        if found[category.category_id] < shots
    ]
    if rare:
        logger.warning(
            "%s: %d classes have fewer than %d boxes in the whole dataset: %s",
            dataset.name,
            len(rare),
            shots,
            ", ".join(rare),
        )
