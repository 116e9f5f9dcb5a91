"""Several wordings of the same classes, judged each for itself and side by side."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from glipkit.data.wording_test_set import WordingRun, WordingTestSet
from glipkit.evaluation.evaluator import Evaluator, Judgement, MergingEvaluator, check_answers
from glipkit.evaluation.journal import METRIC
from glipkit.evaluation.results import Results
from glipkit.evaluation.wording_figures import WordingFigures, compare
from glipkit.evaluation.wording_table import wording_table
from glipkit.runtime.files import write_atomically
from glipkit.structures.detections import Detections

logger = logging.getLogger(__name__)

BEST_WORDS = "best_words.yaml"
_RUN = "wording_"  # a folder for each


@dataclass(slots=True)
class _Judged:
    """A wording, and what judges it alone."""

    run: WordingRun
    phrases: list[range]  # of its prompts, as they are numbered over all that is asked
    evaluator: Evaluator
    kept: dict[int, Detections]  # what an evaluator that cannot merge will take at the end
    judgement: Judgement | None = None

    @property
    def merges(self) -> bool:
        return isinstance(self.evaluator, MergingEvaluator)


class WordingEvaluator:
    """Hands every run its own answers, and puts the figures side by side.

    Args:
        test_set: what is judged.
        evaluators: for each of its runs what would judge it alone.
    """

    def __init__(self, test_set: WordingTestSet, evaluators: Sequence[Evaluator]) -> None:
        self._all = [
            _Judged(run, test_set.phrases_of(run), judge, {})
            for run, judge in zip(test_set.runs, evaluators, strict=True)
        ]
        self._num_phrases = sum(prompt.num_phrases for prompt in test_set.prompts)
        self._figures: WordingFigures | None = None

    @property
    def metric(self) -> str:
        """That of a single run, for each of them."""
        return f"{self._all[0].evaluator.metric}, of each of {len(self._all)} wordings"

    def process(self, image_id: int, detections: Detections) -> None:
        """Take the answers of all runs about one picture."""
        check_answers(image_id, detections, num_phrases=self._num_phrases)
        for each in self._all:
            answers = _answers_to(each.phrases, detections)
            if each.merges:
                each.evaluator.process(image_id, answers)
            else:
                each.kept[image_id] = answers

    def share(self) -> list[Any]:
        """What each run took so far."""
        return [each.evaluator.share() if each.merges else each.kept for each in self._all]

    def merge(self, share: Sequence[Any]) -> None:
        """Take over what each run took in another process."""
        for each, own in zip(self._all, share, strict=True):
            if each.merges:
                each.evaluator.merge(own)
            else:
                each.kept.update(own)

    def predictions(self) -> Collection[dict[str, Any]]:
        """Those of the best run: of all together nobody could make sense."""
        return self._best(self._compared()).evaluator.predictions()

    def evaluate(self) -> Judgement:
        """All runs side by side; `details` has them whole."""
        figures = self._compared()
        return Judgement(
            metrics=figures.metrics(),
            per_class=(),
            table=wording_table(figures),
            counts={"wordings": len(self._all) - 1},
            details=figures.to_json(),
        )

    def write(
        self, folder: Path, together: Results, settings: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Leave each run in `folder`/wording_<name> as if it had been evaluated alone.

        And the words of the best one in best_words.yaml, to be laid into a task file.

        Args:
            folder: of the evaluation.
            together: its results.
            settings: of each run by name, the whole configuration as plain data.
        """
        for each in self._all:
            shared = {k: v for k, v in together.depends_on.items() if k != "wordings"}
            own = {**each.run.test_set.fingerprint(), METRIC: each.evaluator.metric}
            predictions = each.evaluator.predictions()
            alone = replace(
                together,
                judgement=each.judgement,
                num_predictions=len(predictions),
                depends_on=shared | own,
                config=dict(settings[each.run.name]),
            )
            alone.write(run_folder(folder, each.run.name), predictions)
        _warn_of_other_runs(folder, [each.run.name for each in self._all])
        best = self._best(self._compared())
        words = {"USE_CAPTION_PROMPT": True, "CAPTION_PROMPT": [dict(s) for s in best.run.said]}
        text = yaml.safe_dump({"DATASETS": words}, allow_unicode=True, sort_keys=False, width=100)
        write_atomically(folder / BEST_WORDS, f"# The words of run {best.run.name}.\n{text}")

    def _compared(self) -> WordingFigures:
        if self._figures is None:
            for each in self._all:
                for image_id, answers in each.kept.items():
                    each.evaluator.process(image_id, answers)
                each.kept = {}
                each.judgement = each.evaluator.evaluate()
            self._figures = compare([(each.run, each.judgement) for each in self._all])
        return self._figures

    def _best(self, figures: WordingFigures) -> _Judged:
        return next(each for each in self._all if each.run.name == figures.best)


def _answers_to(phrases: Sequence[range], found: Detections) -> Detections:
    """What was found of some prompts, as if nothing else had been asked.

    Args:
        phrases: of each prompt, as `found` numbers them. A prompt may stand there twice.
        found: best score first.
    """
    rows, ids, start = [], [], 0
    for own in phrases:
        row = ((found.phrase_ids >= own.start) & (found.phrase_ids < own.stop)).nonzero()[:, 0]
        rows.append(row)
        ids.append(found.phrase_ids[row] - own.start + start)
        start += len(own)
    row = torch.cat(rows)
    order = found.scores[row].argsort(descending=True, stable=True)
    row = row[order]
    return Detections(found.boxes[row], found.scores[row], torch.cat(ids)[order], found.image_size)


def run_folder(folder: Path, name: str) -> Path:
    """Where the results of one run lie."""
    return folder / f"{_RUN}{name}"


def _warn_of_other_runs(folder: Path, names: Sequence[str]) -> None:
    """An earlier evaluation into the same folder may have had more runs."""
    own = {run_folder(folder, name) for name in names}
    if others := sorted(set(folder.glob(f"{_RUN}*")) - own):
        logger.warning(
            "%s: %s %s from an earlier evaluation",
            folder,
            ", ".join(path.name for path in others),
            "is" if len(others) == 1 else "are",
        )


def best_run(folder: Path) -> str:
    """The name of the best run of an evaluation of wordings.

    Args:
        folder: where its results.json lies.
    """
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["details"]["best"]
