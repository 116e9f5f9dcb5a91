"""Referring expressions: is the one thing that is meant the first that was found?"""

from glipkit.evaluation.evaluator import Judgement
from glipkit.evaluation.phrase_answers import IOU, RANKS, PhraseAnswers, by_group, figures, table

_COLUMNS = {f"P@{rank}": rank for rank in RANKS}


class ReferringAccuracy(PhraseAnswers):
    """P@1, the accuracy: how many expressions have their best box on what is meant; P@5 and P@10.

    An expression means one thing and has one box (`judged_expression`); one without detections is
    missed. Where a file holds several collections (RefCOCO, RefCOCO+, RefCOCOg) each has its
    figures: "P@1/refcoco+".
    """

    metric = (
        f"referring expressions, P@1 (accuracy), P@5, P@10: IoU >= {IOU} with the one box of the "
        "expression, plain IoU"
    )

    def evaluate(self) -> Judgement:
        """The figures over all expressions and of each collection."""
        ranks = by_group(hits := self.hits())
        title = f" Accuracy (P@1) of {len(hits)} referring expressions, IoU >= {IOU:.2f}"
        return Judgement(
            metrics=figures(ranks, _COLUMNS),
            per_class=(),
            table=table(title, ranks, _COLUMNS, "expressions"),
            counts={
                "expressions": len(hits),
                **self.dataset.not_judged,
                **{f"expressions/{group}": len(each) for group, each in list(ranks.items())[1:]},
            },
        )
