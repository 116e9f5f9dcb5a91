"""LVIS figures under weights, beside datasets in which pictures really are several times."""

import json
from pathlib import Path

import federated
import numpy as np
import pytest

from glipkit.data.datasets.lvis import LvisDetection
from glipkit.evaluation.evaluator import Judgement
from glipkit.evaluation.lvis import LvisEvaluator
from glipkit.evaluation.resampling import draws
from glipkit.evaluation.weighed_lvis import WeighedLvis
from glipkit.structures.detections import Detections


def judged(dataset: LvisDetection, answers: dict[int, Detections]) -> LvisEvaluator:
    evaluator = LvisEvaluator(dataset, [each.category_id for each in dataset.categories])
    for image_id, each in answers.items():
        evaluator.process(image_id, each)
    return evaluator


def check(found: tuple[np.ndarray, np.ndarray], row: int, expected: Judgement) -> None:
    for name, value in zip(WeighedLvis.names, found[0][row]):
        known = expected.metrics[name]
        assert value == pytest.approx(np.nan if known is None else known, abs=1e-12, nan_ok=True)
    values = [np.nan if each.value is None else each.value for each in expected.per_class]
    np.testing.assert_allclose(found[1][row], values, atol=1e-12)


def repeated(path: Path, folder: Path, weights: dict[int, int]) -> LvisDetection:
    """The dataset with each picture as often as its weight says, under new ids."""
    content = json.loads(path.read_text())
    for key, field in (("images", "id"), ("annotations", "image_id")):
        content[key] = [
            {**each, field: each[field] * 100 + copy}
            for each in content[key]
            for copy in range(weights[each[field]])
        ]
    for number, each in enumerate(content["annotations"], start=1):
        each["id"] = number
    folder.mkdir()
    (folder / "lvis.json").write_text(json.dumps(content))
    return federated.load(folder / "lvis.json")


@pytest.mark.parametrize(("seed", "flat"), [(0, False), (1, False), (2, True)])
def test_weights_are_copies_of_pictures(tmp_path: Path, seed: int, flat: bool) -> None:
    path = federated.random_file(tmp_path, seed)
    if flat:  # objects and boxes that have no area
        federated.flatten(path)
    dataset = federated.load(path)
    answers = {
        # Scores that no two boxes share: copies of a picture would else stand in another order.
        image_id: Detections(
            each.boxes, each.scores + 1e-4 * image_id + 1e-6 * each.boxes[:, 0],
            each.phrase_ids, each.image_size,
        )
        for image_id, each in federated.random_answers(dataset, seed).items()
    }  # fmt: skip
    answers = federated.flat(answers) if flat else answers
    evaluator = judged(dataset, answers)
    weighed = WeighedLvis(dataset, list(evaluator.predictions()))
    ones = np.ones((1, weighed.num_pictures), dtype=np.int64)
    check(weighed.figures(ones), 0, evaluator.evaluate())
    weights = next(draws(weighed.num_pictures, 3, seed=seed, at_once=3))
    found = weighed.figures(weights)
    ids = sorted(image.image_id for image in dataset.images)
    for row, drawn in enumerate(weights.tolist()):
        times = dict(zip(ids, drawn))
        copies = repeated(path, tmp_path / f"copies_{row}", times)
        again = {
            image_id * 100 + copy: each
            for image_id, each in answers.items()
            for copy in range(times[image_id])
        }
        check(found, row, judged(copies, again).evaluate())


def test_classes_of_another_file(tmp_path: Path) -> None:
    dataset = federated.load(federated.random_file(tmp_path, 0))
    image_id = dataset.images[0].image_id
    strange = {"image_id": image_id, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 0.5}
    with pytest.raises(ValueError, match="no class with the id 4"):
        WeighedLvis(dataset, [strange])
