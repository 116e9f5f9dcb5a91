"""`glipkit compare`: results of evaluations side by side."""

import argparse
import json
import logging
import string
import sys
from collections.abc import Sequence

from glipkit.evaluation.resampling import LEAST_PICTURES, Interval
from glipkit.programs.comparison import Comparison, Row, compare_results
from glipkit.runtime.logs import setup_logging
from glipkit.shell.tables import table
from glipkit.structures.figures import figure_text

_NAMES = string.ascii_uppercase


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    setup_logging(level=logging.WARNING)
    if len(args.results) > len(_NAMES):
        raise ValueError(f"at most {len(_NAMES)} files at once, got {len(args.results)}")
    if args.classes < 0:
        raise ValueError(f"--classes takes 0 (all) or more, got {args.classes}")
    found = compare_results(
        args.results,
        varied=args.vary,
        anyway=args.anyway,
        resamples=args.resamples,
        seed=args.seed,
        level=args.level,
        annotations=args.annotations,
    )
    text = json.dumps(found.to_json(), indent=2) if args.json else _page(found, args.classes)
    sys.stdout.write(text + "\n")
    return 0


def _page(found: Comparison, num_classes: int) -> str:
    heads = []
    for name, each in zip(_NAMES, found.files):
        weights = str(each.content["protocol"].get("weights") or "unknown")[:12]
        about = f"{each.content['dataset']}, {each.content['num_images']:,} pictures"
        heads.append(f"{name}  {each.path}: {about}, weights {weights}")
    parts = ["\n".join(heads)]
    for name, differing in zip(_NAMES[1:], found.differing):
        rows = [f"  {each}" for each in differing]
        if rows:
            parts.append("\n".join([f"A and {name} are compared although they differ in", *rows]))
    parts.append(_rows(found.metrics, found, "figure"))
    parts.append(_method(found))
    if found.classes:
        shown = found.classes[: num_classes or None]
        parts.append(_rows(shown, found, "class"))
        if len(shown) < len(found.classes):
            parts.append(
                f"the {len(shown)} classes of {len(found.classes)} that changed most; --classes 0 "
                "shows all"
            )
    parts += [f"note: {each}" for each in found.notes]
    return "\n\n".join(parts)


def _rows(rows: Sequence[Row], found: Comparison, what: str) -> str:
    names = _NAMES[: len(found.files)]
    heading = [what, *names]
    for name in names[1:]:
        heading += [f"{name} - A", *([f"{100 * found.level:g} %"] if found.resamples else [])]
    lines = [heading]
    for row in rows:
        cells = [row.name, *(figure_text(value, ".4f") for value in row.values)]
        for difference, interval in zip(row.differences, row.intervals):
            cells.append(figure_text(difference, "+.4f"))
            cells += [_shown(interval)] if found.resamples else []
        lines.append(cells)
    return table(lines)


def _method(found: Comparison) -> str:
    if not found.resamples:
        return f"no intervals: {found.without}"
    pictures = found.files[0].content["num_images"]
    return (
        f"intervals of the differences: paired bootstrap over {pictures:,} pictures, "
        f"{found.resamples:,} resamples, seed {found.seed}, percentiles; * lies on one side of 0; "
        f"n/a: fewer than {LEAST_PICTURES} pictures to measure it on"
    )


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return "n/a"
    return f"[{interval.low:+.4f}, {interval.high:+.4f}]{'*' if interval.is_clear else ' '}"
