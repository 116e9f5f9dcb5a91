"""Where the time of one picture goes, stage by stage: python benchmarks/model.py [--json PATH].

The whole way from normalised pixels and token ids to detections, with weights filled by name (no
download). Stages are timed inside complete runs, so their sum is what a user waits for.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from timing import machine
from torch import nn

from glipkit.config.load import load_config
from glipkit.grounding.captions import class_prompt
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_model, build_postprocessor
from glipkit.modeling.fill import fill_model, synthetic_image
from glipkit.modeling.glip import GLIP
from glipkit.ops.library import loaded
from glipkit.structures.images import ImageBatch, pad_images
from glipkit.structures.prompts import PromptBatch, batch_prompts

CONFIG = Path(__file__).parents[1] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
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
# Stage -> what the timing files of the reference call it (--reference).
STAGES = {
    "text encoder": "language backbone",
    "backbone": "swin",
    "pyramid": "fpn",
    "fusion": "VLFuse",
    "text layers": "BertEncoderLayer",
    "DyConv": "DyConv",
    "predictor": "head projections",
    "post-processing": "post-processing",
}


class Stopwatch:
    """Seconds per stage, added up over the calls of the modules that belong to it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        start = self.now()
        yield
        self.seconds[name] += self.now() - start

    def watch(self, name: str, module: nn.Module) -> None:
        """Time every call of a module."""
        starts: list[float] = []
        module.register_forward_pre_hook(lambda *_: starts.append(self.now()))

        def stop(*_: object) -> None:
            self.seconds[name] += self.now() - starts.pop()

        module.register_forward_hook(stop)

    def now(self) -> float:
        """Seconds; a GPU is waited for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def watch_stages(model: GLIP, watch: Stopwatch) -> None:
    """Assign the modules to the stages."""
    watch.watch("text encoder", model.text_encoder)
    watch.watch("backbone", model.backbone)
    watch.watch("pyramid", model.pyramid)
    watch.watch("predictor", model.predictor)
    for block in model.tower.blocks:
        for name, part in (("fusion", block.fusion), ("text layers", block.text_layer),
                           ("DyConv", block.dyconv)):  # fmt: skip
            if part is not None:
                watch.watch(name, part)


def picture(size: tuple[int, int]) -> ImageBatch:
    """One synthetic picture of `size` (height, width), normalised and padded to 32 pixels."""
    pixels = torch.from_numpy(synthetic_image(*size, seed=0)).permute(2, 0, 1).flip(0).float()
    mean, deviation = pixels.mean(dim=(1, 2), keepdim=True), pixels.std(dim=(1, 2), keepdim=True)
    return pad_images([(pixels - mean) / deviation])


def words(prompt: str, tokenizer: Tokenizer) -> PromptBatch:
    """The prompt as a user's would come, cut to its length."""
    return batch_prompts([tokenizer(class_prompt(PROMPTS[prompt]))])


def measure(arguments: argparse.Namespace) -> dict:
    """Run the model a few times and report the run of median length."""
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    cfg = load_config([arguments.config])
    with torch.device("meta"):
        model = build_model(cfg)
    model.to_empty(device=device)
    fill_model(model)
    model.eval()
    decide = build_postprocessor(cfg)
    images = picture(arguments.size).to(device)
    prompts = words(arguments.prompt, Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE))
    prompts = prompts.to(device)

    watch = Stopwatch(device)
    watch_stages(model, watch)
    runs, found = [], 0
    bfloat16 = arguments.precision == "bfloat16"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for _ in range(1 + arguments.repeats):  # the first one warms up
            watch.seconds = dict.fromkeys(STAGES, 0.0)
            start = watch.now()
            output = model(images, prompts)
            with watch.stage("post-processing"):
                found = len(decide(output, prompts.phrase_tokens, images.sizes)[0])
            runs.append((watch.now() - start, watch.seconds))
    # The run of median length, whole: its stages add up, medians of stages would not.
    runs = sorted(runs[1:], key=lambda run: run[0])
    total, seconds = runs[len(runs) // 2]
    return {
        "machine": machine() | {"compiled": loaded()},
        "model": arguments.config.stem,
        "precision": arguments.precision,
        "device": arguments.device,
        "pixels": list(images.pixels.shape),
        "prompt": arguments.prompt,
        "tokens": prompts.token_ids.shape[1],
        "median_of": arguments.repeats,
        "total_seconds": total,
        "fastest_and_slowest_seconds": [runs[0][0], runs[-1][0]],
        "seconds": seconds | {"other": total - sum(seconds.values())},
        "detections": found,
    }


def table(report: dict, reference: dict | None) -> str:
    """As people read it; the reference's seconds stand beside ours without being compared."""
    total = report["total_seconds"]
    lines = [f"{'stage':<18}{'seconds':>10}{'share':>9}" + ("    published*" if reference else "")]
    for name, seconds in [*report["seconds"].items(), ("total", total)]:
        line = f"{name:<18}{seconds:>10.3f}{seconds / total:>9.1%}"
        if reference:
            theirs = reference["seconds"].get(STAGES.get(name, name))
            line += f"{theirs:>14.3f}" if theirs is not None else f"{'-':>14}"
        lines.append(line)
    if reference:
        lines.append(
            f"* seconds of the published pipeline, measured on another machine ("
            f"{reference['image']}, {reference['threads']} threads): context, no comparison"
        )
    return "\n".join(lines)


def size(text: str) -> tuple[int, int]:
    """`800x1066` -> (800, 1066), height first."""
    height, separator, width = text.partition("x")
    if not (separator and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 800x1066, got {text!r}")
    return int(height), int(width)


def main() -> None:
    """Measure, print a table, and write the JSON file if one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG, help="YAML file of the model")
    parser.add_argument("--size", type=size, default=(800, 1066), help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--prompt", choices=sorted(PROMPTS), default="coco")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    parser.add_argument("--reference", type=Path, metavar="PATH",
                        help="a timing_*.json of the reference, printed as context")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a small picture, once")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.size, arguments.repeats = (256, 320), 1
    report = measure(arguments)
    reference = json.loads(arguments.reference.read_text()) if arguments.reference else None
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    print(
        f"{report['model']}, {report['precision']} on {report['device']}, pixels "
        f"{report['pixels']}, {report['tokens']} tokens, {report['detections']} detections"
    )
    print(table(report, reference))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
