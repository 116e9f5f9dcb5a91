"""Runs as a picture and a table: `python -m glipkit.report OUTPUT_DIR [OUTPUT_DIR ...]`."""

import argparse
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glipkit.runtime.files import replacing
from glipkit.structures.figures import DECIDING, deciding

METRICS = "metrics.jsonl"
_NOISY_FROM = 40  # points from which on a loss is drawn smoothed, with the raw one behind it
_RATE = "lr"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run has written down so far."""

    name: str
    state: str  # "finished" or "running", as run.json says; "?" without one
    entries: tuple[dict[str, Any], ...]  # in the order of their steps

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Steps and values of a number, where it is known."""
        points = [(e["step"], e[key]) for e in self.entries if e.get(key) is not None]
        return [step for step, _ in points], [value for _, value in points]

    def last(self, key: str) -> float | None:
        """The newest value of a number."""
        values = self.curve(key)[1]
        return values[-1] if values else None

    @property
    def judged_by(self) -> str:
        """The name of the figure that decides which weights are the best."""
        return deciding({name: None for entry in self.entries for name in entry})

    def best(self) -> tuple[float | None, int | None]:
        """The highest AP (or R@1 of captions), and the first step that had it."""
        steps, values = self.curve(self.judged_by)
        if not values:
            return None, None
        top = max(range(len(values)), key=lambda index: (values[index], -index))
        return values[top], steps[top]


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in some folders, or, where a folder is not one of a run, in the folders below it.

    Returns:
        In alphabetical order within each folder; at least one. Those that would be called the same
        are called by their whole paths.

    Raises:
        FileNotFoundError: a folder is not there, or no run has written metrics.jsonl in it.
        ValueError: no run has written a number yet.
    """
    found: list[tuple[str, Path, tuple[dict[str, Any], ...]]] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}; expected the OUTPUT_DIR of a run")
        alone = (folder / METRICS).is_file()
        files = [folder / METRICS] if alone else sorted(folder.rglob(METRICS))
        if not files:
            raise FileNotFoundError(
                f"no {METRICS} in {folder} or below it; expected the OUTPUT_DIR of a training run"
            )
        for file in files:
            name = folder.name or str(folder) if alone else str(file.parent.relative_to(folder))
            if entries := _entries(file):
                found.append((name, file.parent, entries))
    if not found:
        raise ValueError(
            f"{' '.join(map(str, folders))}: no run has written a number into {METRICS} yet; one "
            "line comes every SOLVER.LOG_PERIOD steps"
        )
    names = Counter(name for name, _, _ in found)
    return [
        Run(name if names[name] == 1 else str(place), _state(place), entries)
        for name, place, entries in found
    ]


def table(runs: Sequence[Run]) -> str:
    """A line per run."""
    judged = " or ".join(name for name in DECIDING if name in {run.judged_by for run in runs})
    lines = [("run", "state", "steps", "loss", f"best {judged}", "at step", f"last {judged}",
              "skipped", "images/s")]  # fmt: skip
    for run in runs:
        _, losses = run.curve("loss/total")
        best, step = run.best()
        lines.append(
            (
                run.name,
                run.state,
                str(run.entries[-1]["step"]),
                _ends(losses),
                _number(best, ".4f"),
                _number(step, "d"),
                _number(run.last(run.judged_by), ".4f"),
                _number(run.last("skipped_steps"), ".0f"),
                _number(run.last("images_per_second"), ".3g"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def draw(runs: Sequence[Run], path: Path) -> None:
    """Losses, AP and learning rate over the steps, all runs in each.

    Args:
        runs: at least one.
        path: the picture, as .png, .pdf or .svg; completely written or not at all.

    Raises:
        ValueError: matplotlib is not installed, or knows no such format.
    """
    figure_class = _matplotlib()
    keys = _curves_of(runs)
    rows = math.ceil(len(keys) / 2)
    figure = figure_class(figsize=(12, 3.2 * rows + 0.18 * len(runs)), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flat
    for key, panel in zip(keys, panels):
        for index, run in enumerate(runs):
            _draw_curve(panel, *run.curve(key), _look(index), noisy=key.startswith("loss/"))
        titles = {_RATE: "learning rate", **{name: f"{name} (validation)" for name in DECIDING}}
        panel.set_title(titles.get(key, key))
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
    for panel in list(panels)[len(keys) :]:
        panel.set_axis_off()
    if len(runs) > 1:
        lines = [figure.axes[0].plot([], [], **_look(index))[0] for index in range(len(runs))]
        figure.legend(lines, [run.name for run in runs], loc="outside lower left", fontsize="small")
    else:
        figure.suptitle(f"{runs[0].name} ({runs[0].state})")
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=110)


def _look(index: int) -> dict[str, str]:
    """Ten colours, then the same ones dashed, then dotted."""
    return {"color": f"C{index % 10}", "linestyle": ("-", "--", ":")[index // 10 % 3]}


def _draw_curve(
    panel: Any, steps: list[int], values: list[float], look: dict[str, str], *, noisy: bool
) -> None:
    if noisy and len(values) >= _NOISY_FROM:
        panel.plot(steps, values, **look, alpha=0.25, linewidth=0.8)
        values = smoothed(values, len(values) // 20)
    panel.plot(steps, values, **look, marker="o" if len(values) < _NOISY_FROM else "", markersize=3)


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and those at most `window` / 2 places away from it."""
    half = window // 2
    around = (values[max(i - half, 0) : i + half + 1] for i in range(len(values)))
    return [sum(each) / len(each) for each in around]


