"""Downloads that are interrupted, damaged, replaced and led astray."""

import hashlib
import resource
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import LocalServer, local_server

from glipkit.data import download
from glipkit.data.download import DownloadError, fetch, read_sums, record_sum

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        running.files["a.zip"] = CONTENT
        yield running


def test_a_file_comes_whole_and_only_once(server: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.zip"
    assert fetch(f"{server.url}/a.zip", path) == DIGEST
    assert path.read_bytes() == CONTENT
    assert fetch(f"{server.url}/a.zip", path, sha256=DIGEST.upper()) == DIGEST
    assert len(server.asked) == 1
    assert [each.name for each in path.parent.iterdir()] == ["a.zip"]


def test_a_broken_connection_is_taken_up_where_it_broke(
    server: LocalServer, tmp_path: Path
) -> None:
    server.breaks = [100_000, 50_000]
    assert fetch(f"{server.url}/a.zip", tmp_path / "a.zip", sha256=DIGEST) == DIGEST
    assert [wanted for _, wanted in server.asked] == ["", "bytes=100000-", "bytes=150000-"]


def test_the_next_command_goes_on_too(server: LocalServer, tmp_path: Path) -> None:
    server.breaks = [1000, 1000, 1000]
    with pytest.raises(DownloadError, match=r"3000 bytes are kept in .*a\.zip\.part"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    assert fetch(f"{server.url}/a.zip", tmp_path / "a.zip") == DIGEST
    assert server.asked[-1] == ("a.zip", "bytes=3000-")


def test_a_file_that_changed_meanwhile_is_begun_anew(server: LocalServer, tmp_path: Path) -> None:
    server.breaks = [1000, 1000, 1000]
    with pytest.raises(DownloadError):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    server.files["a.zip"] = other = CONTENT[::-1]
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == other


def test_a_server_without_ranges_is_asked_for_everything(
    server: LocalServer, tmp_path: Path
) -> None:
    server.resumes = False
    server.breaks = [1000]
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_another_sum_is_refused_and_the_file_removed(server: LocalServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="It was removed again"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="Remove it to fetch it anew"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", sha256=DIGEST)
    assert (tmp_path / "a.zip").read_bytes() == b"mine"


def test_missing_files_and_servers_are_said(server: LocalServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the server says 404"):
        fetch(f"{server.url}/b.zip", tmp_path / "b.zip")
    with pytest.raises(DownloadError, match="refused"):
        fetch("http://127.0.0.1:1/b.zip", tmp_path / "b.zip")


def test_a_full_disk_is_seen_before_it_is_full(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"512000 bytes more, but .* has room for 1000"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip")


def test_a_disk_that_fills_up_keeps_what_has_come(server: LocalServer, tmp_path: Path) -> None:
    """A limit on file sizes ends a write half way, as a full disk or a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DownloadError, match=r"File too large; 100000 bytes are kept in .*part"):
            fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert fetch(f"{server.url}/a.zip", tmp_path / "a.zip") == DIGEST
    assert server.asked[-1] == ("a.zip", "bytes=100000-")


def test_a_secure_connection_may_break_too(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, broken = download.urllib.request.urlopen, [ssl.SSLError(1, "bad record mac")]

    def urlopen(*how: object, **more: object) -> object:
        if broken:
            raise broken.pop()
        return ask(*how, **more)

    monkeypatch.setattr(download.urllib.request, "urlopen", urlopen)
    assert fetch(f"{server.url}/a.zip", tmp_path / "a.zip") == DIGEST


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.zip", "a.zip"])
def test_only_the_web_is_asked(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only http and https"):
        fetch(url, tmp_path / "a.zip")


def test_sums_read_as_sha256sum_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    path.write_text(f"# of a friend\n{DIGEST} *a.zip\n\n{'0' * 64}  ./odinw/b.zip\n")
    assert read_sums(path) == {"a.zip": DIGEST, "b.zip": "0" * 64}
    record_sum(path, "c.zip", "1" * 64)
    assert read_sums(path)["c.zip"] == "1" * 64
    assert read_sums(path)["a.zip"] == DIGEST


@pytest.mark.parametrize("line", ["abc  a.zip", f"{DIGEST} a.zip\n{'0' * 64} a.zip"])
def test_sums_that_make_no_sense_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "SHA256SUMS"
    path.write_text(line)
    with pytest.raises(ValueError, match="line"):
        read_sums(path)
