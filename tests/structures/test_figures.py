"""Which figure decides."""

from glipkit.structures.figures import deciding


def test_ap_decides_where_there_is_one_and_recall_where_not() -> None:
    assert deciding({"R@1": 0.9, "AP50": 0.5, "AP": None}) == "AP"
    assert deciding({"R@10": 1.0, "R@5": 0.9, "R@1": 0.8}) == "R@1"
    assert deciding({}) == "AP"
