"""Recall of phrases: by hand, and through the driver however the work is cut."""

import json
from pathlib import Path

import pytest
import torch
from captioned import (
    KnowingCaptions,
    answer,
    caption_test_set,
    draw_captions,
    record,
    write_captions,
)
from drawn import KnowingDetector, draw, make_test_set
from launched import launched
from tiny import tiny_glip

from glipkit.data.caption_test_set import CaptionTestSet
from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.captioned_pictures import load_captioned
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.overview import overview
from glipkit.evaluation.phrase_answers import first_hit, share_within
from glipkit.evaluation.phrase_recall import PhraseRecall
from glipkit.evaluation.pictures import save_pictures
from glipkit.evaluation.results import Results
from glipkit.evaluation.run import Detector, evaluate
from glipkit.modeling.multi_prompt import Detector as Prompted
from glipkit.modeling.postprocess import Postprocessor
from glipkit.structures.detections import Detections

SIZE = (40, 60)
TRUTH = [10.0, 10, 20, 30]


def rows(*boxes: list[float]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


def test_the_first_right_box() -> None:
    half, less = [10.0, 10, 20, 20], [10.0, 10, 20, 19.9]  # IoU 0.5 and a little less
    assert first_hit(rows(less, half, TRUTH), rows(TRUTH)) == 2
    assert first_hit(rows(less), rows(TRUTH)) is None
    assert first_hit(rows(less, TRUTH), rows([0, 0, 5, 5], TRUTH)) == 2  # any box of the phrase
    assert first_hit(rows(), rows(TRUTH)) is None
    assert first_hit(rows([0, 0, 0, 0]), rows(TRUTH)) is None


def test_boxes_are_measured_without_the_extra_pixel() -> None:
    wide, shifted = [0.0, 0, 3, 10], [1.0, 0, 4, 10]
    assert first_hit(rows(wide), rows(shifted)) == 1  # 0.5 exactly
    # 0.45; with + 1 pixel it would be 0.63.
    assert first_hit(rows([0.0, 0, 1, 1]), rows([0.0, 0, 2, 1.1])) is None


def test_share_of_phrases() -> None:
    hits = [1, 5, 6, None]
    assert [share_within(hits, count) for count in (1, 5, 10, None)] == [0.25, 0.5, 0.75, 0.75]
    assert share_within([], 1) is None


@pytest.fixture
def judge(tmp_path: Path) -> PhraseRecall:
    """Two captions of one picture; of the second caption, the first phrase has no box."""
    images = [
        record(7, "a.png", SIZE, "a dog"),
        {**record(9, "a.png", SIZE, "an owl and a dog"),
         "tokens_positive_eval": [[[0, 6]], [[11, 16]]]},
    ]  # fmt: skip
    boxes = [answer(1, 7, [10, 10, 10, 20], [[0, 5]]), answer(2, 9, [0, 0, 9, 9], [[11, 16]])]
    return PhraseRecall(load_captioned(write_captions(tmp_path, images, boxes)))


def test_the_box_around_all_boxes_of_a_phrase(tmp_path: Path) -> None:
    boxes = [answer(1, 7, [10, 10, 10, 10], [[0, 5]]), answer(2, 7, [30, 10, 10, 10], [[0, 5]])]
    spec = write_captions(tmp_path, [record(7, "a.png", SIZE, "a dog")], boxes)
    each, around = [10.0, 10, 20, 20], [10.0, 10, 40, 20]
    figures = {}
    for merged in (False, True):
        judge = PhraseRecall(load_captioned(spec, merged=merged))
        judge.process(7, found((0, 0.9, each), (0, 0.8, around)))
        judgement = judge.evaluate()
        figures[judge.metric.split('"')[1]] = [judgement.metrics[f"R@{n}"] for n in (1, 5)]
    assert figures == {"any": [1, 1], "merged": [0, 1]}
    assert "the box around all boxes of a phrase" in judgement.table


def test_types_count_a_phrase_each(tmp_path: Path) -> None:
    image = record(7, "a.png", SIZE, "a dog and a red ball")
    image |= {"tokens_positive_eval": [[[0, 5]], [[10, 20]]]}
    image |= {"phrase_types": [["animals", "other"], ["other"]]}
    boxes = [answer(1, 7, [10, 10, 10, 20], [[0, 5]]), answer(2, 7, [0, 0, 9, 9], [[10, 20]])]
    judge = PhraseRecall(load_captioned(write_captions(tmp_path, [image], boxes)))
    judge.process(7, found((0, 0.9, TRUTH)))
    judgement = judge.evaluate()
    assert [judgement.metrics[f"R@1{of}"] for of in ("", "/animals", "/other")] == [0.5, 1, 0.5]
    assert judgement.counts["phrases/other"] == 2
    assert [line.split() for line in judgement.table.splitlines()[2:]] == [
        ["all", *["0.500"] * 4, "2"], ["animals", *["1.000"] * 4, "1"],
        ["other", *["0.500"] * 4, "2"],
    ]  # fmt: skip


def test_a_type_that_only_some_phrases_have_is_shown(tmp_path: Path) -> None:
    image = record(7, "a.png", SIZE, "a dog and a red ball")
    image |= {"tokens_positive_eval": [[[0, 5]], [[10, 20]]]}
    boxes = [answer(1, 7, [10, 10, 10, 20], [[0, 5]]), answer(2, 7, [0, 0, 9, 9], [[10, 20]])]
    metrics = []
    for types in ([["animals"], []], [["animals"], ["animals"]]):
        spec = write_captions(tmp_path, [{**image, "phrase_types": types}], boxes)
        judge = PhraseRecall(load_captioned(spec))
        judge.process(7, found((0, 0.9, TRUTH)))
        metrics.append(judge.evaluate().metrics)
    assert (metrics[0]["R@1"], metrics[0]["R@1/animals"]) == (0.5, 1)
    assert set(metrics[1]) == {"R@1", "R@5", "R@10", "R@all"}  # the type of all of them


def test_equal_scores_are_judged_in_one_order(judge: PhraseRecall) -> None:
    other = [0.0, 0, 9, 9]
    judge.process(7, found((0, 0.5, TRUTH), (0, 0.5, other)))
    turned = PhraseRecall(judge.dataset)
    turned.process(7, found((0, 0.5, other), (0, 0.5, TRUTH)))
    assert turned.predictions() == judge.predictions()


def found(*entries: tuple[int, float, list[float]]) -> Detections:
    """Of (phrase, score, box)."""
    phrases, scores, boxes = zip(*entries) if entries else ((), (), ())
    return Detections(
        rows(*boxes).float(), torch.tensor(scores), torch.tensor(phrases).long(), SIZE
    )


def test_phrase_ids_run_over_the_captions_of_a_picture(judge: PhraseRecall) -> None:
    judge.process(
        7,
        found((2, 0.4, [0, 0, 9, 9]), (0, 0.9, TRUTH), (1, 0.8, TRUTH), (2, 0.5, TRUTH)),
    )
    assert judge.predictions() == [
        {"image_id": 7, "phrase": 0, "box": TRUTH, "score": 0.9},
        {"image_id": 9, "phrase": 0, "box": TRUTH, "score": 0.8},
        {"image_id": 9, "phrase": 1, "box": TRUTH, "score": 0.5},
        {"image_id": 9, "phrase": 1, "box": [0, 0, 9, 9], "score": 0.4},
    ]
    judgement = judge.evaluate()
    assert judgement.metrics == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0, "R@all": 1.0}
    assert judgement.counts == {  # the phrase without a box is not one
        "phrases": 2, "captions": 2, "phrases_without_box": 1, "captions_not_asked": 0
    }  # fmt: skip
    assert judgement.table.splitlines() == [
        " Recall of 2 phrases in 2 captions, any box of a phrase, IoU >= 0.50",
        "          R@1     R@5    R@10   R@all  phrases",
        "  all   0.500   1.000   1.000   1.000        2",
    ]


