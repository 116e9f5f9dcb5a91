"""The arrays of a JSON file one entry at a time, for files too large to hold as Python objects."""

import codecs
import hashlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from glipkit.runtime.progress import byte_progress

_SPACE = re.compile(r"[ \t\n\r]*")
_AFTER = frozenset(" \t\n\r,:]}")  # what ends a number; with anything else it may go on
_BLOCK = 1 << 22  # bytes fetched at a time
_LONGEST = 1 << 26  # characters of one value; what is still open then is broken, not long
_LARGE = 1 << 28  # bytes; files from here on show how far the reading is


class JsonArrays:
    """Iterates once over `(key, entry)` of arrays at the top of a file that holds a JSON object.

    Values are parsed by Python's own decoder, so they are what `json.load` makes of them. Memory
    is that of a few entries: a published file of 2 GB would take several times that as Python
    objects, in every process of a training run.

    Args:
        path: the file.
        wanted: keys whose arrays of objects are read; the values of others are passed over.

    Attributes:
        keys: those met so far.
        digest: SHA-256 of the file in hex, once everything is read.
    """

    def __init__(self, path: Path, wanted: Collection[str]) -> None:
        self.keys: list[str] = []
        self.digest = ""
        self._path = path
        self._wanted = wanted

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Walk through the file, in its order.

        Raises:
            ValueError: it is not JSON, ends too early, is no object, or has something else than an
                array of objects under a wanted key.
        """
        blocks = _Blocks(self._path)
        text = _Window(self._path, blocks)
        if (first := text.peek()) != "{":
            found = f"it begins with {first!r}" if first else "it is empty"
            raise ValueError(f"{self._path} is not a JSON object {{...}}: {found}")
        for _ in text.items("{", "}"):
            if text.peek() != '"':
                text.fail("expected a key in quotes")
            key = text.value()
            text.take(":")
            self.keys.append(key)
            if key not in self._wanted:
                text.value()
                continue
            for entry in text.objects(f"{self._path}: {key!r}"):
                yield key, entry
        if text.peek():
            text.fail("something follows the end of the object")
        self.digest = blocks.digest


def json_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a file that holds one array of objects, one at a time.

    Raises:
        ValueError: it is not JSON, ends too early, or is something else.
    """
    text = _Window(path, _Blocks(path))
    yield from text.objects(str(path))
    if text.peek():
        text.fail("something follows the end of the array")


class _Blocks:
    """The text of a file block by block, and the digest of its bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sha = hashlib.sha256()

    def __iter__(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        size = self._path.stat().st_size
        with (
            self._path.open("rb") as file,
            byte_progress(size, f"reading {self._path.name}", hidden=size < _LARGE) as progress,
        ):
            while block := file.read(_BLOCK):
                self._sha.update(block)
                progress.update(len(block))
                yield decoder.decode(block)
            yield decoder.decode(b"", final=True)

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()


class _Window:
    """The part of the text that is being looked at."""

    def __init__(self, path: Path, blocks: _Blocks) -> None:
        self._path = path
        self._blocks = iter(blocks)
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0  # in `_text`
        self._passed = 0  # characters before `_text`

    def items(self, start: str, end: str) -> Iterator[None]:
        """Yields where an item of a list begins, from `start` over commas to `end`."""
        self.take(start)
        if self.peek() != end:
            yield
            while self.peek() != end:
                self.take(",")
                yield
        self.take(end)

    def objects(self, name: str) -> Iterator[dict[str, Any]]:
        """The values of a list that should all be objects; `name` is for messages."""
        if self.peek() != "[":
            raise ValueError(f"{name} is not a list of objects")
        for _ in self.items("[", "]"):
            entry = self.value()
            if not isinstance(entry, dict):
                raise ValueError(f"{name} is not a list of objects")
            yield entry

    def peek(self) -> str:
        """The next character that is not space; "" at the end of the file."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()
            if self._at < len(self._text) or not self._fetch():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> None:
        """Step over a character."""
        if self.peek() != expected:
            self.fail(f"expected {expected!r}")
        self._at += 1

    def value(self) -> Any:
        """Decode what comes next and step over it."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:  # broken, or not fetched to its end
                if len(self._text) - self._at > _LONGEST or not self._fetch():
                    self.fail(error.msg, error.pos)
            else:
                if self._text[end : end + 1] in _AFTER or not self._fetch():
                    self._at = end
                    return value

    def fail(self, reason: str, at: int | None = None) -> None:
        """Raise the error that says where the text is not JSON."""
        at = self._at if at is None else at
        where = f"{self._path} is not valid JSON at character {self._passed + at:,}"
        rest = self._text[at:].strip()
        if not rest or (not self._fetch() and not self._text.rstrip().endswith(("}", "]"))):
            reason = "the file ends too early; was it copied or downloaded to its end?"
        raise ValueError(f"{where}: {reason}")

    def _fetch(self) -> bool:
        """Add the next block; False when there is none."""
        try:
            block = next(self._blocks, None)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self._path} is not valid JSON, as it is not UTF-8: {error}"
            ) from None
        if block is None:
            return False
        self._passed += self._at
        self._text = self._text[self._at :] + block
        self._at = 0
        return True
