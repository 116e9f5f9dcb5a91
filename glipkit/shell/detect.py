"""`glipkit detect`: words found in pictures, folders and videos."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

import glipkit
from glipkit.data.images import ImageError
from glipkit.inference.build import find_device
from glipkit.inference.detector import checked_thresholds
from glipkit.inference.found import Found
from glipkit.inference.frames import Frame, read_files
from glipkit.inference.models import find_model
from glipkit.inference.sources import find_all, is_video
from glipkit.inference.stream import stream_frames
from glipkit.inference.tracking import IouTracker
from glipkit.inference.video import VideoWriter, load_av, video_facts
from glipkit.inference.words import phrases_of
from glipkit.runtime.logs import setup_logging
from glipkit.runtime.progress import image_progress
from glipkit.shell.answers import ANSWERS, PICTURES, AnswerFolder, copy_names, file_stamp
from glipkit.shell.arguments import read_names, read_thresholds, split_names
from glipkit.shell.explain import Explaining


def run(args: argparse.Namespace) -> int:
    """Look at everything; 1 if some of it could not be read."""
    setup_logging(level=logging.WARNING)
    # What can be refused is refused before a model is loaded, and before --out is touched.
    text = _text(args)
    asked = {"threshold": read_thresholds(args.threshold), "negative_prompts": args.negative}
    if args.every < 1:
        raise ValueError(f"--every counts frames and is at least 1, got {args.every}")
    if args.batch_size < 1:
        raise ValueError(f"--batch-size is at least 1, got {args.batch_size}")
    phrases = phrases_of(text, args.negative)
    if asked["threshold"] is not None:
        checked_thresholds(asked["threshold"], phrases)
    failures: list[ImageError] = []
    paths = find_all(args.pictures, outside=args.out / PICTURES, failures=failures)
    if failures and args.strict:
        raise failures[0]
    if any(map(is_video, paths)):
        load_av()
    find_device(args.device)
    files = find_model(args.model).digests()
    started = time.perf_counter()
    with AnswerFolder(args.out, _call(args, text, files), overwrite=args.overwrite) as answers:
        left = [path for path in paths if not answers.has(path)]
        before = answers.tally.pictures
        if left:
            detector = glipkit.load(args.model, device=args.device, precision=args.precision)
            names = copy_names(paths, answers.copies) if args.save_pictures else {}
            if args.explain:
                detector = Explaining(detector)
            look = _Looking(args, answers, names, failures)
            look(detector, left, text, asked)
        answers.finish((str(error.path), error.reason) for error in failures)
        tally = answers.tally
    seconds = time.perf_counter() - started
    _report(args, tally, tally.pictures - before, before, failures, seconds)
    return 1 if failures else 0


class _Looking:
    """What one call does with each picture."""

    def __init__(
        self,
        args: argparse.Namespace,
        answers: AnswerFolder,
        names: dict[Path, str],
        failures: list[ImageError],
    ) -> None:
        self._args, self._answers = args, answers
        self._names, self._failures = names, failures
        self._explaining: Explaining | None = None
        self._stamps: dict[Path, list[int] | None] = {}

    def __call__(
        self,
        detector: Callable[..., list[Found]],
        paths: Sequence[Path],
        text: str | list[str],
        asked: dict[str, Any],
    ) -> None:
        """Ask every picture and every video, in order; runs of pictures share batches."""
        self._explaining = detector if isinstance(detector, Explaining) else None
        # Films that are done keep their numbers.
        tracker = IouTracker(first=self._answers.tally.next_track) if self._args.track else None
        self._stamps = {path: file_stamp(path) for path in paths}  # before any of them is read
        with image_progress(self._total(paths), "looking") as bar:
            for films, run in _runs(paths):
                if tracker is not None:
                    tracker.cut()  # pictures after a film do not go on from it
                frames = read_files(
                    run, every=self._args.every, strict=self._args.strict, failures=self._failures
                )
                seen = stream_frames(
                    detector,
                    frames,
                    text,
                    track=tracker or False,
                    batch_size=self._args.batch_size,
                    **asked,
                )
                before = len(self._failures)
                with ExitStack() as stack:
                    draw = self._drawing(run[0], stack) if films else self._copy
                    for frame, found in seen:
                        self._take(frame, found, draw)
                        bar.update()
                    bar.update(0 if films else len(self._failures) - before)
                if films and len(self._failures) == before:
                    self._answers.finish_video(run[0], self._stamps[run[0]])

    def _take(self, frame: Frame, found: Found, draw: Callable[[Frame, Found], str | None]) -> None:
        self._explain(frame, found)
        drawn = draw(frame, found)
        place = {"source": frame.name, "file": str(frame.path)}
        if frame.number is not None:
            place |= {"frame": frame.number, "time": frame.time}
        place |= {"stamp": self._stamps[frame.path], "drawn": drawn}
        self._answers.add({**found.to_json(), **place})

    def _explain(self, frame: Frame, found: Found) -> None:
        if self._explaining is not None:
            if self._explaining.asked is None:
                self._explaining.asked = found.asked
                tqdm.write(found.asked.explain(), file=sys.stdout)
            tqdm.write(f"{frame.name}: {self._explaining.said.popleft()}", file=sys.stdout)

    def _copy(self, frame: Frame, found: Found) -> str | None:
        if not self._names:
            return None
        name = self._names[frame.path]
        path = self._answers.folder / PICTURES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save(path)
        return f"{PICTURES}/{name}"

    def _drawing(self, video: Path, stack: ExitStack) -> Callable[[Frame, Found], str | None]:
        """What draws the frames of one video into another."""
        if not self._names:
            return lambda frame, found: None
        name = self._names[video]
        writer: list[VideoWriter] = []

        def add(frame: Frame, found: Found) -> str:
            if not writer:  # now that it is known to be one
                rate = video_facts(video).rate / self._args.every
                path = self._answers.folder / PICTURES / name
                writer.append(stack.enter_context(VideoWriter(path, rate=rate)))
            writer[0].add(found.draw(), frame.time)
            return f"{PICTURES}/{name}"

        return add

    def _total(self, paths: Sequence[Path]) -> int | None:
        """Pictures and frames to come, if every video says how many it has."""
        counts = [self._frames(path) if is_video(path) else 1 for path in paths]
        return None if None in counts else sum(counts)

    def _frames(self, path: Path) -> int | None:
        try:
            frames = video_facts(path).frames
        except ImageError:
            return 0  # it will be named when its turn comes
        return None if frames is None else -(-frames // self._args.every)


def _runs(paths: Sequence[Path]) -> Iterator[tuple[bool, list[Path]]]:
    """Consecutive pictures together, each video alone."""
    pictures: list[Path] = []
    for path in paths:
        if not is_video(path):
            pictures.append(path)
            continue
        if pictures:
            yield False, pictures
            pictures = []
        yield True, [path]
    if pictures:
        yield False, pictures


def _text(args: argparse.Namespace) -> str | list[str]:
    if args.names_file is not None:
        return read_names(args.names_file)
    return args.text if args.names is None else split_names(args.names)


def _call(args: argparse.Namespace, text: str | list[str], files: dict[str, str]) -> dict[str, Any]:
    """What the answers depend on: also where "photos/1.jpg" or "runs/best" start from."""
    paths = [*args.pictures, *([args.model] if os.path.exists(args.model) else [])]
    return {
        "pictures": args.pictures,
        "working_folder": None if all(map(os.path.isabs, paths)) else str(Path.cwd()),
        "text": text,
        "model": args.model,
        "model_sha256": files,
        "precision": args.precision,
        "threshold": args.threshold,
        "negative": args.negative,
        "save_pictures": args.save_pictures,
        "track": args.track,
        "every": args.every,
        "glipkit": glipkit.__version__,
    }


def _report(
    args: argparse.Namespace,
    tally: Any,
    new: int,
    before: int,
    failures: Sequence[ImageError],
    seconds: float,
) -> None:
    lines = [str(tally), ""] if tally.pictures else []
    pace = f" in {seconds:.1f} s, {new / seconds:.2f} a second" if new else ""
    lines.append(
        f"{new} picture{'s' * (new != 1)}{pace}"
        + (f", {before} were done before" if before else "")
    )
    if failures:
        lines.append(f"{len(failures)} could not be read:")
        lines += [f"  {error}" for error in failures[:20]]
        if len(failures) > 20:
            lines.append(f"  and {len(failures) - 20} more, all in detect.json")
    lines.append(f"answers: {args.out / ANSWERS}")
    if args.save_pictures and tally.pictures:
        lines.append(f"annotated copies: {args.out / PICTURES}")
    sys.stdout.write("\n".join(lines) + "\n")
