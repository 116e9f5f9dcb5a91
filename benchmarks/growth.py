"""How cost grows: with the picture, the words, the classes, the batch, the threads.

    python benchmarks/growth.py --json results/growth.json --draw results/growth.png
    python benchmarks/growth.py --from results/growth.json --draw results/growth.png

GLIP-T as users run it, its prompt remembered; the points of a panel in turn, medians. Five
minutes on two cores.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lvis import CHUNK, class_names
from model import COCO, SIZE, load, picture
from rows import add_options
from timing import machine, turns

from glipkit.grounding.captions import class_prompt, class_prompts
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_detector
from glipkit.modeling.multi_prompt import Detector
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import TokenizedPrompt

MIDDLE, SMALL = (480, 640), (256, 320)  # pictures of the classes and of the batches
LONGER_SIDES = (320, 480, 640, 800, 1066, 1333)  # pixels, 4:3
TOKENS = (8, 16, 32, 64, 128, 256)
CLASSES = (1, 10, 40, 80, 160, 320, 640, 1203)
BATCHES = (1, 2, 4, 8, 16)
# Panel -> title, what its x axis counts, what a point's seconds are divided by.
PANELS = {
    "picture": ("picture size, COCO-80 prompt", "longer side, pixels (4:3)", "s a picture"),
    "tokens": ("prompt length, 800x1066", "tokens", "s a picture"),
    "classes": (f"classes, {CHUNK} a prompt, 480x640", "classes", "s a picture"),
    "batch": ("batch of 256x320, COCO-80 prompt", "pictures in a batch", "s a picture"),
    "threads": ("threads, 800x1066, COCO-80 prompt", "threads", "s a picture"),
}
Points = dict[int, Callable[[], object]]  # x -> what is timed


class Prompts:
    """Prompts of a wanted length or number of classes, of LVIS' names."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.names = class_names()
        self.coco = [tokenizer(class_prompt(COCO.split(", ")))]

    def of_tokens(self, limit: int) -> list[TokenizedPrompt]:
        """One prompt of as many names as fit `limit` tokens."""
        count = 1
        while self.tokenizer.count(class_prompt(self.names[: count + 1]).caption) <= limit:
            count += 1
        return [self.tokenizer(class_prompt(self.names[:count]))]

    def of_classes(self, count: int) -> list[TokenizedPrompt]:
        """As many prompts as `count` names need."""
        prompts = class_prompts(self.names[:count], self.tokenizer, chunk_size=CHUNK)
        return [self.tokenizer(prompt) for prompt in prompts]


