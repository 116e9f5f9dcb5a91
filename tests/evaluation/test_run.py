"""The driver: the same numbers however the work is cut, and nothing lost on the way."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from drawn import KnowingDetector, draw, make_test_set
from launched import launched
from PIL import Image

from glipkit.data.catalog import DatasetSpec
from glipkit.data.images import ImageError
from glipkit.data.test_set import TestSet
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.drawn import save_drawn
from glipkit.evaluation.journal import JournalError
from glipkit.evaluation.results import Results
from glipkit.evaluation.run import Detector, NothingReadError, evaluate

PINS = {"weights": "abc"}


@pytest.fixture
def drawn(tmp_path: Path) -> TestSet:
    return make_test_set(draw(tmp_path / "data"))


def run(detector: Detector, test_set: TestSet, folder: Path, **options: object) -> Results:
    options = {"depends_on": PINS, "batch_size": 4, **options}
    return evaluate(detector, test_set, build_evaluator(test_set), output_dir=folder, **options)


def predictions(folder: Path) -> list[dict]:
    return json.loads((folder / "predictions.json").read_text())


def test_perfect_answers_give_one(drawn: TestSet, tmp_path: Path) -> None:
    results = run(KnowingDetector(drawn), drawn, tmp_path / "out")
    assert results.metrics["AP"] == pytest.approx(1.0)
    assert results.metrics["AR100"] == pytest.approx(1.0)
    assert {figure.name for figure in results.judgement.per_class} == {"cat", "dog", "owl"}


def test_results_file_states_what_it_depends_on(drawn: TestSet, tmp_path: Path) -> None:
    run(KnowingDetector(drawn), drawn, tmp_path, settings={"TEST": {"SUBSET": -1}})
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["metrics"]["AP"] == pytest.approx(1.0)
    assert written["protocol"]["weights"] == "abc"
    assert written["protocol"]["annotations_sha256"] == drawn.dataset.digest
    assert written["config"] == {"TEST": {"SUBSET": -1}}
    assert written["num_images"] == 20
    assert written["versions"]["torch"]
    assert written["timing"]["seconds_per_image"] > 0


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (4, 2), (64, 0)])
def test_numbers_do_not_depend_on_batches_or_workers(
    drawn: TestSet, tmp_path: Path, batch_size: int, num_workers: int
) -> None:
    detector = KnowingDetector(drawn, mistakes=True)
    expected = run(detector, drawn, tmp_path / "one", batch_size=3)
    found = run(detector, drawn, tmp_path / "other", batch_size=batch_size, num_workers=num_workers)
    assert 0.05 < expected.metrics["AP"] < 0.95
    assert found.metrics == expected.metrics
    assert predictions(tmp_path / "other") == predictions(tmp_path / "one")


def test_batches_are_really_filled(drawn: TestSet, tmp_path: Path) -> None:
    detector = KnowingDetector(drawn)
    run(detector, drawn, tmp_path, batch_size=4)
    assert sum(detector.batch_sizes) == 20
    assert max(detector.batch_sizes) == 4


def test_numbers_do_not_depend_on_chunks(drawn: TestSet, tmp_path: Path) -> None:
    chunked = make_test_set(draw(tmp_path / "data"), chunk_size=2)
    assert len(chunked.prompts) == 2
    whole = run(KnowingDetector(drawn, mistakes=True), drawn, tmp_path / "a")
    parts = run(KnowingDetector(chunked, mistakes=True), chunked, tmp_path / "b")
    assert parts.metrics == whole.metrics


class Interrupted:
    """A detector during whose third batch the user presses Ctrl-C."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.calls = 0

    def __call__(self, *args: object) -> object:
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return self.detector(*args)


