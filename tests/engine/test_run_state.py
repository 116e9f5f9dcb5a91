"""A run that was killed ends with the bits of one that was not."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from launched import ENVIRONMENT, command
from tiny import tiny_glip
from torch import nn
from toy_run import SavedRun
from toy_training import ToyLearner

from glipkit.engine.checkpoint import load_weights
from glipkit.engine.loop_state import LoopState
from glipkit.engine.recorder import METRICS
from glipkit.engine.run_state import RunState
from glipkit.engine.state_file import LAST, read_state, write_state
from glipkit.engine.tensor_files import CheckpointError, read_tensors

CPU = torch.device("cpu")


def assert_same(a: object, b: object) -> None:
    """The same form, the same plain data, the same bits."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    else:
        assert a == b


def state_for(tmp_path: Path, learner: nn.Module, **options: object) -> RunState:
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    return RunState(
        tmp_path, learner=learner, optimizer=optimizer, schedule=schedule, device=CPU, **options
    )


def test_a_resumed_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    SavedRun(tmp_path / "whole").to_the_end(9)
    SavedRun(tmp_path / "cut").to_the_end(4)
    resumed = SavedRun(tmp_path / "cut", other=1).to_the_end(9, resumes=True)
    assert resumed.state.step == 9
    assert_same(read_state(tmp_path / "cut"), read_state(tmp_path / "whole"))
    assert numbers(tmp_path / "cut") == numbers(tmp_path / "whole")


def test_loading_gives_back_what_was_saved(tmp_path: Path) -> None:
    run = SavedRun(tmp_path).to_the_end(3)
    saved = read_state(tmp_path)
    assert saved["optimizer"]["state"].keys() == {n for n, _ in run.learner.named_parameters()}
    again = SavedRun(tmp_path, other=1)
    again.files.load(again.state)
    again.files.save(again.state)
    assert_same(read_state(tmp_path), saved)


def test_the_rates_of_the_configuration_count(tmp_path: Path) -> None:
    SavedRun(tmp_path).to_the_end(3)
    again = SavedRun(tmp_path)
    for group in again.optimizer.param_groups:
        group["base_lr"] = 0.125  # as --allow-changes SOLVER.BASE_LR would
    again.files.load(again.state)
    assert {group["base_lr"] for group in again.optimizer.param_groups} == {0.125}
    assert all(state["step"] == 3 for state in again.optimizer.state.values())


def numbers(folder: Path) -> list[dict[str, object]]:
    """What stands in metrics.jsonl and does not depend on the clock."""
    lines = map(json.loads, (folder / METRICS).read_text().splitlines())
    clock = ("time/", "images_per_second", "memory")
    return [{k: v for k, v in line.items() if not k.startswith(clock)} for line in lines]


def last_start(folder: Path) -> int:
    """When a process took the folder last, in nanoseconds."""
    run = folder / "run.json"
    return run.stat().st_mtime_ns if run.exists() else 0


