"""Two processes decide alike, and learn what one learns from the batches of both."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from launched import ENVIRONMENT, launch, launched
from torch.testing import assert_close
from toy_training import ToyLearner, ToyRun, times

SCRIPT = Path(__file__).parent / "toy_training.py"
KINDS = ["ddp 1", "ddp 2", "fsdp 1", "fsdp 2"]  # and pieces

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("two")
    launched(SCRIPT, "everything", folder)
    return torch.load(folder / "results.pt")


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one_with_both_batches(kind: str, results: dict) -> None:
    alone = ToyRun(ema=0.5, size=8, optimizer="SGD")
    alone.go(5, clip_norm=0.5, log_every=1)
    weights, mean, logged = results[kind]
    expected_mean = alone.ema.state_dict()
    for name, weight in alone.weights().items():
        assert_close(weights[name], weight)
        assert_close(mean[name], expected_mean[name].detach())
    for step, values in alone.recorder.logged.items():
        for name in ("loss/token", "loss/box", "grad_norm"):
            assert logged[step][name] == pytest.approx(values[name], rel=1e-5)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_both_begin_with_the_weights_of_the_first(kind: str, results: dict) -> None:
    torch.manual_seed(0)
    assert_close(results[f"{kind} start"], dict(ToyLearner().state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("piece", ["first", "second"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_skip_what_one_cannot_use(kind: str, piece: str, results: dict) -> None:
    weights, skipped = results[f"{kind} broken {piece}"]
    other = ToyRun(size=8)
    batches = [next(other.loader.batches(step)) for step in (0, 1, 3, 4)]
    other.loader.batches = lambda first_step: iter(batches)
    other.go(4)
    assert skipped == 1
    for name, weight in other.weights().items():
        assert_close(weights[name], weight)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_both_scale_less_when_one_overflows(kind: str, results: dict) -> None:
    weights, skipped, scales = results[f"{kind} float16"]
    other = ToyRun(size=8, spoil=times(2.0**-8), rate=0.01)
    batches = [next(other.loader.batches(step)) for step in (0, 1, 3, 4)]
    other.loader.batches = lambda first_step: iter(batches)
    other.go(4, pieces=2, clip_norm=0.5, autocast_dtype=torch.float16)
    assert skipped == 0
    assert scales == [2.0**16] * 2 + [2.0**15] * 3
    for name, weight in other.weights().items():
        assert_close(weights[name], weight, rtol=0.02, atol=0.002)


def test_both_stop_and_say_whose_pictures(results: dict) -> None:
    step, messages = results["stopped"]
    assert step == 5  # the third in a row that is not finite, if only on one of them at first
    assert messages[0] == messages[1]
    assert "(pictures 40, 41, 42, 43, 44, 45, 46, 47)" in messages[0]


def test_rank_0_judges(results: dict) -> None:
    assert results["best"] == [(0.0, 1, [1])] * 2


def test_a_signal_to_one_stops_both(tmp_path: Path) -> None:
    process = launch(SCRIPT, "stopped", tmp_path)
    steps = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert steps == {"stopped_0": "4", "stopped_1": "4"}, process.stderr[-4000:]


STUBBORN = """
import os, signal, sys, time
from glipkit.engine.interrupts import Interrupts
with Interrupts() as interrupts:
    open(sys.argv[1], "w").close()
    while not interrupts.asked:
        time.sleep(0.01)
    open(sys.argv[1] + "_asked", "w").close()
    time.sleep(300)
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_second_signal_ends_at_once(number: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(tmp_path / "ready")], env=ENVIRONMENT
    )
    for mark in ("ready", "ready_asked"):
        while not (tmp_path / mark).exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(getattr(signal, number))
    assert process.wait(timeout=60) == -getattr(signal, number)
