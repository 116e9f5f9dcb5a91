"""Where the time of one picture goes, before and after: python benchmarks/stages.py [--json PATH].

Before: the published pipeline. After: ours, its words encoded each time (an evaluation remembers
them). Stages are timed inside complete passes, in turn, so their sum is what a user waits for.

    python benchmarks/stages.py --json results/stages.json --draw results/stages.png
    python benchmarks/stages.py --from results/stages.json --draw results/stages.png
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from model import PROMPTS, Subject, load
from reference.fusion import PlainVLFuse
from reference.pipeline import PublishedPipeline
from reference.pipeline_text import EagerTextLayer
from rows import add_options
from timing import machine
from torch import nn

from glipkit.modeling.build import build_postprocessor
from glipkit.modeling.glip import GLIP

# Stage -> its colour, the same in every picture.
STAGES = {
    "text encoder": "#7b6fd0",
    "backbone": "#3b7dd8",
    "pyramid": "#5ab4e6",
    "fusion": "#e2703a",
    "text layers": "#b39ddb",
    "DyConv": "#2f9e6e",
    "predictor": "#c9a227",
    "post-processing": "#c2477f",
    "other": "#9a9a9a",
}
SIDES = {"published": "published pipeline", "ours": "glipkit"}
PROMPT_NAMES = {"coco": "COCO's 80 names", "two": "two names"}


class Stopwatch:
    """Seconds per stage, added up over the calls of the parts that belong to it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
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

    def watch_method(self, name: str, owner: nn.Module, method: str) -> None:
        """Time every call of a method."""
        plain = getattr(owner, method)

        def timed(*args: object) -> object:
            with self.stage(name):
                return plain(*args)

        setattr(owner, method, timed)

    def now(self) -> float:
        """Seconds; a GPU is waited for."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def watch_ours(model: GLIP, watch: Stopwatch) -> None:
    """Assign the modules of ours to the stages."""
    watch.watch("text encoder", model.text_encoder)
    watch.watch("backbone", model.backbone)
    watch.watch("pyramid", model.pyramid)
    watch.watch("predictor", model.predictor)
    for block in model.tower.blocks:
        for name, part in (("fusion", block.fusion), ("text layers", block.text_layer),
                           ("DyConv", block.dyconv)):  # fmt: skip
            if part is not None:
                watch.watch(name, part)


def watch_published(pipeline: PublishedPipeline, watch: Stopwatch) -> None:
    """Assign the modules of the published pipeline to the stages."""
    model = pipeline.model
    watch.watch("text encoder", model.language_backbone)
    watch.watch("backbone", model.backbone.body)
    watch.watch("pyramid", model.backbone.fpn)
    watch.watch_method("predictor", model.rpn.head, "predict")
    watch.watch_method("post-processing", pipeline, "decide")
    for part in model.rpn.head.dyhead_tower:
        fusion, text = isinstance(part, PlainVLFuse), isinstance(part, EagerTextLayer)
        watch.watch("fusion" if fusion else "text layers" if text else "DyConv", part)


def median_run(runs: list[dict[str, float]]) -> dict[str, float]:
    """The run of median length, whole: its stages add up, medians of stages would not."""
    return sorted(runs, key=lambda run: run["total"])[len(runs) // 2]


def measure(arguments: argparse.Namespace) -> dict:
    """Both sides in turn, for each prompt."""
    torch.set_num_threads(arguments.threads)
    cfg, model = load(arguments)
    decide = build_postprocessor(cfg)
    pipeline = PublishedPipeline.of(model, decide).eval()
    watch = Stopwatch(arguments.device)
    watch_ours(model, watch)
    watch_published(pipeline, watch)
    report = {"machine": machine(), "dtype": arguments.dtype, "device": arguments.device}
    report |= {"repeats": arguments.repeats, "prompts": {}}
    for prompt in arguments.prompts:
        subject = Subject(arguments, cfg, prompt)

        @torch.inference_mode()
        def ours(subject: Subject = subject) -> None:
            with subject.precision(model):
                output = model(subject.images, subject.batch)
            with watch.stage("post-processing"):
                found = decide(output, subject.batch.phrase_tokens, subject.images.sizes)
                [each.resized(subject.size).to("cpu") for each in found]

        calls = {"published": lambda subject=subject: subject.ask(pipeline), "ours": ours}
        report["size"], report["prompts"][prompt] = list(subject.size), {"tokens": subject.tokens}
        report["prompts"][prompt] |= in_turn(calls, watch, arguments.repeats)
    return report


def in_turn(
    calls: dict[str, Callable[[], object]], watch: Stopwatch, repeats: int
) -> dict[str, dict[str, float]]:
    """Name -> seconds of each stage in the run of median length, "other" and "total" as well."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for turn in range(1 + repeats):  # the first one warms up
        for name, call in calls.items():
            watch.reset()
            start = watch.now()
            call()
            total = watch.now() - start
            watch.seconds["other"] = total - sum(watch.seconds.values())
            if turn:
                runs[name].append(watch.seconds | {"total": total})
    return {name: median_run(of) for name, of in runs.items()}