def kill_in_the_middle(start: list[str], folder: Path) -> None:
    """Start a run, and kill all its processes at a random moment once it is under way."""
    before = last_start(folder)
    process = subprocess.Popen(start, env=ENVIRONMENT, start_new_session=True)
    while last_start(folder) == before:
        assert process.poll() is None, "the run ended before it began"
        time.sleep(0.02)
    time.sleep(random.uniform(0.0, 2.0))
    assert process.poll() is None, "the run ended by itself"
    # torchrun puts its workers into sessions of their own: they outlive it, and hold the folder.
    for pid in [process.pid, *descendants(process.pid)]:
        with suppress(ProcessLookupError):  # a worker may have ended with the one killed before
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """Children of a process, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return []
    return [each for child in map(int, children) for each in (child, *descendants(child))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "processes", "kills"), [("ddp", 1, 3), ("ddp", 2, 2), ("fsdp", 2, 1)]
)
def test_kill_9_at_random_moments(tmp_path: Path, kind: str, processes: int, kills: int) -> None:
    """Most of the time passes inside of saves and evaluations, where a kill hurts most."""
    script, how = Path(__file__).parent / "toy_run.py", ("--kind", kind)
    single = [sys.executable, str(script), *how]
    start = single if processes == 1 else command(script, *how, processes=processes)
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    for _ in range(kills):  # none comes to its end before, however long this process sleeps
        kill_in_the_middle([*start, str(cut), "--slowly", "0.05", "--stay-at", "38"], cut)
    for folder in (cut, whole):
        subprocess.run([*start, str(folder)], env=ENVIRONMENT, check=True, timeout=600)
    assert read_state(cut)["loop"]["step"] == 40
    assert_same(read_state(cut), read_state(whole))
    assert numbers(cut) == numbers(whole)
    assert not list(cut.glob(".*.tmp"))
    alone = SavedRun(whole)  # shards and ranks do not matter to the file
    alone.files.load(alone.state)
    assert_same(dict(alone.learner.model.state_dict()), read_state(whole)["model"])


def test_the_file_serves_as_a_checkpoint(tmp_path: Path) -> None:
    class Learner(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.model = tiny_glip(seed=seed)
            self.criterion = nn.Linear(2, 2)

    learner = Learner(seed=1)
    state_for(tmp_path, learner).save(LoopState())
    assert read_tensors(tmp_path / LAST).keys() == learner.model.state_dict().keys()
    model = tiny_glip(seed=2)
    assert load_weights(model, tmp_path / LAST).fits
    assert_same(dict(model.state_dict()), dict(learner.model.state_dict()))


def test_only_what_is_trained(tmp_path: Path) -> None:
    learner = ToyLearner()
    learner.model[0].requires_grad_(False)
    state_for(tmp_path, learner, whole=False, base_hash="abc").save(LoopState())
    assert read_state(tmp_path)["model"].keys() == {"3.weight", "3.bias"}
    again = ToyLearner()
    again.model[0].requires_grad_(False)
    base = again.model[0].weight.clone()
    state_for(tmp_path, again, whole=False, base_hash="abc").load(LoopState())
    torch.testing.assert_close(again.model[3].weight, learner.model[3].weight, rtol=0, atol=0)
    torch.testing.assert_close(again.model[0].weight, base, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="base weights: 'abc' there, 'def' here"):
        state_for(tmp_path, again, whole=False, base_hash="def").load(LoopState())


def test_another_learner_is_refused_by_name(tmp_path: Path) -> None:
    SavedRun(tmp_path).to_the_end(2)
    learner = ToyLearner()
    learner.model[0] = nn.Linear(3, 9)
    learner.model.append(nn.Linear(1, 1))
    learner.criterion = nn.Identity()
    before = learner.model[3].weight.clone()
    with pytest.raises(CheckpointError, match="state of another run") as caught:
        state_for(tmp_path, learner).load(LoopState())
    assert "model.0.weight: (8, 3) float32 there, (9, 3) float32 here" in str(caught.value)
    assert "weights that only this run has: model.4.bias, model.4.weight" in str(caught.value)
    assert "weights that only the file has: criterion.bias, criterion.weight" in str(caught.value)
    assert "running mean: True there, False here" in str(caught.value)
    torch.testing.assert_close(learner.model[3].weight, before, rtol=0, atol=0)


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    learner = ToyLearner()
    state_for(tmp_path, learner).save(LoopState())
    learner.criterion.requires_grad_(False)
    with pytest.raises(CheckpointError, match=r"optimizer trains: criterion\.bias, criterion\.w"):
        state_for(tmp_path, learner).load(LoopState())


def test_another_kind_of_optimizer_is_refused(tmp_path: Path) -> None:
    learner = ToyLearner()
    state_for(tmp_path, learner).save(LoopState())
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    state = RunState(tmp_path, learner=learner, optimizer=optimizer, schedule=schedule, device=CPU)
    with pytest.raises(CheckpointError, match="optimizer: 'AdamW' there, 'SGD' here"):
        state.load(LoopState())


def test_other_surroundings_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("glipkit.engine.run_state.__version__", "0.0.1")
        patch.setattr("glipkit.engine.run_state.world_size", lambda: 2)
        SavedRun(tmp_path).to_the_end(2)
    with caplog.at_level(logging.WARNING):
        again = SavedRun(tmp_path)
        again.files.load(again.state)
    assert "glipkit 0.0.1 then" in caplog.text
    assert "processes 2 then, 1 now: the same training, but not the same bits" in caplog.text


def test_another_number_of_processes_draws_anew_but_not_by_chance(tmp_path: Path) -> None:
    SavedRun(tmp_path).to_the_end(2)
    saved = read_state(tmp_path)
    write_state(tmp_path, {**saved, "random": saved["random"] * 2})
    drawn = []
    for other in (1, 2):
        run = SavedRun(tmp_path, other=other)
        run.files.load(run.state)
        drawn.append((random.random(), *torch.rand(2).tolist()))
    assert drawn[0] == drawn[1]
