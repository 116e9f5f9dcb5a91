"""A folder belongs to one run, which goes on when its command is given again."""

import json
import logging
from pathlib import Path

import pytest

from glipkit.engine.run_folder import RunFolder
from glipkit.engine.state_file import LAST, PREVIOUS, write_state

SETTINGS = {"SOLVER": {"BASE_LR": 0.1, "STEPS": (0.5, 0.9)}, "OUTPUT_DIR": "a", "--weight": "b.pth"}


def changed(**solver: object) -> dict[str, object]:
    return {**SETTINGS, "SOLVER": {**SETTINGS["SOLVER"], **solver}}


def begin(path: Path, *, states: int = 1) -> None:
    """A run that was killed after so many saves."""
    with RunFolder.open(path, SETTINGS) as folder:
        assert folder.status == "fresh"
        for step in range(states):
            write_state(path, {"step": step})


def test_the_same_command_goes_on_and_ends(tmp_path: Path) -> None:
    begin(tmp_path, states=2)
    (tmp_path / ".last.pt.99.tmp").write_text("half a st")
    with RunFolder.open(tmp_path, SETTINGS) as folder:
        assert folder.status == "resumes"
        assert not (tmp_path / ".last.pt.99.tmp").exists()
        folder.finish()
        assert not (tmp_path / PREVIOUS).exists()
        assert (tmp_path / LAST).exists()
    with RunFolder.open(tmp_path, SETTINGS) as folder:
        assert folder.status == "finished"
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["settings"]["SOLVER.STEPS"] == [0.5, 0.9]
    assert len(run["starts"]) == 2
    assert {"time", "command", "host", "versions", "processes"} <= run["starts"][0].keys()


def test_a_run_that_saved_nothing_holds_nobody_up(tmp_path: Path) -> None:
    begin(tmp_path, states=0)
    with RunFolder.open(tmp_path, changed(BASE_LR=0.2)) as folder:
        assert folder.status == "fresh"


def test_a_state_removed_to_save_room_costs_no_weights(tmp_path: Path) -> None:
    begin(tmp_path)
    weights = tmp_path / "model_final.safetensors"
    weights.write_bytes(b"learnt")
    with RunFolder.open(tmp_path, SETTINGS) as folder:
        folder.finish()
    (tmp_path / LAST).unlink()
    with RunFolder.open(tmp_path, {**SETTINGS, "OUTPUT_DIR": "moved"}) as folder:
        assert folder.status == "finished"
    before = (tmp_path / "run.json").read_text()
    for allowed in (False, True):
        with pytest.raises(
            ValueError, match=r"of another run \(model_final.*SOLVER\.BASE_LR.*--weight"
        ):
            RunFolder.open(tmp_path, changed(BASE_LR=0.2), allow_changes=allowed)
    assert (tmp_path / "run.json").read_text() == before
    (tmp_path / "run.json").write_text(before.replace("finished", "running"))
    with RunFolder.open(tmp_path, SETTINGS) as folder:  # killed before it saved a state
        assert folder.status == "fresh"


def test_other_settings_are_named_and_refused(tmp_path: Path) -> None:
    begin(tmp_path)
    with pytest.raises(ValueError, match="holds a run with other settings") as caught:
        RunFolder.open(tmp_path, {**changed(BASE_LR=0.2, GAMMA=0.3), "OUTPUT_DIR": "elsewhere"})
    assert "SOLVER.BASE_LR: then 0.1, now 0.2" in str(caught.value)
    assert "SOLVER.GAMMA: then null, now 0.3" in str(caught.value)
    assert "OUTPUT_DIR: then" not in str(caught.value)
    with RunFolder.open(tmp_path, SETTINGS) as folder:  # the refusal let go of the folder
        assert folder.status == "resumes"


