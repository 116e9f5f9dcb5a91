"""Several wordings as a table for people."""

from glipkit.evaluation.wording_figures import (
    BOUND,
    CHOSEN_HERE,
    MAIN,
    STRATEGY,
    ClassSpread,
    RunFigures,
    WordingFigures,
)
from glipkit.structures.figures import figure_text

_COLUMNS = (MAIN, "AP50", "AP75", "APr", "APc", "APf")
_CLASSES_SHOWN = 20
_LONGEST = 60  # characters of words


def wording_table(figures: WordingFigures) -> str:
    """A line for each run, best, mean and spread, and the classes that differ most.

    Args:
        figures: of all runs.
    """
    number = len(figures.runs)
    return "\n".join(
        [
            f" {number} wording{'s' if number > 1 else ''}: {STRATEGY}",
            *_run_lines(figures),
            "",
            *_summary(figures),
            "",
            *_class_lines(figures),
        ]
    )


def _run_lines(figures: WordingFigures) -> list[str]:
    runs = (figures.configured, *figures.runs)
    columns = [name for name in _COLUMNS if name in figures.configured.judgement.metrics]
    width = max(len(run.name) for run in runs)
    lines = [f"  {'run':<{width}}" + "".join(f"{name:>7}" for name in columns) + "  words"]
    for run in runs:
        cells = "".join(f"{figure_text(run.judgement.metrics[name]):>7}" for name in columns)
        mark = " *" if run.name == figures.best else "  "
        lines.append(f"{mark}{run.name:<{width}}{cells}  {_words(run)}")
    return lines


def _summary(figures: WordingFigures) -> list[str]:
    metrics = {name: figure_text(value) for name, value in figures.metrics().items()}
    deviation = metrics.get("deviation_AP", "n/a")
    return [
        f" best {metrics['best_AP']} (run {figures.best}), mean {metrics['mean_AP']}, deviation "
        f"{deviation}, lowest {metrics['lowest_AP']}; as configured {metrics['configured_AP']}",
        f" upper bound {metrics['upper_bound_AP']} ({BOUND.removeprefix('upper bound: ')})",
        f" {CHOSEN_HERE}",
    ]


def _class_lines(figures: WordingFigures) -> list[str]:
    known = [each for each in figures.classes if each.known]
    shown = sorted(known, key=lambda each: min(each.known) - max(each.known))[:_CLASSES_SHOWN]
    if not shown:
        return [" AP by class: n/a, there is no box to measure it on"]
    more = len(figures.classes) - len(shown)
    others = f"; {more} more in results.json" if more else ""
    width = max(len(_short(each.name)) for each in shown)
    head = f"  {'':<{width}}  configured  lowest    best  run  said"
    return [
        f" AP by class over the runs, those that differ most first{others}",
        head,
        *(_class_line(each, width) for each in shown),
    ]


def _class_line(each: ClassSpread, width: int) -> str:
    figures = f"{figure_text(each.configured):>10}{min(each.known):>8.3f}{max(each.known):>8.3f}"
    said = _short(each.said or "")
    return f"  {_short(each.name):<{width}}  {figures}  {each.best:>3}  {said}"


def _words(run: RunFigures) -> str:
    return _short(". ".join(run.texts))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
