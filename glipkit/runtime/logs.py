"""Where messages go: set up once by a tool; rank 0 speaks, to the console and to log.txt."""

import logging
import sys
from pathlib import Path

from tqdm import tqdm

from glipkit.runtime.distributed import is_main, rank

_LINE = "%(asctime)s %(name)s %(levelname)s: %(message)s"
_installed: list[logging.Handler] = []


class _ConsoleHandler(logging.Handler):
    """Writes to stderr without tearing a progress bar that is being drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def setup_logging(output_dir: Path | None = None, *, level: int = logging.INFO) -> None:
    """Send glipkit's messages to stderr and, if given, to `output_dir`/log.txt.

    Other packages speak from WARNING on; Python's warnings are logged too. Ranks other than 0
    are heard only when something fails. Calling it again replaces what the last call set up.

    Args:
        output_dir: a folder for log.txt, created when missing; rank 0 appends to the file.
        level: glipkit's own messages are shown from this level on.
    """
    close_logging()
    _installed.append(_ConsoleHandler())
    if is_main() and output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        _installed.append(
            logging.FileHandler(
                output_dir / "log.txt",
                encoding="utf-8",
                errors="backslashreplace",  # a file's name need not be text
            )
        )
    line = _LINE if is_main() else f"[rank {rank()}] {_LINE}"
    for handler in _installed:
        handler.setFormatter(logging.Formatter(line, datefmt="%Y-%m-%d %H:%M:%S"))
        handler.setLevel(logging.NOTSET if is_main() else logging.ERROR)
        logging.getLogger().addHandler(handler)
    logging.getLogger("glipkit").setLevel(level)
    logging.captureWarnings(True)


def close_logging() -> None:
    """Undo `setup_logging`: whoever calls a tool from Python gets the logging of before back."""
    for handler in _installed:
        logging.getLogger().removeHandler(handler)
        handler.close()
    _installed.clear()
    logging.getLogger("glipkit").setLevel(logging.NOTSET)
    logging.captureWarnings(False)
