"""What a run wrote down becomes a table and a picture."""

import json
import math
import sys
from pathlib import Path

import pytest
from PIL import Image

from glipkit.report import find_runs, main, smoothed


def write_run(
    folder: Path, *, steps: int = 6, start: float = 2.0, status: str = "finished"
) -> Path:
    """Losses that halve, an AP that rises and falls."""
    folder.mkdir(parents=True)
    lines = []
    for step in range(1, steps + 1):
        losses = {"loss/total": start * 2.0**-step, "loss/token": None if step == 2 else 0.5}
        lines.append({"step": step, **losses, "lr": 1e-4 * step, "images_per_second": 3.25})
        if step % 2 == 0:
            lines.append({"step": step, "AP": round(0.5 - abs(step - 4) * 0.1, 3), "best_AP": 0.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "run.json").write_text(json.dumps({"status": status}))
    return folder


def test_a_run_becomes_a_table_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "cats")
    assert main([str(folder)]) == 0
    heading, line, note = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["run", "state", "steps"]
    expected = [
        "cats",
        "finished",
        "6",
        "1.000",
        "->",
        "0.031",
        "0.5000",
        "4",
        "0.3000",
        "-",
        "3.25",
    ]
    assert line.split() == expected
    assert note == f"drawn in {folder / 'report.png'}"
    with Image.open(folder / "report.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20  # axes, text, curves


def test_a_run_judged_by_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "captions"
    folder.mkdir()
    entries = [{"step": step, "R@1": recall, "R@5": 1.0} for step, recall in ((1, 0.2), (2, 0.6))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))
    classes = write_run(tmp_path / "classes")
    assert main([str(folder), "--no-picture"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert "best R@1" in heading
    assert line.split()[-5:] == ["0.6000", "2", "0.6000", "-", "-"]
    assert main([str(folder), str(classes), "-o", str(tmp_path / "both.png")]) == 0
    assert "best AP or R@1" in capsys.readouterr().out


def test_several_runs_and_folders_of_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "tuned" / "Raccoon" / "seed_2", status="running")
    write_run(tmp_path / "tuned" / "Raccoon" / "seed_1", steps=90)
    alone = write_run(tmp_path / "alone", start=4.0)
    target = tmp_path / "both.svg"
    assert main([str(tmp_path / "tuned"), str(alone), "-o", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["Raccoon/seed_1", "Raccoon/seed_2", "alone"]
    assert lines[2].split()[1] == "running"
    assert target.read_text().startswith("<?xml")


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first = write_run(tmp_path / "before" / "cats")
    second = write_run(tmp_path / "after" / "cats")
    dogs = write_run(tmp_path / "after" / "dogs")
    names = [run.name for run in find_runs([first, second, dogs])]
    assert names == [str(first), str(second), "dogs"]
    below = [run.name for run in find_runs([tmp_path / "before", tmp_path / "after"])]
    assert below == [str(first), str(second), "dogs"]


def test_a_run_that_is_still_writing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss/to')
    (run,) = find_runs([folder])
    assert run.entries[-1]["step"] == 6
    assert run.curve("loss/token")[0] == [1, 3, 4, 5, 6]


def test_a_run_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"step": 1, "loss/total": 2.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(entry) + "\n")
    assert main([str(tmp_path), "--no-picture"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == [tmp_path.name, "?", "1", "2.000", "-", "-", "-", "-", "-"]


def test_the_table_needs_no_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([str(folder), "--no-picture"]) == 0
    assert main([str(folder)]) == 2
    assert "pip install 'glipkit[report]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no metrics.jsonl in"),
        ("", "no run has written a number into metrics.jsonl yet"),
        ("nonsense\n", "metrics.jsonl, line 1, is damaged"),
        ('{"loss": 1}\n', "line 1, is damaged (KeyError('step'))"),
    ],
)
def test_nothing_to_report(
    tmp_path: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    assert main([str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_odd_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    assert main([str(folder), "-o", str(tmp_path / "a.doc")]) == 2
    assert "doc" in capsys.readouterr().err
    assert not (tmp_path / "a.doc").exists()
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err


def test_smoothing_is_a_mean_around() -> None:
    assert smoothed([0, 3, 6, 0], 2) == [1.5, 3, 3, 3]
    assert math.isclose(sum(smoothed([1.0] * 7, 4)), 7)