def test_changes_can_be_allowed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin(tmp_path)
    with RunFolder.open(tmp_path, SETTINGS) as folder:
        folder.finish()
    with RunFolder.open(tmp_path, changed(MAX_EPOCH=9), allow_changes=True):
        pass  # its state did not fit: the run is what it was
    with RunFolder.open(tmp_path, SETTINGS) as folder:
        assert folder.status == "finished"
    with RunFolder.open(tmp_path, changed(MAX_EPOCH=9), allow_changes=True) as folder:
        folder.adopt()
        assert folder.status == "resumes"  # longer than it was
    assert "SOLVER.MAX_EPOCH: then null, now 9" in caplog.text
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert starts[-1]["changed"] == {"SOLVER.MAX_EPOCH": "then null, now 9"}
    with RunFolder.open(tmp_path, changed(MAX_EPOCH=9)) as folder:  # now they are the run's
        assert folder.status == "resumes"


def test_other_data_are_named_and_refused(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, SETTINGS, data={"TRAIN a": "1" * 64, "TRAIN b": "2" * 64}):
        write_state(tmp_path, {"step": 1})
    other = {"TRAIN a": "1" * 64, "TRAIN b": "3" * 64}
    for finished in (False, True):
        told = (
            "a finished run, which learnt from other data:"
            if finished
            else "a run with other data:"
        )
        with pytest.raises(ValueError, match=f"holds {told}") as caught:
            RunFolder.open(tmp_path, SETTINGS, data=other)
        assert "annotations of TRAIN b: then 222222222222..., now 333333333333..." in str(
            caught.value
        )
        assert "TRAIN a" not in str(caught.value)
        # What cannot be looked at, "b" here, is still noted for later.
        with RunFolder.open(tmp_path, SETTINGS, data={"TRAIN a": "1" * 64}) as folder:
            assert folder.status == ("finished" if finished else "resumes")
            folder.finish()
    with pytest.raises(ValueError, match="holds a run with other settings and data:"):
        RunFolder.open(tmp_path, changed(BASE_LR=0.2), data=other)


def test_other_data_can_be_allowed(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, SETTINGS, data={"TRAIN a": "1" * 64}):
        write_state(tmp_path, {"step": 1})
    other = {"TRAIN a": "2" * 64}
    with RunFolder.open(tmp_path, SETTINGS, data=other, allow_changes=True) as folder:
        assert folder.status == "resumes"
        folder.adopt()
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert starts[-1]["changed"] == {
        "annotations of TRAIN a": "then 111111111111..., now 222222222222..."
    }
    with RunFolder.open(tmp_path, SETTINGS, data=other) as folder:
        assert folder.status == "resumes"


def test_a_run_that_noted_no_data_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin(tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(
        json.dumps({key: value for key, value in run.items() if key != "data"})
    )
    with caplog.at_level(logging.INFO):
        RunFolder.open(tmp_path, SETTINGS, data={"TRAIN a": "1" * 64}).close()
        RunFolder.open(tmp_path, SETTINGS, data={"TRAIN a": "1" * 64}).close()
    assert caplog.text.count("begun before annotation files were noted") == 1
    now = json.loads((tmp_path / "run.json").read_text())
    assert now["data"] == {"TRAIN a": "1" * 64}
    assert now["settings"] == run["settings"]  # an older glipkit compares these, and goes on too


def test_less_memory_may_be_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin(tmp_path)
    with caplog.at_level(logging.WARNING):
        RunFolder.open(tmp_path, changed(ACCUMULATION=2, LOG_PERIOD=1)).close()
    assert "SOLVER.ACCUMULATION: then null, now 2: the same training" in caplog.text
    assert "LOG_PERIOD" not in caplog.text


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path, SETTINGS),
        pytest.raises(
            ValueError, match=r"is in use by another run: process \d+ on .*another folder"
        ),
    ):
        RunFolder.open(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no run\.json that says of which one"),
        ('{"settings": ', r"run\.json is damaged"),
        ('{"settings": {}, "starts": [], "status": "?"}', r"run\.json is not what a run"),
        (
            '{"settings": {}, "starts": [], "status": "running", "data": 3}',
            r"run\.json is not what a run",
        ),
    ],
)
def test_a_state_of_nobody_knows_what(tmp_path: Path, content: str | None, message: str) -> None:
    begin(tmp_path)
    run = tmp_path / "run.json"
    run.unlink() if content is None else run.write_text(content)
    with pytest.raises(ValueError, match=message):
        RunFolder.open(tmp_path, SETTINGS)
