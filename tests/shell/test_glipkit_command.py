"""The command itself: its words, its help, its examples, its exit status."""

import importlib
import io
import logging
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from films import ColourDetector, film, scene
from sick_datasets import draw_pictures, healthy, write

import glipkit
from glipkit.inference.known import KNOWN
from glipkit.modeling.build import PRECISIONS
from glipkit.shell.flags import model as flags
from glipkit.shell.main import COMMANDS, main


def test_usage_names_every_command(capsys: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {command} " in said for command in COMMANDS)
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert glipkit.__version__ in capsys.readouterr().out


def test_unknown_command_lists_the_known(capsys: pytest.CaptureFixture) -> None:
    assert main(["detekt"]) == 2
    said = capsys.readouterr().err
    assert "no command 'detekt'" in said
    assert "detect" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"  glipkit {command}" in capsys.readouterr().out.partition("examples:")[2]


@pytest.mark.parametrize("command", ["bench", "demo", "detect", "info"])
def test_help_names_every_model(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert ",".join(KNOWN) in "".join(capsys.readouterr().out.split())


SLIP = ["detect", "a.png", "--text", "a star", "--out", "o", "--treshold", "0.5"]


@pytest.mark.parametrize(
    "words", [["--help"], *([command, "--help"] for command in COMMANDS), SLIP]
)
def test_help_and_slips_of_the_finger_do_not_wait_for_torch(words: list[str]) -> None:
    code = (
        "import atexit, os, sys; "
        "atexit.register(lambda: 'torch' in sys.modules and os._exit(99)); "
        "from glipkit.shell.main import main; sys.exit(main(sys.argv[1:]))"
    )
    told = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert told.returncode == (0 if "--help" in words else 2), told.stderr
    assert ("unrecognized arguments: --treshold 0.5" in told.stderr) == (words is SLIP)


def test_the_precisions_are_those_of_the_model() -> None:
    assert tuple(PRECISIONS) == flags.PRECISIONS


def test_errors_are_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err == f"glipkit check: no annotation file {tmp_path}/none.json\n"


def test_too_little_memory_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for message in ("not enough memory on cpu for one picture", ""):

        def fill(args: Any, message: str = message) -> int:
            raise MemoryError(message)

        monkeypatch.setattr(importlib.import_module("glipkit.shell.check"), "run", fill)
        assert main(["check", "a.json"]) == 2
        said = message or "not enough memory"
        assert capsys.readouterr().err == f"glipkit check: {said}\n"


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(args: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("glipkit.shell.check"), "run", interrupt)
    assert main(["check", "a.json"]) == 130


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the examples speak of, and a detector that is quick."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(glipkit, "load", lambda *_, **__: ColourDetector(), raising=False)
    for place in ("photo.jpg", "shots/1.png", "shots/deep/2.png"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        scene({"red": (8, 8)}).save(place)
    for split in ("train", "val"):
        folder = Path("annotations") if split == "val" else Path()
        folder.mkdir(exist_ok=True)
        write(folder, healthy(), f"{split}.json")
    Path("val.json").write_bytes(Path("annotations/val.json").read_bytes())
    draw_pictures(Path("val"), healthy())
    draw_pictures(Path("pictures"), healthy())
    return tmp_path


def examples(command: str) -> list[str]:
    text = importlib.import_module(f"glipkit.shell.flags.{command}").EXAMPLES
    lines = [line.strip() for line in text.splitlines() if line.startswith("  glipkit ")]
    assert lines
    return lines


def run_example(line: str) -> int:
    name, *words = shlex.split(line)
    assert name == "glipkit"
    return main(words)


def test_examples_of_detect_run(workplace: Path) -> None:
    film(Path("clip.mp4"))
    for line in examples("detect"):
        assert run_example(f"{line} --overwrite") == 0, line


def test_examples_of_check_run(workplace: Path) -> None:
    statuses = [run_example(line) for line in examples("check")]
    assert statuses == [0, 1]  # train and val are the same pictures: an error


@pytest.mark.parametrize(
    ("command", "word"), [("info", "model"), ("bench", "size"), ("demo", "port")]
)
def test_examples_of_others_are_understood(
    command: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    run: Callable[[Any], int] = lambda args: seen.append(args) or 0  # noqa: E731
    monkeypatch.setattr(importlib.import_module(f"glipkit.shell.{command}"), "run", run)
    lines = examples(command)
    assert [run_example(line) for line in lines] == [0] * len(lines)
    assert len(seen) == len(lines)
    assert all(hasattr(args, word) for args in seen)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    for word in ("--version", "--help", "detect --help"):
        command = f"{sys.executable} -m glipkit {word} > /dev/full"
        told = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert told.returncode == 2
        assert told.stderr == "glipkit: [Errno 28] No space left on device\n"


def test_stdout_may_be_closed() -> None:
    """As by a service or by cron."""
    command = f"{sys.executable} -m glipkit --version >&-"
    told = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")


def test_letters_that_the_terminal_lacks_end_no_work(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    # pytest keeps what is logged, and pytest-xdist cannot send such a name to its main process
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    Path("shots/caf\udce9.png").write_text("no picture")  # a name that is no UTF-8
    assert main(["detect", "shots", "--text", "red \u732b . blue", "--out", "found"]) == 1
    terminal.flush()
    said = terminal.buffer.getvalue().decode("ascii")
    assert "red \\u732b" in said
    assert "shots/caf\\udce9.png: cannot be read" in said
    assert terminal.errors == "strict"


def test_logging_is_as_before_afterwards(tmp_path: Path) -> None:
    before = logging.getLogger("glipkit").level, logging.getLogger().handlers[:]
    assert main(["check", str(write(tmp_path, healthy()))]) == 0
    assert (logging.getLogger("glipkit").level, logging.getLogger().handlers[:]) == before
