"""Who speaks, and where it can be read."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from glipkit.runtime import logs
from glipkit.runtime.logs import close_logging, setup_logging
from glipkit.runtime.progress import image_progress


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    close_logging()


def test_console_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(tmp_path / "new")
    logging.getLogger("glipkit.some.part").info("hello from a part")
    logging.getLogger("another.package").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    captured = capsys.readouterr()
    for text in ((tmp_path / "new" / "log.txt").read_text(), captured.err):
        assert "glipkit.some.part INFO: hello from a part" in text
        assert "careful" in text
        assert "chatter" not in text
    assert captured.out == ""  # stdout belongs to the tool's result


def test_setting_up_twice_does_not_say_things_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logging(tmp_path / "a")
    setup_logging(tmp_path / "b")
    logging.getLogger("glipkit").info("once")
    assert capsys.readouterr().err.count("once") == 1
    assert (tmp_path / "a" / "log.txt").read_text() == ""
    assert "once" in (tmp_path / "b" / "log.txt").read_text()


def test_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    root, show = logging.getLogger(), warnings.showwarning
    before = list(root.handlers)
    setup_logging(tmp_path)
    assert root.handlers != before
    close_logging()
    assert root.handlers == before
    assert warnings.showwarning is show
    assert logging.getLogger("glipkit").level == logging.NOTSET


def test_other_ranks_speak_of_errors_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "is_main", lambda: False)
    monkeypatch.setattr(logs, "rank", lambda: 3)
    setup_logging(tmp_path)
    logging.getLogger("glipkit").warning("quiet")
    logging.getLogger("glipkit").error("broken")
    err = capsys.readouterr().err
    assert "quiet" not in err
    assert "[rank 3]" in err
    assert "broken" in err
    assert not (tmp_path / "log.txt").exists()


def test_progress_names_the_pace(capsys: pytest.CaptureFixture[str]) -> None:
    with image_progress(3, "drawn") as bar:
        bar.update(3)
    assert "images/s" in capsys.readouterr().err
