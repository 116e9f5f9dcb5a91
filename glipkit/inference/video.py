"""Frames of a video in and out: the only door to PyAV, which is an optional extra."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from PIL import Image

from glipkit.data.images import MAX_PIXELS, ImageError
from glipkit.runtime.files import draft_of, flush_to_disk

_ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that PyAV was built with
_TICKS = 90_000  # a second, the usual clock of video files: 25, 30 and 29.97 Hz all fit it
_FALLBACK_RATE = Fraction(25)
_MOST = 0.9  # of the frames, and of the time, are there in a film that is whole


class VideoFrame(NamedTuple):
    """One picture of a video."""

    number: int  # from 0, counting every frame of the file
    time: float | None  # seconds from the start, where the file knows
    picture: Image.Image


def read_video(path: Path, *, every: int = 1) -> Iterator[VideoFrame]:
    """The frames of a video one after the other, turned as a player would show them.

    Only this file is opened: what a playlist refers to elsewhere is not.

    Args:
        path: the file.
        every: 1 for all frames; N for the frames 0, N, 2N, ...

    Raises:
        ImageError: the file is missing or no video, is larger than MAX_PIXELS a frame, or breaks
            off; the frames before that have been yielded.
        ImportError: PyAV is not installed.
    """
    av = load_av()
    number = -1
    with _named(av, path, lambda: number), _opened(av, path) as container:
        track = _track(container, path)
        track.thread_type = "AUTO"
        begin = float((track.start_time or 0) * track.time_base)  # not 0 in .ts files
        time = None
        for number, frame in enumerate(container.decode(track)):
            time = None if frame.time is None else max(0.0, frame.time - begin)
            if number % every == 0:
                if frame.width * frame.height > MAX_PIXELS:
                    raise ImageError(path, f"frames of more than {MAX_PIXELS:,} pixels")
                yield VideoFrame(number, time, _upright(frame))
        if number < 0:
            raise ImageError(path, "cannot be read as a video: it has no frames")
        _check_end(track, path, number, time)


class VideoFacts(NamedTuple):
    """What a video's header says."""

    frames: int | None  # where it says so, or length and rate do
    rate: Fraction  # frames per second


def video_facts(path: Path) -> VideoFacts:
    """Length and rate of a video, without decoding it.

    Raises:
        ImageError: it cannot be opened as a video.
        ImportError: PyAV is not installed.
    """
    av = load_av()
    with _named(av, path, lambda: -1), _opened(av, path) as container:
        track = _track(container, path)
        rate = track.average_rate or _FALLBACK_RATE
        frames = track.frames or None
        if frames is None and container.duration:
            frames = round(container.duration / av.time_base * rate)
        return VideoFacts(frames, rate)


class VideoWriter:
    """An mp4 that is there once the block ends, and not at all if it fails; a context manager.

    Nobody sees half of it, also when the machine stops.

    Args:
        path: of the file; its folder is created.
        rate: frames per second, about; each frame is shown at its own time.

    Raises:
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path, *, rate: Fraction) -> None:
        self._av = load_av()
        self._path = path
        self._rate = rate
        self._draft = draft_of(path)
        self._last = -1  # tick of the frame before
        self._track: Any = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(f"file:{self._draft}", "w", format="mp4")

    def add(self, picture: Image.Image, time: float | None) -> None:
        """Append a picture, shown from `time` seconds on; None is one frame after the last."""
        if self._track is None:
            self._begin(picture)
        step = max(1, round(_TICKS / self._rate))
        due = self._last + step if time is None else round(time * _TICKS)
        frame = self._av.VideoFrame.from_image(_even(picture))
        frame.pts = self._last = max(due, self._last + 1, 0)
        frame.time_base = Fraction(1, _TICKS)
        self._container.mux(self._track.encode(frame))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            try:
                if kind is None and self._track is not None:
                    self._container.mux(self._track.encode(None))
            finally:
                self._container.close()
            if kind is None and self._track is not None:
                flush_to_disk(self._draft)
                self._draft.replace(self._path)
                flush_to_disk(self._path.parent)
        finally:
            self._draft.unlink(missing_ok=True)

    def _begin(self, picture: Image.Image) -> None:
        known = self._av.codecs_available
        encoder = next(name for name in _ENCODERS if name in known)
        options = {"crf": "20", "preset": "fast"} if encoder == "libx264" else {}
        self._track = self._container.add_stream(encoder, rate=self._rate, options=options)
        self._track.width, self._track.height = _even(picture).size
        self._track.pix_fmt = "yuv420p"  # what every player plays
        self._track.codec_context.time_base = Fraction(1, _TICKS)


def load_av() -> ModuleType:
    """PyAV.

    Raises:
        ImportError: it is not installed; says how to.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f"videos are read with PyAV, which is not installed: pip install 'glipkit[video]' "
            f"({error})"
        ) from error
    return av


@contextlib.contextmanager
def _opened(av: ModuleType, path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise ImageError(path, "no such file")
    # "file:" so that no name is taken for a protocol; the list so that no playlist leads elsewhere.
    options = {"protocol_whitelist": "file,crypto,data"}
    with av.open(f"file:{path}", container_options=options) as container:
        yield container


@contextlib.contextmanager
def _named(av: ModuleType, path: Path, last: Any) -> Iterator[None]:
    """Errors of FFmpeg become ones that name the file and where it broke."""
    try:
        yield
    except av.error.FFmpegError as error:
        number = last()
        where = f"breaks off after frame {number}" if number >= 0 else "cannot be read as a video"
        raise ImageError(path, f"{where}: {error.strerror}") from error


def _track(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise ImageError(path, "cannot be read as a video: it has no picture track")
    return container.streams.video[0]


def _check_end(track: Any, path: Path, number: int, time: float | None) -> None:
    """See that the last frame is about where the header says that the film ends.

    A file that was cut between two frames just ends, without an error of FFmpeg. Headers may count
    frames that are not shown, so the time has to be missing too.
    """
    if not track.frames or not track.duration or time is None:
        return
    lacks_frames = number + 1 < _MOST * track.frames
    if lacks_frames and time < _MOST * float(track.duration * track.time_base):
        raise ImageError(
            path, f"breaks off after frame {number}: its header speaks of {track.frames} frames"
        )


def _upright(frame: Any) -> Image.Image:
    """The frame as RGB, turned as the file asks (telephones store upright films lying down)."""
    picture = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _even(picture: Image.Image) -> Image.Image:
    """With even sides, as yuv420p needs, by a dark row or column at the end."""
    width, height = picture.size
    if width % 2 == 0 and height % 2 == 0:
        return picture
    return picture.crop((0, 0, width + width % 2, height + height % 2))
