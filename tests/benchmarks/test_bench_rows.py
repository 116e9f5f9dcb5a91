import argparse
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import counts
import memory
import ops
import report
import rows
import timing


def row(**changes: object) -> rows.Row:
    fields = dict(name="fusion_T16", ours=2.0, reference=6.0, unit="s", against="plain form")
    return rows.Row(**fields | dict(outputs_match=True) | changes)


def quick(**changes: object) -> argparse.Namespace:
    settings = dict(threads=torch.get_num_threads(), device="cpu", dtype="float32", quick=True)
    return argparse.Namespace(**settings | changes)


def test_ratio_says_how_many_times_faster() -> None:
    assert row().ratio == 3.0
    written = row(extra={"tokens": 16}).as_dict()
    assert list(written)[:6] == ["name", "ours", "reference", "unit", "ratio", "outputs_match"]
    assert written["tokens"] == 16


def test_no_ratio_where_outputs_differ() -> None:
    wrong = row(outputs_match=False, difference=0.5, tolerance=1e-5)
    assert wrong.ratio is None
    assert "REFUSED" in rows.line(wrong.as_dict())
    assert "NO RATIO" in rows.complaint(wrong.as_dict())
    assert rows.complaint(row().as_dict()) is None


def test_incomparable_outputs_need_a_reason() -> None:
    with pytest.raises(ValueError, match="need a reason"):
        row(outputs_match=None)
    assert row(outputs_match=None, reason="another network").ratio == 3.0


def test_difference_is_relative_and_notices_everything() -> None:
    one = torch.tensor([3.0, 4.0])
    assert rows.difference([one, one], [one, one]) == 0
    assert rows.difference([one, one * 1.01], [one, one]) == pytest.approx(0.01, rel=1e-4)
    assert rows.difference([one], [one[:1]]) == float("inf")
    broken = rows.difference([one, one * float("nan")], [one, one])
    assert broken != broken
    assert not broken <= 1e9  # so that it is no match


def test_wrong_operator_gets_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = quick(names=["nms_80_classes"])
    (right,) = ops.rows(arguments)
    assert right["outputs_match"] is True
    assert right["ratio"] > 0
    keeps = ops.nms
    monkeypatch.setattr(ops, "nms", lambda *args, **named: keeps(*args, **named).flip(0))
    (wrong,) = ops.rows(arguments)
    assert wrong["outputs_match"] is False
    assert wrong["ratio"] is None


@pytest.mark.parametrize("name", ["deform_conv_forward", "deform_conv_backward"])
def test_convolution_off_by_a_little_gets_no_ratio(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ops.modulated_deform_conv2d
    monkeypatch.setattr(
        ops, "modulated_deform_conv2d", lambda *args, **named: plain(*args, **named) * 1.001
    )
    (wrong,) = ops.rows(quick(names=[name]))
    assert wrong["ratio"] is None
    assert wrong["difference"] > wrong["tolerance"]


def test_functions_are_called_in_turn() -> None:
    calls: list[str] = []
    seconds = timing.turns([lambda: calls.append("A"), lambda: calls.append("B")], 2, warmup=1)
    assert "".join(calls) == "ABABAB"
    assert [len(measured) for measured in seconds] == [2, 2]


def test_memory_of_a_moment_is_seen_after_it_is_given_back() -> None:
    greatest = memory.Greatest("cpu")
    greatest.start()
    before = greatest.added()
    moment = torch.ones(64 << 18)  # 64 MiB
    del moment
    assert greatest.added() - before > 48 << 20
    greatest.start()
    assert greatest.added() < 32 << 20


def test_counted_arithmetic_is_that_of_the_papers() -> None:
    # Swin-T: 4.5 G multiply-adds at 224 x 224 (Liu et al. 2021, table 1), its classifier included.
    assert counts.swin_t(224, 224).flop == pytest.approx(2 * 4.5e9, rel=0.05)
    # BERT-base: 85 M weights in its layers, each used once a token.
    assert counts.bert_layer(1).times(12).flop == pytest.approx(2 * 85e6, rel=0.01)
    assert counts.conv(100, 8, 16).flop == 2 * 9 * 8 * 16 * 100
    assert counts.level_positions(800, 1088) == [13600, 3400, 850, 221, 63]


def test_bound_is_the_longer_of_working_and_moving() -> None:
    ceilings = {"gflops": 100.0, "gbytes_per_second": 10.0}
    assert counts.bound_seconds({"unit": "s", "gflop": 50.0, "gbytes": 1.0}, ceilings) == 0.5
    assert counts.bound_seconds({"unit": "s", "gflop": 50.0, "gbytes": 8.0}, ceilings) == 0.8
    # Stages follow one another: 50 / 100, then 8 / 10.
    stages = {"unit": "s", "gflop": 50, "gbytes": 8, "work": {"a": [50, 0.0], "b": [0.0, 8]}}
    assert counts.bound_seconds(stages, ceilings) == pytest.approx(1.3)
    assert counts.bound_seconds({"unit": "GiB", "gflop": None}, ceilings) is None


def test_tables_go_between_their_marks() -> None:
    page = "above\n<!-- rows -->\nold\n<!-- end -->\nbelow\n"
    assert report.put(page, {"rows": "| new |"}) == page.replace("old", "| new |")
    with pytest.raises(ValueError, match="found it 0 x"):
        report.put(page, {"ceilings": ""})
