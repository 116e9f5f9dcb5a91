"""A list of fine-tunings goes on behind a run that failed, unless we are to blame."""

import json
from pathlib import Path

import pytest
import torch

from glipkit.programs import fine_tuning
from glipkit.programs.fine_tuning import Options, fine_tune
from glipkit.programs.fine_tuning_plan import plan_runs
from glipkit.programs.summary import RunResult

CPU = torch.device("cpu")
DONE = RunResult(
    name="b",
    group="b",
    steps=1,
    best_step=None,
    best_val=None,
    figures={"val": 0.5},
    saved={},
    trained_parameters=1,
)
RUNS = plan_runs([("a", None), ("b", None)], [], [])


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[str]:
    """Two runs without data or model, of which "a" fails; returns the names that are begun."""
    begun = []

    def begin(run, *_: object) -> RunResult:
        begun.append(run.name)
        if run.name == "a":
            raise error
        return DONE

    for name in ("run_settings", "judged_settings", "build_test_sets", "load_tokenizer"):
        monkeypatch.setattr(fine_tuning, name, lambda *_: None)
    monkeypatch.setattr(fine_tuning, "fine_tune_one", begin)
    return begun


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no boxes"),
        OSError(28, "No space left on device"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
    ],
)
def test_what_a_user_can_mend_is_named_and_the_next_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    begun = failing(monkeypatch, error)
    failed, done = fine_tune(RUNS, Options("m.yaml", (), tmp_path), device=CPU)
    assert begun == ["a", "b"]
    assert failed.failed
    assert done == DONE
    assert json.loads((tmp_path / "summary.json").read_text())


@pytest.mark.parametrize("error", [RuntimeError("a defect"), KeyError("x"), KeyboardInterrupt()])
def test_what_we_are_to_mend_ends_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    begun = failing(monkeypatch, error)
    with pytest.raises(type(error)):
        fine_tune(RUNS, Options("m.yaml", (), tmp_path), device=CPU)
    assert begun == ["a"]
