"""LVIS, Flickr30K Entities and RefCOCO through the tool: the same in batches and processes?

Runs tools/test_grounding_net.py over the small sets of ../shared/data with GLIP-T's own
configuration and weights filled by name (no download): one picture at a time, four at a time, and
each of these in two processes. Pictures are small (--size). Filled weights know nothing, so their
figures say nothing; but they find boxes enough for a difference to show.

    python benchmarks/suites_end_to_end.py --json benchmarks/results/latest/suites.json
    python benchmarks/suites_end_to_end.py --model nano      # shipped weights, 20 times faster
    python benchmarks/suites_end_to_end.py --falsify         # one setting differs: must end with 1

Figures must be the same in all runs. Processes share pictures out and compute nothing else, so
predictions must be the same bit for bit. Pictures that are asked together change the shapes of the
matrix products, which then add up in another order, and filled weights make fifty times more of
rounding than it is: there detections must have partners within PIXELS and SCORE (agreement.py), all
but one in a thousand (ALONE), as one may stand at a threshold. That it is rounding and nothing else
is shown in float64, where a batch and its pictures give the same float32 answers (DOUBLE).
"""

import argparse
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from agreement import PIXELS, SCORE, compare
from rows import threads
from run import check_place, commit, versions
from timing import machine

from glipkit.config.load import load_config, load_tasks, to_yaml
from glipkit.data.build import build_test_sets
from glipkit.data.sample import Batch
from glipkit.data.test_set import TestSet
from glipkit.engine.checkpoint import save_weights
from glipkit.modeling.build import build_detector, build_model
from glipkit.modeling.fill import fill_model
from glipkit.modeling.multi_prompt import Detector
from glipkit.programs.evaluation import load_model, load_tokenizer

REPOSITORY = Path(__file__).resolve().parents[1]
TOOL = REPOSITORY / "tools" / "test_grounding_net.py"
GLIP_T = REPOSITORY / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
SMALL = Path(__file__).parent / "small.yaml"
NANO = REPOSITORY / "glipkit" / "models" / "nano"
MODELS = ("glip_t", "small", "nano")
SUITES = {
    "LVIS": "lvis_sample/lvis_sample",
    "Flickr30K": "val/flickr30k_val",
    "RefCOCO": "refcoco_val/refcoco_val",
}
# Run -> processes, and pictures in a batch of all of them together.
RUNS = {"one": (1, 1), "four": (1, 4), "one, two processes": (2, 2), "four, two processes": (2, 8)}
EXACT = {"one, two processes": "one", "four, two processes": "four"}  # run -> the same as
ROUNDED = {"four": "one"}
ALONE = 1e-3  # the share of detections that may have no partner
DOUBLE = 1e-6  # in float64: what partners may differ by, pixels and shares of a score
ENOUGH = 100  # detections of a suite, with which a difference would show


def write_model(name: str, folder: Path) -> tuple[Path, Path]:
    """The configuration and the weights of a model; those filled by name are written."""
    if name == "nano":
        return NANO / "config.yaml", NANO / "model.safetensors"
    config, weights = GLIP_T, folder / "model.safetensors"
    if name == "small":
        config = folder / "small.yaml"
        config.write_text(to_yaml(load_config([GLIP_T, SMALL], quiet=True)))
    with torch.device("meta"):
        model = build_model(load_config([config], quiet=True))
    model.to_empty(device="cpu")
    fill_model(model)
    save_weights(model, weights)
    return config, weights


def write_tasks(data: Path, folder: Path) -> list[Path]:
    """Task files for the three suites, as published; $DATASET becomes a folder of links."""
    os.environ["DATASET"] = str(folder / "DATASET")  # of the tool's processes too
    script = runpy.run_path(str(REPOSITORY / "examples" / "link_shared_data.py"))
    script["link_all"](data.resolve(), folder / "DATASET")
    sample = data.resolve() / "lvis_sample"
    entry = {"ann_file": str(sample / "lvis_val_3.json"), "img_dir": str(sample / "images")}
    lvis = {
        "DATASETS": {
            "REGISTER": {"lvis_sample": {**entry, "kind": "lvis"}}, "TEST": '("lvis_sample",)'
        },
        "TEST": {"CHUNKED_EVALUATION": 40, "MDETR_STYLE_AGGREGATE_CLASS_NUM": 3000},
        "MODEL": {"ATSS": {"DETECTIONS_PER_IMG": 300}},
    }  # fmt: skip
    (folder / "lvis_sample.yaml").write_text(yaml.safe_dump(lvis))
    configs = REPOSITORY / "configs"
    return [folder / "lvis_sample.yaml", configs / "flickr" / "val.yaml",
            configs / "refcoco" / "refcoco_val.yaml"]  # fmt: skip


