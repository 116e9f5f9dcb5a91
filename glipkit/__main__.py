"""`python -m glipkit` is the `glipkit` command."""

import sys

from glipkit.runtime.collector import skip_last_collection
from glipkit.shell.main import main


def program() -> int:
    """The command as a program of its own; `main` may also be called from Python."""
    skip_last_collection()
    return main()


if __name__ == "__main__":
    sys.exit(program())
