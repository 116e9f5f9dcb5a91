"""Serving the page: to this machine alone unless somebody says otherwise."""

import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glipkit
from glipkit.inference.detector import PhraseDetector
from glipkit.inference.models import find_model
from glipkit.page import look
from glipkit.page.door import gradio
from glipkit.page.gate import Gate
from glipkit.page.layout import build_page, check_threshold
from glipkit.page.limits import Limits

logger = logging.getLogger(__name__)


def serve(
    model: str | Path | PhraseDetector = "nano",
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str | None = None,
    threshold: float | None = None,
    open_browser: bool = False,
    limits: Limits | None = None,
) -> None:
    """Serve the page until Ctrl-C or, in the main thread, SIGTERM.

    Uploads are kept in a folder of their own that goes when the page ends. Nothing is asked of any
    network, and the page makes the visitor's browser ask none.

    Args:
        model: as for `glipkit.load`; or a detector that is already loaded.
        host: the address to listen on. Any other than this machine's own lets everybody who reaches
            it use the model and the page has no password; a warning says so.
        port: to listen on; 0 takes a free one.
        device: as for `glipkit.load`.
        threshold: at which the sliders start; None is the model's own.
        open_browser: open a tab when the page is ready.
        limits: on what visitors may send and ask.

    Raises:
        ImportError: gradio is not installed.
        OSError: the port is taken, or the address is not this machine's.
        ValueError: the threshold is not between 0 and 1, the host is empty; or as `glipkit.load`.
    """
    if threshold is not None:  # this and what follows before a model is loaded in vain
        check_threshold(threshold)
    limits = limits or Limits()
    host = host.strip("[]")  # of an IPv6 address, as browsers write it
    if not host:  # to Python every address of this machine, to gradio 127.0.0.1
        raise ValueError("host is empty; 127.0.0.1 is this machine alone, 0.0.0.0 is everybody")
    port = _free_port(host, port)
    if isinstance(model, str | Path):
        find_model(model)
    gradio()  # takes seconds
    if isinstance(model, str | Path):
        model = glipkit.load(model, device=device)
    with _ended_by_sigterm(), _workplace(host) as folder:
        page = build_page(model, limits=limits, threshold=threshold)
        _launch(page, host=host, port=port, folder=folder, open_browser=open_browser, limits=limits)
        try:
            logger.info("the page is ready: %s (Ctrl-C ends it)", page.local_url)
            if not _is_loopback(host):
                logger.warning(
                    "the page listens on %s: whoever reaches this machine can use it, there is no "
                    "password",
                    host,
                )
            threading.Event().wait()
        except KeyboardInterrupt:
            logger.info("the page is closed")
        finally:
            page.close(verbose=False)


def _launch(
    page: Any, *, host: str, port: int, folder: Path, open_browser: bool, limits: Limits
) -> None:
    """Start gradio's server with everything off that the page does not need."""
    gr = gradio()
    from starlette.middleware import Middleware  # comes with gradio

    icon = folder.parent / "icon.png"
    look.icon().save(icon)
    name = f"[{host}]" if ":" in host else host  # IPv6, as addresses of pages have it
    own = frozenset({"127.0.0.1", "localhost", "[::1]", name.lower()})
    hosts = own if _is_loopback(host) else None
    gate = Middleware(Gate, folder=folder, limits=limits, hosts=hosts)
    page.launch(
        server_name=name,
        server_port=port,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        quiet=True,
        inline=False,
        share=False,
        show_error=False,  # what the page itself says is shown all the same
        max_file_size=limits.upload_bytes,
        state_session_capacity=limits.sessions,
        app_kwargs={"middleware": [gate]},
        allowed_paths=[],
        favicon_path=str(icon),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        num_workers=0,
        pwa=False,
        mcp_server=False,
        theme=look.theme(gr),
        css=look.css(),
        head=look.head(),
    )


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is Ctrl-C, or uploads would outlive a service that is stopped."""
    if threading.current_thread() is not threading.main_thread():  # signals are its affair alone
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def _workplace(host: str) -> Iterator[Path]:
    """A private folder for uploads, and an environment in which gradio asks no network."""
    with tempfile.TemporaryDirectory(prefix="glipkit-page-") as folder:
        uploads = Path(folder) / "uploads"
        uploads.mkdir()
        direct = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1,localhost", host)))
        wanted = {
            "GRADIO_TEMP_DIR": str(uploads),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_ALLOWED_PATHS": "",
            "NO_PROXY": direct,  # gradio asks its own server whether it is there
            "no_proxy": direct,
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield uploads
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _free_port(host: str, port: int) -> int:
    """The port, if it is free on that address; for 0, any that is.

    Raises:
        OSError: it is not; the message says what to do.
        ValueError: there is no such port.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be between 0 and 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = _why_not(error, port)
            raise OSError(f"cannot listen on {host} port {port}: {why}") from error
        return probe.getsockname()[1]


def _why_not(error: OSError, port: int) -> str:
    """What keeps the page from listening, and what to do."""
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else port - 1
        return (
            f"another program has it; choose another port, for example {other}, or 0 for any "
            "that is free"
        )
    if error.errno == errno.EACCES:
        return f"{error.strerror}; choose a port from 1024 on, or 0 for any that is free"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{error.strerror}; this machine has no such address (127.0.0.1 is this machine)"
    return str(error.strerror)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