def test_a_picture_without_an_answer_is_missed(judge: PhraseRecall) -> None:
    assert judge.evaluate().metrics["R@10"] == 0
    judge.process(7, found())
    assert judge.evaluate().metrics["R@10"] == 0
    assert judge.predictions() == []


def test_what_nobody_can_judge(judge: PhraseRecall) -> None:
    with pytest.raises(
        ValueError, match=r"no image with the id 9; .*another file"
    ):  # a record, not a picture
        judge.process(9, found())
    with pytest.raises(ValueError, match="answer phrases 3 to 3, but 3 were asked"):
        judge.process(7, found((3, 0.5, TRUTH)))
    with pytest.raises(ValueError, match="not finite"):
        judge.process(7, found((0, float("nan"), TRUTH)))
    judge.process(7, found())
    with pytest.raises(ValueError, match="image 7 was judged already"):
        judge.process(7, found())


@pytest.fixture
def drawn(tmp_path: Path) -> CaptionTestSet:
    return caption_test_set(draw_captions(tmp_path / "data"))


def run(detector: Detector, test_set: CaptionTestSet, folder: Path, **options: object) -> Results:
    options = {"depends_on": {"weights": "abc"}, "batch_size": 4, **options}
    return evaluate(detector, test_set, build_evaluator(test_set), output_dir=folder, **options)


