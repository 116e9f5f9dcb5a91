"""Figures that judge a model, by name, and which of them decides where one has to."""

from collections.abc import Mapping

# AP of classes, where only captions were judged the recall of their phrases, and where only
# referring expressions were the accuracy.
DECIDING = ("AP", "R@1", "P@1")


def deciding(metrics: Mapping[str, float | None]) -> str:
    """The name of the figure by which models are compared: the first of DECIDING that there is.

    Args:
        metrics: figures by name, None for what cannot be measured.
    """
    return next((name for name in DECIDING if name in metrics), DECIDING[0])
