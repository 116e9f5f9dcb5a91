from pathlib import Path

import huggingface_hub
import pytest

from glipkit.grounding.language_files import (
    MINILM_PACKAGE,
    fetch_file,
    find_file,
    folders,
    how_to_get,
    hub_repositories,
)

FILES = ("first.bin", "second.bin")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[tuple[str, str]]:
    """What the hub's cache holds; the run starts in an empty folder."""
    cached: set[tuple[str, str]] = set()

    def look(repository: str, file: str) -> str | None:
        return f"/cache/{repository}/{file}" if (repository, file) in cached else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look)
    monkeypatch.chdir(tmp_path)
    return cached


def put(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("")


def test_a_folder_comes_before_the_root_and_the_cache(cache: set[tuple[str, str]]) -> None:
    assert find_file("owner/mine", FILES) is None
    cache.add(("owner/mine", "second.bin"))
    assert find_file("owner/mine", FILES) == Path("/cache/owner/mine/second.bin")
    put("MODEL/owner/mine/second.bin")
    assert find_file("owner/mine", FILES) == Path("MODEL/owner/mine/second.bin")
    put("owner/mine/second.bin")
    assert find_file("owner/mine", FILES) == Path("owner/mine/second.bin")
    assert folders("owner/mine") == (Path("owner/mine"), Path("MODEL/owner/mine"))


def test_roots_are_looked_into_in_their_order() -> None:
    put("B/mine/first.bin")
    assert find_file("mine", FILES, roots=("A", "B")) == Path("B/mine/first.bin")
    put("A/mine/second.bin")
    assert find_file("mine", FILES, roots=("A", "B")) == Path("A/mine/second.bin")
    assert folders("mine", ("B", "A")) == (Path("B/mine"), Path("A/mine"))
    assert find_file("mine", FILES) is None


def test_advice_names_every_place(tmp_path: Path) -> None:
    told = how_to_get("owner/mine", ("A", "B"))
    assert "model.safetensors into A/owner/mine/ (looked into: " in told
    for place in ("owner/mine", "A/owner/mine", "B/owner/mine"):
        assert told.count(f"{tmp_path / place}") == 1
    put("A/owner/mine/second.bin")  # as advised
    assert find_file("owner/mine", FILES, roots=("A", "B"))
    assert how_to_get(f"{tmp_path}/gone").count(f"{tmp_path}/gone") == 2  # where to, where looked


def test_the_preferred_file_of_a_folder(cache: set[tuple[str, str]]) -> None:
    put("mine/second.bin", "mine/first.bin", "other/second.bin")
    assert find_file("mine", FILES) == Path("mine/first.bin")
    assert find_file("other", FILES) == Path("other/second.bin")


def test_no_name_means_no_folder() -> None:
    put("first.bin")
    assert folders("") == ()
    assert find_file("", FILES) is None


@pytest.mark.parametrize(
    ("name", "repositories"),
    [
        ("bert-base-uncased", ("bert-base-uncased", "google-bert/bert-base-uncased")),
        ("all-MiniLM-L6-v2", ("sentence-transformers/all-MiniLM-L6-v2",)),
        ("owner/name", ("owner/name",)),
        ("/no/such/folder", ()),
        ("./name", ()),
        ("../name", ()),
    ],
)
def test_what_the_hub_may_be_asked_for(name: str, repositories: tuple[str, ...]) -> None:
    assert hub_repositories(name) == repositories


def test_the_installed_package_has_names() -> None:
    package = pytest.importorskip(MINILM_PACKAGE)
    folder = Path(package.__path__[0]) / "model"
    assert find_file("all-MiniLM-L6-v2", ("config.json",)) == folder / "config.json"
    # Whoever asks for another encoder gets this one's files only on request.
    assert find_file("bert-base-uncased", ("config.json",)) is None
    borrowed = find_file("bert-base-uncased", ("vocab.txt",), package=MINILM_PACKAGE)
    assert borrowed == folder / "vocab.txt"


def test_fetching_fails_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="names no repository"):
        fetch_file("./folder", "config.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="because HF_HUB_OFFLINE is set"):
        fetch_file("bert-base-uncased", "config.json")


def test_fetching_asks_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *address: "/".join(address))
    assert fetch_file("bert-base-uncased", "x.bin") == Path("google-bert/bert-base-uncased/x.bin")
