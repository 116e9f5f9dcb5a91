import json
import signal
import socket
from pathlib import Path

import pytest
from fake_detector import FakeDetector
from page_server import PageServer
from PIL import Image

from glipkit.page import serve

pytest.importorskip("gradio", reason="needs gradio, the extra glipkit[demo]")


def test_a_taken_port_is_said_before_a_model_is_loaded() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(OSError, match="choose another port"):
            serve("no such model", port=listener.getsockname()[1])


def test_a_wrong_model_is_said_before_gradio_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glipkit.page.app.gradio", lambda: pytest.fail("it takes seconds"))
    with pytest.raises(ValueError, match="unknown model 'nanno'"):
        serve("nanno", port=0)


def test_a_port_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="between 0 and 65535, got 70000"):
        serve(FakeDetector(), port=70_000)


@pytest.mark.parametrize("host", ["", "[]"])
def test_no_address_at_all(host: str) -> None:
    with pytest.raises(ValueError, match=r"host is empty; 127\.0\.0\.1 is this machine alone"):
        serve("no such model", host=host, port=0)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such name"])
def test_an_address_of_another_machine(host: str) -> None:
    with pytest.raises(OSError, match=rf"cannot listen on {host} .*this machine has no such addr"):
        serve(FakeDetector(), host=host, port=0)


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.2", "::1", "[::1]"])
def test_every_name_of_this_machine_can_be_listened_on(host: str) -> None:
    server = PageServer(host=host)
    try:
        address = f"http://{'[::1]' if ':' in host else host}:{server.port}/"
        assert f"the page is ready: {address}" in server.output
        assert server.ask("GET", "/")[0] == 200
        assert server.ask("GET", "/", headers={"Host": "evil.example"})[0] == 403
    finally:
        server.stop()
    assert "no password" not in server.output


@pytest.mark.slow
def test_the_server_is_closed_to_all_but_the_page(tmp_path: Path) -> None:
    server = PageServer(env={"TMPDIR": str(tmp_path)})
    try:
        status, text = server.ask("GET", "/")
        assert status == 200
        assert "glipkit: nano" in text
        assert server.ask("GET", "/", headers={"Host": "evil.example"})[0] == 403
        for path in ("/etc/passwd", str(Path.cwd() / "README.md"), "https://example.com/a.png"):
            assert server.ask("GET", f"/gradio_api/file={path}")[0] == 404
        assert server.ask("POST", "/gradio_api/run/on_find", body=b"{}")[0] == 404
        huge = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(10**9)}
        status, text = server.ask("POST", "/gradio_api/upload", headers=huge)
        assert (status, text) == (413, "This file is larger than the 1 MB that this page takes.")
        assert server.ask("GET", "/")[0] == 200
        (folder,) = tmp_path.glob("glipkit-page-*")
        assert folder.stat().st_mode & 0o077 == 0  # nobody else reads uploads
    finally:
        status = server.stop()
    assert status == 0
    assert "the page is closed" in server.output
    assert "Traceback" not in server.output
    assert "ended; uploads: None" in server.output  # the environment is as before
    assert not list(tmp_path.glob("glipkit-page-*"))


@pytest.mark.slow
def test_no_path_and_no_address_is_taken_from_a_client(tmp_path: Path) -> None:
    """Whoever speaks the page's own protocol gets no further than its visitors."""
    Image.new("RGB", (40, 30)).save(tmp_path / "mine.png")
    server = PageServer()
    try:
        for path in (str(tmp_path / "mine.png"), "/etc/passwd", server.address):
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            for data in ([file, "a cat"], [None, file]):  # gradio would fetch it for any field
                assert "Only pictures that were uploaded here" in ask_to_find(server, data), path
        assert "Choose a picture first" in ask_to_find(server, [None, "a cat"])
        assert server.ask("GET", "/")[0] == 200
    finally:
        server.stop()


def ask_to_find(server: PageServer, data: list) -> str:
    """What the server answers to a question that no browser would ask."""
    config = json.loads(server.ask("GET", "/config")[1])
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    find = next(
        rule["id"]
        for rule in config["dependencies"]
        if [ids["gk-find"], "click"] in rule["targets"]
    )
    question = {"data": data, "fn_index": find, "session_hash": "visitor"}
    status, text = server.ask(
        "POST",
        "/gradio_api/queue/join",
        body=json.dumps(question),
        headers={"Content-Type": "application/json"},
    )
    if status != 200:
        return text
    return server.ask("GET", "/gradio_api/queue/data?session_hash=visitor")[1]


@pytest.mark.slow
def test_listening_to_everybody_is_warned_of(tmp_path: Path) -> None:
    server = PageServer(host="0.0.0.0", env={"TMPDIR": str(tmp_path)})
    try:
        assert server.ask("GET", "/", headers={"Host": "machine.lab"})[0] == 200
        assert list(tmp_path.glob("glipkit-page-*"))
    finally:
        status = server.stop(signal.SIGTERM)  # as containers and services are ended
    assert "there is no password" in server.output
    assert "the page is closed" in server.output
    assert status == 0
    assert not list(tmp_path.glob("glipkit-page-*"))
