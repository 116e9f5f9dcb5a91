"""What the page's web server lets through: gradio has many more doors than one page needs."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from glipkit.page.limits import Limits
from glipkit.page.uploads import make_room, too_large

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_API = "/gradio_api"
_FILE = f"{_API}/file="
_READ = frozenset(
    {
        *("/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"),
        *("/pwa_icon/192", "/pwa_icon/512"),  # of the manifest; any other size would be made too
        *(f"{_API}/info", f"{_API}/startup-events", f"{_API}/queue/data"),
        f"{_API}/upload_progress",
    }
)
_READ_BELOW = ("/assets/", "/static/", "/svelte/", f"{_API}/heartbeat/")
_UPLOAD = f"{_API}/upload"
_JOIN = f"{_API}/queue/join"
_WRITE = frozenset({_UPLOAD, _JOIN, f"{_API}/cancel", f"{_API}/reset"})

_OVERHEAD = 16_384  # of a form around the file in it
_QUESTION = 262_144  # bytes of a question: words, thresholds, the name of an upload

# The browser itself then refuses to load anything from elsewhere, whatever gradio's pages name.
# gradio compiles its templates in the browser, hence unsafe-eval.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Gate:
    """ASGI middleware: closes the routes that the page does not use, and limits what comes in.

    Args:
        app: what lies behind.
        folder: of uploads; the only one from which files are served.
        limits: on uploads.
        hosts: names under which the page may be asked for, without port; None for any. A page on
            this machine alone answers to this machine's names alone, so that no web site can reach
            it by letting its own name point here.
    """

    def __init__(
        self, app: App, *, folder: Path, limits: Limits, hosts: frozenset[str] | None
    ) -> None:
        self.app = app
        self.folder = folder.resolve()
        self.limits = limits
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it in a sentence."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            status, text = refusal
            await _say(send, status, text)
            return
        if scope["path"] == _UPLOAD:
            make_room(self.folder, self.limits.upload_bytes, self.limits)
        elif scope["path"] == _JOIN:
            question = await _whole(receive)
            if not self._may_ask(question):
                await _say(send, 400, "Only pictures that were uploaded here can be searched.")
                return
            receive = _once_more(question, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self.app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = _host_name(headers.get(b"host", ""))
        if self.hosts is not None and host not in self.hosts:
            return 403, f"This page answers on this machine only, not as {host!r}."
        method, path = scope["method"], scope["path"]
        if method in ("GET", "HEAD"):
            return None if self._may_read(path) else (404, "There is nothing here.")
        if method != "POST" or path not in _WRITE:
            return 404, "There is nothing here."
        if _is_of_another_site(headers):
            return 403, "Another web site sent this; open the page itself."
        length = headers.get(b"content-length", "")
        # Of a request that has both, the server believes the encoding and reads without an end.
        if not length.isdecimal() or b"transfer-encoding" in headers:
            return 411, "Say how many bytes follow (Content-Length)."
        if path == _UPLOAD and int(length) > self.limits.upload_bytes + _OVERHEAD:
            return 413, too_large(self.limits)
        if path != _UPLOAD and int(length) > _QUESTION:
            return 413, "This question is too long."
        return None

    def _may_read(self, path: str) -> bool:
        if path.startswith(_FILE):
            return self._is_upload(path.removeprefix(_FILE))
        return path in _READ or path.startswith(_READ_BELOW)

    def _may_ask(self, question: bytes) -> bool:
        """Whether all files that a question names are uploads, in whichever of its fields.

        gradio takes a description of a file in every field, in that of the words too, and fetches
        the file, from anywhere on the network and of any size, before it looks at what it is for.
        """
        try:
            waiting = [json.loads(question)]
        except (ValueError, RecursionError):
            return False
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict):
                path = part.get("path")
                if path is not None and not (isinstance(path, str) and self._is_upload(path)):
                    return False
                part = list(part.values())
            if isinstance(part, list):
                waiting += part
        return True

    def _is_upload(self, path: str) -> bool:
        try:
            file = Path(path).resolve()
        except ValueError:  # no file system can be asked about such a name
            return False
        return "\0" not in path and Path(path).is_absolute() and file.is_relative_to(self.folder)


def _is_of_another_site(headers: Mapping[bytes, str]) -> bool:
    """Whether a browser sends this because a page from elsewhere told it to.

    Browsers say so in Sec-Fetch-Site, or, old or without TLS, by an Origin that is not our host.
    Programs that are no browsers say neither.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get(b"origin")
    host = headers.get(b"host", "")
    return origin is not None and origin.partition("://")[2].lower() != host.lower()


def _host_name(host: str) -> str:
    """Without the port: "[::1]:7860" is "[::1]"."""
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0].lower()


async def _whole(receive: Receive) -> bytes:
    """The body of a request, whose length was looked at before; what came of it, if it breaks."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def _once_more(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for those behind; then what else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _say(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # whatever else was to come is not read
        *_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
