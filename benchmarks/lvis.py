"""A vocabulary of 1,203 classes, a picture of 800 x 1066: python benchmarks/lvis.py [--json PATH].

31 prompts of 40 names, as the published command for LVIS asks them. Ours encodes the picture once
and remembers the words (as in an evaluation, where they are the same for every picture; the first
picture is in the file too); the published pipeline encodes picture and words for every prompt. It
takes minutes a picture, so its prompts are timed one by one, in portions between our turns, and
those that do not fit into five minutes are left out. Each costs the same, so that its time is the
median of a prompt times their number. The answers to all prompts that were run are compared.
"""

import argparse
import functools
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import counts
import torch
from model import REPEATS, SIZE, TOLERANCE, UNMATCHED, Subject, load, picture, unmatched
from reference.pipeline import PublishedPipeline
from rows import DTYPES, FALSIFY, Row, difference
from rows import main as program
from timing import turns
from torch import Tensor

from glipkit.grounding.captions import class_prompts
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_detector, build_postprocessor
from glipkit.modeling.glip import GLIP, GroundingOutput
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import TokenizedPrompt, batch_prompts

ROWS = ("lvis_1203",)
NAMES = Path(__file__).parent / "lvis_names.txt"
CHUNK = 40  # TEST.CHUNKED_EVALUATION
COLUMNS = 3000  # TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM
PER_IMAGE = 300  # detections for each prompt
LIMIT = 300.0  # seconds of the published pipeline


class Chunk(Subject):
    """One prompt about the picture."""

    def __init__(
        self, arguments: argparse.Namespace, images: ImageBatch, prompt: TokenizedPrompt
    ) -> None:
        self.images, self.prompt = images, prompt
        (self.size,) = images.sizes
        self.batch = batch_prompts([prompt]).to(arguments.device)
        self.device, self.low = arguments.device, DTYPES[arguments.dtype]


class Published:
    """The published pipeline, asked prompt by prompt; what it says of all anchors is kept."""

    def __init__(self, pipeline: PublishedPipeline) -> None:
        self.pipeline = pipeline
        self.seconds: list[float] = []
        self.found: list[Detections] = []
        self.apart = 0.0
        self._output: GroundingOutput | None = None
        pipeline.model.register_forward_hook(self._keep)

    def ask(self, chunk: Chunk, model: GLIP) -> None:
        """Time one prompt; then, at leisure, see how far our model is from it."""
        (seconds,) = turns([lambda: self.found.extend(chunk.ask(self.pipeline))], 1, warmup=0)
        self.seconds += seconds
        theirs = chunk.raw(lambda *_: self._output)
        apart = difference(chunk.raw(model), theirs)
        self.apart = apart if apart != apart else max(self.apart, apart)  # a nan stays

    def _keep(self, _module: object, _inputs: object, output: GroundingOutput) -> None:
        self._output = output


def class_names() -> list[str]:
    """1,203 of them."""
    return [line for line in NAMES.read_text().splitlines() if not line.startswith("#")]


def of_chunks(found: Detections, chunks: Sequence[Chunk]) -> list[Detections]:
    """Our answer to all prompts taken apart again, with phrases counted from 0 in each."""
    parts, start = [], 0
    for chunk in chunks:
        end = start + chunk.prompt.num_phrases
        own = (found.phrase_ids >= start) & (found.phrase_ids < end)
        parts.append(
            Detections(
                found.boxes[own], found.scores[own], found.phrase_ids[own] - start, found.image_size
            )
        )
        start = end
    return parts


def portions(chunks: Sequence[Chunk], count: int) -> list[Sequence[Chunk]]:
    """The prompts in order, in `count` portions of about the same size."""
    ends = [round(len(chunks) * index / count) for index in range(count + 1)]
    return [chunks[start:end] for start, end in itertools.pairwise(ends)]


def compare(arguments: argparse.Namespace) -> Row:
    """Our detector beside the published pipeline, with the same weights."""
    cfg, model = load(arguments, "MODEL.ATSS.DETECTIONS_PER_IMG", str(PER_IMAGE))
    detector = build_detector(cfg, model)
    pipeline = PublishedPipeline.of(model, build_postprocessor(cfg), columns=COLUMNS).eval()
    published = Published(pipeline)
    tokenizer = Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE)
    names = class_names()[: 2 * CHUNK + 3 if arguments.quick else None]  # three prompts
    images = picture((192, 256) if arguments.quick else SIZE).to(arguments.device)
    prompts = [tokenizer(each) for each in class_prompts(names, tokenizer, chunk_size=CHUNK)]
    chunks = [Chunk(arguments, images, prompt) for prompt in prompts]

    def ours() -> list[Detections]:
        with torch.inference_mode():
            return detector(images, prompts, images.sizes)

    found = ours()  # warmed up
    detector.forget()
    ((first,),) = turns([ours], 1, warmup=0)
    chunks[0].ask(pipeline)
    seconds, started = [], time.monotonic()
    for portion in portions(chunks, 1 if arguments.quick else REPEATS):
        seconds += turns([ours], 1, warmup=0)[0]
        for chunk in portion:
            if time.monotonic() - started < LIMIT:
                published.ask(chunk, model)

    run = len(published.seconds)
    alone = unmatched(of_chunks(found[0], chunks)[:run], published.found)
    if os.environ.get(FALSIFY):
        alone = 1.0
    each = statistics.median(published.seconds)
    lonely = alone > UNMATCHED[arguments.dtype]
    fields = {} if arguments.quick else counts.fields(work(images.pixels, chunks))
    extra = fields.pop("extra", {})
    return Row(
        ROWS[0],
        statistics.median(seconds),
        each * len(chunks),
        "s",
        "the published pipeline (tests/reference/pipeline.py): picture and words again per prompt",
        published.apart <= TOLERANCE[arguments.dtype] and not lonely,  # nan: False
        difference=published.apart,
        tolerance=TOLERANCE[arguments.dtype],
        reason=f"{alone:.1%} of the detections have no partner." if lonely else "",
        size=f"{len(names)} classes in {len(chunks)} prompts, "
        f"{images.sizes[0][0]}x{images.sizes[0][1]} pixels",
        device=arguments.device,
        dtype=arguments.dtype,
        threads=arguments.threads,
        repeats=len(seconds),
        spread={
            "ours": (min(seconds), max(seconds)),
            "reference": tuple(f(published.seconds) * len(chunks) for f in (min, max)),
        },
        extra=extra
        | {
            "prompts": len(chunks),
            "prompts_of_reference": run,
            "reference_is": "the median of a prompt times their number: each costs the same",
            "reference_seconds_of_each_prompt": [round(s, 3) for s in published.seconds],
            "ours_without_prompt_cache": first,
            "detections": len(found[0]),
            "detections_unmatched": alone,
            "tokens": [int(prompt.token_mask.sum()) for prompt in prompts],
        },
        **fields,
    )


def work(pixels: Tensor, chunks: Sequence[Chunk]) -> dict[str, counts.Work]:
    """The picture once, everything that words take part in for every prompt."""
    height, width = pixels.shape[2:]
    total: dict[str, counts.Work] = {}
    for chunk in chunks:
        for stage, needed in counts.glip_t(height, width, chunk.tokens).items():
            if stage in ("backbone", "pyramid"):
                total[stage] = needed
            elif stage != "text encoder":  # remembered
                total[stage] = total.get(stage, counts.Work()) + needed
    return total


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`."""
    return [compare(arguments).as_dict() for _ in arguments.names]


main: Callable[..., int] = functools.partial(program, ROWS, rows, __doc__)

if __name__ == "__main__":
    sys.exit(main())
