"""Joining the answers of several looks, beside loops that follow the papers word by word."""

import math

import pytest
import torch

from glipkit.modeling.joining import LEAST_SCORE, METHODS, Joiner
from glipkit.structures.detections import Detections

SIZE = (100, 120)


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return shared / (sum(areas) - shared)


def joined_slowly(
    views: list[Detections], method: str, threshold: float, sigma: float
) -> list[tuple[int, float, list[float]]]:
    """(phrase, score, box), best first."""
    boxes = [box for view in views for box in view.boxes.double().tolist()]
    scores = [score for view in views for score in view.scores.double().tolist()]
    phrases = [phrase for view in views for phrase in view.phrase_ids.tolist()]
    left = dict(enumerate(scores))
    taken: list[tuple[int, float]] = []
    while left:
        chosen = max(left, key=lambda index: (left[index], -index))
        score = left.pop(chosen)
        if score < LEAST_SCORE:
            break
        taken.append((chosen, score))
        for other in list(left):
            if phrases[other] != phrases[chosen]:
                continue
            shared = overlap(boxes[chosen], boxes[other])
            if method in ("none", "vote"):
                if shared > threshold:
                    del left[other]
            elif method == "soft-nms-gaussian":
                left[other] *= math.exp(-(shared**2) / sigma)
            elif shared > threshold:
                left[other] *= 1 - shared
    answers = []
    for chosen, score in taken:
        box = boxes[chosen]
        if "vote" in method:
            sums, total = [0.0] * 4, 0.0
            for other, voter in enumerate(boxes):
                shared = overlap(box, voter)
                if phrases[other] == phrases[chosen] and shared > threshold:
                    total += scores[other] * shared
                    sums = [s + scores[other] * shared * x for s, x in zip(sums, voter)]
            box = [s / total for s in sums]
        answers.append((phrases[chosen], score, box))
    return answers


def crowded(seed: int, count: int = 40, phrases: int = 3) -> Detections:
    """Boxes around a few places, so that many overlap."""
    random = torch.Generator().manual_seed(seed)
    places = torch.rand(5, 2, generator=random) * 60
    corner = places[torch.randint(5, (count,), generator=random)]
    corner = corner + 6 * torch.rand(count, 2, generator=random)
    sides = 25 + 10 * torch.rand(count, 2, generator=random)
    scores = torch.rand(count, generator=random).clamp(min=0.05)
    phrase_ids = torch.randint(phrases, (count,), generator=random)
    order = scores.argsort(descending=True)
    return Detections(
        torch.cat([corner, corner + sides], dim=1)[order], scores[order], phrase_ids[order], SIZE
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threshold", [0.3, 0.6])
@pytest.mark.parametrize("seed", [1, 2])
def test_joined_as_the_slow_loop_says(method: str, threshold: float, seed: int) -> None:
    views = [crowded(10 * seed + number) for number in range(3)]
    joiner = Joiner(method=method, iou_threshold=threshold, sigma=0.4, limit=0)
    found = joiner(views, [2, 1])
    expected = joined_slowly(views, method, threshold, sigma=0.4)
    assert len(found) == len(expected) > 5
    assert found.phrase_ids.tolist() == [phrase for phrase, _, _ in expected]
    torch.testing.assert_close(found.scores, torch.tensor([score for _, score, _ in expected]))
    torch.testing.assert_close(found.boxes, torch.tensor([box for _, _, box in expected]))
    assert found.image_size == SIZE


@pytest.mark.parametrize("method", METHODS)
def test_the_limit_cuts_each_prompt_as_the_whole_would_be_cut(method: str) -> None:
    views = [crowded(number, phrases=4) for number in range(2)]
    whole = Joiner(method=method, limit=0)(views, [1, 3])
    cut = Joiner(method=method, limit=4)(views, [1, 3])
    for phrases in ((0,), (1, 2, 3)):
        rows = [row for row, phrase in enumerate(whole.phrase_ids.tolist()) if phrase in phrases][
            :4
        ]
        own = [row for row, phrase in enumerate(cut.phrase_ids.tolist()) if phrase in phrases]
        torch.testing.assert_close(cut.scores[own], whole.scores[rows])
        torch.testing.assert_close(cut.boxes[own], whole.boxes[rows])


def test_equals_of_the_last_one_are_all_reported() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]])
    tied = Detections(boxes, torch.tensor([0.9, 0.5, 0.5]), torch.zeros(3).long(), SIZE)
    for method in METHODS:
        assert len(Joiner(method=method, limit=2)([tied], [1])) == 3


def test_a_single_view_is_left_as_it_is() -> None:
    view = crowded(3)
    found = Joiner(limit=0)([view], [3])
    assert torch.equal(found.boxes, view.boxes)
    assert torch.equal(found.scores, view.scores)
    assert torch.equal(found.phrase_ids, view.phrase_ids)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_found(method: str) -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), SIZE)
    assert len(Joiner(method=method)([nothing, nothing], [2, 1])) == 0
    assert len(Joiner(method=method)([nothing, crowded(1, count=1)], [3])) == 1


def test_the_vote_of_two_boxes_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 11], [50, 50, 60, 60]])
    scores = torch.tensor([0.8, 0.6, 0.5])
    view = Detections(boxes, scores, torch.zeros(3).long(), SIZE)
    found = Joiner(method="vote", iou_threshold=0.5)([view], [1])
    weight = 0.6 * 100 / 120  # its score, by 10 x 10 pixels shared of 10 x 12
    bottom = (0.8 * 9 + weight * 11) / (0.8 + weight)
    torch.testing.assert_close(found.boxes[0], torch.tensor([0, 0, 9, bottom]))
    torch.testing.assert_close(found.scores, torch.tensor([0.8, 0.5]))


def test_a_threshold_of_one_leaves_every_box_its_own_vote() -> None:
    view = crowded(4)
    found = Joiner(method="vote", iou_threshold=1.0, limit=0)([view], [3])
    torch.testing.assert_close(found.boxes, view.boxes)


def test_a_box_whose_score_is_zero_stays_where_it_is() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [40, 40, 50, 50]])
    view = Detections(boxes, torch.tensor([0.5, 0.0]), torch.zeros(2).long(), SIZE)
    assert torch.equal(Joiner(method="vote")([view], [1]).boxes, boxes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "hard"}, "method must be one of none, vote"),
        ({"iou_threshold": 1.5}, "iou_threshold must lie in"),
        ({"sigma": 0.0}, "sigma must be above 0"),
    ],
)
def test_what_cannot_be_meant(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Joiner(**arguments)
