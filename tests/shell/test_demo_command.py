"""`glipkit demo` before the page is there."""

import socket
from collections.abc import Iterator

import pytest

import glipkit
from glipkit.shell import demo
from glipkit.shell.main import main


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_is_said_once(taken_port: int, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("gradio", reason="needs gradio (pip install 'glipkit[demo]')")
    assert main(["demo", "--port", str(taken_port)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"glipkit demo: cannot listen on 127.0.0.1 port {taken_port}: another")
    assert said.count(str(taken_port)) == said.count("127.0.0.1") == 1


def test_flags_reach_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict] = []
    monkeypatch.setattr(demo, "serve", lambda **options: seen.append(options))
    assert main(["demo", "--model", "glip-t", "--port", "8080", "--threshold", "0.3"]) == 0
    (options,) = seen
    assert (options["model"], options["port"], options["threshold"]) == ("glip-t", 8080, 0.3)
    assert options["host"] == "127.0.0.1"


def test_a_wrong_threshold_is_refused_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("gradio", reason="needs gradio (pip install 'glipkit[demo]')")
    monkeypatch.setattr(glipkit, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert main(["demo", "--port", "0", "--threshold", "1.5"]) == 2
    assert "threshold must be between 0 and 1, got 1.5" in capsys.readouterr().err