def test_interruption_loses_nothing(
    drawn: TestSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector = KnowingDetector(drawn, mistakes=True)
    expected = run(detector, drawn, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(detector), drawn, tmp_path / "cut", num_workers=1)
    assert "--resume" in caplog.text
    assert not (tmp_path / "cut" / "results.json").exists()

    with (tmp_path / "cut" / "journal-0.jsonl").open("a") as file:
        file.write('{"image_id": 1000, "box')  # what a dying process may leave
    detector.batch_sizes.clear()
    resumed = run(detector, drawn, tmp_path / "cut", resume=True)
    assert sum(detector.batch_sizes) == 20 - 8
    assert resumed.metrics == expected.metrics
    assert predictions(tmp_path / "cut") == predictions(tmp_path / "whole")

    detector.batch_sizes.clear()  # a finished evaluation resumes without the model
    again = run(detector, drawn, tmp_path / "cut", resume=True)
    assert detector.batch_sizes == []
    assert again.metrics == expected.metrics
    assert again.timing.seconds_per_image is None


def test_without_resume_a_journal_is_replaced(drawn: TestSet, tmp_path: Path) -> None:
    detector = KnowingDetector(drawn)
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(detector), drawn, tmp_path)
    detector.batch_sizes.clear()
    run(detector, drawn, tmp_path)
    assert sum(detector.batch_sizes) == 20


def make_drawn(folder: Path) -> list[Path]:
    """A report and pictures, as if they had been asked for."""
    ours = [folder / "report.html", folder / "pictures.png", folder / "pictures" / "0_1.png"]
    ours[0].write_text("<p>AP</p>")
    for path in ours[1:]:
        save_drawn(Image.new("RGB", (8, 8)), path)
    return ours


def test_what_was_drawn_goes_with_its_results(drawn: TestSet, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run(KnowingDetector(drawn), drawn, folder)
    ours = make_drawn(folder)
    own = folder / "pictures" / "holiday_2.png"
    Image.new("RGB", (8, 8)).save(own)
    run(KnowingDetector(drawn), drawn, folder, resume=True)
    run(KnowingDetector(drawn), drawn, folder)
    assert all(path.exists() for path in ours)  # the same answers
    other = KnowingDetector(drawn, mistakes=True)
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(other), drawn, folder, depends_on={"weights": "def"})
    run(other, drawn, folder, depends_on={"weights": "def"}, resume=True)
    assert not any(path.exists() for path in ours)
    assert own.exists()


def test_pictures_that_came_back_change_what_was_drawn(drawn: TestSet, tmp_path: Path) -> None:
    folder, picture = tmp_path / "out", drawn.dataset.path(2)
    content = picture.read_bytes()
    detector = KnowingDetector(drawn)
    picture.write_bytes(b"")
    run(detector, drawn, folder)
    ours = make_drawn(folder)
    picture.write_bytes(content)
    run(detector, drawn, folder, resume=True)
    assert not any(path.exists() for path in ours)


def test_resume_refuses_other_weights(drawn: TestSet, tmp_path: Path) -> None:
    detector = KnowingDetector(drawn)
    run(detector, drawn, tmp_path)
    with pytest.raises(JournalError, match='weights: then "abc", now "def"'):
        run(detector, drawn, tmp_path, resume=True, depends_on={"weights": "def"})


def test_only_what_fits_is_gone_on_with_if_so_asked(
    drawn: TestSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector = KnowingDetector(drawn, mistakes=True)

    def asked(**more: object) -> int:
        detector.batch_sizes.clear()
        found = run(detector, drawn, tmp_path / "out", resume=None, **more)
        assert found.metrics == expected.metrics
        return sum(detector.batch_sizes)

    expected = run(detector, drawn, tmp_path / "whole")
    caplog.set_level("INFO")
    assert asked() == 20  # nothing was there
    assert "going on from" not in caplog.text
    assert asked() == 0
    assert "going on from 20 images" in caplog.text
    assert asked(depends_on={"weights": "def"}) == 20
    assert asked(depends_on={"weights": "def"}) == 0
    journal = tmp_path / "out" / "journal-0.jsonl"
    journal.write_text(journal.read_text().replace("scores", "votes", 7))
    assert asked(depends_on={"weights": "def"}) == 20  # damaged


def test_resume_refuses_other_data(drawn: TestSet, tmp_path: Path) -> None:
    run(KnowingDetector(drawn), drawn, tmp_path)
    smaller = replace(drawn, dataset=drawn.dataset.first(5))
    with pytest.raises(JournalError, match="num_images: then 20, now 5"):
        run(KnowingDetector(smaller), smaller, tmp_path, resume=True)


def test_broken_pictures_are_named_counted_and_survived(
    drawn: TestSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector = KnowingDetector(drawn)
    folder = drawn.dataset.img_dir
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:300])
    (folder / "7.png").unlink()
    (folder / "8.png").write_text("not a picture")
    results = run(detector, drawn, tmp_path / "out", num_workers=2)
    assert sorted(failure.path.name for failure in results.failures) == ["4.png", "7.png", "8.png"]
    assert results.num_images == 20
    assert 0 < results.metrics["AP"] < 1  # their boxes count as missed
    assert "3 of 20 images could not be read" in results.report()
    assert str(folder / "7.png") in caplog.text
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(written["failures"]) == 3


