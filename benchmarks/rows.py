"""What a row of the benchmarks is, what is asked on every command line, and the table for people.

A module that gives rows has `ROWS`, their names, and `rows(arguments) -> list[dict]`, which gives
those of `arguments.names`; `main(ROWS, rows, __doc__)` makes it a program of its own.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Row -> what issue 4 asks of its ratio at least, and what it aims at (H200: PENDING.md).
ASKED = {
    "deform_conv_forward": (4.0, 6.0),
    "deform_conv_backward": (4.0, 8.0),
    "nms_80_classes": (3.0, 10.0),
    "fusion_T256": (2.0, None),
    "fusion_T64": (4.0, None),
    "fusion_T16": (9.0, None),
    "glip_t_coco80": (3.0, 5.0),
    "glip_t_two_words": (5.0, 10.0),
    "glip_t_vs_grounding_dino": (1.0, 2.0),
    "lvis_1203": (4.0, 8.0),
    "forward_peak_memory": (2.0, 4.0),
    "train_step": (2.0, 4.0),
    "train_peak_memory": (2.0, 3.0),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FALSIFY = "GLIPKIT_BENCH_FALSIFY"  # set: our side's outputs are spoiled, and no ratio may be given


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison. `ours` and `reference` are medians (times) or greatest values (memory)."""

    name: str
    ours: float
    reference: float
    unit: str  # of both: "s" or "GiB"
    against: str  # what the reference is, in a few words
    outputs_match: bool | None  # None: they cannot; `reason` says why, and what was checked instead
    difference: float | None = None  # between the outputs of the two sides ...
    tolerance: float | None = None  # ... and how large it may be
    reason: str = ""
    size: str = ""  # of the work, in words
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 0
    repeats: int = 1
    spread: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)  # min, max
    gflop: float | None = None  # arithmetic that the answer needs (counts.py), not what was done
    gbytes: float | None = None  # memory traffic that it needs
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)  # further fields of the file

    def __post_init__(self) -> None:
        if self.outputs_match is None and not self.reason:
            raise ValueError(f"{self.name}: outputs that cannot be compared need a reason")

    @property
    def ratio(self) -> float | None:
        """Reference / ours; None where the outputs differ: a fast wrong answer is no answer."""
        return None if self.outputs_match is False else self.reference / self.ours

    def as_dict(self) -> dict[str, Any]:
        """As latest.json holds it."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        extra = fields.pop("extra")
        apart = fields["difference"]
        if apart is not None and not math.isfinite(apart):
            fields["difference"] = str(apart)  # "inf", "nan": JSON has no such numbers
        first = ("name", "ours", "reference", "unit")
        return {
            **{name: fields.pop(name) for name in first},
            "ratio": self.ratio,
            "outputs_match": fields.pop("outputs_match"),
            **fields,
            **extra,
        }


def timed(
    name: str,
    seconds: Sequence[Sequence[float]],
    *,
    difference: float | None,
    tolerance: float | None,
    arguments: argparse.Namespace,
    **fields: Any,
) -> Row:
    """The row of two functions measured in turn.

    Args:
        name: of the row.
        seconds: of our calls and of the reference's, as `timing.turns` gives them.
        difference: between the outputs of the two; None where they cannot match, which needs a
            `reason` among the fields.
        tolerance: of `difference`.
        arguments: of the command line.
        fields: further ones of the row.
    """
    ours, reference = seconds
    return Row(
        name=name,
        ours=statistics.median(ours),
        reference=statistics.median(reference),
        unit="s",
        outputs_match=None if difference is None else difference <= tolerance,  # nan: False
        difference=difference,
        tolerance=tolerance,
        device=arguments.device,
        dtype=arguments.dtype,
        threads=arguments.threads,
        repeats=len(ours),
        spread={"ours": (min(ours), max(ours)), "reference": (min(reference), max(reference))},
        **fields,
    )


def difference(ours: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """The greatest relative L2 difference of two lists of tensors; infinite if shapes differ."""
    if [a.shape for a in ours] != [b.shape for b in reference]:
        return float("inf")
    worst = 0.0
    for index, (a, b) in enumerate(zip(ours, reference)):
        a, b = a.detach().double(), b.detach().double()
        if index == 0 and os.environ.get(FALSIFY):
            a = a * 1.5 + 1.0
        norm = float(b.norm())
        apart = float((a - b).norm())
        worst = max(worst, apart / norm if norm else apart)
        if apart != apart:  # max() may let a nan pass
            return float("nan")
    return worst


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark asks."""
    parser.add_argument("--threads", type=threads, default=torch.get_num_threads())
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", type=dtype, default="float32", help=" or ".join(DTYPES))
    parser.add_argument("--quick", action="store_true", help="small sizes, once: does it run?")


def threads(text: str) -> int:
    """A number of threads that this machine has."""
    has = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (text.isdigit() and 1 <= int(text) <= has):
        raise argparse.ArgumentTypeError(
            f"expected 1 to {has} threads, as many as this machine has cores, got {text!r}"
        )
    return int(text)


def device(text: str) -> str:
    """A device that is there."""
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(
            f"torch {torch.__version__} finds no CUDA device here; use --device cpu"
        )
    return text


def dtype(text: str) -> str:
    """A precision that the model runs in."""
    if text not in DTYPES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(DTYPES)}, got {text!r}")
    return text


def line(row: dict[str, Any]) -> str:
    """A row as people read it; HEAD names the columns."""
    asked, aim = ASKED.get(row["name"], (None, None))
    known = [f"{value:g}x" if value else "-" for value in (asked, aim)]
    share = row.get("ceiling_share")
    ratio = f"{row['ratio']:.2f}x" if row["ratio"] is not None else "REFUSED"
    match = {True: "yes", False: "NO", None: "cannot"}[row["outputs_match"]]
    return (
        f"{row['name']:<26}{amount(row['ours'], row['unit']):>11}"
        f"{amount(row['reference'], row['unit']):>11}{ratio:>9}{known[0]:>7}{known[1]:>6}"
        f"{f'{share:.0%}' if share is not None else '-':>9}{match:>8}"
    )


HEAD = (
    f"{'name':<26}{'ours':>11}{'reference':>11}{'ratio':>9}{'asked':>7}{'aim':>6}{'ceiling':>9}"
    f"{'match':>8}"
)


def complaint(row: dict[str, Any]) -> str | None:
    """What must be said loudly about a row whose outputs differ."""
    if row["outputs_match"] is not False:
        return None
    return (
        f"!!! {row['name']}: NO RATIO. Outputs differ by {row['difference']} from "
        f"{row['against']}, and {row['tolerance']} is allowed. {row['reason']}".rstrip()
    )


def amount(value: float, unit: str) -> str:
    """A figure as people read it."""
    if unit == "s" and value < 0.1:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} {unit}"


def main(
    names: Sequence[str],
    rows: Callable[[argparse.Namespace], list[dict]],
    about: str | None,
    argv: list[str] | None = None,
) -> int:
    """The program around a module of rows: measure, print, write JSON if asked for.

    Returns:
        The exit status: 1 if the outputs of a row differ.
    """
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--names", nargs="+", choices=names, default=list(names), metavar="NAME",
                        help=f"of {', '.join(names)}")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows here")
    add_options(parser)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    found = rows(arguments)
    print("\n".join([HEAD, *map(line, found)]))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"rows": found}, indent=2) + "\n")
        print(f"written to {arguments.json}")
    wrong = list(filter(None, map(complaint, found)))
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0
