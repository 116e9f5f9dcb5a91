import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import rows
import run
import train_step

FIELDS = {"name", "ours", "reference", "unit", "ratio", "outputs_match", "threads", "repeats",
          "spread", "gflop", "gbytes", "ceiling_share", "against", "commit", "quick"}  # fmt: skip
REQUIRED = {
    "deform_conv_forward", "deform_conv_backward", "nms_80_classes", "fusion_T256", "fusion_T64",
    "fusion_T16", "glip_t_coco80", "glip_t_two_words", "glip_t_vs_grounding_dino", "lvis_1203",
    "forward_peak_memory", "train_step", "train_peak_memory",
}  # fmt: skip


CEILINGS = {"1": {"gflops": {"float32": 100.0, "bfloat16": 200.0}, "gbytes_per_second": 10.0}}


@pytest.fixture
def instead_of_processes(monkeypatch: pytest.MonkeyPatch) -> dict[str, rows.Row | None]:
    """What the processes of rows give, in no time; None: it failed."""
    common = dict(unit="s", against="something", outputs_match=True, gflop=10.0, gbytes=0.5,
                  threads=1)  # fmt: skip
    found: dict[str, rows.Row | None] = {
        name: rows.Row(name=name, ours=1.0, reference=4.0, **common) for name in run.NAMES
    }

    def child(_arguments: object, *work: str) -> object:
        if work == ("--ceilings",):
            return CEILINGS
        rows_of = [found[name] for name in work[1].split(",")]
        return None if None in rows_of else [row.as_dict() for row in rows_of]

    monkeypatch.setattr(run, "child", child)
    return found


def call(path: Path, *words: str) -> int:
    return run.main(["--quick", "--threads", "1", "--json", str(path), *words])


def test_every_row_that_is_asked_for_has_a_home() -> None:
    assert set(run.NAMES) == REQUIRED == set(rows.ASKED)
    assert sum(group.seconds for group in run.GROUPS) < 40 * 60


def test_some_rows_join_a_file_of_the_same_machine(
    tmp_path: Path, instead_of_processes: dict[str, rows.Row | None]
) -> None:
    path = tmp_path / "latest.json"
    assert call(path, "--only", "fusion_T16") == 0
    assert call(path, "--only", "nms_80_classes,fusion_T64") == 0
    report = json.loads(path.read_text())
    assert set(report) == {"machine", "versions", "rows"}
    assert report["machine"]["ceilings"] == CEILINGS
    names = [row["name"] for row in report["rows"]]
    assert names == ["nms_80_classes", "fusion_T64", "fusion_T16"]  # in their order
    for row in report["rows"]:
        assert set(row) >= FIELDS
        assert row["ratio"] == 4.0
        assert row["ceiling_share"] == 0.1  # 10 GFLOP in a second of 100

    # A row measured again takes the place of the old one.
    instead_of_processes["fusion_T16"] = dataclasses.replace(
        instead_of_processes["fusion_T16"], ours=2.0
    )
    assert call(path, "--only", "fusion_T16") == 0
    again = {row["name"]: row["ratio"] for row in json.loads(path.read_text())["rows"]}
    assert again == {"nms_80_classes": 4.0, "fusion_T64": 4.0, "fusion_T16": 2.0}


@pytest.mark.parametrize(
    ("part", "key"), [("machine", "processor"), ("machine", "cores"), ("versions", "torch")]
)
def test_rows_do_not_join_those_of_other_machines_or_versions(
    part: str,
    key: str,
    tmp_path: Path,
    instead_of_processes: dict[str, rows.Row | None],
    capsys: pytest.CaptureFixture,
) -> None:
    path = tmp_path / "latest.json"
    assert call(path, "--only", "fusion_T16") == 0
    report = json.loads(path.read_text())
    other = report | {part: report[part] | {key: "another"}}
    path.write_text(json.dumps(other))
    with pytest.raises(SystemExit) as refused:
        call(path, "--only", "fusion_T64")
    assert refused.value.code == 2
    assert f"holds figures of other {part} ({key}: 'another', now" in capsys.readouterr().err
    assert json.loads(path.read_text()) == other
    assert call(path) == 0  # all rows: the file is written anew
    assert {row["name"] for row in json.loads(path.read_text())["rows"]} == REQUIRED


