import asyncio
import json
from pathlib import Path

import pytest

from glipkit.page.gate import Gate
from glipkit.page.limits import Limits

LOCAL = frozenset({"127.0.0.1", "localhost", "[::1]"})
JOIN = "/gradio_api/queue/join"
QUESTION = b'{"data": [null, "a cat"], "fn_index": 3}'


async def behind(scope, receive, send) -> None:
    if scope["path"] == JOIN:
        assert (await receive())["body"] == QUESTION
        assert await receive() == {"type": "http.disconnect"}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def request(
    folder: Path,
    path: str,
    method: str = "GET",
    *,
    host: str = "127.0.0.1:7860",
    length: int | None = None,
    hosts: frozenset[str] | None = LOCAL,
    body: bytes | None = None,
    **more: str,
) -> tuple[int, str, dict[bytes, bytes]]:
    """Status, text and headers of an answer."""
    headers = [(b"host", host.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    sent = []

    async def send(message) -> None:
        sent.append(message)

    parts = [] if body is None else [body[:7], body[7:]]

    async def receive() -> dict:
        assert body is not None, "what is refused must not be read"
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    limits = Limits(upload_bytes=1_000_000, stored_bytes=3_000_000)
    gate = Gate(behind, folder=folder, limits=limits, hosts=hosts)
    asyncio.run(gate(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode(), dict(sent[0]["headers"])


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", "/assets/index.js", "/gradio_api/heartbeat/abc"]
)
def test_what_the_page_needs_is_open(tmp_path: Path, path: str) -> None:
    assert request(tmp_path, path)[:2] == (200, "inside")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/proxy=https://example.com"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/monitoring"),
        ("GET", "/gradio_api/upload"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/call/on_find"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/"),
        ("PUT", "/gradio_api/upload"),
        ("DELETE", "/"),
    ],
)
def test_everything_else_is_closed(tmp_path: Path, method: str, path: str) -> None:
    assert request(tmp_path, path, method, length=0)[0] == 404


def test_files_are_served_from_the_folder_of_uploads_alone(tmp_path: Path) -> None:
    inside = tmp_path / "uploads" / "a.png"
    inside.parent.mkdir()
    inside.write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"")
    (inside.parent / "link").symlink_to(tmp_path / "secret")
    uploads = inside.parent
    assert request(uploads, f"/gradio_api/file={inside}")[0] == 200
    for path in (
        *("/etc/passwd", "etc/passwd", tmp_path / "secret", uploads / "link"),
        *(f"{uploads}/../secret", f"{uploads}/a\0b", "https://example.com/a.png", ""),
    ):
        assert request(uploads, f"/gradio_api/file={path}")[0] == 404, path


def test_uploads_are_limited_before_they_are_read(tmp_path: Path) -> None:
    upload = "/gradio_api/upload"
    assert request(tmp_path, upload, "POST", length=1_000_000)[0] == 200
    status, text, headers = request(tmp_path, upload, "POST", length=10**9)
    assert status == 413
    assert text == "This file is larger than the 1 MB that this page takes."
    assert headers[b"connection"] == b"close"
    assert request(tmp_path, upload, "POST")[0] == 411


def test_an_upload_drives_out_older_ones(tmp_path: Path) -> None:
    old = [tmp_path / f"{number}.png" for number in range(3)]
    for path in old:
        path.write_bytes(bytes(1_000_000))
    assert request(tmp_path, JOIN, "POST", length=40, body=QUESTION)[0] == 200
    assert sum(path.exists() for path in old) == 3
    assert request(tmp_path, "/gradio_api/upload", "POST", length=5)[0] == 200
    assert sum(path.exists() for path in old) == 2


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_length_that_is_not_meant_is_refused(tmp_path: Path, path: str) -> None:
    """Of Content-Length and Transfer-Encoding the server believes the latter: there is no limit."""
    assert request(tmp_path, path, "POST", length=40, body=QUESTION)[0] == 200
    assert request(tmp_path, path, "POST", length=5, transfer_encoding="chunked")[0] == 411


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_other_web_sites_may_not_send_in_a_visitors_name(tmp_path: Path, path: str) -> None:
    for hosts in (LOCAL, None):
        how = {"length": 5, "hosts": hosts}
        for headers in (
            {"sec_fetch_site": "cross-site", "origin": "https://evil.example"},
            {"sec_fetch_site": "same-site"},  # another program of this machine
            {"origin": "https://evil.example"},
            {"origin": "http://127.0.0.1:8000"},
            {"origin": "null"},
        ):
            assert request(tmp_path, path, "POST", **how, **headers)[0] == 403, headers
        for headers in (
            {"sec_fetch_site": "same-origin", "origin": "https://proxy.example"},
            {"origin": "http://127.0.0.1:7860"},
            {},
        ):
            answer = request(tmp_path, path, "POST", **how, **headers, body=QUESTION)
            assert answer[0] == 200, headers


def test_questions_are_limited_too(tmp_path: Path) -> None:
    assert request(tmp_path, JOIN, "POST", length=5_000, body=QUESTION)[0] == 200
    assert request(tmp_path, JOIN, "POST", length=10**6)[0] == 413


def test_questions_name_no_file_but_uploads(tmp_path: Path, monkeypatch) -> None:
    """In no field: gradio fetches what any of them describes, though the page asks for words."""

    def asked(data: object) -> int:
        question = json.dumps({"data": data, "fn_index": 3}).encode()
        monkeypatch.setitem(globals(), "QUESTION", question)
        return request(tmp_path, JOIN, "POST", length=len(question), body=question)[0]

    upload = {"path": str(tmp_path / "a" / "b.png"), "meta": {"_type": "gradio.FileData"}}
    assert asked([upload, "a cat"]) == asked([{"path": None}, "path"]) == 200
    for path in (
        *("https://example.com/a.png", "/etc/passwd", "a.png", "", 7, ["x"], "\ud800", "a\0b"),
        *(str(tmp_path / ".." / "a.png"), f"{tmp_path}/a\0b"),
    ):
        file = {**upload, "path": path}
        for data in ([file, "a cat"], [upload, file], [None, {"deep": [0, {"er": file}]}]):
            assert asked(data) == 400, path
    for body in (b"", b"{", b"\xff", b"[" * 100_000):
        assert request(tmp_path, JOIN, "POST", length=len(body), body=body)[0] == 400


def test_a_page_of_this_machine_answers_to_its_names_alone(tmp_path: Path) -> None:
    for host in ("127.0.0.1:7860", "localhost", "LOCALHOST:80", "[::1]:7860"):
        assert request(tmp_path, "/", host=host)[0] == 200
    for host in ("evil.example", "evil.example:7860", "", "127.0.0.1.evil.example"):
        assert request(tmp_path, "/", host=host)[0] == 403
    assert request(tmp_path, "/", host="machine.lab:7860", hosts=None)[0] == 200


def test_the_browser_is_told_to_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    for path in ("/", "/nowhere"):
        headers = request(tmp_path, path)[2]
        assert b"default-src 'self'" in headers[b"content-security-policy"]
        assert headers[b"x-content-type-options"] == b"nosniff"


def test_web_sockets_are_closed(tmp_path: Path) -> None:
    sent = []

    async def send(message) -> None:
        sent.append(message)

    gate = Gate(behind, folder=tmp_path, limits=Limits(), hosts=None)
    asyncio.run(gate({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
