"""What one forward pass of GLIP-T takes of memory: python benchmarks/memory.py [--json PATH].

Each side in a process of its own, which loads the model, hands unused memory back, notes what is
resident, detects once, and notes the greatest moment. The ratio is of what the first forward pass
ADDS to the loaded model, with everything that a first pass makes once for all; the file also has
what a second pass adds, and the greatest moment of the whole process, weights and libraries
included. On CUDA: the allocator's greatest moment above what the model holds.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from model import UNMATCHED, Subject, load, unmatched
from reference.pipeline import PublishedPipeline
from rows import FALSIFY, Row, add_options
from rows import main as program

from glipkit.modeling.build import build_detector, build_postprocessor
from glipkit.structures.detections import Detections

ROWS = ("forward_peak_memory",)
SIDES = ("ours", "reference")
GIB = 1 << 30
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Greatest:
    """The greatest amount of memory since `start`, above what there was then; in bytes.

    On the CPU resident memory by the kernel's count, reset through /proc; on CUDA the
    allocator's.

    Raises:
        OSError: this system has no such /proc (Linux has).
    """

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.before = 0

    def start(self) -> None:
        """Hand back what is unused, note what is left, and count anew."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory, which would be used unseen
        CLEAR_REFS.write_text("5")
        self.before = _status("VmRSS")

    def whole(self) -> int:
        """The greatest moment."""
        return torch.cuda.max_memory_allocated() if self.cuda else _status("VmHWM")

    def added(self) -> int:
        """The same above what there was at the start."""
        return self.whole() - self.before


def _status(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {field}; memory is measured on Linux")


def work(arguments: argparse.Namespace) -> dict:
    """In a process of its own: one side, twice."""
    cfg, model = load(arguments)
    subject = Subject(arguments, cfg, "coco")
    if arguments.work == "ours":
        side = build_detector(cfg, model)
    else:
        side = PublishedPipeline.of(model, build_postprocessor(cfg)).eval()
        del model
    greatest = Greatest(arguments.device)
    greatest.start()
    loaded = greatest.before
    (found,) = subject.ask(side)
    first, whole = greatest.added(), greatest.whole()
    greatest.start()
    subject.ask(side)
    torch.save((found.boxes, found.scores, found.phrase_ids, found.image_size), arguments.found)
    return {
        "loaded": loaded / GIB,
        "first": first / GIB,
        "second": greatest.added() / GIB,
        "whole": whole / GIB,
        "size": f"{subject.size[0]}x{subject.size[1]} pixels, {subject.tokens} tokens",
    }


def in_process(side: str, arguments: argparse.Namespace, found: Path) -> tuple[dict, Detections]:
    """What `work` gives, from another process.

    Raises:
        RuntimeError: that process failed.
    """
    command = [sys.executable, __file__, "--work", side, "--found", str(found)]
    for name in ("threads", "device", "dtype"):
        command += [f"--{name}", str(getattr(arguments, name))]
    command += ["--quick"] if arguments.quick else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the process of {side} ended with {done.returncode}, see above")
    # Written by our own process a moment ago.
    return json.loads(done.stdout.splitlines()[-1]), Detections(*torch.load(found))


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`."""
    with tempfile.TemporaryDirectory() as folder:
        answers = [in_process(side, arguments, Path(folder) / f"{side}.pt") for side in SIDES]
    (ours, found), (reference, wanted) = answers
    alone = float("inf") if os.environ.get(FALSIFY) else unmatched([found], [wanted])
    tolerance = UNMATCHED[arguments.dtype]
    row = Row(
        "forward_peak_memory",
        ours["first"],
        reference["first"],
        "GiB",
        "the published pipeline (tests/reference/pipeline.py)",
        alone <= tolerance,
        difference=alone,
        tolerance=tolerance,
        size=ours["size"],
        device=arguments.device,
        dtype=arguments.dtype,
        threads=arguments.threads,
        extra={
            "compared": "detections without a partner on the other side",
            "detections": len(found),
            "second_forward": [ours["second"], reference["second"]],
            "loaded_model_and_libraries": [ours["loaded"], reference["loaded"]],
            "whole_process": [ours["whole"], reference["whole"]],
            "ratio_of_second_forward": reference["second"] / max(ours["second"], 1e-9),
            "ratio_of_whole_process": reference["whole"] / ours["whole"],
        },
    )
    return [row.as_dict()]


def main(argv: list[str] | None = None) -> int:
    """As every module of rows; and one side, in a process of its own (--work)."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] != ["--work"]:
        return program(ROWS, rows, __doc__, argv)
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", choices=SIDES)
    parser.add_argument("--found", type=Path)
    add_options(parser)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    print(json.dumps(work(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
