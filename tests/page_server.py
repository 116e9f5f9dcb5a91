"""A page in a process of its own, for tests that talk to it as a browser does."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

TESTS = Path(__file__).parent

# Arguments: "fake" or what serve() takes, host.
_PROGRAM = """
import logging, os, sys
logging.basicConfig(level=logging.INFO)
from glipkit.page import Limits, serve
model, host = sys.argv[1:]
if model == "fake":
    from fake_detector import FakeDetector
    model = FakeDetector()
serve(model, host=host, port=0, limits=Limits(upload_bytes=1_000_000))
print("ended; uploads:", os.environ.get("GRADIO_TEMP_DIR"))
"""


class PageServer:
    """Takes uploads up to 1 MB.

    Args:
        model: "fake", or as `serve` takes it.
        host: to listen on.
        env: added to the environment.

    Raises:
        AssertionError: it did not start within five minutes; with all it said.
    """

    def __init__(
        self, model: str = "fake", *, host: str = "127.0.0.1", env: dict[str, str] | None = None
    ) -> None:
        self.host = "127.0.0.1" if host == "0.0.0.0" else host.strip("[]")  # to be asked at
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, model, host],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {}), "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        deadline = time.monotonic() + 300
        while "the page is ready" not in self.output:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"the page did not start:\n{self.output}")
            time.sleep(0.1)
        self.port = int(re.search(r"the page is ready: \S+:(\d+)/", self.output)[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def output(self) -> str:
        """What it said so far."""
        return "".join(self.lines)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Press Ctrl-C, or send another signal; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=120)
        finally:
            self.process.kill()
            self.reader.join()
            self.process.stdout.close()

    def ask(self, method: str, path: str, **how) -> tuple[int, str]:
        """Status and text of an answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=300)
        try:
            connection.request(method, path, **how)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
