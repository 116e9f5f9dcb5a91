"""A file from a server: fetched in pieces that add up, and known again by its SHA-256."""

import http.client
import json
import logging
import re
import shutil
import ssl
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from pathlib import Path

from glipkit.runtime.files import file_sha256, write_atomically
from glipkit.runtime.progress import byte_progress

logger = logging.getLogger(__name__)

SUMS = "SHA256SUMS"
_BLOCK = 1 << 20
_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(.+)")
_BROKEN = (
    *(urllib.error.URLError, TimeoutError, ConnectionError),
    *(ssl.SSLError, http.client.HTTPException),
)
_ATTEMPTS = 3  # at going on where a connection broke; the next command goes on too


class DownloadError(OSError):
    """What came is not what was asked for, or did not come whole."""


def fetch(url: str, path: Path, *, sha256: str | None = None, timeout: float = 60.0) -> str:
    """Fetch a file, or the rest of it if an earlier call was interrupted.

    What has come so far lies beside `path`, as <name>.part; `path` appears when it is whole.

    Args:
        url: http or https. Nothing that begins as https may be led on to http.
        path: where to; a file that is there already is kept and only checked.
        sha256: what it must have, in hex; None: not known.
        timeout: seconds that the server may be silent.

    Returns:
        The SHA-256 of the file, in hex.

    Raises:
        DownloadError: the server has no such file or cannot be reached, the disk is too small, or
            the file has another SHA-256 (then it is removed if it was fetched now).
        ValueError: `url` is of another kind.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"only http and https are fetched, got {url}")
    is_new = not path.is_file()
    if is_new:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch_whole(url, path, timeout)
    found = file_sha256(path)
    if sha256 is not None and found != sha256.lower():
        if is_new:
            path.unlink()
        raise DownloadError(
            f"{path} has the SHA-256 {found}, not {sha256.lower()}: it is damaged or another "
            f"file. {'It was removed again' if is_new else 'Remove it to fetch it anew'} ({url})"
        )
    return found


def read_sums(path: Path) -> dict[str, str]:
    """The lines of a file as `sha256sum` writes it: name -> SHA-256 in hex.

    Raises:
        ValueError: a line has another form, or a file has two sums.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"{path}, line {number}: expected SHA-256 and name, got {line!r}")
        name = Path(found[2]).name
        if sums.setdefault(name, found[1].lower()) != found[1].lower():
            raise ValueError(f"{path}, line {number}: {name} has another SHA-256 further up")
    return sums


def record_sum(path: Path, name: str, sha256: str) -> None:
    """Add a line to a file of sums, which is made when missing.

    Args:
        path: of the file of sums.
        name: of the file that the sum is of; its old line is replaced.
        sha256: the sum, in hex.
    """
    sums = read_sums(path) if path.is_file() else {}
    lines = [f"{value}  {key}\n" for key, value in sorted({**sums, name: sha256}.items())]
    write_atomically(path, "".join(lines))


def _fetch_whole(url: str, path: Path, timeout: float) -> None:
    part, note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if _go_on(url, part, note, timeout):
                part.replace(path)
                note.unlink(missing_ok=True)
                return
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            raise DownloadError(f"{url}: the server says {error.code} {error.reason}") from error
        except _BROKEN as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        except DownloadError:
            raise
        except OSError as error:  # a full disk, say, whose errors name no file
            raise DownloadError(
                f"{url}: {error.strerror or error}; {_kept(part)}, once that is mended"
            ) from error
        if attempt < _ATTEMPTS:
            logger.warning("%s: %s; going on", url, problem)
    raise DownloadError(f"{url}: {problem}; {_kept(part)}")


def _kept(part: Path) -> str:
    kept = part.stat().st_size if part.is_file() else 0
    return f"{kept} bytes are kept in {part}, and the same command goes on from them"


def _go_on(url: str, part: Path, note: Path, timeout: float) -> bool:
    """Fetch what is missing of `part`; False if the connection ended before that."""
    have = part.stat().st_size if part.is_file() else 0
    known = _note(note) if have else {}
    request = urllib.request.Request(url, headers={"User-Agent": "glipkit"})
    if known.get("url") == url and known.get("tag"):
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known["tag"])  # else the server sends all of the new file
        if known.get("total") == have:
            return True
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        if url.startswith("https:") and not answer.url.startswith("https:"):
            raise DownloadError(f"{url} leads on to {answer.url}, which anybody could change")
        have = have if _goes_on(answer, have) else 0
        total = _total(answer, have)
        _check_space(part, url, total, have)
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        tag = "" if tag.startswith("W/") else tag  # a weak one does not promise the same bytes
        write_atomically(note, json.dumps({"url": url, "tag": tag, "total": total}))
        with (
            part.open("ab" if have else "wb") as file,
            byte_progress(total or 0, part.name.removesuffix(".part")) as bar,
        ):
            bar.update(have)
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                bar.update(len(block))
    if total is not None and have > total:
        part.unlink()
        raise DownloadError(f"{url}: {have} bytes came, {total} were announced")
    return total is None or have == total


def _goes_on(answer: http.client.HTTPResponse, first: int) -> bool:
    """Whether these are the bytes from `first` on, and not the file from its beginning."""
    said = answer.headers.get("Content-Range") or ""
    return answer.status == HTTPStatus.PARTIAL_CONTENT and said.startswith(f"bytes {first}-")


def _total(answer: http.client.HTTPResponse, have: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return have + int(length) if length.isdecimal() else None


def _check_space(part: Path, url: str, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise DownloadError(
            f"{url} needs {total - have} bytes more, but {part.parent} has room for {free}"
        )


def _note(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
