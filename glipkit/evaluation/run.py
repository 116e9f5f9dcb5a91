"""Any detector over any test set, judged by any evaluator."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from glipkit.data.images import ImageError
from glipkit.data.loading import placed
from glipkit.data.sample import Failure
from glipkit.data.test_set import TestSet
from glipkit.data.workers import beside_model
from glipkit.evaluation.evaluator import Evaluator, MergingEvaluator
from glipkit.evaluation.journal import (
    METRIC,
    Journal,
    can_go_on,
    discard_journals,
    walk_journals,
)
from glipkit.evaluation.looks import Join, Looks
from glipkit.evaluation.results import Results, Timing
from glipkit.runtime.distributed import (
    barrier,
    broadcast_object,
    from_main,
    gather_objects,
    is_main,
    rank,
    receive_each,
    send_to_main,
    world_size,
)
from glipkit.runtime.progress import image_progress
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import AnyPrompt

logger = logging.getLogger(__name__)

# (images, prompts of each image, original sizes) -> detections in original pixels, phrase ids over
# all prompts of the image
Detector = Callable[
    [ImageBatch, Sequence[Sequence[AnyPrompt]], Sequence[tuple[int, int]]], list[Detections]
]


class NothingReadError(ValueError):
    """There is not one picture to judge answers on; raised on every rank."""


def evaluate(
    detector: Detector,
    test_set: TestSet,
    evaluator: Evaluator,
    *,
    output_dir: Path,
    depends_on: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    resume: bool | None = False,
    strict: bool = False,
    join: Join | None = None,
) -> Results:
    """Ask the detector about every picture of the test set and judge its answers.

    Every process of the group calls this; the pictures are shared between them, rank 0 judges and
    writes `output_dir`/results.json and predictions.json, and all return the same results.
    Predictions are journalled as they are made: after an interruption (KeyboardInterrupt is
    passed on) `resume=True` goes on from them, with any number of processes that see the folder.

    Args:
        detector: the model behind a callable, in evaluation mode (`multi_prompt.Detector.each`).
        test_set: pictures, and the prompts of each.
        evaluator: takes the detections on rank 0, a `MergingEvaluator` on every rank as they come.
        output_dir: one folder for each test set.
        depends_on: what else the answers depend on, as plain data: weights hash, thresholds ...
            Together with the test set's own fingerprint it pins the journal, and with the metric
            it becomes the `protocol` of results.json.
        settings: the whole configuration as plain data, for results.json.
        batch_size: pictures in a batch; no answer depends on it.
        num_workers: processes that read pictures, fewer where `beside_model` says so; 0 reads in
            this one.
        device: where the detector lives.
        resume: go on from the journal in `output_dir`; otherwise an existing one is replaced. None:
            go on from it if it is whole and of this very evaluation.
        strict: stop at the first picture that cannot be read.
        join: makes one answer of those to a picture's views, where the test set has views.

    Raises:
        ImageError: a picture cannot be read and `strict` is set.
        JournalError: the journal belongs to another evaluation or is damaged.
        NothingReadError: not one picture could be read.
        ValueError: the detector's answers are not usable.
    """
    looks = Looks(detector, test_set, join)
    depends_on = {**test_set.fingerprint(), METRIC: evaluator.metric, **depends_on}
    if resume is None:
        resume = from_main(lambda: can_go_on(output_dir, depends_on))
    taker = evaluator if isinstance(evaluator, MergingEvaluator) else _Keeper(evaluator)
    done = broadcast_object(_known_so_far(output_dir, depends_on, resume, taker))
    images = test_set.dataset.images
    remaining = [index for index, image in enumerate(images) if image.image_id not in done]
    loader = test_set.loader(
        remaining,
        batch_size=batch_size,
        num_workers=beside_model(num_workers, torch.device(device)),
        pin_memory=torch.device(device).type == "cuda",
        rank=rank(),
        world_size=world_size(),
    )
    started = time.perf_counter()
    with Journal(output_dir, rank(), depends_on, resume=resume) as journal:
        try:
            failures = _predict(looks, test_set.name, loader, journal, taker, device, strict)
        except KeyboardInterrupt:
            logger.warning(
                "interrupted; the predictions made so far are kept in %s "
                "(test_grounding_net.py goes on from them with --resume)",
                output_dir,
            )
            raise
    failures_of_each = gather_objects(failures)
    outcome: Results | str | None = None
    if failures_of_each is None:
        send_to_main(taker.share())
    else:
        timing = Timing(
            seconds=time.perf_counter() - started,
            num_images=len(remaining),
            num_processes=world_size(),
            batch_size=batch_size,
        )
        failures = tuple(failure for each in failures_of_each for failure in each)
        for share in receive_each():
            taker.merge(share)
            del share  # before the next one comes
        if failures and len(failures) == len(images):
            outcome = (
                f"not one image of {test_set.name} could be read, so there is nothing to judge; "
                f"the first of {len(failures)}: {failures[0]}"
            )
        else:
            predictions = taker.predictions()
            outcome = Results(
                dataset=test_set.name,
                judgement=evaluator.evaluate(),
                num_images=len(test_set),
                num_predictions=len(predictions),
                failures=failures,
                depends_on=depends_on,
                config=dict(settings or {}),
                timing=timing,
            )
            outcome.write(output_dir, predictions)
    outcome = broadcast_object(outcome)
    if isinstance(outcome, str):
        raise NothingReadError(outcome)
    return outcome


class _Keeper:
    """Makes any evaluator merge: keeps all detections, and hands them over at the end."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._found: dict[int, Detections] = {}

    def process(self, image_id: int, detections: Detections) -> None:
        self._found[image_id] = detections

    def share(self) -> dict[int, Detections]:
        return self._found

    def merge(self, share: Mapping[int, Detections]) -> None:
        self._found.update(share)

    def predictions(self) -> Collection[dict[str, Any]]:
        for image_id, detections in self._found.items():
            self._evaluator.process(image_id, detections)
        return self._evaluator.predictions()


def _known_so_far(
    output_dir: Path, depends_on: Mapping[str, Any], resume: bool, taker: MergingEvaluator | _Keeper
) -> set[int]:
    """The pictures in rank 0's view of the journals, whose detections `taker` takes there.

    Afterwards every rank may write.
    """
    known: set[int] = set()
    if is_main():
        if resume:
            for image_id, detections in walk_journals(output_dir, depends_on):
                if image_id not in known:  # as it stands in the journals of two machines
                    taker.process(image_id, detections)
                    known.add(image_id)
            logger.info("going on from %d images in %s", len(known), output_dir)
        else:
            discard_journals(output_dir)
    barrier()
    return known


def _predict(
    looks: Looks,
    name: str,
    loader: DataLoader,
    journal: Journal,
    taker: MergingEvaluator | _Keeper,
    device: torch.device | str,
    strict: bool,
) -> list[Failure]:
    """Show this rank's share of the pictures to the detector; returns what could not be read."""
    failures: list[Failure] = []
    failed: set[int] = set()  # a picture fails once, in however many views
    with image_progress(loader.batch_sampler.num_images, name) as bar:
        for fetched in placed(loader, device):
            for failure in fetched.failures:
                if strict:
                    raise ImageError(failure.path, failure.reason)
                if failure.image_id in failed:
                    continue
                logger.warning("left out: %s", failure)
                failures.append(failure)
                failed.add(failure.image_id)
                looks.leave_out(failure.image_id)
                bar.update()
            for batch in fetched.batches:
                finished = looks(batch)
                for image_id, detections in finished:
                    journal.add(image_id, detections)
                    taker.process(image_id, detections)
                bar.update(len(finished))
    return failures