def overrides(arguments: argparse.Namespace) -> list[str]:
    """What all runs are told."""
    shortest, longest = map(str, arguments.size)
    words = ["INPUT.MIN_SIZE_TEST", shortest, "INPUT.MAX_SIZE_TEST", longest]
    return [*words, "MODEL.ATSS.INFERENCE_TH", str(arguments.threshold),
            "DATALOADER.NUM_WORKERS", "0"]  # fmt: skip


def evaluate(
    out: Path, words: Sequence[str], *, processes: int, pictures: int, threads: int
) -> dict[str, Any]:
    """Run the tool as a user would; seconds, and the greatest memory of a process so far."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(REPOSITORY)}
    began = time.perf_counter()
    done = subprocess.run(
        [*start, str(TOOL), *words, "TEST.IMS_PER_BATCH", str(pictures), "OUTPUT_DIR", str(out)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the tool ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return {
        "processes": processes,
        "pictures_in_a_batch": pictures // processes,
        "seconds": time.perf_counter() - began,
        "gib_of_a_process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
    }


def read(out: Path, suite: str, name: str) -> Any:
    """A file of an evaluation."""
    return json.loads((out / SUITES[suite] / f"{name}.json").read_text())


def suite_report(folders: dict[str, Path], suite: str) -> dict[str, Any]:
    """What the runs gave, and how far each is from the one it is compared with."""
    results = {run: read(out, suite, "results") for run, out in folders.items()}
    for run, each in results.items():
        if each["failures"]:
            raise SystemExit(f"{suite}, {run}: {each['failures'][0]}")
    apart = {}
    for run, other in {**ROUNDED, **EXACT}.items():
        found = compare(*(read(folders[each], suite, "predictions") for each in (run, other)))
        moved = _furthest(*(results[each]["metrics"] for each in (run, other)))
        apart[f"{run} / {other}"] = found.as_dict() | {"figures": moved}
    return {
        "counts": results["one"]["counts"],
        "figures": {run: each["metrics"] for run, each in results.items()},
        "apart": apart,
    }


def _furthest(first: dict[str, float | None], second: dict[str, float | None]) -> float:
    """By how much the figures of two runs differ at most; infinite where only one has a figure."""
    if {k for k, v in first.items() if v is None} != {k for k, v in second.items() if v is None}:
        return float("inf")
    return max((abs(first[k] - second[k]) for k in first if first[k] is not None), default=0.0)


def in_double(config: Path, weights: Path, tasks: Sequence[Path], words: Sequence[str]) -> dict:
    """For each suite the first batch of several pictures, and these alone, in float64."""
    found, model = {}, None
    for (suite, _), task in zip(SUITES.items(), load_tasks(config, tasks, words, quiet=True)):
        model = model or load_model(task.cfg, weight=str(weights)).double()
        (test_set,) = build_test_sets(task.cfg, load_tokenizer(task.cfg))
        batch = next(several(test_set))
        ask = build_detector(task.cfg, model)
        rows = range(len(batch))
        together = answers(ask, test_set, batch, rows)
        alone = [each for row in rows for each in answers(ask, test_set, batch, [row])]
        found[suite] = compare(together, alone).as_dict() | {"pictures": len(batch)}
    return found


def several(test_set: TestSet) -> Iterator[Batch]:
    """Batches of more than one picture, of four where there are so many of a size."""
    loader = test_set.loader(range(len(test_set)), batch_size=4, num_workers=0)
    yield from (batch for fetched in loader for batch in fetched.batches if len(batch) > 1)


def answers(
    ask: Detector, test_set: TestSet, batch: Batch, rows: Sequence[int]
) -> list[dict[str, Any]]:
    """What is found in some pictures of a batch when these are asked together, best first."""
    number = {image.image_id: index for index, image in enumerate(test_set.dataset.images)}
    images = batch.images.only(rows)
    images = replace(images, pixels=images.pixels.double())
    prompts = [test_set.prompts_of(number[batch.image_ids[row]]) for row in rows]
    found = ask.each(images, prompts, [batch.original_sizes[row] for row in rows])
    return [
        {"image_id": batch.image_ids[row], "phrase": phrase, "box": box, "score": score}
        for row, each in zip(rows, found)
        for phrase, box, score in zip(
            each.phrase_ids.tolist(), each.boxes.tolist(), each.scores.tolist()
        )
    ]


def complaints(report: dict[str, Any]) -> list[str]:
    """Everything that is further apart than it may be."""
    said = []
    for suite, of in report["suites"].items():
        for run, other in {**EXACT, **ROUNDED}.items():
            apart, where = of["apart"][f"{run} / {other}"], f"{suite}: {run!r} and {other!r}"
            if apart["first"] < ENOUGH:
                said.append(f"{where}: {apart['first']} detections are too few to differ")
            if run in EXACT and not apart["in_order"]:
                said.append(f"{where}: other predictions, the same bit for bit are expected")
            if apart["figures"] > 0:
                said.append(f"{where}: figures differ by {apart['figures']}")
            if apart["share_alone"] > ALONE:
                of_all = f"{apart['alone']} of {apart['first'] + apart['second']} detections"
                said.append(f"{where}: {of_all} have no partner, {ALONE:.1%} is allowed")
    for suite, apart in report["float64"].items():
        if apart["alone"] or max(apart["pixels"], apart["score"]) > DOUBLE:
            said.append(f"{suite}: in float64 a batch and its pictures differ: {apart}")
    return said


def table(report: dict[str, Any]) -> str:
    """As people read it."""
    head = (
        f"{'':<12}{'runs':<28}{'found':>7}{'same bits':>11}{'alone':>7}{'pixels':>10}{'score':>10}"
    )
    lines = [f"{head}{'figures':>10}"]
    for suite, of in report["suites"].items():
        lines += [_line(suite, runs, apart) for runs, apart in of["apart"].items()]
    lines += [_line(suite, f"float64, {apart['pictures']} / 1", apart)
              for suite, apart in report["float64"].items()]  # fmt: skip
    for suite, of in report["suites"].items():
        figures = (f"{k} {v:.4f}" for k, v in of["figures"]["one"].items()
                   if v is not None and "/" not in k)  # fmt: skip
        lines.append(f"{suite:<12}{', '.join(figures)}")
    for run, each in report["runs"].items():
        lines.append(f"{run}: {each['seconds']:.0f} s, {each['gib_of_a_process']:.1f} GiB")
    return "\n".join(lines)


def _line(suite: str, runs: str, apart: dict[str, Any]) -> str:
    moved = f"{apart['figures']:>10.4f}" if "figures" in apart else f"{'-':>10}"
    return (
        f"{suite:<12}{runs:<28}{apart['first']:>7}{apart['same']:>11}{apart['alone']:>7}"
        f"{apart['pixels']:>10.1e}{apart['score']:>10.1e}{moved}"
    )


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All runs, and how far they are apart."""
    config, weights = write_model(arguments.model, folder)
    tasks = write_tasks(arguments.data, folder)
    told = overrides(arguments)
    words = ["--config-file", str(config), "--task_config", ",".join(map(str, tasks)),
             "--weight", str(weights), "--device", "cpu", *told]  # fmt: skip
    runs, folders = {}, {run: folder / run.replace(", ", "_").replace(" ", "_") for run in RUNS}
    for run, (processes, pictures) in RUNS.items():
        spoilt = ["MODEL.ATSS.NMS_TH", "0.5"] if arguments.falsify and run == "four" else []
        runs[run] = evaluate(
            folders[run], [*words, *spoilt],
            processes=processes, pictures=pictures, threads=arguments.threads,
        )  # fmt: skip
        print(f"{run}: {runs[run]['seconds']:.0f} s", flush=True)
    torch.set_num_threads(arguments.threads)
    return {
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "model": arguments.model,
        "weights": read(folders["one"], next(iter(SUITES)), "results")["protocol"]["weights"],
        "size": list(arguments.size),
        "threshold": arguments.threshold,
        "allowed": {"pixels": PIXELS, "score": SCORE, "share_alone": ALONE, "float64": DOUBLE},
        "runs": runs,
        "suites": {suite: suite_report(folders, suite) for suite in SUITES},
        "float64": in_double(config, weights, tasks, told),
    }


def main(argv: list[str] | None = None) -> int:
    """Run everything, print a table, leave JSON; 1 if anything is further apart than allowed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="glip_t")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256), metavar="PIXELS",
                        help="shortest and longest side of pictures (default 192 256)")  # fmt: skip
    parser.add_argument("--threshold", type=float, default=0.05, help="of scores (default 0.05)")
    parser.add_argument("--threads", type=threads, default=1, help="of each process (default 1)")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--falsify", action="store_true", help="one run suppresses more: must fail")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    if arguments.json:
        check_place(arguments.json)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(arguments, Path(folder))
    report["complaints"] = complaints(report)
    print(table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {arguments.json}")
    for each in report["complaints"]:
        print(f"!!! {each}", file=sys.stderr)
    return 1 if report["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
