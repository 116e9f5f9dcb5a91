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
from glipkit.inference.sources import find_sources, is_video
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
        failures: otherwise it is logged, and appended here.

    Raises:
        TypeError: `source` is a mapping.
        ValueError: `every` is no whole number from 1 on, or an item is an address of the network.
        FileNotFoundError: a path, folder or pattern means nothing that is there.
        ImageError: (strict) a picture or video cannot be read.
    """
    check_count(every, "every")  # 1.5 would take every third
    return _walk(_items(source), every=every, bgr=bgr, strict=strict, failures=failures)


def _items(source: Any) -> Iterable[Any]:
    """Paths, found at once so that a wrong one is said at once, or whatever else is iterated."""
    if isinstance(source, str | os.PathLike):
        return find_sources(source)
    if isinstance(source, Mapping):
        raise TypeError("pictures came in a mapping; pass list(pictures.values())")
    if _is_one_picture(source):
        return [source]
    if isinstance(source, list | tuple):
        found = [find_sources(s) if isinstance(s, str | os.PathLike) else [s] for s in source]
        return [item for items in found for item in items]
    return source  # a generator of camera frames, say: never listed


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
    if not isinstance(item, str | os.PathLike):
        yield Frame(read_picture(item, bgr=bgr), f"picture {position}")
        return
    text = os.fsdecode(item)
    path = Path(text)
    if not is_video(path):
        yield Frame(read_picture(text), str(path), path)
        return
    for number, time, picture in read_video(path, every=every):
        yield Frame(picture, str(path), path, number, time)
