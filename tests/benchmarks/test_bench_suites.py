"""The end-to-end benchmark of the suites sees what differs."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import agreement
import suites_end_to_end as suites


def found(*rows: tuple[int, float, float]) -> list[dict[str, Any]]:
    """Of (phrase, left edge, score)."""
    return [
        {"image_id": 1, "phrase": phrase, "box": [x, 0.0, x + 10, 10.0], "score": score}
        for phrase, x, score in rows
    ]


ROWS = ((0, 5.0, 0.9), (0, 5.0, 0.9), (0, 40.0, 0.5), (1, 5.0, 0.9))


def test_the_same_detections_are_the_same() -> None:
    of = agreement.compare(found(*ROWS), found(*ROWS))
    assert (of.first, of.same, of.alone, of.pixels, of.in_order) == (4, 4, 0, 0.0, True)
    turned = agreement.compare(found(*ROWS), found(*ROWS[::-1]))
    assert (turned.same, turned.in_order) == (4, False)
    assert agreement.compare([], []).share_alone == 0


def test_partners_are_near() -> None:
    of = agreement.compare(found(*ROWS), found(*ROWS[:2], (0, 40.0625, 0.49975), ROWS[3]))
    assert (of.same, of.alone) == (3, 0)
    assert of.pixels == 0.0625
    assert of.score == pytest.approx(0.0005)


@pytest.mark.parametrize(
    ("other", "alone"),
    [
        (ROWS[:3], 1),  # one is missing
        ((*ROWS, (1, 5.0, 0.9)), 1),  # one more of the same
        ((*ROWS[:3], (2, 5.0, 0.9)), 2),  # of another phrase
        ((*ROWS[:3], (1, 5.25, 0.9)), 2),  # elsewhere
        ((*ROWS[:3], (1, 5.0, 0.898)), 2),  # of another score
    ],
)
def test_what_has_no_partner(other: tuple, alone: int) -> None:
    of = agreement.compare(found(*ROWS), found(*other))
    assert of.alone == alone
    assert of.share_alone == alone / (4 + len(other))
    assert not of.in_order


def test_classes_are_told_apart() -> None:
    boxes = [{"image_id": 1, "category_id": n, "bbox": [0, 0, 1, 1], "score": 0.5} for n in (3, 4)]
    assert agreement.compare(boxes[:1], boxes[1:]).alone == 2


@pytest.fixture
def report() -> dict[str, Any]:
    """Of runs that agree."""
    many = found(*((n, 5.0, 0.5) for n in range(120)))
    apart = agreement.compare(many, many).as_dict() | {"figures": 0.0}
    runs = [f"{a} / {b}" for a, b in {**suites.EXACT, **suites.ROUNDED}.items()]
    each = {"figures": {"one": {"R@1": 0.5}}, "apart": {run: dict(apart) for run in runs}}
    return {
        "suites": {suite: copy.deepcopy(each) for suite in suites.SUITES},
        "float64": {suite: apart | {"pictures": 4} for suite in suites.SUITES},
        "runs": {"one": {"seconds": 1.0, "gib_of_a_process": 1.0}},
    }


def test_agreement_is_no_complaint(report: dict[str, Any]) -> None:
    assert suites.complaints(report) == []
    assert len(suites.table(report).splitlines()) == 1 + 3 * 3 + 3 + 3 + 1


@pytest.mark.parametrize(
    ("runs", "change", "message"),
    [
        ("one, two processes / one", {"in_order": False}, "bit for bit"),
        ("one, two processes / one", {"figures": 0.001}, "figures differ by 0.001"),
        ("four, two processes / four", {"in_order": False}, "bit for bit"),
        ("four / one", {"figures": 1e-9}, "figures differ by 1e-09"),
        ("four / one", {"alone": 9, "share_alone": 0.04}, "9 of 240 detections have no partner"),
        ("four / one", {"first": 3}, "3 detections are too few"),
    ],
)
def test_what_is_too_far_apart_is_said(
    report: dict[str, Any], runs: str, change: dict[str, Any], message: str
) -> None:
    report["suites"]["RefCOCO"]["apart"][runs] |= change
    (said,) = suites.complaints(report)
    assert said.startswith("RefCOCO: '")
    assert message in said


def test_rounding_in_float64_is_none(report: dict[str, Any]) -> None:
    report["float64"]["LVIS"]["score"] = 1e-4
    (said,) = suites.complaints(report)
    assert said.startswith("LVIS: in float64 a batch and its pictures differ")
