"""The training benchmark: both sides learn the same, and a difference forbids every ratio."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "train.py"


def measure(path: Path, **environment: str) -> tuple[int, list[dict]]:
    command = [sys.executable, str(PROGRAM), "--quick", "--threads", "1", "--json", str(path)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=False)
    return done.returncode, json.loads(path.read_text())["rows"]


@pytest.mark.slow
def test_both_sides_learn_the_same(tmp_path: Path) -> None:
    code, rows = measure(tmp_path / "rows.json")
    assert code == 0
    assert [row["name"] for row in rows] == ["train_step", "train_peak_memory"]
    for row in rows:
        assert row["outputs_match"] is True
        assert row["ratio"] == pytest.approx(row["reference"] / row["ours"])
    step, memory = rows
    assert step["sides"]["ours"]["images_per_second"] == pytest.approx(1 / step["ours"])
    assert memory["ours"] > memory["state_gib"] > 0


@pytest.mark.slow
def test_other_gradients_forbid_a_ratio(tmp_path: Path) -> None:
    code, rows = measure(tmp_path / "rows.json", GLIPKIT_BENCH_FALSIFY="1")
    assert code == 1
    assert all(row["ratio"] is None and row["outputs_match"] is False for row in rows)
