"""ODinW's archives from a server of this machine to the folders that the task files name."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import LocalServer, local_server

from glipkit.data.download import DownloadError, read_sums
from glipkit.programs.odinw_download import archives_of, download
from glipkit.programs.odinw_plan import suite_files
from glipkit.runtime.locks import FolderLock

CONFIGS = Path(__file__).parents[2] / "configs"
RACCOON = CONFIGS / "odinw_13" / "Raccoon_Raccoon.v2-raw.coco.yaml"
TRAIN = "Raccoon/Raccoon.v2-raw.coco/train/annotations_without_background.json"


def zipped(*names: str, content: str = "{}") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        running.files["Raccoon.zip"] = zipped(TRAIN)
        yield running


def test_both_suites_know_their_archives() -> None:
    thirteen = archives_of(suite_files("13", CONFIGS))
    assert len(thirteen) == 13
    assert f"odinw/{TRAIN}" in thirteen["Raccoon"]
    assert len(archives_of(suite_files("35", CONFIGS))) == 32  # three hold two tasks each


def test_an_archive_lands_where_its_task_looks(server: LocalServer, tmp_path: Path) -> None:
    archives = archives_of([RACCOON])
    missing = download(archives, tmp_path, source=server.url)
    assert (tmp_path / "odinw" / TRAIN).read_text() == "{}"
    assert [Path(path).parent.name for path in missing] == ["test", "valid"]
    assert download(archives, tmp_path, source=server.url) == missing
    (tmp_path / "odinw" / TRAIN).unlink()  # what was removed is unpacked again
    assert download(archives, tmp_path, source=server.url) == missing
    assert (tmp_path / "odinw" / TRAIN).read_text() == "{}"
    assert len(server.asked) == 1  # nothing is fetched again


def test_the_sum_of_the_first_time_holds_ever_after(server: LocalServer, tmp_path: Path) -> None:
    archives = archives_of([RACCOON])
    download(archives, tmp_path, source=server.url)
    own = tmp_path / "odinw_archives"
    assert set(read_sums(own / "SHA256SUMS")) == {"Raccoon.zip"}
    (own / "Raccoon.zip").unlink()
    server.files["Raccoon.zip"] = zipped(TRAIN, content="[]")
    with pytest.raises(DownloadError, match="SHA-256"):
        download(archives, tmp_path, source=server.url)
    assert (tmp_path / "odinw" / TRAIN).read_text() == "{}"


def test_a_sum_that_is_given_is_checked(server: LocalServer, tmp_path: Path) -> None:
    sums = tmp_path / "sums"
    sums.write_text(f"{'0' * 64}  Raccoon.zip\n")
    with pytest.raises(DownloadError, match="SHA-256"):
        download(archives_of([RACCOON]), tmp_path, source=server.url, sums=sums)
    assert not (tmp_path / "odinw").exists()


def test_two_do_not_fetch_into_one_folder(server: LocalServer, tmp_path: Path) -> None:
    archives = archives_of([RACCOON])
    other = FolderLock(tmp_path / "odinw_archives")
    with pytest.raises(ValueError, match="odinw_archives is in use by another run: process"):
        download(archives, tmp_path, source=server.url)
    assert server.asked == []
    other.release()
    for _ in range(2):
        download(archives, tmp_path, source=server.url)
    assert len(server.asked) == 1


def test_paths_that_no_archive_brings_are_refused(tmp_path: Path) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text("DATASETS: {REGISTER: {test: {ann_file: mine/a.json, img_dir: mine}}}")
    with pytest.raises(ValueError, match="no archive of ODinW brings it"):
        archives_of([task])
