"""All benchmarks, or some: make bench; make bench ONLY=fusion_T16; python benchmarks/run.py --list.

Every row is measured in a process of its own, beside its reference, in turn; what the machine can
do at most is measured first. Prints a table and writes latest.json after every row. The exit
status is 1 if the outputs of a row differ (then it has no ratio) or a row failed, 2 for a wrong
command line or a file that must not be mixed with.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import counts
import roofline
import rows
import timing
import torch
import torchvision

import glipkit
from glipkit.ops.library import loaded

HERE = Path(__file__).parent
LATEST = HERE / "results" / "latest.json"
QUICK = HERE / "results" / "latest" / "quick.json"  # never among the figures that are kept


class Group(NamedTuple):
    """Rows that one process gives, and how long it takes on two quiet cores."""

    module: str
    names: tuple[str, ...]
    seconds: int


GROUPS = (
    Group("ops", ("deform_conv_forward",), 15),
    Group("ops", ("deform_conv_backward",), 50),
    Group("ops", ("nms_80_classes",), 6),
    Group("fusion", ("fusion_T256",), 25),
    Group("fusion", ("fusion_T64",), 15),
    Group("fusion", ("fusion_T16",), 12),
    Group("model", ("glip_t_coco80",), 90),
    Group("model", ("glip_t_two_words",), 75),
    Group("grounding_dino", ("glip_t_vs_grounding_dino",), 60),
    Group("memory", ("forward_peak_memory",), 75),
    Group("lvis", ("lvis_1203",), 420),
    Group("train", ("train_step", "train_peak_memory"), 480),
)
NAMES = tuple(name for group in GROUPS for name in group.names)
MEASURED = ("ceilings", "load")  # facts of a machine that change from run to run


def wanted(text: str) -> list[str]:
    """`a,b c` -> names of rows.

    Raises:
        argparse.ArgumentTypeError: there is no such row, or no name.
    """
    names = text.replace(",", " ").split()
    if not names:
        raise argparse.ArgumentTypeError(f"expected names of rows, got none of {', '.join(NAMES)}")
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(
            f"no row is called {', '.join(unknown)}; there are: {', '.join(NAMES)}"
        )
    return names


def machine() -> dict[str, Any]:
    """What tells this machine from others, and its load."""
    facts = timing.machine()
    kept = {key: facts[key] for key in ("processor", "cores", "vector", "gpu", "load")
            if key in facts}  # fmt: skip
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return kept | {"memory_gib": round(total / (1 << 30)), "system": platform.system()}


def versions() -> dict[str, Any]:
    """What the figures depend on beside the machine."""
    return {
        "glipkit": glipkit.__version__,
        "compiled_operators": loaded(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "transformers": importlib.metadata.version("transformers"),
    }


def commit() -> str | None:
    """The commit that is measured, with a plus if files differ from it; None without git."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
                              cwd=HERE, capture_output=True, text=True, check=False)  # fmt: skip
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def kept_rows(path: Path, now: dict[str, Any], arguments: argparse.Namespace) -> list[dict]:
    """The rows of a file that rows measured now may stand beside.

    Raises:
        SystemExit: the file is from another machine, other versions, or other settings.
    """
    if not path.exists():
        return []
    keys = ("device", "dtype", "threads", "quick")
    try:
        old = json.loads(path.read_text())
        parts = {part: dict(old[part]) for part in ("machine", "versions")}
        settings = {tuple(row[key] for key in keys) for row in old["rows"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        _refuse(f"{path} is not a file of this program ({error!r})")
    for part in parts:
        before, after = ({k: v for k, v in each[part].items() if k not in MEASURED}
                         for each in (parts, now))  # fmt: skip
        if differing := [k for k in before | after if before.get(k) != after.get(k)]:
            told = "; ".join(f"{k}: {before.get(k)!r}, now {after.get(k)!r}" for k in differing)
            _refuse(f"{path} holds figures of other {part} ({told})")
    here = tuple(getattr(arguments, key) for key in keys)
    if settings - {here}:
        _refuse(f"{path} holds rows of other settings: {sorted(settings)}, now {here} "
                f"({', '.join(keys)})")  # fmt: skip
    return [row for row in old["rows"] if row["name"] not in arguments.only]


def _refuse(why: str) -> None:
    print(f"{why}. Run all rows, which writes the file anew, or give another --json.",
          file=sys.stderr)  # fmt: skip
    raise SystemExit(2)


def child(arguments: argparse.Namespace, *work: str) -> list[dict] | dict | None:
    """What a process of its own writes; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, __file__, "--out", str(out), *work]
        for name in ("threads", "device", "dtype"):
            command += [f"--{name}", str(getattr(arguments, name))]
        command += ["--quick"] if arguments.quick else []
        # A module's words are for who runs it alone; errors and warnings are let through.
        environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        return json.loads(out.read_text()) if done.returncode == 0 else None


def work(arguments: argparse.Namespace) -> None:
    """In such a process: rows of one module, or the ceilings."""
    torch.set_num_threads(arguments.threads)
    if arguments.ceilings:
        counted = [1] if arguments.device == "cuda" else [1, arguments.threads]
        answer = roofline.ceilings(arguments.device, counted, quick=arguments.quick)
    else:
        (module,) = {group.module for group in GROUPS if set(group.names) & set(arguments.only)}
        arguments.names = arguments.only
        answer = importlib.import_module(module).rows(arguments)
    arguments.out.write_text(json.dumps(answer))


def processes(only: list[str], *, quick: bool) -> list[Group]:
    """Who measures what is asked for; quick rows, which only show that they run, by the module."""
    groups = [group._replace(names=tuple(name for name in group.names if name in only))
              for group in GROUPS]  # fmt: skip
    groups = [group for group in groups if group.names]
    if not quick:
        return groups
    names: dict[str, tuple[str, ...]] = {}
    for group in groups:
        names[group.module] = names.get(group.module, ()) + group.names
    return [Group(module, each, 0) for module, each in names.items()]


def completed(row: dict, ceilings: dict, arguments: argparse.Namespace) -> dict:
    """The row with its share of the ceiling and where it comes from."""
    count = "1" if arguments.device == "cuda" else str(arguments.threads)
    limits = {
        "gflops": ceilings[count]["gflops"][arguments.dtype],
        "gbytes_per_second": ceilings[count]["gbytes_per_second"],
    }
    bound = counts.bound_seconds(row, limits)
    share = bound / row["ours"] if bound is not None else None
    return row | {"bound": bound, "ceiling_share": share, "quick": arguments.quick,
                  "commit": commit()}  # fmt: skip


def check_place(path: Path) -> None:
    """Before minutes of measuring: can the file be written?

    Raises:
        SystemExit: it cannot.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft(path)
        draft.touch()
        draft.unlink()
    except OSError as error:
        print(f"cannot write to --json {path}: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def save(path: Path, report: dict) -> None:
    """Whole or not at all; rows in their order."""
    report["rows"].sort(key=lambda row: NAMES.index(row["name"]))
    draft = _draft(path)
    draft.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    draft.replace(path)


def _draft(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def measure(arguments: argparse.Namespace) -> int:
    """Run, tell, write; the exit status."""
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "rows": []}
    check_place(arguments.json)
    if len(arguments.only) < len(NAMES):
        report["rows"] = kept_rows(arguments.json, report, arguments)
    print(
        ", ".join(f"{k} {v}" for part in ("machine", "versions") for k, v in report[part].items())
    )
    if report["machine"]["load"] > 0.5 + arguments.threads / 2 and not arguments.quick:
        print("others are at work on this machine: seconds hold little, ratios hold roughly")
    ceilings = child(arguments, "--ceilings")
    if ceilings is None:
        print("!!! the ceilings of this machine could not be measured", file=sys.stderr)
        return 1
    report["machine"]["ceilings"] = ceilings
    print(roofline.table(ceilings))
    groups = processes(arguments.only, quick=arguments.quick)
    wrong, started = [], time.monotonic()
    print(rows.HEAD, flush=True)
    for index, group in enumerate(groups):
        left = sum(each.seconds for each in groups[index:])
        progress = f"[{index + 1}/{len(groups)}] {', '.join(group.names)}"
        if not arguments.quick:
            progress += f": about {group.seconds} s; all of the rest {left / 60:.0f} min"
        print(progress, file=sys.stderr, flush=True)
        found = child(arguments, "--only", ",".join(group.names))
        if found is None:
            failed = [f"!!! {name}: NO ROW. Its process failed, see above" for name in group.names]
            print("\n".join(failed), flush=True)
            wrong += failed
            continue
        for row in found:
            row = completed(row, ceilings, arguments)
            report["rows"].append(row)
            print(rows.line(row), flush=True)
            if told := rows.complaint(row):
                wrong.append(told)
                print(told, flush=True)
        save(arguments.json, report)
    print(f"{time.monotonic() - started:.0f} s; written to {arguments.json}")
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def main(argv: list[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", type=wanted, metavar="NAME",
                        help="rows, by spaces or commas (all of them)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"({LATEST.relative_to(HERE)})")
    parser.add_argument("--list", action="store_true", help="print the names of the rows, and end")
    parser.add_argument("--falsify", action="store_true",
                        help="spoil our outputs, to see that ratios are refused")  # fmt: skip
    rows.add_options(parser)
    for option in ("--out", "--ceilings"):  # between this program and its processes
        kind = {"type": Path} if option == "--out" else {"action": "store_true"}
        parser.add_argument(option, help=argparse.SUPPRESS, **kind)
    arguments = parser.parse_args(argv)
    arguments.only = [name for names in arguments.only or [NAMES] for name in names]
    if arguments.list:
        for group in GROUPS:
            print(f"{', '.join(group.names):<32}{group.module + '.py':<20}{group.seconds:>5} s")
        return 0
    if arguments.out:
        work(arguments)
        return 0
    arguments.json = arguments.json or (QUICK if arguments.quick else LATEST)
    if arguments.falsify:
        os.environ[rows.FALSIFY] = "1"
    return measure(arguments)


if __name__ == "__main__":
    sys.exit(main())
