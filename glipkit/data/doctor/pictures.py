"""The pictures that an annotation file speaks of: there, whole, and of the size it claims?"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from glipkit.data.doctor.contents import Contents
from glipkit.data.doctor.findings import Ailment, Chart
from glipkit.data.images import DECODER_ERRORS, ImageError, read_image
from glipkit.runtime.progress import image_progress

PICTURE_AILMENTS = {
    "picture-missing": Ailment(
        "error",
        "pictures are not there",
        "each is named, counted and left out: its boxes are missed",
        "point --pictures to the folder that file_name starts from (file_name has / between "
        "folders, not Windows' \\), or fetch the pictures",
    ),
    "picture-broken": Ailment(
        "error",
        "pictures cannot be read",
        "each is named, counted and left out: its boxes are missed",
        "fetch them again",
    ),
    "size-swapped": Ailment(
        "error",
        "pictures have width and height the other way round",
        "they are refused, as no box can fit: their boxes are missed",
        "swap width and height in the file; check the boxes too",
    ),
    "size-differs": Ailment(
        "error",
        "pictures have another size than the file says",
        "they are refused, as no box can fit: their boxes are missed",
        "were the pictures resized after labelling? Scale the boxes with them, and mend width and "
        "height",
    ),
    "size-turned": Ailment(
        "note",
        "pictures are stored lying down, with a mark (EXIF) that they are to be turned",
        "none here: the size in the file decides whether boxes are of the turned picture. "
        "Programs that ignore the mark, or always obey it, may misplace boxes",
        "save the pictures upright",
    ),
    "file-twice": Ailment(
        "warning",
        "pictures are listed more than once, under other ids",
        "each copy is judged with its own boxes only: what is found of the others' is wrong",
        "list a picture once, with all its boxes",
    ),
    "image-id-twice": Ailment(
        "error",
        "image ids are used twice",
        "the file is refused: nobody knows which picture a box is of",
        "number pictures from 1",
    ),
    "picture-twice": Ailment(
        "warning",
        "pictures are the same bytes as another under another name",
        "they count twice",
        "keep one of them",
    ),
    "pictures-unseen": Ailment(
        "note",
        "pictures were not looked at, as their folder is not known",
        "missing or resized pictures would go unnoticed",
        "pass --pictures",
    ),
}

_THREADS = 16  # mostly waiting for the disk
_TAIL = 4096  # bytes at the end that tell files of one size apart
_CHUNK = 4096  # pictures under way at a time, so that memory does not grow with the dataset
_ORIENTATION = 0x0112  # the EXIF tag
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # what the last bytes of a whole file hold


@dataclass(frozen=True, slots=True)
class Seen:
    """What the header of a picture file says."""

    path: Path
    size: tuple[int, int] = (0, 0)  # (height, width) as stored
    is_turned: bool = False  # EXIF says that a viewer shows it with the sides swapped
    is_suspect: bool = False  # has to be decoded to know
    stamp: tuple[int, bytes] = (0, b"")  # bytes in all, and a hash of the last
    is_missing: bool = False


def find_folder(contents: Contents) -> Path | None:
    """The folder that file names start from, if it is one of the usual ones beside the file."""
    if not len(contents.file_names):
        return None
    beside = contents.path.absolute().parent
    splits = re.split(r"[_.-]", contents.path.stem)[::-1]  # instances_val2017: val2017 first
    places = [beside, beside.parent]
    for place in (beside, beside.parent, beside.parent.parent):
        inner = (place, place / "images", place / "pictures")
        places += [*inner[1:], *(each / split for each in inner for split in splits)]
    first = range(min(3, len(contents.file_names)))
    addresses = [contents.addresses[row] for row in first]
    names = [contents.file_names[row] for row in first] + addresses
    wanted = {*names, *(each.split("/")[-1] for each in addresses)} - {""}
    for place in places:
        if any(os.path.isfile(place / name) for name in wanted):
            return place
    return None


def check_records(contents: Contents, chart: Chart) -> None:
    """Look for pictures that are listed twice; no file is opened."""
    ids, counts = np.unique(contents.image_ids, return_counts=True)
    twice = ids[counts > 1]
    chart.add("image-id-twice", *map(str, twice[:4]), count=len(twice))
    if contents.has_captions:
        return  # a record for each caption is the rule
    by_name = defaultdict(list)
    for row, name in enumerate(contents.file_names):
        by_name[name].append(row)
    for name, rows in by_name.items():
        numbers = {int(contents.image_ids[row]) for row in rows}
        if name and len(numbers) > 1:
            chart.add("file-twice", f"{name} (ids {sorted(numbers)[:4]})")


def check_pictures(contents: Contents, folder: Path, chart: Chart) -> dict[str, Seen]:
    """Open every picture's header, several at a time, and decode those that look cut off.

    Args:
        contents: of the annotation file.
        folder: of the pictures.
        chart: where findings go.

    Returns:
        What is there, by file name.
    """
    first = {name: row for row, name in reversed(list(enumerate(contents.file_names))) if name}
    names = list(first)[::-1]
    seen: dict[str, Seen] = {}
    with image_progress(len(names), "pictures") as bar, ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            paths = [folder / name for name in chunk]
            for name, found in zip(chunk, pool.map(read_header, paths)):
                size = tuple(contents.sizes[first[name]].tolist())
                _judge(name, found, size, folder, chart)
                if not found.is_missing:
                    seen[name] = found
                bar.update()
    _find_twins(seen, chart)
    return seen


def read_header(path: Path) -> Seen:
    """Size, orientation and last bytes of a picture; the pixels are not decoded."""
    if not os.path.isfile(path):  # also of a name that no file can have
        return Seen(path, is_missing=True)
    try:
        with path.open("rb") as file, Image.open(file) as image:
            height, width = image.height, image.width
            turned = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
            end = _ENDS.get(image.format or "")
            length = file.seek(0, 2)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
    except (*DECODER_ERRORS, Image.DecompressionBombError):
        return Seen(path, is_suspect=True)
    return Seen(
        path,
        (height, width),
        is_turned=turned,
        is_suspect=end is not None and end not in tail,
        stamp=(length, hashlib.blake2b(tail, digest_size=8).digest()),
    )


def same_bytes(a: Path, b: Path) -> bool:
    """Whether two files hold the same."""
    return a.read_bytes() == b.read_bytes()


def _judge(name: str, found: Seen, size: tuple[int, int], folder: Path, chart: Chart) -> None:
    if found.is_missing:
        near = _nearby(folder, name) if chart.wants("picture-missing") else ""
        chart.add("picture-missing", f"{folder / name}{near}")
        return
    if found.is_suspect:
        try:
            read_image(found.path)
        except ImageError as error:
            chart.add("picture-broken", str(error))
            return
    if size == (0, 0) or found.size == (0, 0):
        return
    (height, width), (claimed_height, claimed_width) = found.size, size
    said = f"{name}: the file says {claimed_width}x{claimed_height}, it has {width}x{height}"
    if found.is_turned and (found.size == size or found.size[::-1] == size):
        chart.add("size-turned", f"{said} before turning")
    elif found.size == size:
        return
    elif found.size[::-1] == size:
        chart.add("size-swapped", said)
    else:
        chart.add("size-differs", said)


def _nearby(folder: Path, name: str) -> str:
    """Where the picture may be instead."""
    parts = PureWindowsPath(name)  # splits at both kinds of slashes
    for candidate in (folder / parts.as_posix(), folder / parts.name):
        if os.path.isfile(candidate):
            return f" (there is {candidate})"
    place = (folder / parts.as_posix()).parent
    if not os.path.isdir(place):
        return f" (there is no folder {place})"
    same = (each.name for each in place.iterdir() if each.stem.lower() == parts.stem.lower())
    other = next(same, None)
    return f" (there is {other})" if other else ""


def _find_twins(seen: dict[str, Seen], chart: Chart) -> None:
    by_stamp = defaultdict(list)
    for name, found in seen.items():
        if found.stamp[0]:
            by_stamp[found.stamp].append(name)
    for names in by_stamp.values():
        for other in names[1:]:
            if same_bytes(seen[names[0]].path, seen[other].path):
                chart.add("picture-twice", f"{other} = {names[0]}")


def stamps(seen: Iterable[Seen]) -> dict[tuple[int, bytes], Path]:
    """Stamp -> one file that has it."""
    return {found.stamp: found.path for found in seen if found.stamp[0]}
