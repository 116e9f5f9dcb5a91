"""ODinW results side by side: tasks by shots, spread over seeds, mean and median over tasks."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glipkit.programs.odinw_plan import Job
from glipkit.programs.summary import Spread, spread
from glipkit.runtime.files import replacing, write_atomically

FIGURE = "AP"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of a job."""

    job: Job
    found: dict[str, Any] | None = None  # what `Ready.finish` wrote; None: not done
    error: str = ""  # why it cannot be done
    found_done: bool = False  # it was done before this process looked

    @property
    def value(self) -> float | None:
        """AP in [0, 1]; None: not done, or the data have no box to find."""
        return self.found["metrics"].get(FIGURE) if self.found else None

    @property
    def unreadable(self) -> int:
        """Pictures that could not be read; their boxes count as missed."""
        return self.found.get("unreadable", 0) if self.found else 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One task in one column, from every seed."""

    outcomes: tuple[Outcome, ...]

    @property
    def spread(self) -> Spread:
        """Mean and deviation of AP over the seeds."""
        return spread([each.value for each in self.outcomes])

    @property
    def figures(self) -> dict[int | None, float | None]:
        """Seed -> AP."""
        return {each.job.seed: each.value for each in self.outcomes}

    def __str__(self) -> str:
        if any(each.error for each in self.outcomes):
            return "failed"
        if any(each.found is None for each in self.outcomes):
            done = sum(each.found is not None for each in self.outcomes)
            return f"{percent(self.spread)} ({done} of {len(self.outcomes)})" if done else "-"
        return percent(self.spread)


@dataclass(frozen=True, slots=True)
class Column:
    """One mode with one number of shots, over all tasks."""

    name: str
    cells: dict[str, Cell]  # by task

    @property
    def seeds(self) -> list[int | None]:
        """Of all tasks together."""
        return list(dict.fromkeys(seed for cell in self.cells.values() for seed in cell.figures))

    @property
    def counted(self) -> list[str]:
        """The tasks with a figure from every seed: what mean and median are over."""
        return [
            task
            for task, cell in self.cells.items()
            if all(cell.figures.get(seed) is not None for seed in self.seeds)
        ]

    @property
    def mean(self) -> Spread:
        """Of the tasks, and its deviation over seeds."""
        return spread([statistics.fmean(values) for values in self._by_seed()])

    @property
    def median(self) -> Spread:
        """As `mean`."""
        return spread([statistics.median(values) for values in self._by_seed()])

    def _by_seed(self) -> list[list[float]]:
        """AP of every counted task, for each seed."""
        counted = [self.cells[task].figures for task in self.counted]
        return [[figures[seed] for figures in counted] for seed in self.seeds if counted]

    def to_json(self) -> dict[str, Any]:
        """Plain data, AP in [0, 1]."""
        cells = self.cells.items()
        return {
            "mean": asdict(self.mean),
            "median": asdict(self.median),
            "tasks_counted": len(self.counted),
            "tasks_asked": len(self.cells),
            "tasks": {
                task: {
                    **asdict(cell.spread),
                    "seeds": {str(s): ap for s, ap in cell.figures.items() if s is not None},
                }
                for task, cell in cells
            },
            "failed": {e.job.name: e.error for _, cell in cells for e in cell.outcomes if e.error},
            "not_done": _names(cells, lambda each: each.found is None and not each.error),
            "without_boxes": _names(cells, lambda each: bool(each.found) and each.value is None),
            "with_unreadable_pictures": _names(cells, lambda each: each.unreadable > 0),
        }


def make_columns(outcomes: Sequence[Outcome]) -> list[Column]:
    """The table that some outcomes make."""
    cells: dict[str, dict[str, list[Outcome]]] = {}
    for each in outcomes:
        cells.setdefault(each.job.column, {}).setdefault(each.job.task, []).append(each)
    return [
        Column(name, {task: Cell(tuple(seeds)) for task, seeds in sorted(tasks.items())})
        for name, tasks in cells.items()
    ]


def percent(figures: Spread) -> str:
    """AP as the paper prints it: 46.1 ± 0.8."""
    if figures.mean is None:
        return "n/a"
    deviation = f" ± {100 * figures.deviation:.1f}" if figures.deviation is not None else ""
    return f"{100 * figures.mean:.1f}{deviation}"


def text_table(columns: Sequence[Column]) -> str:
    """For a terminal: a line for each task, a column for each number of shots."""
    tasks = list(dict.fromkeys(task for column in columns for task in column.cells))
    rows = [["AP", *(column.name for column in columns)]]
    rows += [[task, *(str(c.cells[task]) if task in c.cells else "" for c in columns)]
             for task in tasks]  # fmt: skip
    rows += [
        ["mean", *(percent(column.mean) for column in columns)],
        ["median", *(percent(column.median) for column in columns)],
        ["tasks", *(f"{len(column.counted)} of {len(column.cells)}" for column in columns)],
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows)]
    lines = [
        "  ".join(f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in
                  enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]  # fmt: skip
    lines.insert(1 + len(tasks), "")
    return "\n".join([*lines, *_remarks(columns)])


def paper_table(columns: Sequence[Column]) -> str:
    """Markdown in the paper's form: a column for each task, PascalVOC first, then their mean."""
    tasks = list(dict.fromkeys(task for column in columns for task in column.cells))
    tasks.sort(key=lambda task: not task.startswith("PascalVOC"))
    short = [task.split("_")[0] for task in tasks]
    shown = [s if short.count(s) == 1 else task for s, task in zip(short, tasks)]
    rows = [["", *shown, "mean", "median", "tasks"], ["---", *["--:"] * (len(tasks) + 3)]]
    rows += [
        [
            column.name,
            *(str(column.cells[task]) if task in column.cells else "" for task in tasks),
            percent(column.mean),
            percent(column.median),
            f"{len(column.counted)} of {len(column.cells)}",
        ]
        for column in columns
    ]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    remarks = "".join(f"\n\n{line}" for line in _remarks(columns) if line)
    return f"{table}{remarks}\n"


