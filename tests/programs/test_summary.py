"""Runs side by side: means and deviations by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from glipkit.programs.summary import RunResult, judged, spread, table, write_summary


def result(name: str, group: str, val: float | None, test: float | None, **more) -> RunResult:
    return RunResult(
        name=name,
        group=group,
        steps=10,
        best_step=5,
        best_val=val,
        figures={"best/test": test, "final/test": 0.0},
        saved={"tuned_best.safetensors": 12_345},
        trained_parameters=7,
        **more,
    )


RESULTS = [
    result("a/seed_3", "a", 0.5, 0.2),
    result("a/seed_30", "a", 0.7, 0.4),
    result("b", "b", None, 0.9),
]


def test_mean_and_deviation_of_known_figures() -> None:
    both = spread([0.2, 0.4, None])
    assert (both.mean, both.count) == (pytest.approx(0.3), 2)
    assert both.deviation == pytest.approx(0.1414214, abs=1e-6)
    assert spread([0.2]).deviation is None
    assert str(spread([])) == "n/a"


def test_the_best_weights_stand_for_a_run() -> None:
    assert judged(RESULTS[0]) == pytest.approx(0.2)


def test_validation_data_do_not_count_as_test_data() -> None:
    both = replace(RESULTS[0], figures={"best/val": 0.9, "best/test": 0.2, "final/test": 0.1})
    assert judged(both) == pytest.approx(0.2)
    assert judged(replace(both, figures={"final/a": 0.2, "final/b": 0.4})) == pytest.approx(0.3)
    assert judged(replace(both, figures={})) is None


def test_table_has_runs_groups_and_all() -> None:
    lines = table(RESULTS).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        *("run", "a/seed_3", "a/seed_30", "a (mean)", "b", "all")
    ]
    assert "0.6000 ± 0.1414" in lines[3]
    assert "0.3000 ± 0.1414" in lines[3]
    assert "12.3 kB" in lines[1]
    assert "n/a" in lines[4]


def test_a_failed_run_says_why() -> None:
    failed = result("c", "c", None, None, failed="the loss was NaN")
    assert "c" in table([failed])
    assert "failed: the loss was NaN" in table([failed])


def test_summary_file_holds_every_run_and_every_group(tmp_path: Path) -> None:
    write_summary(tmp_path, RESULTS)
    content = json.loads((tmp_path / "summary.json").read_text())
    assert [each["name"] for each in content["runs"]] == ["a/seed_3", "a/seed_30", "b"]
    assert content["runs"][0]["saved"] == {"tuned_best.safetensors": 12_345}
    assert content["groups"]["a"]["test"]["mean"] == pytest.approx(0.3)
    assert content["groups"]["b"]["val"] == {"mean": None, "deviation": None, "count": 0}