def test_rows_do_not_join_those_of_other_settings(
    tmp_path: Path, instead_of_processes: dict[str, rows.Row | None], capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "latest.json"
    assert call(path, "--only", "fusion_T16") == 0
    with pytest.raises(SystemExit) as refused:
        run.main(["--threads", "1", "--json", str(path), "--only", "fusion_T64"])  # not quick
    assert refused.value.code == 2
    assert "other settings" in capsys.readouterr().err


def test_rows_do_not_join_those_of_other_threads(
    tmp_path: Path, instead_of_processes: dict[str, rows.Row | None]
) -> None:
    instead_of_processes["fusion_T16"] = dataclasses.replace(
        instead_of_processes["fusion_T16"], threads=2
    )
    path = tmp_path / "latest.json"
    assert call(path, "--only", "fusion_T16") == 0
    with pytest.raises(SystemExit) as refused:
        call(path, "--only", "fusion_T64")
    assert refused.value.code == 2
    assert len(json.loads(path.read_text())["rows"]) == 1


def test_spoiled_outputs_end_in_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(rows.FALSIFY, raising=False)
    monkeypatch.setenv(rows.FALSIFY, "1")  # so that it is unset afterwards
    path = tmp_path / "latest.json"
    assert call(path, "--falsify", "--only", "nms_80_classes") == 1
    (row,) = json.loads(path.read_text())["rows"]
    assert row["ratio"] is None
    assert row["outputs_match"] is False
    told = capsys.readouterr()
    assert "nms_80_classes: NO RATIO" in told.out
    assert "nms_80_classes: NO RATIO" in told.err


def test_failed_row_ends_in_status_1_and_others_go_on(
    tmp_path: Path, instead_of_processes: dict[str, rows.Row | None], capsys: pytest.CaptureFixture
) -> None:
    instead_of_processes["fusion_T64"] = None
    path = tmp_path / "latest.json"
    words = ["--threads", "1", "--json", str(path), "--only", "fusion_T64", "fusion_T16"]
    assert run.main(words) == 1
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["fusion_T16"]
    assert "fusion_T64: NO ROW" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["notes", "[]", '{"rows": []}', '{"rows": [], "machine": null, "versions": {}}']
)
def test_file_of_something_else_is_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    path.write_text(content)
    with pytest.raises(SystemExit) as refused:
        call(path, "--only", "fusion_T16")
    assert refused.value.code == 2
    assert path.read_text() == content


@pytest.mark.parametrize("place", [".", "notes/latest.json"])
def test_a_place_that_cannot_be_written_is_known_before_anything_is_measured(
    place: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "notes").write_text("a file, no folder")
    monkeypatch.setattr(run, "child", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as refused:
        call(tmp_path / place)
    assert refused.value.code == 2
    assert "cannot write to --json" in capsys.readouterr().err


def test_differences_beyond_numbers_are_still_json(
    tmp_path: Path, instead_of_processes: dict[str, rows.Row | None]
) -> None:
    instead_of_processes["fusion_T16"] = dataclasses.replace(
        instead_of_processes["fusion_T16"], outputs_match=False, difference=float("inf")
    )
    path = tmp_path / "latest.json"
    assert call(path, "--only", "fusion_T16") == 1
    text = path.read_text()
    (row,) = json.loads(text, parse_constant=lambda word: pytest.fail(word))["rows"]
    assert row["difference"] == "inf"
    assert row["ratio"] is None


def test_quick_figures_stay_away_from_those_that_are_kept() -> None:
    assert run.QUICK != run.LATEST


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "fusion_T17"], "no row is called fusion_T17; there are: deform_conv_forward,"),
        (["--only", " , "], "expected names of rows, got none"),
        (["--threads", "999"], "as many as this machine has cores, got '999'"),
        (["--threads", "0"], "expected 1 to"),
        (["--device", "cuda"], "finds no CUDA device here"),
        (["--device", "tpu"], "expected cpu or cuda, got 'tpu'"),
        (["--dtype", "int3"], "expected one of float32, bfloat16, got 'int3'"),
    ],
)
def test_what_is_not_there_is_refused(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as refused:
        run.main(words)
    assert refused.value.code == 2
    assert told in capsys.readouterr().err


def test_every_row_has_a_process_and_quick_ones_of_a_module_share_it() -> None:
    names = ["fusion_T64", "fusion_T16", "train_step", "nms_80_classes"]
    found = run.processes(names, quick=False)
    assert [group.names for group in found] == [
        *(("nms_80_classes",), ("fusion_T64",), ("fusion_T16",), ("train_step",))
    ]
    assert [(group.module, group.names) for group in run.processes(names, quick=True)] == [
        ("ops", ("nms_80_classes",)),
        ("fusion", ("fusion_T64", "fusion_T16")),
        ("train", ("train_step",)),
    ]


def test_list_names_every_row(capsys: pytest.CaptureFixture) -> None:
    assert run.main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in REQUIRED)


@pytest.mark.slow
def test_quick_run_writes_every_row(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    assert call(path) == 0
    found = {row["name"]: row for row in json.loads(path.read_text())["rows"]}
    assert set(found) == REQUIRED
    for name, row in found.items():
        assert set(row) >= FIELDS, name
        assert row["ratio"] > 0, name
        if name == "glip_t_vs_grounding_dino":
            assert row["outputs_match"] is None
            assert "checked" in row["reason"]
        else:
            assert row["outputs_match"] is True, name
    assert set(found["train_step"]["sides"]) == set(train_step.SIDES)
