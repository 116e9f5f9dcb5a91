"""`glipkit bench`: how fast is this machine with this model?"""

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

import glipkit
from glipkit.inference.pictures import MAX_PIXELS
from glipkit.inference.words import phrases_of
from glipkit.runtime.logs import setup_logging

_WARM_UP = 2
_FIRST_BOXES = """
import json, sys, time
started = time.perf_counter()
import glipkit
glipkit.load
imported = time.perf_counter()
options = json.loads(sys.argv[1])
detector = glipkit.load(options["model"], device=options["device"], precision=options["precision"])
loaded = time.perf_counter()
detector(options["picture"], options["text"])
done = time.perf_counter()
print(json.dumps([started, imported, loaded, done]))
"""


def run(args: argparse.Namespace) -> int:
    """Measure, print."""
    setup_logging(level=logging.WARNING)
    height, width = _size(args.size)
    if args.repeats < 1:
        raise ValueError(f"--repeats is at least 1, got {args.repeats}")
    phrases_of(args.text)  # before a model is loaded in vain
    picture = drawn_picture(height, width)
    detector = glipkit.load(args.model, device=args.device, precision=args.precision)
    seconds = []
    for number in range(_WARM_UP + args.repeats):
        started = time.perf_counter()
        found = detector(picture, args.text)
        if number >= _WARM_UP:
            seconds.append(time.perf_counter() - started)
    answer = {
        "model": detector.name,
        "precision": args.precision,
        "picture": [height, width],
        "text": args.text,
        "boxes": len(found),
        "seconds_per_picture": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "repeats": args.repeats,
        "from_start": first_boxes(args, picture),
        "machine": _machine(detector.device),
    }
    sys.stdout.write((json.dumps(answer, indent=2) if args.json else _page(answer)) + "\n")
    return 0


def first_boxes(args: argparse.Namespace, picture: Image.Image) -> dict[str, float]:
    """Seconds of a fresh process: in all, importing, loading, and answering the first question.

    Raises:
        ValueError: the process failed; with what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        picture.save(path)
        options = {
            "model": os.path.abspath(args.model) if os.path.exists(args.model) else args.model,
            "device": args.device,
            "precision": args.precision,
            "text": args.text,
            "picture": str(path),
        }
        begun = time.perf_counter()  # a clock of the system: both processes read it
        process = subprocess.run(
            [sys.executable, "-c", _FIRST_BOXES, json.dumps(options)],
            capture_output=True,
            text=True,
            check=False,
        )
    if process.returncode:
        raise ValueError(f"a fresh process failed: {process.stderr.strip()[-2000:]}")
    started, imported, loaded, done = json.loads(process.stdout.splitlines()[-1])
    return {
        "whole": done - begun,
        "import": imported - started,
        "load": loaded - imported,
        "first_picture": done - loaded,
    }


def drawn_picture(height: int, width: int) -> Image.Image:
    """Some shapes on grey, the same on every call."""
    picture = Image.new("RGB", (width, height), (150, 150, 150))
    pen = ImageDraw.Draw(picture)
    unit = min(height, width) // 6
    pen.ellipse((unit, unit, 3 * unit, 3 * unit), fill=(220, 30, 30))
    pen.rectangle((width - 3 * unit, unit, width - unit, 3 * unit), fill=(30, 60, 220))
    pen.polygon(
        [(unit, height - unit), (2 * unit, height - 2 * unit), (3 * unit, height - unit)],
        fill=(30, 160, 60),
    )
    return picture


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and min(int(height), int(width)) >= 16):
        raise ValueError(f"--size is HEIGHTxWIDTH in pixels, 16 at least, as 480x640; got {text!r}")
    if int(height) * int(width) > MAX_PIXELS:
        raise ValueError(f"--size {text} is more than the {MAX_PIXELS:,} pixels that are allowed")
    return int(height), int(width)


def _machine(device: torch.device) -> dict[str, Any]:
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "glipkit": glipkit.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _page(answer: dict[str, Any]) -> str:
    machine, start = answer["machine"], answer["from_start"]
    height, width = answer["picture"]
    pace = answer["seconds_per_picture"]
    return "\n".join(
        [
            f"{answer['model']} in {answer['precision']} on {machine['device']}, "
            f"{machine['threads']} threads, torch {machine['torch']}",
            f"a picture of {height}x{width} with {answer['text']!r}: {pace:.3f} s, "
            f"{1 / pace:.1f} a second (median of {answer['repeats']}; "
            f"{answer['fastest']:.3f} to {answer['slowest']:.3f} s)",
            f"from the start of Python to the first boxes: {start['whole']:.1f} s (importing "
            f"{start['import']:.1f} s, loading {start['load']:.1f} s, first picture "
            f"{start['first_picture']:.1f} s)",
        ]
    )