def panels(
    detector: Detector, prompts: Prompts, arguments: argparse.Namespace
) -> dict[str, Points]:
    """Panel -> its points, ready to be called."""

    def ask(images: ImageBatch, asked: Sequence[TokenizedPrompt]) -> Callable[[], object]:
        return lambda: detector(images.to(arguments.device), asked, images.sizes)

    def threaded(count: int) -> Callable[[], object]:
        def run() -> None:
            torch.set_num_threads(count)
            whole()
            torch.set_num_threads(arguments.threads)

        return run

    def batch(count: int) -> ImageBatch:
        one = picture(SMALL)
        return ImageBatch(one.pixels.repeat(count, 1, 1, 1), one.sizes * count)

    quick = arguments.quick
    large = picture((192, 256) if quick else SIZE)
    middle = picture((192, 256) if quick else MIDDLE)
    whole = ask(large, prompts.coco)
    sides = LONGER_SIDES[:2] if quick else LONGER_SIDES
    counts = sorted({1, arguments.threads} if arguments.device == "cpu" else {1})
    return {
        "picture": {s: ask(picture((s * 3 // 4, s)), prompts.coco) for s in sides},
        "tokens": {t: ask(large, prompts.of_tokens(t)) for t in TOKENS},
        "classes": {c: ask(middle, prompts.of_classes(c))
                    for c in (CLASSES[:4] if quick else CLASSES)},
        "batch": {b: ask(batch(b), prompts.coco) for b in (BATCHES[:2] if quick else BATCHES)},
        "threads": {count: threaded(count) for count in counts},
    }  # fmt: skip


def measure(arguments: argparse.Namespace) -> dict:
    """All panels: x -> seconds of a picture."""
    torch.set_num_threads(arguments.threads)
    cfg, model = load(arguments)
    detector = build_detector(cfg, model)
    prompts = Prompts(Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE))
    report = {"machine": machine(), "device": arguments.device, "dtype": arguments.dtype}
    report |= {"repeats": arguments.repeats, "panels": {}}
    for name, points in panels(detector, prompts, arguments).items():
        seconds = map(statistics.median, turns(list(points.values()), arguments.repeats))
        pictures = {x: x if name == "batch" else 1 for x in points}
        found = {str(x): each / pictures[x] for x, each in zip(points, seconds)}
        report["panels"][name] = found
        print(f"{name:<9}" + "  ".join(f"{x}: {s:.3f} s" for x, s in found.items()), flush=True)
    return report


def draw(report: dict, path: Path) -> None:
    """A panel for each; where both axes are logarithmic, dashes show proportional growth.

    Raises:
        SystemExit: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
    except ImportError as error:
        raise SystemExit("pictures need matplotlib: pip install 'glipkit[report]'") from error
    figure = Figure(figsize=(13, 7), layout="constrained")
    grid = figure.subplots(2, 3).flatten()
    for axes, (name, found) in zip(grid, report["panels"].items()):
        title, across, unit = PANELS[name]
        xs, ys = [int(x) for x in found], list(found.values())
        if name == "threads":
            axes.bar([str(x) for x in xs], ys, 0.5, color="#3b7dd8")
            axes.set_ylim(0, 1.15 * max(ys))
        else:
            power = 2 if name == "picture" else 0 if name == "batch" else 1
            last = 0 if name == "batch" else -1
            dashes = [ys[last] * (x / xs[last]) ** power for x in xs]
            label = {2: "by area", 1: "by number", 0: "no gain from batches"}[power]
            axes.plot(xs, dashes, "--", color="#b0b0b0", linewidth=1, label=label)
            axes.plot(xs, ys, "o-", color="#3b7dd8")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(xs, [f"{x:,}" for x in xs], fontsize=8)
            axes.set_ylim(0.5 * min(ys), 1.8 * max(ys))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.legend(frameon=False, fontsize=8, loc="lower right")
        for at, (x, y) in enumerate(zip(xs, ys)):
            place = (at if name == "threads" else x, y)
            axes.annotate(f"{y:.2f}" if y >= 0.1 else f"{y:.3f}", place, (0, 6), fontsize=8,
                          textcoords="offset points", ha="center")  # fmt: skip
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(across)
        axes.set_ylabel(unit)
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].axis("off")
    facts = report["machine"]
    grid[-1].text(0, 0.6, f"GLIP-T, {report['dtype']}, {report['device']}\n{facts['processor']}, "
                  f"{facts['threads']} threads\ntorch {facts['torch']}\nmedians of "
                  f"{report['repeats']}, prompts remembered", fontsize=10, va="center")  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    print(f"drawn to {path}")


def main(argv: list[str] | None = None) -> int:
    """Measure or read, write JSON and draw if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    parser.add_argument("--from", dest="source", type=Path, metavar="PATH",
                        help="do not measure, take the figures from here")  # fmt: skip
    parser.add_argument("--draw", type=Path, metavar="PATH", help="a picture: .png or .svg")
    add_options(parser)
    arguments = parser.parse_args(argv)
    report = json.loads(arguments.source.read_text()) if arguments.source else measure(arguments)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.draw:
        draw(report, arguments.draw)
    return 0


if __name__ == "__main__":
    sys.exit(main())
