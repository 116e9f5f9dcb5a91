"""Which figure decides, and how figures are written."""

from math import nan

from glipkit.structures.figures import deciding, figure_text


def test_ap_decides_where_there_is_one_and_recall_where_not() -> None:
    assert deciding({"R@1": 0.9, "AP50": 0.5, "AP": None}) == "AP"
    assert deciding({"R@10": 1.0, "R@5": 0.9, "R@1": 0.8}) == "R@1"
    assert deciding({}) == "AP"


def test_what_was_not_measured_is_no_number() -> None:
    written = [figure_text(value) for value in (0.12345, 0.0, None, nan)]
    assert written == ["0.123", "0.000", "n/a", "n/a"]
    assert figure_text(-0.5, "+.4f") == "-0.5000"
