"""Numbers of a run stand in the file once, whatever happened on the way."""

import json
import resource
import sys
from pathlib import Path

import pytest

from glipkit.engine.recorder import METRICS, Recorder


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_every_number_is_there_at_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "new", total_steps=4)
    recorder.log(2, {"loss/token": 0.5, "lr": 1e-4, "skipped_steps": 0})
    recorder.log(4, {"loss/token": float("nan"), "lr": float("inf")})
    recorder.evaluated(4, {"AP": 0.25, "APs": None})
    assert lines(tmp_path / "new") == [
        {"step": 2, "loss/token": 0.5, "lr": 1e-4, "skipped_steps": 0},
        {"step": 4, "loss/token": None, "lr": None},
        {"step": 4, "AP": 0.25, "APs": None},
    ]
    recorder.close()


def test_steps_that_are_made_again_are_cut(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(
        '{"step": 2, "lr": 1}\nnonsense\n{"step": 4, "lr": 1}\n{"step": 6, "lr": 1}\n{"step": 8, "l'
    )
    recorder = Recorder(tmp_path, total_steps=8, first_step=4)
    recorder.log(6, {"lr": 2.0})
    recorder.close()
    assert lines(tmp_path) == [{"step": 2, "lr": 1}, {"step": 4, "lr": 1}, {"step": 6, "lr": 2.0}]


@pytest.mark.parametrize("figure", ["AP", "R@1"])
def test_an_evaluation_that_is_made_again_replaces_the_first(tmp_path: Path, figure: str) -> None:
    first = Recorder(tmp_path, total_steps=8)
    first.log(4, {"lr": 1.0})
    first.evaluated(4, {figure: 0.5})
    first.close()
    again = Recorder(tmp_path, total_steps=8, first_step=4)
    again.evaluated(4, {figure: 0.5})
    again.evaluated(8, {figure: 0.6})
    again.close()
    assert lines(tmp_path) == [
        {"step": 4, "lr": 1.0}, {"step": 4, figure: 0.5}, {"step": 8, figure: 0.6}
    ]  # fmt: skip


def test_a_run_that_begins_anew_forgets_the_last_one(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 2, "lr": 1}\n')
    Recorder(tmp_path, total_steps=8).close()
    assert lines(tmp_path) == []


def test_the_bar_shows_losses_pace_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(tmp_path, total_steps=4, first_step=2, label="cats")
    for step in (3, 4):
        recorder.advance(step, 8, {"total": "1.25", "memory": "300M"})
    recorder.close()
    shown = capsys.readouterr().err
    assert "cats: 100%" in shown
    assert "4/4" in shown
    assert "total=1.25, memory=300M, images/s=" in shown


def test_other_ranks_are_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for where in (
        "glipkit.engine.recorder",
        "glipkit.runtime.progress",
        "glipkit.runtime.distributed",
    ):
        monkeypatch.setattr(f"{where}.is_main", lambda: False)
    recorder = Recorder(tmp_path / "run", total_steps=4, tensorboard_dir=tmp_path / "curves")
    recorder.log(1, {"lr": 1.0})
    recorder.evaluated(1, {"AP": 1.0})
    recorder.advance(1, 8, {})
    recorder.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    for first_step, values in ((0, (1.0, 2.0, 3.0)), (1, (5.0,))):
        recorder = Recorder(
            tmp_path, total_steps=3, first_step=first_step, tensorboard_dir=tmp_path / "curves"
        )
        for step, value in enumerate(values, start=first_step + 1):
            recorder.log(step, {"loss/token": value})
        recorder.evaluated(first_step + len(values), {"AP": 0.5, "APs": None})
        recorder.close()
    events = event_accumulator.EventAccumulator(str(tmp_path / "curves")).Reload()
    # Steps 2 and 3 of the first process are hidden: the second one went on from step 1.
    assert [(e.step, e.value) for e in events.Scalars("loss/token")] == [(1, 1.0), (2, 5.0)]
    assert [(e.step, e.value) for e in events.Scalars("validation/AP")] == [(2, 0.5)]


def test_without_tensorboard_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'glipkit\[tensorboard\]'"):
        Recorder(tmp_path, total_steps=1, tensorboard_dir=tmp_path / "curves")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, total_steps=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large; .*goes on from it: .*metrics\.jsonl"):
            recorder.log(1, {"lr": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    recorder.close()
