"""Figures that judge a model: how they are written, and which decides where one has to."""

import math
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


def figure_text(value: float | None, form: str = ".3f") -> str:
    """A figure for people to read.

    Args:
        value: the figure; None or NaN where there was nothing to measure it on.
        form: how a number is formatted.
    """
    return "n/a" if value is None or math.isnan(value) else format(value, form)