def _curves_of(runs: Sequence[Run]) -> list[str]:
    """Which numbers to draw: all losses, the total first, AP and R@1 where there are, the rate."""
    known = {key for run in runs for entry in run.entries for key in entry}
    losses = sorted(key for key in known if key.startswith("loss/"))
    losses.sort(key=lambda key: key != "loss/total")
    return [*losses, *(key for key in (*DECIDING, _RATE) if key in known)]


def _entries(file: Path) -> tuple[dict[str, Any], ...]:
    """The whole lines of a file that may still be written to."""
    found = []
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = json.loads(line)
            entry["step"] += 0
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}, line {number}, is damaged ({error!r})") from error
        found.append(entry)
    return tuple(sorted(found, key=lambda entry: entry["step"]))


def _state(folder: Path) -> str:
    try:
        return str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return "?"


def _ends(values: Sequence[float]) -> str:
    return " -> ".join(f"{value:.3f}" for value in [*values[:1], *values[1:][-1:]]) or "-"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _matplotlib() -> Any:
    try:
        from matplotlib.figure import Figure  # not pyplot: no window, no global state
    except ImportError as error:
        raise ValueError(
            f"the picture needs the package matplotlib ({error}): "
            "pip install 'glipkit[report]'; --no-picture prints the table alone"
        ) from error
    return Figure


def _target(folders: Sequence[Path], given: Path | None) -> Path:
    if given is not None:
        return given
    return (folders[0] if len(folders) == 1 else Path()) / "report.png"


def main(argv: Iterable[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m glipkit.report",
        description="Losses, AP and learning rate of training runs, finished or not.",
        epilog="example:\n  python -m glipkit.report OUTPUT/a OUTPUT/b -o a_and_b.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="OUTPUT_DIR", help="of a run, or of several"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="the picture; default: report.png in the one OUTPUT_DIR"
    )
    parser.add_argument("--no-picture", action="store_true", help="print the table alone")
    args = parser.parse_args(None if argv is None else list(argv))
    try:
        runs = find_runs(args.folders)
        sys.stdout.write(table(runs) + "\n")
        if not args.no_picture:
            target = _target(args.folders, args.output)
            draw(runs, target)
            sys.stdout.write(f"drawn in {os.fspath(target)}\n")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