def table(report: dict) -> str:
    """In markdown: a column for each side of each prompt, seconds and share."""
    columns = [(report["prompts"][p][side], f"{SIDES[side]}, {PROMPT_NAMES[p]}")
               for p in report["prompts"] for side in SIDES]  # fmt: skip
    lines = ["| stage | " + " | ".join(title for _, title in columns) + " |"]
    lines.append("|---" * (1 + len(columns)) + "|")
    for stage in [*STAGES, "total"]:
        cells = [f"{of[stage]:.3f} s ({of[stage] / of['total']:.0%})" for of, _ in columns]
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(report: dict, path: Path) -> None:
    """Two panels: seconds on one scale, and the same bars each at full width.

    Raises:
        SystemExit: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as error:
        raise SystemExit("pictures need matplotlib: pip install 'glipkit[report]'") from error
    bars = [(f"{SIDES[side]}\n{PROMPT_NAMES[prompt]}", report["prompts"][prompt][side])
            for prompt in report["prompts"] for side in SIDES][::-1]  # fmt: skip
    figure = Figure(figsize=(11, 1.3 + 1.5 * len(bars)), layout="constrained")
    absolute, relative = figure.subplots(2, 1)
    longest = max(of["total"] for _, of in bars)
    for axes, whole in ((absolute, lambda of: 1.0), (relative, lambda of: of["total"] / 100)):
        for at, (_, of) in enumerate(bars):
            left = 0.0
            for stage, colour in STAGES.items():
                width = of[stage] / whole(of)
                axes.barh(at, width, 0.7, left, color=colour, edgecolor="white", linewidth=0.6)
                if axes is relative and width >= 5.5:
                    words = f"{width:.0f} %\n{1e3 * of[stage]:,.0f} ms"
                    axes.text(left + width / 2, at, words, ha="center", va="center",
                              color="white", fontsize=8)  # fmt: skip
                left += width
            if axes is absolute:
                axes.text(left + 0.01 * longest, at, f"{of['total']:.2f} s", va="center")
        axes.set_yticks(range(len(bars)), [title for title, _ in bars])
        axes.spines[["top", "right"]].set_visible(False)
    height, width = report["size"]
    absolute.set_xlabel("seconds")
    absolute.set_xlim(0, 1.1 * longest)
    relative.set_xlabel("% of the same bar")
    relative.set_xlim(0, 100)
    absolute.set_title(
        f"GLIP-T, one picture of {height}x{width}, {report['dtype']}, {report['device']}, "
        f"{report['machine']['threads']} threads", loc="left", fontsize=11)  # fmt: skip
    handles = [Patch(color=colour, label=stage) for stage, colour in STAGES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(STAGES), frameon=False,
                  fontsize=9, handlelength=1, columnspacing=1.2)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"drawn to {path}")


def main(argv: list[str] | None = None) -> int:
    """Measure or read, print a table, write JSON and draw if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", nargs="+", choices=sorted(PROMPTS), default=["coco", "two"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    parser.add_argument("--from", dest="source", type=Path, metavar="PATH",
                        help="do not measure, take the figures from here")  # fmt: skip
    parser.add_argument("--draw", type=Path, metavar="PATH", help="a picture: .png or .svg")
    add_options(parser)
    arguments = parser.parse_args(argv)
    report = json.loads(arguments.source.read_text()) if arguments.source else measure(arguments)
    print(table(report))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.draw:
        draw(report, arguments.draw)
    return 0


if __name__ == "__main__":
    sys.exit(main())
