"""The whole model beside the published pipeline: python benchmarks/model.py [--names NAME ...].

From a normalised picture of 800 x 1066 and token ids to detections, with weights filled by name
(no download). Ours as it is used: the detector, which remembers the prompt. The published pipeline
(tests/reference/pipeline.py) pads the words to 256 tokens and encodes them for every picture. On a
CPU it works in float32 also beside ours in bfloat16.

What all benchmarks of the whole model share is here: the model, the picture and the prompts.
"""

import argparse
import dataclasses
import functools
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import counts
import torch
from rows import DTYPES, Row, difference, timed
from rows import main as program
from timing import turns
from torch import Tensor
from torchvision.ops import box_iou
from yacs.config import CfgNode

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reference.pipeline import PublishedModel, PublishedPipeline

from glipkit.config.load import load_config
from glipkit.grounding.captions import class_prompt
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_detector, build_model, build_postprocessor
from glipkit.modeling.fill import fill_model, synthetic_image
from glipkit.modeling.glip import GLIP, GroundingOutput
from glipkit.modeling.multi_prompt import Detector
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch, pad_images
from glipkit.structures.prompts import PromptBatch, TokenizedPrompt, batch_prompts

ROWS = ("glip_t_coco80", "glip_t_two_words")
CONFIG = Path(__file__).parents[1] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
SMALL = Path(__file__).parent / "small.yaml"
COCO = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, "
    "fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, "
    "bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, "
    "sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, "
    "bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, "
    "carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, "
    "tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, "
    "refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"
)
PROMPTS = {"coco": COCO.split(", "), "two": ["person", "dog"]}
PROMPT_OF = {"glip_t_coco80": "coco", "glip_t_two_words": "two"}
SIZE = (800, 1066)  # pixels; padded to 800 x 1088
# Raw answers, relative L2; and how many detections in a hundred may have no partner (a score at
# the threshold, a near tie in the suppression). bfloat16 moves all boxes: not judged.
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-1}
UNMATCHED = {"float32": 0.01, "bfloat16": 1.0}
REPEATS = 3


def load(arguments: argparse.Namespace, *overrides: str) -> tuple[CfgNode, GLIP]:
    """GLIP-T in evaluation mode, the same weights each time; a small model for --quick."""
    low = ("TEST.PRECISION", arguments.dtype)
    files = [CONFIG, SMALL] if arguments.quick else [CONFIG]
    cfg = load_config(files, [*low, *overrides])
    with torch.device("meta"):
        model = build_model(cfg)
    model.to_empty(device=arguments.device)
    fill_model(model)
    return cfg, model.eval()


def picture(size: tuple[int, int]) -> ImageBatch:
    """One synthetic picture of `size` (height, width), normalised and padded to 32 pixels."""
    pixels = torch.from_numpy(synthetic_image(*size, seed=0)).permute(2, 0, 1).flip(0).float()
    mean, deviation = pixels.mean(dim=(1, 2), keepdim=True), pixels.std(dim=(1, 2), keepdim=True)
    return pad_images([(pixels - mean) / deviation])


def words(prompt: str, tokenizer: Tokenizer) -> PromptBatch:
    """The prompt as a user's would come, cut to its length."""
    return batch_prompts([tokenizer(class_prompt(PROMPTS[prompt]))])