def written(folder: Path, name: str = "predictions") -> list | dict:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("listed", [True, False])
def test_truth_as_predictions_gives_one(tmp_path: Path, listed: bool) -> None:
    test_set = caption_test_set(draw_captions(tmp_path / "data", listed=listed))
    results = run(KnowingCaptions(test_set), test_set, tmp_path / "out")
    assert results.metrics == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "R@all": 1.0}
    file = written(tmp_path / "out", "results")
    assert file["protocol"]["metric"].startswith('phrase recall, "any" protocol')
    assert file["protocol"]["num_captions"] == 15
    assert file["counts"]["phrases"] == 30
    assert file["counts"]["captions"] == 15
    assert file["num_images"] == 8
    report = results.report()
    assert "captions: 8 images, 60 predictions" in report
    assert "Recall of 30 phrases in 15 captions" in report


class Shuffled:
    """The same answers in another order."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def __call__(self, *args: object) -> list[Detections]:
        answers = self.detector(*args)
        orders = [torch.randperm(len(each)) for each in answers]
        return [
            Detections(each.boxes[o], each.scores[o], each.phrase_ids[o], each.image_size)
            for each, o in zip(answers, orders)
        ]


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 64, "num_workers": 1}])
def test_figures_depend_neither_on_batches_nor_on_order(
    drawn: CaptionTestSet, tmp_path: Path, options: dict[str, int]
) -> None:
    detector = KnowingCaptions(drawn, mistakes=True)
    expected = run(detector, drawn, tmp_path / "one", batch_size=3)
    assert 0.05 < expected.metrics["R@1"] < expected.metrics["R@5"] <= 1
    again = run(Shuffled(detector), drawn, tmp_path / "other", **options)
    assert again.metrics == expected.metrics
    assert written(tmp_path / "other") == written(tmp_path / "one")


def test_interrupted_and_resumed(drawn: CaptionTestSet, tmp_path: Path) -> None:
    detector = KnowingCaptions(drawn, mistakes=True)
    expected = run(detector, drawn, tmp_path / "whole", batch_size=1)

    def interrupted(*args: object) -> list[Detections]:
        if len(detector.batch_sizes) == 3:
            raise KeyboardInterrupt
        return detector(*args)

    detector.batch_sizes.clear()
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, drawn, tmp_path / "cut", batch_size=1)
    resumed = run(detector, drawn, tmp_path / "cut", batch_size=1, resume=True)
    assert len(detector.batch_sizes) == len(drawn)
    assert resumed.metrics == expected.metrics
    assert written(tmp_path / "cut") == written(tmp_path / "whole")


def test_a_broken_picture_is_named_and_its_phrases_are_missed(
    drawn: CaptionTestSet, tmp_path: Path
) -> None:
    detector = KnowingCaptions(drawn)
    drawn.dataset.path(2).write_text("not a picture")  # three captions: 3 + 2 + 1 phrases
    results = run(detector, drawn, tmp_path / "out")
    assert [failure.path.name for failure in results.failures] == ["2.png"]
    assert results.metrics["R@1"] == pytest.approx(24 / 30)
    assert "1 of 8 images could not be read" in results.report()


def test_a_caption_is_drawn_with_its_phrases(drawn: CaptionTestSet, tmp_path: Path) -> None:
    detector = KnowingCaptions(drawn)
    run(detector, drawn, tmp_path)
    drawn.dataset.path(0).unlink()
    sheet = save_pictures(drawn, tmp_path, count=4)
    assert sheet == tmp_path / "pictures.png"
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["1_101.png", "1_108.png", "2_102.png"]
    assert save_pictures(drawn, tmp_path, count=0) is None


def test_captions_beside_classes(drawn: CaptionTestSet, tmp_path: Path) -> None:
    classes = make_test_set(draw(tmp_path / "classes"))
    results = {
        "a": run(KnowingCaptions(drawn), drawn, tmp_path / "a"),
        "b": run(KnowingDetector(classes), classes, tmp_path / "b"),
    }
    lines = overview(results).splitlines()
    assert lines[0].split() == ["AP", "AP50", "AP75", "R@1", "R@5", "R@10", "images", "unread"]
    assert lines[1].split() == ["a", *["1.000"] * 3, "8", "0"]
    assert lines[3].split() == ["mean", *["1.000"] * 6]
    assert overview({"a": results["a"]}).splitlines()[0].split()[0] == "R@1"


def test_real_model_alone_and_in_batches(drawn: CaptionTestSet, tmp_path: Path) -> None:
    found = []
    for batch_size in (1, 4):
        detector = Prompted(tiny_glip(), Postprocessor(score_threshold=0.001))
        found.append(run(detector.each, drawn, tmp_path / str(batch_size), batch_size=batch_size))
    alone, together = (written(tmp_path / name) for name in "14")
    assert len(alone) == len(together) > 100
    scores = [
        torch.tensor([each["score"] for each in each_list]) for each_list in (alone, together)
    ]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)
    assert found[0].metrics == found[1].metrics


TWO_PROCESSES = """
import sys
from pathlib import Path
from captioned import KnowingCaptions, caption_test_set
from glipkit.data.catalog import DatasetSpec
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.run import evaluate
from glipkit.runtime import distributed

