"""The pictures of a test set, asked for the same classes in several wordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glipkit.data.test_set import ClassTestSet, TestSet, hash_prompts
from glipkit.structures.prompts import AnyPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class WordingRun:
    """One wording of all classes: a test set as if it were asked alone."""

    name: str
    test_set: ClassTestSet
    said: tuple[Mapping[str, str], ...]  # for each class {"prefix", "name", "suffix"}

    @property
    def num_phrases(self) -> int:
        """Of all its prompts."""
        return sum(prompt.num_phrases for prompt in self.test_set.prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordingTestSet(TestSet):
    """Every picture is asked the prompts of all runs, so it is read and encoded once.

    No answer depends on what is asked beside it: there is no suppression between prompts
    (BEHAVIOUR 11). So each run has the answers that it would have alone.
    """

    runs: tuple[WordingRun, ...]  # the first one has the words of the configuration
    source: Mapping[str, Any]  # where the words are from, as plain data

    def prompts_of(self, index: int) -> Sequence[AnyPrompt]:
        """The prompts of the first run, then those of the next."""
        return [prompt for run in self.runs for prompt in run.test_set.prompts]

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
            "wordings": {**self.source, "runs": runs},
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
    return WordingTestSet(
        dataset=first.dataset,
        transform=first.transform,
        divisor=first.divisor,
        captions=tuple(caption for run in runs for caption in run.test_set.captions),
        runs=tuple(runs),
        source=dict(source),
    )
