"""A folder, a list or a video through a detector, picture by picture, in bounded memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from glipkit.data.images import ImageError
from glipkit.inference.asked import Texts
from glipkit.inference.counts import check_count
from glipkit.inference.found import Found
from glipkit.inference.frames import Frame, read_frames
from glipkit.inference.tracking import IouTracker

Item = TypeVar("Item")

_END = object()


def stream(
    detector: Callable[..., list[Found]],
    source: Any,
    text: Any,
    *,
    track: bool | IouTracker = False,
    every: int = 1,
    batch_size: int = 4,
    bgr: bool = False,
    strict: bool = False,
    failures: list[ImageError] | None = None,
    **asked: Any,
) -> Iterator[Found]:
    """What is found in each picture of `source`, in its order.

    Pictures are decoded by a thread while the detector works, at most `batch_size` of them ahead:
    memory does not grow with the length of a film. Stop whenever you like; the thread ends.

        for found in stream(detector, "clip.mp4", "a red circle", track=True, every=2):
            print(found.source, found.track_ids)

    Args:
        detector: a `PhraseDetector`, or what answers a list of pictures as one.
        source: a picture, video, folder or pattern (see `find_sources`), or any iterable of them
            and of pictures, arrays, tensors or bytes.
        text: one text, or one list of class names, asked of all pictures.
        track: give boxes the number of their object (`Found.track_ids`); True for an `IouTracker`
            with its defaults. Pictures of a folder count as consecutive; a new video begins anew.
        every: of a video, look at each N-th frame only.
        batch_size: pictures that the detector is given at once.
        bgr: arrays are blue, green, red.
        strict: stop at a picture that cannot be read, instead of leaving it out with a log line.
        failures: pictures that were left out are appended here.
        asked: whatever else the detector takes: `threshold`, `negative_prompts`, `spans`.

    Returns:
        An iterator of `Found`, whose `source` says where it is from:
        "clip.mp4#t=1.20s frame 30".

    Raises:
        TypeError: `text` is one text per picture (`Texts`), or `source` is a mapping.
        ValueError: `every` or `batch_size` is no whole number from 1 on.
        FileNotFoundError: `source` is not there, or a folder without pictures.
        ImageError: (strict) a picture cannot be read.
        ImportError: a video, and PyAV is not installed.
    """
    seen = stream_frames(
        detector,
        read_frames(source, every=every, bgr=bgr, strict=strict, failures=failures),
        text,
        track=track,
        batch_size=batch_size,
        **asked,
    )
    return (found for _, found in seen)


def stream_frames(
    detector: Callable[..., list[Found]],
    frames: Iterator[Frame],
    text: Any,
    *,
    track: bool | IouTracker = False,
    batch_size: int = 4,
    **asked: Any,
) -> Iterator[tuple[Frame, Found]]:
    """`stream` for those who need to know more of a picture than what was found in it.

    Args:
        detector: as for `stream`.
        frames: of `read_frames`.
        text: as for `stream`, as are all that follow.
        track: True, False or a tracker.
        batch_size: pictures that the detector is given at once.
        asked: whatever else the detector takes.

    Raises:
        TypeError, ValueError: as `stream`.
    """
    if isinstance(text, Texts):
        raise TypeError(
            "a stream asks the same of all its pictures, got one text per picture (Texts); for "
            "that call the detector with lists"
        )
    check_count(batch_size, "batch_size")
    if not isinstance(track, bool | IouTracker):
        raise TypeError(f"track is True, False or an IouTracker, got {track!r}")
    tracker = IouTracker() if track is True else track or None
    return _looked_at(detector, frames, text, tracker, batch_size, asked)


def _looked_at(
    detector: Callable[..., list[Found]],
    frames: Iterator[Frame],
    text: Any,
    tracker: IouTracker | None,
    batch_size: int,
    asked: dict[str, Any],
) -> Iterator[tuple[Frame, Found]]:
    film = None
    ready = ahead(frames, batch_size)
    try:
        while batch := list(islice(ready, batch_size)):
            pictures = [frame.picture for frame in batch]
            answers = detector(pictures, text, batch_size=batch_size, **asked)
            for frame, found in zip(batch, answers, strict=True):
                found = replace(found, source=frame.name)
                if tracker is not None:
                    now = None if frame.number is None else frame.path
                    if now != film or frame.number == 0:  # the same film may come twice
                        tracker.cut()
                        film = now
                    found = tracker.update(found)
                yield frame, found
    finally:
        ready.close()


def ahead(items: Iterator[Item], count: int) -> Generator[Item, None, None]:
    """The same items, made by a thread up to `count` of them before they are asked for.

    What the iterator raises is raised here, in its place. Closing this closes the iterator.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="glipkit-ahead") as pool:
        pending = deque(pool.submit(next, items, _END) for _ in range(count))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, items, _END))
                yield item
        finally:
            for each in pending:
                each.cancel()
            pool.shutdown()  # waits for the one that is being made, if any
            if isinstance(items, Generator):
                items.close()
