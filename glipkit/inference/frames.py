"""Pictures and frames of videos, read in order, those that cannot be read named and passed over."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from glipkit.data.images import ImageError
from glipkit.inference.counts import check_count
from glipkit.inference.pictures import read_picture
from glipkit.inference.sources import find_sources, is_several, is_video
from glipkit.inference.video import read_video

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream, and where it is from."""

    picture: Image.Image  # RGB
    origin: str  # the path; "picture 3" for what is no file
    path: Path | None = None
    number: int | None = None  # of a video: which of its frames, from 0
    time: float | None = None  # of a video: seconds from its start

    @property
    def name(self) -> str:
        """What `Found.source` says: "clip.mp4#t=1.20s frame 30", or the path of a picture."""
        if self.number is None:
            return self.origin
        clock = "" if self.time is None else f"t={self.time:.2f}s "
        return f"{self.origin}#{clock}frame {self.number}"


def read_frames(
    source: Any,
    *,
    every: int = 1,
    bgr: bool = False,
    strict: bool = False,
    failures: list[ImageError] | None = None,
) -> Iterator[Frame]:
    """Every picture that `source` means, one at a time.

    Args:
        source: a file, a folder or a pattern (see `find_sources`); or any iterable of these and of
            what `read_picture` takes: pictures, arrays, tensors, bytes.
        every: of a video, only each N-th frame; pictures are all taken.
        bgr: arrays are blue, green, red.
        strict: a picture that cannot be read is an error.
        failures: otherwise it is logged, and appended here; so are folders that may not be read.

    Raises:
        TypeError: `source` is a mapping.
        ValueError: `every` is no whole number from 1 on, or an item is an address of the network.
        FileNotFoundError: a path, folder or pattern means nothing that is there.
        ImageError: (strict) a picture or video cannot be read.
    """
    check_count(every, "every")  # 1.5 would take every third
    if _is_listed(source):
        items = _items(source, strict, failures)
    else:
        items = _in_turn(source, strict, failures)  # a generator of camera frames, say
    return _walk(items, every=every, bgr=bgr, strict=strict, failures=failures)


def read_files(
    paths: Iterable[Path],
    *,
    every: int = 1,
    strict: bool = False,
    failures: list[ImageError] | None = None,
) -> Iterator[Frame]:
    """As `read_frames`, of files that were found: one that is gone is as one that is damaged.

    Args:
        paths: of pictures and videos, from `find_all`.
        every: as for `read_frames`, as are all that follow.
        strict: a file that cannot be read is an error.
        failures: otherwise it is logged, and appended here.

    Raises:
        ImageError: (strict) a picture or video cannot be read.
    """
    return _walk(paths, every=every, bgr=False, strict=strict, failures=failures)


def _is_listed(source: Any) -> bool:
    """Whether everything is known at once, so that what is wrong is said at once."""
    return isinstance(source, str | os.PathLike | Mapping | list | tuple) or _is_one_picture(source)


def _items(source: Any, strict: bool, failures: list[ImageError] | None) -> list[Any]:
    """The files of paths, and pictures."""
    if isinstance(source, Mapping):
        raise TypeError("pictures came in a mapping; pass list(pictures.values())")
    found: list[Any] = []
    for each in source if isinstance(source, list | tuple) else [source]:
        is_path = isinstance(each, str | os.PathLike)
        found += _files(each, strict, failures) if is_path else [each]
    return found


def _in_turn(
    source: Iterable[Any], strict: bool, failures: list[ImageError] | None
) -> Iterator[Any]:
    """What an iterable brings, folders and patterns as their files; for nothing, why."""
    for item in source:
        if not isinstance(item, str | os.PathLike) or not is_several(os.fsdecode(item)):
            yield item
            continue
        try:
            yield from _files(item, strict, failures)
        except FileNotFoundError as error:
            yield ImageError(Path(os.fsdecode(item)), str(error))


def _files(path: str | os.PathLike, strict: bool, failures: list[ImageError] | None) -> list[Path]:
    """`find_sources`, which has logged the folders that may not be read."""
    closed: list[ImageError] = []
    found = find_sources(path, failures=closed)
    if strict and closed:
        raise closed[0]
    if failures is not None:
        failures += closed
    return found


def _is_one_picture(source: Any) -> bool:
    if isinstance(source, bytes | bytearray | memoryview | Image.Image):
        return True
    if callable(getattr(source, "read", None)) or not isinstance(source, Iterable):
        return True
    return getattr(source, "ndim", None) in (2, 3)  # an array or tensor; with four it is a batch


def _walk(
    items: Iterable[Any],
    *,
    every: int,
    bgr: bool,
    strict: bool,
    failures: list[ImageError] | None,
) -> Iterator[Frame]:
    for position, item in zip(count(), items):
        try:
            yield from _frames(item, position, every=every, bgr=bgr)
        except ImageError as error:
            if strict:
                raise
            logger.warning("left out: %s", error)
            if failures is not None:
                failures.append(error)


def _frames(item: Any, position: int, *, every: int, bgr: bool) -> Iterator[Frame]:
    if isinstance(item, ImageError):
        raise item
    if not isinstance(item, str | os.PathLike):
        name = f"picture {position}"
        yield Frame(read_picture(item, bgr=bgr, name=name), name)
        return
    text = os.fsdecode(item)
    path = Path(text)
    if not is_video(path):
        yield Frame(read_picture(text), str(path), path)
        return
    for number, time, picture in read_video(path, every=every):
        yield Frame(picture, str(path), path, number, time)