class Subject:
    """A picture and a prompt, ready for either side.

    Args:
        arguments: of the command line.
        cfg: of the model.
        prompt: a key of PROMPTS.
    """

    def __init__(self, arguments: argparse.Namespace, cfg: CfgNode, prompt: str) -> None:
        self.size = (192, 256) if arguments.quick else SIZE
        self.images = picture(self.size).to(arguments.device)
        tokenizer = Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE)
        self.prompt: TokenizedPrompt = tokenizer(class_prompt(PROMPTS[prompt]))
        self.batch = batch_prompts([self.prompt]).to(arguments.device)
        self.device, self.low = arguments.device, DTYPES[arguments.dtype]

    @property
    def tokens(self) -> int:
        """T of ours: those of the prompt, rounded up."""
        return self.batch.token_ids.shape[1]

    def precision(self, side: object) -> torch.autocast:
        """Autocast, if the side needs and knows it: torchvision has no bfloat16 on a CPU."""
        low = self.low != torch.float32 and not isinstance(side, Detector)
        if self.device == "cpu" and isinstance(side, PublishedPipeline | PublishedModel):
            low = False
        return torch.autocast(self.device, self.low, enabled=low)

    @torch.inference_mode()
    def ask(self, side: Detector | PublishedPipeline) -> list[Detections]:
        """What a side finds. The detector sees to its precision itself."""
        with self.precision(side):
            return side(self.images, [self.prompt], [self.size])

    @torch.inference_mode()
    def raw(self, model: torch.nn.Module) -> list[Tensor]:
        """What a model says of all anchors: logits of the prompt's own tokens, boxes, centers."""
        with self.precision(model):
            output: GroundingOutput = model(self.images, self.batch)
        seen = int(self.batch.token_mask.sum())
        return [
            torch.cat([level.token_logits[..., :seen] for level in output.levels], dim=1),
            torch.cat([level.box_deltas for level in output.levels], dim=1),
            torch.cat([level.centerness for level in output.levels], dim=1),
        ]


def unmatched(ours: Sequence[Detections], reference: Sequence[Detections]) -> float:
    """The share of detections, of both sides, without a partner of the same phrase on the other.

    Partners overlap by 0.99 and differ in score by at most 1 %.
    """
    alone = total = 0
    for a, b in zip(ours, reference, strict=True):
        near = box_iou(a.boxes.float(), b.boxes.float()) > 0.99
        near &= a.phrase_ids[:, None] == b.phrase_ids
        near &= (a.scores[:, None] - b.scores).abs() <= 0.01 * b.scores
        alone += int((~near.any(dim=1)).sum() + (~near.any(dim=0)).sum())
        total += len(a) + len(b)
    return alone / total if total else 0.0


def compare(name: str, arguments: argparse.Namespace) -> Row:
    """Our detector beside the published pipeline, with the same weights."""
    cfg, model = load(arguments)
    detector = build_detector(cfg, model)
    pipeline = PublishedPipeline.of(model, build_postprocessor(cfg)).eval()
    subject = Subject(arguments, cfg, PROMPT_OF[name])

    def first_time() -> None:
        detector.forget()
        subject.ask(detector)

    apart = difference(subject.raw(model), subject.raw(pipeline.model))
    found = subject.ask(detector)
    alone = unmatched(found, subject.ask(pipeline))  # warmed up now, both of them
    seconds = turns(
        [lambda: subject.ask(detector), lambda: subject.ask(pipeline), first_time],
        1 if arguments.quick else REPEATS,
        warmup=0,
    )
    height, width = subject.images.pixels.shape[2:]
    work = {} if arguments.quick else counts.glip_t(height, width, subject.tokens)
    work.pop("text encoder", None)  # remembered
    fields = counts.fields(work) if work else {"extra": {}}
    fields["extra"] |= {
        "detections": len(found[0]),
        "detections_unmatched": alone,
        "tokens": subject.tokens,
        "ours_without_prompt_cache": statistics.median(seconds[2]),
    }
    row = timed(
        name,
        seconds[:2],
        difference=apart,
        tolerance=TOLERANCE[arguments.dtype],
        arguments=arguments,
        against="the published pipeline (tests/reference/pipeline.py)",
        size=f"{subject.size[0]}x{subject.size[1]} pixels, {subject.tokens} tokens",
        **fields,
    )
    if alone > UNMATCHED[arguments.dtype]:
        reason = f"{alone:.1%} of the detections have no partner on the other side."
        row = dataclasses.replace(row, outputs_match=False, reason=reason)
    return row


def size(text: str) -> tuple[int, int]:
    """`800x1066` -> (800, 1066), height first."""
    height, separator, width = text.partition("x")
    if not (separator and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 800x1066, got {text!r}")
    return int(height), int(width)


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`."""
    return [compare(name, arguments).as_dict() for name in arguments.names]


main = functools.partial(program, ROWS, rows, __doc__)

if __name__ == "__main__":
    sys.exit(main())
