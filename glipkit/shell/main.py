"""The `glipkit` command: which word was typed, and what to say when it fails."""

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

from glipkit import __version__
from glipkit.runtime.collector import collector_paused

# Word -> what it does. glipkit.shell.flags.<word> has DESCRIPTION, EXAMPLES and
# add_arguments(parser); glipkit.shell.<word> has run(args) -> exit status, and is imported once the
# flags are understood: neither help nor a slip of the finger should take the seconds that importing
# torch takes.
COMMANDS = {
    "detect": "find what words say in pictures, folders and videos",
    "info": "say what is in a file of weights",
    "check": "find what is wrong with a dataset before AP does",
    "compare": "set the results of evaluations side by side",
    "bench": "measure how fast this machine is",
    "demo": "serve a page to try it on in the browser",
}
FAILED, INTERRUPTED = 2, 130
_USAGE = """usage: glipkit COMMAND ...

Pictures and words in, boxes out.

commands:
{commands}

  glipkit COMMAND --help    what a command takes, with examples
  glipkit --version

Training and evaluation are in tools/, see README.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    0: all went well. 1: it did its work and has something to complain about (pictures that cannot
    be read, errors in a dataset). 2: it could not do its work. 130: interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        return _say(_usage()) if words else _say(_usage()) or FAILED
    if words[0] == "--version":
        return _say(f"glipkit {__version__}\n")
    if words[0] not in COMMANDS:
        sys.stderr.write(f"glipkit: no command {words[0]!r}\n\n{_usage()}")
        return FAILED
    args = _parse(words[0], words[1:])
    try:
        return _run(words[0], args)
    except KeyboardInterrupt:
        sys.stderr.write("glipkit: interrupted\n")
        return INTERRUPTED


def _say(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:  # a full disk, a reader that left
        _forget_stdout()
        sys.stderr.write(f"glipkit: {error}\n")
        return FAILED
    return 0


def _forget_stdout() -> None:
    """Or Python would complain once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(word: str, words: Sequence[str]) -> argparse.Namespace:
    flags = importlib.import_module(f"glipkit.shell.flags.{word}")
    parser = argparse.ArgumentParser(
        prog=f"glipkit {word}",
        description=flags.DESCRIPTION,
        epilog=f"examples:\n{flags.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_arguments(parser)
    try:
        return parser.parse_args(words)
    except SystemExit as said:  # help, perhaps, whose loss argparse would not mention
        raise SystemExit(said.code or _say("")) from None


def _run(word: str, args: argparse.Namespace) -> int:
    """Do it; what its user can mend becomes one line."""
    with collector_paused():
        command = importlib.import_module(f"glipkit.shell.{word}")
        logs = importlib.import_module("glipkit.runtime.logs")  # imports torch, as the command did
    try:
        with _any_letter_printed():
            return command.run(args)
    except BrokenPipeError:  # as with `| head`
        _forget_stdout()
        return FAILED
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        said = str(error) or "not enough memory"  # Python's own MemoryError says nothing
        sys.stderr.write(f"glipkit {word}: {said}\n")
        return FAILED
    finally:
        logs.close_logging()  # whoever calls this from Python gets the logging of before back


@contextlib.contextmanager
def _any_letter_printed() -> Iterator[None]:
    """Letters that the terminal's encoding lacks, and names of files that are no text, as escapes.

    So does stderr anyway; on stdout they would end hours of work with a UnicodeEncodeError.
    """
    stdout = sys.stdout
    if not isinstance(stdout, io.TextIOWrapper):  # somebody's own; takes what it takes
        yield
        return
    before = stdout.errors
    stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stdout.reconfigure(errors=before)


def _usage() -> str:
    rows = (f"  {word:<8}{what}" for word, what in COMMANDS.items())
    return _USAGE.format(commands="\n".join(rows))
