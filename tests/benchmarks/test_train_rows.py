"""The training benchmark: both sides learn the same, and a difference forbids every ratio.

Two processes measure, one for each side that is compared; `test_bench_run.py` runs those of all
sides.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import rows
import train

pytestmark = pytest.mark.slow

Spoil = Callable[[dict, dict], object]  # given losses and gradients of ours


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict, Path]]:
    """What a process of each side gives, and its file of losses and gradients."""
    arguments = argparse.Namespace(quick=True, threads=1, device="cpu", dtype="float32")
    folder = tmp_path_factory.mktemp("sides")
    files = {side: folder / f"{side}.pt" for side in ("ours", train.REFERENCE)}
    return {side: (train.in_process(side, arguments, file), file) for side, file in files.items()}


@pytest.fixture
def benchmark(
    measured: dict[str, tuple[dict, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[dict]]]:
    """Status and rows of the program, whose processes give that again, ours perhaps spoilt."""

    def run(spoil: Spoil | None = None) -> tuple[int, list[dict]]:
        def again(side: str, _arguments: object, gradients: Path | None, repeats: int = 1) -> dict:
            # Sides that are not compared cost what ours does.
            answer, file = measured.get(side, measured["ours"])
            if gradients and side == "ours" and spoil:
                both = torch.load(file)
                spoil(*both)
                torch.save(both, gradients)
            elif gradients:
                shutil.copy(file, gradients)
            return answer

        monkeypatch.setattr(train, "in_process", again)
        monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # it is the program's
        path = tmp_path / "rows.json"
        code = train.main(["--quick", "--threads", "1", "--json", str(path)])
        return code, json.loads(path.read_text())["rows"]

    return run


def test_both_sides_learn_the_same(benchmark: Callable) -> None:
    code, found = benchmark()
    assert code == 0
    assert [row["name"] for row in found] == ["train_step", "train_peak_memory"]
    for row in found:
        assert row["outputs_match"] is True
        assert row["ratio"] == pytest.approx(row["reference"] / row["ours"])
    step, memory = found
    assert step["sides"]["ours"]["images_per_second"] == pytest.approx(1 / step["ours"])
    assert memory["ours"] > memory["state_gib"] > 0


def assert_no_ratio(found: tuple[int, list[dict]]) -> None:
    code, told = found
    assert code == 1
    assert [row["ratio"] for row in told] == [None, None]
    assert [row["outputs_match"] for row in told] == [False, False]


def test_spoilt_outputs_forbid_a_ratio(
    benchmark: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(rows.FALSIFY, "1")
    assert_no_ratio(benchmark())


def longest(gradients: dict[str, torch.Tensor]) -> str:
    return max(gradients, key=lambda name: gradients[name].norm())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda losses, _: next(iter(losses.values())).mul_(1.001),
        lambda _, gradients: gradients[longest(gradients)].mul_(1.01),
        lambda _, gradients: gradients[longest(gradients)].view(-1)[:1].fill_(float("nan")),
        lambda _, gradients: gradients.pop(longest(gradients)),
    ],
    ids=["a loss", "a gradient", "no number", "none"],
)
def test_other_gradients_forbid_a_ratio(benchmark: Callable, spoil: Spoil) -> None:
    assert_no_ratio(benchmark(spoil))