def test_strict_stops_at_the_first_broken_picture(drawn: TestSet, tmp_path: Path) -> None:
    path = drawn.dataset.img_dir / "4.png"
    detector = KnowingDetector(drawn)
    path.unlink()
    with pytest.raises(ImageError, match=r"4\.png: no such file"):
        run(detector, drawn, tmp_path / "out", strict=True)


def test_nothing_readable_is_an_error(drawn: TestSet, tmp_path: Path) -> None:
    for path in drawn.dataset.img_dir.iterdir():
        path.unlink()
    with pytest.raises(NothingReadError, match="not one image of drawn could be read"):
        run(KnowingDetector(drawn), drawn, tmp_path / "out")


def test_detector_must_answer_every_picture(drawn: TestSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="answered 0 times for 4 images"):
        run(lambda *_: [], drawn, tmp_path)


def test_subset_judges_only_itself(drawn: TestSet, tmp_path: Path) -> None:
    subset = replace(drawn, dataset=drawn.dataset.first(7))
    results = run(KnowingDetector(subset), subset, tmp_path)
    assert results.num_images == 7
    assert results.metrics["AP"] == pytest.approx(1.0)


TWO_PROCESSES = """
import sys
from pathlib import Path
from drawn import KnowingDetector, draw, make_test_set
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.drawn import save_drawn
from glipkit.evaluation.run import evaluate
from glipkit.runtime import distributed
from glipkit.data.catalog import DatasetSpec

folder = Path(sys.argv[1])
distributed.init()
test_set = make_test_set(DatasetSpec("drawn", folder / "boxes.json", folder / "pictures"))
detector = KnowingDetector(test_set, mistakes=True)
results = evaluate(
    detector, test_set, build_evaluator(test_set), output_dir=Path(sys.argv[2]),
    depends_on={"weights": "abc"}, batch_size=2, resume="--resume" in sys.argv,
)
assert results.num_images == len(test_set)  # every rank knows
assert sum(detector.batch_sizes) < len(test_set)
distributed.shutdown()
"""


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    drawn = make_test_set(draw(tmp_path / "data", num_images=19))  # odd on purpose
    detector = KnowingDetector(drawn, mistakes=True)
    expected = run(detector, drawn, tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(detector), drawn, tmp_path / "cut")

    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launched(script, tmp_path / "data", tmp_path / "two")
    launched(script, tmp_path / "data", tmp_path / "cut", "--resume")
    for folder in ("two", "cut"):
        assert predictions(tmp_path / folder) == predictions(tmp_path / "one")
        written = json.loads((tmp_path / folder / "results.json").read_text())
        assert written["metrics"] == expected.metrics
        assert written["timing"]["num_processes"] == 2


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        ("raccoon/test/_annotations.coco.json", "raccoon/test"),
        ("coco_mini/annotations/instances_val.json", "coco_mini/val"),
    ],
)
def test_real_pictures(shared_data: Path, tmp_path: Path, annotations: str, pictures: str) -> None:
    spec = DatasetSpec("real", shared_data / annotations, shared_data / pictures)
    test_set = make_test_set(spec, chunk_size=40, min_size=64)
    results = run(KnowingDetector(test_set), test_set, tmp_path, batch_size=8)
    assert results.failures == ()
    assert results.metrics["AP"] == pytest.approx(1.0)
    assert results.num_images == len(test_set.dataset.images)
