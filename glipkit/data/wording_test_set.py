"""The pictures of a test set, asked for the same classes in several wordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from glipkit.data.test_set import ClassTestSet, TestSet, hash_prompts
from glipkit.structures.prompts import AnyPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class WordingRun:
    """One wording of all classes: a test set as if it were asked alone."""

    name: str
    test_set: ClassTestSet
    said: tuple[Mapping[str, str], ...]  # for each class {"prefix", "name", "suffix"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WordingTestSet(TestSet):
    """Every picture is read and encoded once, and asked the prompts of all runs, each prompt once.

    No answer depends on what is asked beside it: there is no suppression between prompts
    (BEHAVIOUR 11). So each run has the answers that it would have alone.
    """

    prompts: tuple[AnyPrompt, ...]  # of all runs; what several of them ask stands here once
    runs: tuple[WordingRun, ...]  # the first one has the words of the configuration
    source: Mapping[str, Any]  # where the words are from, as plain data

    def prompts_of(self, index: int) -> Sequence[AnyPrompt]:
        """The same prompts for every picture."""
        return self.prompts

    def phrases_of(self, run: WordingRun) -> list[range]:
        """For each prompt of a run, its phrases as they are numbered over `prompts`."""
        ends = list(accumulate((each.num_phrases for each in self.prompts), initial=0))
        spans = zip(self.prompts, pairwise(ends))
        known = {hash_prompts([prompt]): range(*span) for prompt, span in spans}
        return [known[hash_prompts([prompt])] for prompt in run.test_set.prompts]

    def _words(self) -> dict[str, Any]:
        runs = {
            run.name: {
                "captions": list(run.test_set.captions),
                "prompts_sha256": hash_prompts(run.test_set.prompts),
            }
            for run in self.runs
        }
        first = self.runs[0].test_set
        return {
            "wordings": {**self.source, "num_prompts": len(self.prompts), "runs": runs},
            "category_ids": list(first.category_ids),
            **({"knowledge": dict(first.knowledge)} if first.knowledge else {}),
        }


def make_wording_test_set(runs: Sequence[WordingRun], source: Mapping[str, Any]) -> WordingTestSet:
    """All runs side by side.

    Args:
        runs: of the same pictures, at least one.
        source: where the words are from, as plain data.
    """
    first = runs[0].test_set
    each_once: dict[str, tuple[AnyPrompt, str]] = {}
    for run in runs:
        for prompt, caption in zip(run.test_set.prompts, run.test_set.captions, strict=True):
            each_once.setdefault(hash_prompts([prompt]), (prompt, caption))
    prompts, captions = zip(*each_once.values())
    return WordingTestSet(
        dataset=first.dataset,
        transform=first.transform,
        divisor=first.divisor,
        prompts=prompts,
        captions=captions,
        runs=tuple(runs),
        source=dict(source),
    )
