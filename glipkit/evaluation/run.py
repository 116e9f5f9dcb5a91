"""Any detector over any test set, judged by any evaluator."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from glipkit.data.images import ImageError
from glipkit.data.loading import placed
from glipkit.data.sample import Batch, Failure
from glipkit.data.test_set import TestSet
from glipkit.data.workers import beside_model
from glipkit.evaluation.evaluator import Evaluator
from glipkit.evaluation.journal import Journal, discard_journals, read_journals
from glipkit.evaluation.results import Results, Timing
from glipkit.runtime.distributed import (
    barrier,
    broadcast_object,
    gather_objects,
    is_main,
    rank,
    world_size,
)
from glipkit.runtime.progress import image_progress
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import TokenizedPrompt

logger = logging.getLogger(__name__)

# (images, prompts of each image, original sizes) -> detections in original pixels, phrase ids over
# all prompts of the image
Detector = Callable[
    [ImageBatch, Sequence[Sequence[TokenizedPrompt]], Sequence[tuple[int, int]]], list[Detections]
]


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
    resume: bool = False,
    strict: bool = False,
) -> Results:
    """Ask the detector about every picture of the test set and judge its answers.

    Every process of the group calls this; the pictures are shared between them, rank 0 judges and
    writes `output_dir`/results.json and predictions.json, and all return the same results.
    Predictions are journalled as they are made: after an interruption (KeyboardInterrupt is
    passed on) `resume=True` goes on from them, with any number of processes that see the folder.

    Args:
        detector: the model behind a callable, in evaluation mode (`multi_prompt.Detector.each`).
        test_set: pictures, and the prompts of each.
        evaluator: takes the detections on rank 0.
        output_dir: one folder for each test set.
        depends_on: what else the answers depend on, as plain data: weights hash, thresholds ...
            Together with the test set's own fingerprint and the metric it pins the journal and
            becomes the `protocol` of results.json.
        settings: the whole configuration as plain data, for results.json.
        batch_size: pictures in a batch; no answer depends on it.
        num_workers: processes that read pictures, fewer where `beside_model` says so; 0 reads in
            this one.
        device: where the detector lives.
        resume: go on from the journal in `output_dir`; otherwise an existing one is replaced.
        strict: stop at the first picture that cannot be read.

    Raises:
        ImageError: a picture cannot be read and `strict` is set.
        JournalError: the journal belongs to another evaluation or is damaged.
        ValueError: not one picture could be read, or the detector's answers are not usable.
    """
    depends_on = {**test_set.fingerprint(), "metric": evaluator.metric, **depends_on}
    known = _known_so_far(output_dir, depends_on, resume)
    done = broadcast_object(set(known))
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
            found, failures = _predict(detector, test_set, loader, journal, device, strict)
        except KeyboardInterrupt:
            logger.warning(
                "interrupted; the predictions made so far are kept in %s "
                "(test_grounding_net.py goes on from them with --resume)",
                output_dir,
            )
            raise
    shares = gather_objects((found, failures))
    results = None
    if shares is not None:
        timing = Timing(
            seconds=time.perf_counter() - started,
            num_images=len(remaining),
            num_processes=world_size(),
            batch_size=batch_size,
        )
        failures = tuple(failure for _, share in shares for failure in share)
        for each, _ in shares:
            known.update(each)
        results = _judge(test_set, evaluator, known, failures, depends_on, settings or {}, timing)
        results.write(output_dir, evaluator.predictions())
    return broadcast_object(results)


def _known_so_far(
    output_dir: Path, depends_on: Mapping[str, Any], resume: bool
) -> dict[int, Detections]:
    """Rank 0's view of the journals; on other ranks nothing. Afterwards every rank may write."""
    known: dict[int, Detections] = {}
    if is_main():
        if resume:
            known = read_journals(output_dir, depends_on)
            logger.info("going on from %d images in %s", len(known), output_dir)
        else:
            discard_journals(output_dir)
    barrier()
    return known


def _predict(
    detector: Detector,
    test_set: TestSet,
    loader: DataLoader,
    journal: Journal,
    device: torch.device | str,
    strict: bool,
) -> tuple[dict[int, Detections], list[Failure]]:
    """This rank's share: image id -> detections, and what could not be read."""
    found: dict[int, Detections] = {}
    failures: list[Failure] = []
    index_of = {image.image_id: index for index, image in enumerate(test_set.dataset.images)}
    with image_progress(loader.batch_sampler.num_images, test_set.name) as bar:
        for fetched in placed(loader, device):
            for failure in fetched.failures:
                if strict:
                    raise ImageError(failure.path, failure.reason)
                logger.warning("left out: %s", failure)
                failures.append(failure)
                bar.update()
            for batch in fetched.batches:
                prompts = [test_set.prompts_of(index_of[each]) for each in batch.image_ids]
                for image_id, detections in _detect(detector, prompts, batch):
                    journal.add(image_id, detections)
                    found[image_id] = detections
                bar.update(len(batch))
    return found, failures


@torch.inference_mode()
def _detect(
    detector: Detector, prompts: Sequence[Sequence[TokenizedPrompt]], batch: Batch
) -> list[tuple[int, Detections]]:
    answers = detector(batch.images, prompts, batch.original_sizes)
    if len(answers) != len(batch):
        raise ValueError(f"the detector answered {len(answers)} times for {len(batch)} images")
    return [(image_id, answer.to("cpu")) for image_id, answer in zip(batch.image_ids, answers)]


def _judge(
    test_set: TestSet,
    evaluator: Evaluator,
    found: Mapping[int, Detections],
    failures: tuple[Failure, ...],
    depends_on: Mapping[str, Any],
    settings: Mapping[str, Any],
    timing: Timing,
) -> Results:
    if failures and not found:
        raise ValueError(
            f"not one image of {test_set.name} could be read, so there is nothing to judge; the "
            f"first of {len(failures)}: {failures[0]}"
        )
    for image_id, detections in found.items():
        evaluator.process(image_id, detections)
    return Results(
        dataset=test_set.name,
        judgement=evaluator.evaluate(),
        num_images=len(test_set),
        num_predictions=len(evaluator.predictions()),
        failures=failures,
        depends_on=dict(depends_on),
        config=dict(settings),
        timing=timing,
    )
