"""Best, mean and spread over several wordings of the same classes."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glipkit.data.wording_test_set import WordingRun
from glipkit.evaluation.evaluator import Judgement
from glipkit.grounding.wordings import as_text

MAIN = "AP"
STRATEGY = "run i asks alternative i of every class"
CHOSEN_HERE = (
    "the best run, and the best wording of each class, were chosen on these very pictures: choose "
    "on one set of pictures, and report on another"
)
BOUND = (
    "upper bound: the mean over classes of each class's best run; no prompt was asked that reaches "
    "it"
)


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What one wording came to."""

    name: str
    captions: tuple[str, ...]
    texts: tuple[str, ...]  # for each class, how it is said
    judgement: Judgement

    @property
    def main(self) -> float | None:
        """The figure that runs are compared by."""
        return self.judgement.metrics.get(MAIN)


@dataclass(frozen=True, slots=True)
class ClassSpread:
    """The main figure of one class over the runs of the file."""

    category_id: int
    name: str
    configured: float | None
    values: tuple[float | None, ...]  # run by run
    best: str | None  # the run; None where there is no ground truth
    said: str | None  # in that run

    @property
    def known(self) -> list[float]:
        """What there is ground truth for."""
        return [value for value in self.values if value is not None]


@dataclass(frozen=True, slots=True)
class WordingFigures:
    """All runs side by side."""

    configured: RunFigures
    runs: tuple[RunFigures, ...]  # of the file
    classes: tuple[ClassSpread, ...]
    best: str  # name of a run: the one with the highest figure, the first of equals

    def metrics(self) -> dict[str, float | None]:
        """Figures by name, None without ground truth; a single run has no deviation."""
        known = [run.main for run in self.runs if run.main is not None]
        bounds = [max(each.known) for each in self.classes if each.known]
        deviation = statistics.stdev(known) if len(known) > 1 else None
        return {
            "best_AP": max(known, default=None),
            "mean_AP": statistics.fmean(known) if known else None,
            **({"deviation_AP": deviation} if len(self.runs) > 1 else {}),
            "lowest_AP": min(known, default=None),
            "configured_AP": self.configured.main,
            "upper_bound_AP": statistics.fmean(bounds) if bounds else None,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data for results.json."""
        return {
            "strategy": STRATEGY,
            "best": self.best,
            "chosen_on_the_same_pictures": CHOSEN_HERE,
            "upper_bound": BOUND,
            "runs": [
                {
                    "name": run.name,
                    "metrics": run.judgement.metrics,
                    "said": list(run.texts),  # by class, as in "classes"
                    "captions": list(run.captions),
                }
                for run in (self.configured, *self.runs)
            ],
            "classes": [
                {
                    "category_id": each.category_id,
                    "name": each.name,
                    "configured": each.configured,
                    "runs": {run.name: value for run, value in zip(self.runs, each.values)},
                    "best": each.best,
                    "said_best": each.said,
                }
                for each in self.classes
            ],
        }


def compare(judged: Sequence[tuple[WordingRun, Judgement]]) -> WordingFigures:
    """Runs side by side.

    Args:
        judged: first the run with the words of the configuration, then at least one other.
    """
    configured, *runs = [
        RunFigures(
            name=run.name,
            captions=run.test_set.captions,
            texts=tuple(map(as_text, run.said)),
            judgement=judgement,
        )
        for run, judgement in judged
    ]
    # The first of equals; a run without a figure loses against every other.
    best = max(runs, key=lambda run: -1.0 if run.main is None else run.main)
    return WordingFigures(configured, tuple(runs), _classes(configured, runs), best.name)


def _classes(configured: RunFigures, runs: Sequence[RunFigures]) -> tuple[ClassSpread, ...]:
    spreads = []
    for index, plain in enumerate(configured.judgement.per_class):
        values = tuple(run.judgement.per_class[index].value for run in runs)
        known = [(value, -place) for place, value in enumerate(values) if value is not None]
        place = -max(known)[1] if known else None
        spreads.append(
            ClassSpread(
                category_id=plain.category_id,
                name=plain.name,
                configured=plain.value,
                values=values,
                best=None if place is None else runs[place].name,
                said=None if place is None else runs[place].texts[index],
            )
        )
    return tuple(spreads)
