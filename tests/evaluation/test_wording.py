"""Several wordings judged side by side, on answers that are known beforehand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from drawn import KnowingDetector, draw, make_test_set

from glipkit.config.load import load_config
from glipkit.data.datasets.lvis import load_lvis
from glipkit.data.test_set import ClassTestSet
from glipkit.data.wording_test_set import WordingRun, WordingTestSet, make_wording_test_set
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.overview import overview, write_summary
from glipkit.evaluation.results import Results
from glipkit.evaluation.run import evaluate
from glipkit.evaluation.wording import WordingEvaluator, best_run, run_folder
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch

GLIP_T = Path(__file__).parents[2] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
# run -> the classes (phrases) that its words find
FINDS = {"configured": (0,), "1": (0, 1), "2": (2,), "3": (0, 1)}


@pytest.fixture
def drawn(tmp_path: Path) -> ClassTestSet:
    return make_test_set(draw(tmp_path / "data"), chunk_size=2)


def runs_of(drawn: ClassTestSet, names: Sequence[str] = tuple(FINDS)) -> WordingTestSet:
    runs = [
        WordingRun(
            name=name,
            test_set=replace(
                drawn,
                captions=(f"{name} cat. dog", f"{name} owl"),
                prompts=tuple(
                    replace(prompt, token_ids=prompt.token_ids + 1000 * number)
                    for prompt in drawn.prompts
                ),
            ),
            said=tuple(
                {"prefix": f"{name} ", "name": word, "suffix": ""} for word in ("cat", "dog", "owl")
            ),
        )
        for number, name in enumerate(names)
    ]
    return make_wording_test_set(runs, {"file": "prompts.yaml", "sha256": "0"})


class Understanding:
    """Finds in each run the classes that `FINDS` says, where they are."""

    def __init__(self, drawn: ClassTestSet, finds: Sequence[Sequence[int]]) -> None:
        self.knowing = KnowingDetector(drawn)
        self.finds = finds
        self.calls = 0

    def __call__(
        self, images: ImageBatch, prompts: Sequence[Sequence], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        assert all(len(asked) == 2 * len(self.finds) for asked in prompts)
        self.calls += 1
        return [self.side_by_side(each) for each in self.knowing(images, prompts, sizes)]

    def side_by_side(self, truth: Detections) -> Detections:
        parts = []
        for run, found in enumerate(self.finds):
            kept = torch.isin(truth.phrase_ids, torch.tensor(found))
            ids = truth.phrase_ids[kept] + 3 * run
            parts.append((truth.boxes[kept], truth.scores[kept], ids))
        boxes, scores, ids = (torch.cat(each) for each in zip(*parts))
        mixed = scores.argsort(descending=True, stable=True)  # as a detector reports them
        return Detections(boxes[mixed], scores[mixed], ids[mixed], truth.image_size)


def run(test_set: WordingTestSet, detector: object, folder: Path, **options: object) -> Results:
    evaluator = build_evaluator(test_set)
    results = evaluate(
        *(detector, test_set, evaluator),
        **{"output_dir": folder, "depends_on": {"weights": "abc"}, "batch_size": 4, **options},
    )
    assert isinstance(evaluator, WordingEvaluator)
    evaluator.write(folder, results, {run.name: {} for run in test_set.runs})
    return results


def test_best_mean_spread_and_bound(drawn: ClassTestSet, tmp_path: Path) -> None:
    results = run(runs_of(drawn), Understanding(drawn, list(FINDS.values())), tmp_path / "out")
    third = 1 / 3  # of the classes
    expected = {
        "best_AP": 2 * third,
        "mean_AP": 5 / 9,
        "deviation_AP": (3 * (1 / 9) ** 2 + (1 / 9) ** 2 * 3) ** 0.5 / 2**0.5,
        "lowest_AP": third,
        "configured_AP": third,
        "upper_bound_AP": 1.0,
    }
    assert results.metrics == pytest.approx(expected)
    details = json.loads((tmp_path / "out" / "results.json").read_text())["details"]
    assert details["best"] == best_run(tmp_path / "out") == "1"  # the first of equals
    assert "chosen on these very pictures" in details["chosen_on_the_same_pictures"]
    assert details["runs"][2]["said"] == ["2 cat", "2 dog", "2 owl"]
    assert [each["name"] for each in details["classes"]] == ["cat", "dog", "owl"]
    assert details["runs"][2]["metrics"]["AP"] == pytest.approx(third)
    owl = details["classes"][2]
    assert (owl["configured"], owl["best"], owl["said_best"]) == (0.0, "2", "2 owl")
    assert owl["runs"] == pytest.approx({"1": 0.0, "2": 1.0, "3": 0.0})


def test_the_table_says_what_was_chosen_and_how(drawn: ClassTestSet, tmp_path: Path) -> None:
    results = run(runs_of(drawn), Understanding(drawn, list(FINDS.values())), tmp_path)
    report = results.report()
    assert "3 wordings: run i asks alternative i of every class" in report
    assert " *1 " in report
    assert "best 0.667 (run 1), mean 0.556, deviation 0.192, lowest 0.333; as configured 0.333" in (
        report
    )
    assert "upper bound 1.000 (the mean over classes of each class's best run" in report
    assert "chosen on these very pictures" in report
    assert "2 owl" in report


def test_each_run_is_left_as_if_evaluated_alone(drawn: ClassTestSet, tmp_path: Path) -> None:
    test_set = runs_of(drawn)
    run(test_set, Understanding(drawn, list(FINDS.values())), tmp_path / "all")
    for name, finds in FINDS.items():
        alone = next(each.test_set for each in test_set.runs if each.name == name)
        evaluate(
            Understanding(drawn, [finds]),
            alone,
            build_evaluator(alone),
            output_dir=tmp_path / name,
            depends_on={"weights": "abc"},
            batch_size=4,
        )
        ours, its = tmp_path / "all" / f"wording_{name}", tmp_path / name
        for file in ("predictions.json", "results.json"):
            first, second = (json.loads((place / file).read_text()) for place in (ours, its))
            if file == "results.json":
                for each in (first, second):
                    del each["timing"]
            assert first == second
    whole = json.loads((tmp_path / "all" / "predictions.json").read_text())
    assert whole == json.loads((tmp_path / "1" / "predictions.json").read_text())


def test_what_several_runs_ask_is_asked_once(drawn: ClassTestSet, tmp_path: Path) -> None:
    said = runs_of(drawn).runs[0].said
    other = replace(drawn, prompts=(replace(drawn.prompts[0], token_ids=torch.tensor([1, 2, 3])),
                                    drawn.prompts[1]))  # fmt: skip
    test_sets = {"configured": drawn, "1": drawn, "2": other}
    test_set = make_wording_test_set(
        [WordingRun(name=name, test_set=each, said=said) for name, each in test_sets.items()], {}
    )
    assert len(test_set.prompts) == len(test_set.captions) == 3
    assert [test_set.phrases_of(run) for run in test_set.runs] == [
        *([range(2), range(2, 3)], [range(2), range(2, 3)], [range(3, 5), range(2, 3)])
    ]
    knowing = Understanding(drawn, [(0, 1, 2)])  # knows the first two prompts, not the third

    def detector(images: ImageBatch, prompts: Sequence[Sequence], sizes: Sequence) -> list:
        return knowing(images, [asked[:2] for asked in prompts], sizes)

    results = run(test_set, detector, tmp_path)
    assert results.metrics["configured_AP"] == results.metrics["best_AP"] == pytest.approx(1.0)
    assert results.metrics["lowest_AP"] == pytest.approx(1 / 3)  # the owl, asked by all


def test_two_classes_with_the_same_words_have_the_same_answers(tmp_path: Path) -> None:
    twins = make_test_set(draw(tmp_path), chunk_size=1)
    said = ({"prefix": "", "name": "thing", "suffix": ""},) * 3
    run = WordingRun(name="1", test_set=twins, said=said)
    test_set = make_wording_test_set([run, run], {})
    assert len(test_set.prompts) == 1
    evaluator = build_evaluator(test_set)
    record = twins.dataset.images[1]
    boxes = torch.tensor([[1.0, 2, 9, 9], [3, 4, 9, 9]])
    answer = Detections(boxes, torch.tensor([0.9, 0.5]), torch.tensor([0, 0]), record.size)
    evaluator.process(record.image_id, answer)
    found = [(each["category_id"], each["score"]) for each in evaluator.predictions()]
    assert found == [(3, 0.9), (7, 0.9), (11, 0.9), (3, 0.5), (7, 0.5), (11, 0.5)]


def test_lvis_files_have_runs_too(tmp_path: Path) -> None:
    spec = replace(draw(tmp_path / "data"), kind="lvis")
    content = json.loads(spec.ann_file.read_text())
    for image in content["images"]:
        image |= {"neg_category_ids": [11], "not_exhaustive_category_ids": []}
    for category, frequency in zip(content["categories"], "rcf"):
        category["frequency"] = frequency
    spec.ann_file.write_text(json.dumps(content))
    labelled = replace(make_test_set(spec, chunk_size=2), dataset=load_lvis(spec))
    test_set = runs_of(labelled, ("configured", "1", "2"))
    results = run(test_set, Understanding(labelled, [(0,), (0, 1), (2,)]), tmp_path / "all")
    assert results.metrics["upper_bound_AP"] > results.metrics["best_AP"] > 0.2
    assert "APr" in results.report()
    alone = test_set.runs[1].test_set
    expected = evaluate(
        *(Understanding(labelled, [(0, 1)]), alone, build_evaluator(alone)),
        **{"output_dir": tmp_path / "alone", "depends_on": {"weights": "abc"}},
    )
    ours = json.loads((tmp_path / "all" / "wording_1" / "results.json").read_text())
    assert ours["metrics"] == pytest.approx(expected.metrics, nan_ok=True)
    assert ours["protocol"] == json.loads(json.dumps(expected.depends_on))


def test_the_best_words_fit_into_a_task_file(drawn: ClassTestSet, tmp_path: Path) -> None:
    run(runs_of(drawn), Understanding(drawn, list(FINDS.values())), tmp_path)
    words = yaml.safe_load((tmp_path / "best_words.yaml").read_text())["DATASETS"]
    assert words["USE_CAPTION_PROMPT"] is True
    assert words["CAPTION_PROMPT"][2] == {"prefix": "1 ", "name": "owl", "suffix": ""}
    cfg = load_config([GLIP_T, tmp_path / "best_words.yaml"])
    assert cfg.DATASETS.USE_CAPTION_PROMPT
    assert tuple(words["CAPTION_PROMPT"]) == cfg.DATASETS.CAPTION_PROMPT


def test_several_tasks_have_an_overview(drawn: ClassTestSet, tmp_path: Path) -> None:
    test_set, finds = runs_of(drawn), list(FINDS.values())
    results = {name: run(test_set, Understanding(drawn, finds), tmp_path / name) for name in "ab"}
    head, *lines = overview(results).splitlines()
    assert head.split() == ["best_AP", "mean_AP", "configured_AP", "images", "unread"]
    assert lines[0].split() == ["a", "0.667", "0.556", "0.333", str(len(drawn)), "0"]
    assert lines[2].split() == ["mean", "0.667", "0.556", "0.333"]
    assert head.index("images") - 2 == len(lines[2])
    write_summary(tmp_path, results)
    mean = json.loads((tmp_path / "summary.json").read_text())["mean"]
    assert mean["best_AP"] == pytest.approx(2 / 3)


def test_runs_of_an_earlier_evaluation_are_named(
    drawn: ClassTestSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(runs_of(drawn), Understanding(drawn, list(FINDS.values())), tmp_path)
    assert "earlier" not in caplog.text
    run(runs_of(drawn, ("configured", "1")), Understanding(drawn, [(0,), (0, 1)]), tmp_path)
    assert "wording_2, wording_3 are from an earlier evaluation" in caplog.text


def test_what_was_drawn_of_a_run_goes_with_its_results(drawn: ClassTestSet, tmp_path: Path) -> None:
    finds = list(FINDS.values())
    run(runs_of(drawn), Understanding(drawn, finds), tmp_path)
    report = run_folder(tmp_path, best_run(tmp_path)) / "report.html"
    report.write_text("<p>AP</p>")
    run(runs_of(drawn), Understanding(drawn, finds), tmp_path)
    assert report.exists()
    others = {"depends_on": {"weights": "def"}}
    run(runs_of(drawn), Understanding(drawn, finds), tmp_path, **others)
    assert not report.exists()


def test_an_interrupted_evaluation_goes_on(drawn: ClassTestSet, tmp_path: Path) -> None:
    test_set, finds = runs_of(drawn), list(FINDS.values())
    whole = run(test_set, Understanding(drawn, finds), tmp_path / "whole")

    class Interrupted(Understanding):
        def __call__(self, *args: object) -> list[Detections]:
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(*args)

    with pytest.raises(KeyboardInterrupt):
        run(test_set, Interrupted(drawn, finds), tmp_path / "cut")
    again = Understanding(drawn, finds)
    resumed = run(test_set, again, tmp_path / "cut", resume=True)
    assert resumed.metrics == whole.metrics
    assert 0 < resumed.timing.num_images < len(drawn)
    with pytest.raises(ValueError, match="belongs to another evaluation"):
        run(runs_of(drawn, ("configured", "1", "2", "4")), again, tmp_path / "cut", resume=True)


def test_one_wording_has_no_deviation(drawn: ClassTestSet, tmp_path: Path) -> None:
    test_set = runs_of(drawn, ("configured", "1"))
    results = run(test_set, Understanding(drawn, [(0,), (0, 1)]), tmp_path)
    assert "deviation_AP" not in results.metrics
    assert "deviation n/a" in results.report()
    assert "no box to measure" not in results.report()


def test_without_ground_truth_nothing_is_measured(tmp_path: Path) -> None:
    spec = draw(tmp_path / "data", num_images=1)  # the first picture has no box
    drawn = make_test_set(spec, chunk_size=2)
    results = run(runs_of(drawn), Understanding(drawn, list(FINDS.values())), tmp_path / "out")
    assert set(results.metrics.values()) == {None}
    assert "there is no box to measure it on" in results.report()


def test_answers_to_a_question_nobody_asked_are_refused(drawn: ClassTestSet) -> None:
    evaluator = build_evaluator(runs_of(drawn))
    found = Detections(torch.zeros(1, 4), torch.ones(1), torch.tensor([12]), (8, 8))
    with pytest.raises(ValueError, match="but 12 were asked"):
        evaluator.process(1000, found)


def test_shares_of_several_processes_are_merged(drawn: ClassTestSet) -> None:
    understanding = Understanding(drawn, list(FINDS.values()))
    images = drawn.dataset.images
    answers = {
        image.image_id: understanding.side_by_side(truth)
        for image, truth in zip(images, understanding.knowing._answers.values())
    }
    whole, first, second = (build_evaluator(runs_of(drawn)) for _ in range(3))
    for place, (image_id, found) in enumerate(answers.items()):
        whole.process(image_id, found)
        (first, second)[place % 2].process(image_id, found)
    first.merge(second.share())
    assert first.evaluate().metrics == whole.evaluate().metrics
    assert list(first.predictions()) == list(whole.predictions())
