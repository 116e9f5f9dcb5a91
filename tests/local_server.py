"""A web server of this machine that breaks off when it is told to, for tests of downloads."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """Serves bytes by path, with ranges; remembers what was asked.

    Attributes:
        files: path without the slash -> content.
        breaks: bytes of each of the next answers after which the connection is closed.
        asked: (path, Range header or "") of every request.
        resumes: whether ranges are served.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.asked: list[tuple[str, str]] = []
        self.resumes = True
        self.url = ""


@contextmanager
def local_server() -> Iterator[LocalServer]:
    """A running server; its address is `url`, without a slash at the end."""
    state = LocalServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, wanted = self.path.lstrip("/"), self.headers.get("Range", "")
            state.asked.append((name, wanted))
            content = state.files.get(name)
            if content is None:
                self.send_error(404)
                return
            tag = f'"{hash(content)}"'
            first = 0
            if wanted and state.resumes and self.headers.get("If-Range") == tag:
                first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            self.send_response(206 if first else 200)
            if first:
                self.send_header(
                    "Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            until = first + state.breaks.pop(0) if state.breaks else len(content)
            self.wfile.write(content[first:until])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
