"""LVIS AP: by its definition, by the `lvis` package, in any order, and never half understood."""

import importlib
import json
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import federated
import numpy as np
import pytest
import torch
from reference.lvis_ap import lvis_ap

from glipkit.data.datasets.coco import load_coco
from glipkit.data.datasets.lvis import LvisDetection
from glipkit.evaluation import lvis_store
from glipkit.evaluation.coco import CocoEvaluator
from glipkit.evaluation.evaluator import MergingEvaluator
from glipkit.evaluation.lvis import LvisEvaluator
from glipkit.evaluation.results import class_table
from glipkit.structures.detections import Detections

PROTOCOLS = [{}, {"limit": 7}, {"normal_ap": True}, {"normal_ap": True, "limit": 9}]


def judge(
    dataset: LvisDetection, answers: dict[int, Detections], **protocol: object
) -> LvisEvaluator:
    evaluator = LvisEvaluator(dataset, [each.category_id for each in dataset.categories],
                              **protocol)  # fmt: skip
    for image_id, each in answers.items():
        evaluator.process(image_id, each)
    return evaluator


def draw(
    folder: Path, seed: int, *, flat: bool = False
) -> tuple[LvisDetection, dict[int, Detections]]:
    """A random dataset, and answers to it; `flat`: some objects and answers have no area."""
    path = federated.random_file(folder, seed)
    if flat:
        federated.flatten(path)
    dataset = federated.load(path)
    answers = federated.random_answers(dataset, seed)
    return dataset, federated.flat(answers) if flat else answers


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
@pytest.mark.parametrize(("seed", "flat"), [(0, False), (1, False), (2, True)])
def test_figures_are_those_of_the_definition(
    tmp_path: Path, seed: int, flat: bool, protocol: dict[str, object]
) -> None:
    dataset, answers = draw(tmp_path, seed, flat=flat)
    evaluator = judge(dataset, answers, **protocol)
    found = evaluator.evaluate().metrics
    content = json.loads(dataset.ann_file.read_text())
    expected = lvis_ap(content, list(evaluator.predictions()))
    assert 0.05 < expected["AP"] < 0.95
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


@pytest.fixture
def lvis(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """The package, without what it draws with, on a numpy that has forgotten np.float."""
    try:
        metadata.distribution("lvis")  # benchmarks/ has an lvis.py of its own
    except metadata.PackageNotFoundError:
        pytest.skip("needs the lvis package, which is not installed: pip install lvis --no-deps")
    for name in ("cv2", "matplotlib", "matplotlib.pyplot", "matplotlib.patches"):
        if name not in sys.modules:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["matplotlib.patches"], "Polygon", None, raising=False)
    monkeypatch.setattr(np, "float", float, raising=False)
    monkeypatch.delitem(sys.modules, "lvis", raising=False)
    yield importlib.import_module("lvis")
    for name in [each for each in sys.modules if each.split(".")[0] == "lvis"]:
        del sys.modules[name]


@pytest.mark.parametrize(("seed", "flat"), [(3, False), (4, False), (5, True)])
@pytest.mark.parametrize("normal_ap", [False, True])
def test_the_lvis_package_finds_the_same_in_the_written_file(
    tmp_path: Path, lvis: types.ModuleType, seed: int, flat: bool, normal_ap: bool
) -> None:
    dataset, answers = draw(tmp_path, seed, flat=flat)
    evaluator = judge(dataset, answers, normal_ap=normal_ap)
    truth = lvis.LVIS(str(dataset.ann_file))
    written = json.loads(json.dumps(list(evaluator.predictions())))
    theirs = lvis.LVISEval(
        truth, lvis.LVISResults(truth, written, max_dets=300 if normal_ap else -1), "bbox"
    )
    theirs.run()
    found = evaluator.evaluate().metrics
    for name, value in theirs.get_results().items():
        assert found[name.split("@")[0]] == pytest.approx(value, abs=1e-14), name


@pytest.mark.parametrize("protocol", PROTOCOLS[::2], ids=str)
def test_the_truth_gives_one(tmp_path: Path, protocol: dict[str, object]) -> None:
    dataset = federated.load(federated.random_file(tmp_path, 5))
    judgement = judge(dataset, federated.the_truth(dataset), **protocol).evaluate()
    assert judgement.metrics == {name: pytest.approx(1.0) for name in judgement.metrics}
    assert len(judgement.metrics) == 13


