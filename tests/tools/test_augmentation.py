"""TEST.USE_MULTISCALE and TEST.SPECIAL_NMS through the evaluation tool."""

import json
from pathlib import Path

import pytest
from launched import launched
from test_evaluation_tool import (
    TOOL,
    assert_same_predictions,
    home,  # noqa: F401  a fixture
    predictions,
    results,
    run,
    words,
)

import test_grounding_net  # isort: skip

ONE = ("TEST.USE_MULTISCALE", "True", "TEST.SCALES", "(64,)", "TEST.MAX_SIZE", "96",
       "TEST.RANGES", "()", "TEST.FLIP", "False")  # fmt: skip
SEVERAL = ("TEST.USE_MULTISCALE", "True", "TEST.SCALES", "(48, 64)", "TEST.MAX_SIZE", "96",
           "TEST.RANGES", "((0, 60), (4, 1000))")  # fmt: skip
CHUNKED = ("TEST.CHUNKED_EVALUATION", "1")


def test_one_size_without_flip_is_the_plain_path(home: Path, tmp_path: Path) -> None:  # noqa: F811
    plain = run(home, tmp_path / "plain", *CHUNKED)
    found = run(home, tmp_path / "one", *CHUNKED, *ONE)
    assert predictions(tmp_path / "one") == predictions(tmp_path / "plain")  # to the last digit
    assert found["metrics"] == plain["metrics"]
    assert plain["protocol"]["augmentation"] is None
    assert found["protocol"]["augmentation"]["scales"] == [64]


@pytest.mark.parametrize("method", ["none", "vote", "soft-nms"])
def test_batches_and_chunks_with_several_views(
    home: Path,  # noqa: F811
    tmp_path: Path,
    method: str,
) -> None:
    more = (*SEVERAL, *CHUNKED, "TEST.SPECIAL_NMS", method)
    one = run(home, tmp_path / "one", *more, "TEST.IMS_PER_BATCH", "1")
    run(home, tmp_path / "four", *more, "TEST.IMS_PER_BATCH", "4")
    assert_same_predictions(predictions(tmp_path / "one"), predictions(tmp_path / "four"))
    assert one["timing"]["num_images"] == 14
    assert one["protocol"]["augmentation"] == {
        "joined_by": method,
        "iou_threshold": 0.6,
        "candidates_per_view": 1000,
        "scales": [48, 64],
        "longest_side": 96,
        "box_sides": [[0, 60], [4, 1000]],
        "flip": "except captions that say left or right",
    }


@pytest.mark.slow
def test_two_processes_give_the_answers_of_one(home: Path, tmp_path: Path) -> None:  # noqa: F811
    more = (*SEVERAL, *CHUNKED, "TEST.SPECIAL_NMS", "soft-vote", "TEST.IMS_PER_BATCH", "2")
    one = run(home, tmp_path / "one", *more)
    launched(TOOL, *words(home, tmp_path / "two", *more))
    both = results(tmp_path / "two")
    assert both["timing"]["num_processes"] == 2
    assert both["protocol"] == one["protocol"]
    assert both["metrics"] == pytest.approx(one["metrics"], abs=1e-4)
    first, second = (predictions(tmp_path / name) for name in ("one", "two"))
    assert_same_predictions(first, second)
    assert len({each["image_id"] for each in first}) == 14


def test_a_special_nms_works_on_the_one_size(home: Path, tmp_path: Path) -> None:  # noqa: F811
    plain = run(home, tmp_path / "plain")
    voted = run(home, tmp_path / "vote", "TEST.SPECIAL_NMS", "vote")
    assert voted["protocol"]["augmentation"]["joined_by"] == "vote"
    assert "scales" not in voted["protocol"]["augmentation"]
    first, second = (predictions(tmp_path / name) for name in ("plain", "vote"))
    assert [each["bbox"] for each in first] != [each["bbox"] for each in second]
    assert voted["num_images"] == plain["num_images"]


def test_the_journal_of_other_views_is_not_resumed(
    home: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    run(home, tmp_path, *ONE)
    assert test_grounding_net.main(words(home, tmp_path, *SEVERAL, "--resume")) == 2
    assert "augmentation.scales" in capsys.readouterr().err
    run(home, tmp_path, *ONE, "--resume")
    assert results(tmp_path)["timing"]["num_images"] == 0
    assert json.loads((tmp_path / "drawn" / "drawn" / "predictions.json").read_text())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["TEST.SCALES", "(64,)"], "TEST.RANGES"),
        (["TEST.SCALES", "()"], "expected one size or more"),
        (["TEST.MAX_SIZE", "500"], "TEST.MAX_SIZE"),
        (["TEST.SCALES", "(64,)", "TEST.RANGES", "((9, 3),)"], "0 <= from < to"),
        (["TEST.PRE_NMS_TOP_N", "50"], "more boxes are reported than enter"),
    ],
)
def test_what_a_user_gets_wrong(
    home: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    more: list[str],
    message: str,
) -> None:
    argv = words(home, tmp_path, "TEST.USE_MULTISCALE", "True", *more)
    assert test_grounding_net.main(argv) == 2
    assert message in capsys.readouterr().err
