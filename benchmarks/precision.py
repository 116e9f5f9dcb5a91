"""What TEST.PRECISION costs and saves: seconds, bytes, agreement, and AP on real pictures.

Seconds, bytes and agreement are those of GLIP-T with weights filled by name (no download), one
picture of 800x1066 and COCO's 80 names. AP is that of a reduced model (small.yaml) which has
learnt the raccoons of ../shared/data: on the pictures it learnt and on others. Without --weight it
learns them first, in some minutes.

    python benchmarks/precision.py --json benchmarks/results/latest/precision.json
    python benchmarks/precision.py --parts ap --weight model_best.safetensors --json FILE
"""

import argparse
import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fine_tuning
import torch
from model import CONFIG, PROMPTS, picture
from timing import interleaved, machine
from torch import nn

from glipkit.config.load import load_config
from glipkit.data.build import build_test_sets
from glipkit.engine.checkpoint import weights_hash
from glipkit.grounding.captions import class_prompt
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import PRECISIONS, build_detector, build_model
from glipkit.modeling.fill import fill_model
from glipkit.modeling.multi_prompt import Detector
from glipkit.modeling.quantized import QuantizedLinear
from glipkit.programs.evaluation import judge, load_model, load_tokenizer
from glipkit.structures.boxes import iou
from glipkit.structures.detections import Detections
from glipkit.structures.prompts import batch_prompts

RECIPE = "0_40_1"  # all pictures, 40 epochs, one copy: some 1,600 steps
OVERLAP = 0.75  # from which two boxes count as one


def speed(size: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Seconds of the parts, in turn; bytes of weights; detections that float32 shares."""
    cfg = load_config([CONFIG])
    with torch.device("meta"):
        model = build_model(cfg)
    model.to_empty(device="cpu")
    fill_model(model)
    model.eval()
    images = picture(size)
    tokenizer = Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE)
    prompt = tokenizer(class_prompt(PROMPTS["coco"]))
    words = batch_prompts([prompt])
    detectors = {
        name: build_detector(load_config([CONFIG], ["TEST.PRECISION", name]), model)
        for name in PRECISIONS
    }
    found = {name: each(images, [prompt], [size])[0] for name, each in detectors.items()}

    def alone(detector: Detector, part: str) -> None:
        low = detector.autocast_dtype
        with torch.inference_mode(), torch.autocast("cpu", low) if low else nullcontext():
            if part == "backbone":
                detector.model.backbone(images.pixels)
            else:
                detector.model.encode_text(words.token_ids, words.token_mask)

    figures: dict[str, Any] = {
        name: {
            "weight_bytes": weight_bytes(each.model),
            "detections": len(found[name]),
            "agreement_with_float32": agreement(found["float32"], found[name]),
            "seconds": {},
        }
        for name, each in detectors.items()
    }
    parts = {
        "picture, prompt remembered": lambda each: lambda: each(images, [prompt], [size]),
        "backbone": lambda each: lambda: alone(each, "backbone"),
        "text encoder": lambda each: lambda: alone(each, "text"),
    }
    for part, calls in parts.items():
        seconds = interleaved([calls(each) for each in detectors.values()], repeats, warmup=0)
        for name, each in zip(detectors, seconds):
            figures[name]["seconds"][part] = each
    return {"size": list(size), "tokens": words.token_ids.shape[1], "precisions": figures}


def weight_bytes(model: nn.Module) -> int:
    """What a forward pass reads: 8-bit weights where they were made, the parameters elsewhere."""
    rounded = {
        id(module.weight): module.weight.numel() + 4 * len(module.weight)
        for module in model.modules()
        if isinstance(module, QuantizedLinear) and "_packed" in vars(module)
    }
    return sum(
        rounded.get(id(weight), weight.numel() * weight.element_size())
        for weight in model.parameters()
    )


def agreement(reference: Detections, found: Detections) -> float:
    """The share of the reference's boxes that stand in `found` with the same phrase."""
    same = reference.phrase_ids[:, None] == found.phrase_ids[None]
    overlaps = iou(reference.boxes, found.boxes, plus_one=False) >= OVERLAP
    return float((same & overlaps).any(dim=1).float().mean()) if len(reference) else 1.0


def average_precision(data: Path, out: Path, weight: str | None) -> dict[str, Any]:
    """AP of the reduced model in each precision, on pictures it learnt and on others."""
    out.mkdir(parents=True, exist_ok=True)
    task = fine_tuning.write_task(data, out)
    if weight is None:
        run = fine_tuning.fine_tune(task, out / "learnt", "full", RECIPE, "", 4)
        weight = str(out / "learnt" / run["name"] / "model_best.safetensors")
    figures: dict[str, Any] = {}
    for name in PRECISIONS:
        overrides = ["TEST.PRECISION", name, "DATASETS.TEST", '("val", "test")']
        cfg = load_config([CONFIG, task], overrides)
        model = load_model(cfg, weight=weight)
        figures[name] = {}
        for test_set in build_test_sets(cfg, load_tokenizer(cfg)):
            started = time.perf_counter()
            results = judge(
                *(cfg, model, test_set),
                folder=out / name / test_set.name,
                digest=weights_hash(model),
                device=torch.device("cpu"),
            )
            kind = {"val": "pictures_learnt", "test": "other_pictures"}[test_set.name]
            figures[name][kind] = {
                "images": results.num_images,
                "seconds": time.perf_counter() - started,
                **{metric: results.metrics[metric] for metric in ("AP", "AP50", "AP75")},
            }
    return figures


def table(report: dict[str, Any]) -> str:
    """As people read it."""
    lines = []
    if "speed" in report:
        parts = list(report["speed"]["precisions"]["float32"]["seconds"])
        lines.append(f"{'GLIP-T':<10}" + "".join(f"{part:>28}" for part in parts)
                     + "     weights  agreement")  # fmt: skip
        for name, each in report["speed"]["precisions"].items():
            seconds = "".join(f"{each['seconds'][part]:>26.3f} s" for part in parts)
            lines.append(f"{name:<10}{seconds}{each['weight_bytes'] / 1e6:>9.0f} MB"
                         f"{each['agreement_with_float32']:>11.1%}")  # fmt: skip
    if "average_precision" in report:
        lines.append(f"{'raccoons':<10}{'AP, learnt':>12}{'AP, others':>12}{'AP50, others':>14}")
        for name, each in report["average_precision"].items():
            learnt, others = each["pictures_learnt"], each["other_pictures"]
            lines.append(
                f"{name:<10}{learnt['AP']:>12.4f}{others['AP']:>12.4f}{others['AP50']:>14.4f}"
            )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure what is asked for, print a table; the JSON file keeps the parts it had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=("speed", "ap"), default=["speed", "ap"])
    parser.add_argument("--weight", help="of the reduced model, once it has learnt")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("precision_output"), help="of part ap")
    parser.add_argument("--repeats", type=int, default=3, help="of each timing")
    parser.add_argument("--quick", action="store_true", help="a small picture, once")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    report: dict[str, Any] = {}
    if args.json and args.json.exists():
        report = json.loads(args.json.read_text())
    if "speed" in args.parts:
        size, repeats = ((256, 320), 1) if args.quick else ((800, 1066), args.repeats)
        report["machine"] = machine()
        report["speed"] = speed(size, repeats)
    if "ap" in args.parts:
        report.setdefault("machine", machine())
        report["average_precision"] = average_precision(args.data, args.out, args.weight)
    print(table(report))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