def assert_same(one: LvisEvaluator, other: LvisEvaluator) -> None:
    """Figures and predictions, to the last bit."""
    assert one.evaluate() == other.evaluate()
    assert list(one.predictions()) == list(other.predictions())


def shuffled(answers: dict[int, Detections], seed: int) -> dict[int, Detections]:
    random = np.random.default_rng(seed)
    ids = random.permutation(list(answers)).tolist()
    result = {}
    for image_id in ids:
        each = answers[image_id]
        order = torch.from_numpy(random.permutation(len(each.scores)))
        result[image_id] = replace(
            each, boxes=each.boxes[order], scores=each.scores[order],
            phrase_ids=each.phrase_ids[order],
        )  # fmt: skip
    return result


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_no_figure_depends_on_the_order_of_detections(
    tmp_path: Path, protocol: dict[str, object]
) -> None:
    dataset, answers = draw(tmp_path, 6)
    first = judge(dataset, answers, **protocol)
    assert_same(judge(dataset, shuffled(answers, 7), **protocol), first)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_no_figure_depends_on_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: dict[str, object]
) -> None:
    monkeypatch.setattr(lvis_store, "_WAITING", 100)  # shares are taken in pieces
    dataset, answers = draw(tmp_path, 8)
    alone = judge(dataset, answers, **protocol)
    ids = list(answers)
    parts = [judge(dataset, {each: answers[each] for each in ids[start::3]}, **protocol)
             for start in range(3)]  # fmt: skip
    assert isinstance(parts[0], MergingEvaluator)
    for part in parts[1:]:
        parts[0].merge(part.share())
    assert_same(parts[0], alone)
    with pytest.raises(ValueError, match="two processes judged the images"):
        parts[0].merge(parts[1].share())


# --- by hand ------------------------------------------------------------------------------------

BOX = [10.0, 20.0, 40.0, 40.0]
ELSEWHERE = [[200.0, 200.0, 240.0, 240.0]]


def answer(boxes: list[list[float]], scores: list[float], phrases: list[int]) -> Detections:
    return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(phrases),
                      federated.SIZE)  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, 1.0),  # nobody looked for the class in picture 2
        ({"neg_category_ids": [1]}, 0.5),  # somebody did, in vain
    ],
)
def test_a_box_counts_only_where_its_class_was_looked_for(
    tmp_path: Path, labels: dict, expected: float
) -> None:
    images = [{"id": 1}, {"id": 2, **labels}]
    boxes = [{"image_id": 1, "category_id": 1, "bbox": BOX}]
    dataset = federated.load(federated.write_lvis(tmp_path, images, boxes, 2))
    answers = {
        1: answer([[10, 20, 50, 60]], [0.5], [0]),
        2: answer(ELSEWHERE, [0.9], [0]),
    }
    judgement = judge(dataset, answers).evaluate()
    assert judgement.metrics["AP"] == pytest.approx(expected)
    assert judgement.per_class[1].value is None  # no box of it anywhere
    assert judgement.counts == {
        "pictures": 2, "boxes": 1, "classes": 2, "classes_with_boxes": 1
    }  # fmt: skip
    assert "1 of 2 classes have no box here and count in no mean" in judgement.table


@pytest.mark.parametrize(("partly", "expected"), [([], 0.5), ([1], 1.0)])
def test_more_boxes_than_labels_are_pardoned_where_labels_lack(
    tmp_path: Path, partly: list[int], expected: float
) -> None:
    images = [{"id": 1, "not_exhaustive_category_ids": partly}]
    boxes = [{"image_id": 1, "category_id": 1, "bbox": BOX}]
    dataset = federated.load(federated.write_lvis(tmp_path, images, boxes, 1))
    found = answer([*ELSEWHERE, [10, 20, 50, 60]], [0.9, 0.5], [0, 0])
    assert judge(dataset, {1: found}).evaluate().metrics["AP"] == pytest.approx(expected)


def test_export_counts_no_extra_pixel(tmp_path: Path) -> None:
    dataset = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], [], 3))
    evaluator = judge(dataset, {4: answer([[10, 20, 30.5, 60]], [0.1], [2])})
    assert list(evaluator.predictions()) == [
        {"image_id": 4, "category_id": 5, "bbox": [10.0, 20.0, 20.5, 40.0], "score": 0.1}
    ]
    assert len(evaluator.predictions()) == 1


