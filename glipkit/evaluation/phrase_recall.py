"""Phrase recall: is a right box among the first few that a phrase of a caption got?"""

from glipkit.evaluation.evaluator import Judgement
from glipkit.evaluation.phrase_answers import IOU, RANKS, PhraseAnswers, by_group, figures, table

_COLUMNS = {**{f"R@{rank}": rank for rank in RANKS}, "R@all": None}


class PhraseRecall(PhraseAnswers):
    """Recall of phrases, every phrase the same: R@1, R@5, R@10, and R@all of all boxes it got.

    A phrase is found by a box that overlaps any of its boxes (protocol "any"), or the one box
    around all of them, where `dataset.merged` says so (protocol "merged"). Where the types of
    phrases are known each type has its figures: "R@1/people". A picture without detections counts:
    its phrases are missed. Phrases that have no box are left out.
    """

    @property
    def metric(self) -> str:
        """What is computed, by which protocol."""
        if self.dataset.merged:
            return (
                f'phrase recall, "merged" protocol (IoU >= {IOU} with the box around all boxes of '
                "the phrase)"
            )
        return f'phrase recall, "any" protocol (IoU >= {IOU} with any box of the phrase)'

    def evaluate(self) -> Judgement:
        """The figures over all phrases and of each type, and how many phrases these are."""
        ranks = by_group(hits := self.hits())
        captions = self.dataset.num_captions
        title = f" Recall of {len(hits)} phrases in {captions} captions, "
        title += "the box around all boxes" if self.dataset.merged else "any box"
        return Judgement(
            metrics=figures(ranks, _COLUMNS),
            per_class=(),
            table=table(f"{title} of a phrase, IoU >= {IOU:.2f}", ranks, _COLUMNS, "phrases"),
            counts={
                "phrases": len(hits),
                "captions": captions,
                **self.dataset.not_judged,
                **{f"phrases/{group}": len(each) for group, each in list(ranks.items())[1:]},
            },
        )
