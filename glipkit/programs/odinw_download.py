"""ODinW's archives, fetched and unpacked to where the task files look for them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from glipkit.config.merge import SECTIONS
from glipkit.config.yaml_files import read_settings
from glipkit.data.archive import unpack
from glipkit.data.download import SUMS, fetch, read_sums, record_sum
from glipkit.runtime.files import write_atomically
from glipkit.runtime.locks import FolderLock

logger = logging.getLogger(__name__)

# Where the authors of GLIP keep them. They published no checksums.
SOURCE = "https://huggingface.co/GLIPModel/GLIP/resolve/main/odinw_35"
ARCHIVES, ROOT = "odinw_archives", "odinw"  # folders below the dataset root
_SPLITS = ("train", "val", "minival", "test")


def archives_of(files: Sequence[Path]) -> dict[str, list[str]]:
    """Which archives the tasks of some files need: name -> annotation files that it brings.

    Paths of the task files begin with odinw/<archive>/.

    Raises:
        ValueError: a task file has paths of another form.
    """
    found: dict[str, list[str]] = {}
    for file in files:
        settings = {each.key: each.value for each in read_settings(file, SECTIONS)}
        registered = settings.get("DATASETS.REGISTER", {})
        paths = [registered[name]["ann_file"] for name in _SPLITS if name in registered]
        for path in paths:
            parts = Path(path).parts
            if len(parts) < 3 or parts[0] != ROOT:
                raise ValueError(
                    f"{file}: {path} does not begin with {ROOT}/<archive>/, so no archive of ODinW "
                    "brings it"
                )
            found.setdefault(parts[1], []).append(path)
    return {name: sorted(set(paths)) for name, paths in sorted(found.items())}


def download(
    archives: Mapping[str, Sequence[str]],
    root: Path,
    *,
    source: str = SOURCE,
    sums: Path | None = None,
) -> list[str]:
    """Fetch and unpack archives; what is there already is not fetched again.

    The SHA-256 of a file that `sums` does not name is written down the first time and must be the
    same ever after: `root`/odinw_archives/SHA256SUMS.

    Args:
        archives: from `archives_of`.
        root: the dataset root, $DATASET.
        source: the address that <name>.zip is below.
        sums: a file as `sha256sum` writes it, of somebody whom you trust.

    Returns:
        Annotation files that were promised and did not come, relative to `root`.

    Raises:
        DownloadError: an archive cannot be fetched, or has another SHA-256.
        ArchiveError: it does not unpack to harmless files.
        ValueError: `sums` is not of that form, or another process fetches into this folder.
    """
    given = read_sums(sums) if sums is not None else {}
    lock = FolderLock(root / ARCHIVES)  # two would add to one file by turns
    try:
        return _download(archives, root, source, given)
    finally:
        lock.release()


def _download(
    archives: Mapping[str, Sequence[str]], root: Path, source: str, given: Mapping[str, str]
) -> list[str]:
    place = root / ARCHIVES
    own = place / SUMS
    missing = []
    for number, (name, promised) in enumerate(archives.items(), start=1):
        logger.info("archive %d of %d: %s", number, len(archives), name)
        file = place / f"{name}.zip"
        known = {**(read_sums(own) if own.is_file() else {}), **given}
        expected = known.get(file.name)
        digest = fetch(f"{source.rstrip('/')}/{file.name}", file, sha256=expected)
        if expected is None:
            logger.warning(
                "nobody said which SHA-256 %s must have; %s is written to %s and checked from now "
                "on",
                *(file.name, digest, own),
            )
            record_sum(own, file.name, digest)
        mark = place / f"{name}.unpacked"
        is_unpacked = mark.is_file() and mark.read_text() == digest
        if not is_unpacked or _missing(promised, root):  # somebody may have removed some
            unpack(file, root / ROOT)
            write_atomically(mark, digest)
        missing += _missing(promised, root)
    return missing


def _missing(promised: Sequence[str], root: Path) -> list[str]:
    return [path for path in promised if not (root / path).is_file()]