def test_nothing_found_and_nothing_to_find(tmp_path: Path) -> None:
    boxes = [{"image_id": 4, "category_id": 1, "bbox": BOX}]
    full = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], boxes, 3))
    assert judge(full, {}).evaluate().metrics["AP"] == 0.0
    assert judge(full, {}).evaluate().metrics["APc"] is None
    empty = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], [], 3))
    judgement = judge(empty, {4: answer(ELSEWHERE, [0.9], [0])}).evaluate()
    assert set(judgement.metrics.values()) == {None}


def test_normal_ap_is_a_competition_of_classes(tmp_path: Path) -> None:
    boxes = [{"image_id": 4, "category_id": 1, "bbox": BOX}]
    dataset = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], boxes, 3))
    found = {4: answer([[10, 20, 50, 60], *ELSEWHERE * 3], [0.1, 0.5, 0.6, 0.7], [0, 1, 1, 2])}
    assert judge(dataset, found, limit=3).evaluate().metrics["AP"] == pytest.approx(1.0)
    assert judge(dataset, found, normal_ap=True, limit=3).evaluate().metrics["AP"] == 0.0


def test_a_protocol_says_what_it_is(tmp_path: Path) -> None:
    dataset = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], [], 3))
    fixed, normal = judge(dataset, {}), judge(dataset, {}, normal_ap=True)
    assert fixed.metric == "LVIS fixed AP (boxes; at most 10000 of a class over all pictures)"
    assert normal.metric == "LVIS normal AP (boxes; at most 300 of a picture)"
    assert fixed.metric in fixed.evaluate().table


# --- what is refused ----------------------------------------------------------------------------


def test_unknown_and_repeated_pictures(tmp_path: Path) -> None:
    dataset = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], [], 3))
    evaluator = judge(dataset, {4: answer(ELSEWHERE, [0.9], [0])})
    with pytest.raises(ValueError, match="no image with the id 5"):
        evaluator.process(5, answer(ELSEWHERE, [0.9], [0]))
    with pytest.raises(ValueError, match="image 4 was judged already"):
        evaluator.process(4, answer(ELSEWHERE, [0.9], [0]))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 5, 3], r"in another order: number 1 is 5 instead of 3 \('thing 1'\); expected .*1, 3"),
        ([1, 3], "the class list has 2 ids, of which 0 are not among the file's 3"),
        ([1, 3, 6], "the class list has 3 ids, of which 1 are not among"),
    ],
)
def test_other_class_lists(tmp_path: Path, ids: list[int], message: str) -> None:
    dataset = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], [], 3))
    with pytest.raises(ValueError, match=message):
        LvisEvaluator(dataset, ids)


def test_lvis_and_coco_are_not_judged_by_each_other(tmp_path: Path) -> None:
    path = federated.write_lvis(tmp_path, [{"id": 4}], [], 3)
    lvis = federated.load(path)
    with pytest.raises(ValueError, match=r'labelled like LVIS.*kind: "lvis"'):
        CocoEvaluator(lvis, [1, 3, 5])
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["neg_category_ids"]
    path.write_text(json.dumps(content))
    spec = federated.DatasetSpec("plain", path, tmp_path)
    with pytest.raises(ValueError, match=r'not read as an LVIS file.*kind: "lvis"'):
        LvisEvaluator(load_coco(spec), [1, 3, 5])


def test_a_table_of_a_thousand_classes_shows_its_ends(tmp_path: Path) -> None:
    boxes = [{"image_id": 4, "category_id": 1, "bbox": BOX}]
    dataset = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], boxes, 1000))
    few = class_table(judge(dataset, {}).evaluate().per_class)
    assert few.splitlines() == [
        " AP by class: the classes with boxes, of 1,000 (all are in results.json)",
        "  thing 0   0.000",
    ]
    boxes = [{"image_id": 4, "category_id": 2 * each + 1, "bbox": BOX} for each in range(1000)]
    dataset = federated.load(federated.write_lvis(tmp_path, [{"id": 4}], boxes, 1000))
    many = class_table(judge(dataset, federated.the_truth(dataset)).evaluate().per_class)
    assert "the best and worst classes, of 1,000" in many
    assert len(many.splitlines()) == 1 + 20