def write_report(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Leave the tables and the submissions.

    Args:
        folder: OUTPUT_DIR.
        outcomes: of every job of the command.
    """
    write_tables(folder, outcomes)
    columns: dict[str, list[Outcome]] = {}
    for each in outcomes:
        columns.setdefault(each.job.column, []).append(each)
    for mine in columns.values():
        write_submission(folder, mine)


def write_tables(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Leave, for each mode, table.txt, table.md and summary.json in its folder.

    Args:
        folder: OUTPUT_DIR.
        outcomes: of every job of the command.
    """
    modes = list(dict.fromkeys(each.job.mode for each in outcomes))
    for mode in modes:
        mine = [each for each in outcomes if each.job.mode == mode]
        columns, place = make_columns(mine), folder / mode
        write_atomically(place / "table.txt", text_table(columns) + "\n")
        write_atomically(place / "table.md", paper_table(columns))
        content = {"figure": FIGURE, "columns": {each.name: each.to_json() for each in columns}}
        write_atomically(place / "summary.json", json.dumps(content, indent=2) + "\n")


def write_submission(folder: Path, outcomes: Sequence[Outcome]) -> Path | None:
    """Leave the predictions of one column in the form in which the challenge takes them.

    Zero-shot and all data: {dataset: COCO results}. Few shots: {dataset: {seed: COCO results}}.
    The predictions are copied as they are and never held in memory together.

    Args:
        folder: OUTPUT_DIR.
        outcomes: of one mode with one number of shots.

    Returns:
        `folder`/<mode>/submission[_<shots>].json, or None while no task is done by every seed.
    """
    tasks: dict[str, list[Outcome]] = {}
    for each in outcomes:
        tasks.setdefault(each.job.task, []).append(each)
    whole = {task: seeds for task, seeds in sorted(tasks.items()) if all(s.found for s in seeds)}
    job = outcomes[0].job
    few_shot = bool(job.recipe and job.recipe.shots)
    path = folder / job.mode / f"submission{'_' * bool(job.shots)}{job.shots}.json"
    if not whole:
        path.unlink(missing_ok=True)  # what is there was made with other settings
        return None
    with replacing(path) as file:
        for number, (task, seeds) in enumerate(whole.items()):
            file.write(f"{', ' if number else '{'}{json.dumps(task)}: ".encode())
            for place, each in enumerate(seeds):
                if few_shot:
                    file.write(f'{", " if place else "{"}"{each.job.seed}": '.encode())
                predictions = folder / each.job.name / each.found["predictions"]["file"]
                file.write(predictions.read_bytes())
            file.write(b"}" * few_shot)
        file.write(b"}\n")
    return path


def _names(cells: Any, fits: Any) -> list[str]:
    return sorted({each.job.name for _, cell in cells for each in cell.outcomes if fits(each)})


def _remarks(columns: Sequence[Column]) -> list[str]:
    """What a reader of the mean must know."""
    said = [column.to_json() for column in columns]
    lines = []
    if any(each["tasks_counted"] < each["tasks_asked"] for each in said):
        lines.append("mean and median are over the tasks that have a figure from every seed")
    if empty := sorted({name for each in said for name in each["without_boxes"]}):
        lines.append(f"n/a: the data have no box to find: {', '.join(empty)}")
    if blind := sorted({name for each in said for name in each["with_unreadable_pictures"]}):
        lines.append(
            f"with pictures that could not be read, whose boxes count as missed: {', '.join(blind)}"
        )
    outcomes = [e for column in columns for cell in column.cells.values() for e in cell.outcomes]
    failed = {f"failed: {each.job.task}: {each.error}" for each in outcomes if each.error}
    lines += sorted(failed)  # once, where all jobs of a task fail alike
    return ["", *lines] if lines else []
