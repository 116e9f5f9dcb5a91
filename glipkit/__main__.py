"""`python -m glipkit` is the `glipkit` command."""

import os
import sys

from glipkit.runtime.collector import skip_last_collection
from glipkit.shell.main import main


def program() -> int:
    """The command as a program of its own; `main` may also be called from Python."""
    skip_last_collection()
    if sys.stdout is None:  # closed, as by a service; the next file opened would take its place
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    return main()


if __name__ == "__main__":
    sys.exit(program())