folder = Path(sys.argv[1])
distributed.init()
spec = DatasetSpec("captions", folder / "captions.json", folder / "pictures", "grounding")
test_set = caption_test_set(spec)
detector = KnowingCaptions(test_set, mistakes=True)
evaluate(
    detector, test_set, build_evaluator(test_set), output_dir=Path(sys.argv[2]),
    depends_on={"weights": "abc"}, batch_size=2,
)
assert 0 < sum(detector.batch_sizes) < len(test_set)
distributed.shutdown()
"""


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(drawn: CaptionTestSet, tmp_path: Path) -> None:
    expected = run(KnowingCaptions(drawn, mistakes=True), drawn, tmp_path / "one")
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launched(script, tmp_path / "data", tmp_path / "two")
    assert written(tmp_path / "two") == written(tmp_path / "one")
    assert written(tmp_path / "two", "results")["metrics"] == expected.metrics


@pytest.mark.parametrize(
    ("annotations", "num_phrases"),
    [
        ("grounding_mini/mdetr_annotations/final_flickr_separateGT_train.json", 38),
        ("grounding_mini/mdetr_annotations/final_flickr_separateGT_val.json", 34),
        ("grounding_mini/mdetr_annotations/final_flickr_separateGT_test.json", 32),
    ],
)
def test_real_captions(
    shared_data: Path, tmp_path: Path, annotations: str, num_phrases: int
) -> None:
    images = shared_data / "grounding_mini" / "images"
    test_set = caption_test_set(DatasetSpec("real", shared_data / annotations, images, "grounding"))
    results = run(KnowingCaptions(test_set), test_set, tmp_path)
    assert results.failures == ()
    assert results.judgement.counts["phrases"] == num_phrases
    assert results.metrics["R@1"] == 1.0
