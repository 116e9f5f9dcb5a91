import hashlib
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from glipkit.engine.tensor_files import CheckpointError
from glipkit.engine.weights import PUBLISHED_FILES, find_weights

TINY = "glip_tiny_model_o365_goldg_cc_sbu.pth"
CONTENT = b"weights"
SHA = hashlib.sha256(CONTENT).hexdigest()


class Hub:
    """Stands in for the hub's client: what it holds, and what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str]] = []
        self.etag: str | None = SHA
        self.error: Exception | None = None
        self.cached: set[str] = set()

    def file(self, name: str) -> str:
        (self.folder / name).write_bytes(CONTENT)
        return str(self.folder / name)

    def metadata(self, url: str) -> SimpleNamespace:
        if self.error:
            raise self.error
        return SimpleNamespace(etag=self.etag)

    def download(self, repository: str, name: str) -> str:
        self.asked.append((repository, name))
        return self.file(name)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    (tmp_path / "hub").mkdir()
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", hub.metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda _, name: hub.file(name) if name in hub.cached else None,
    )
    return hub


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "MODEL"
    root.mkdir()
    (root / "mine.safetensors").write_bytes(CONTENT)
    (root / "other.pth").write_bytes(CONTENT)
    return root


def test_finds_what_is_on_this_machine(hub, root, tmp_path):
    assert find_weights(root / "other.pth", tmp_path) == root / "other.pth"
    assert find_weights("other.pth", root) == root / "other.pth"
    assert find_weights("other", root) == root / "other.pth"
    assert find_weights("mine", root) == root / "mine.safetensors"
    (root / TINY).write_bytes(CONTENT)
    assert find_weights(TINY, root) == root / TINY
    assert find_weights(TINY, str(root), sha256=SHA.upper()) == root / TINY
    assert not hub.asked


@pytest.mark.parametrize("name", PUBLISHED_FILES)
def test_fetches_published_files(name, hub, root):
    for spec in (name, name.removesuffix(".pth"), str(root / name)):
        assert find_weights(spec, root).name == name
    assert hub.asked == [("GLIPModel/GLIP", name)] * 3


def test_fetches_from_a_named_repository(hub, root):
    find_weights("hf://somebody/their-glip/a.safetensors", root)
    assert hub.asked == [("somebody/their-glip", "a.safetensors")]
    with pytest.raises(ValueError, match="expected hf://owner/repository/file, got 'hf://a/b'"):
        find_weights("hf://a/b", root)


def test_takes_what_the_cache_of_the_hub_has(hub, root, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.cached.add(TINY)
    assert find_weights(TINY, root).read_bytes() == CONTENT
    assert not hub.asked


def test_does_not_ask_the_hub_when_told_not_to(hub, root, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set"):
        find_weights(TINY, root)
    assert not hub.asked


@pytest.mark.parametrize("error", [ConnectionError("no route"), FileNotFoundError("not there")])
def test_says_what_to_put_where(error, hub, root):
    hub.error = error
    with pytest.raises(FileNotFoundError) as raised:
        find_weights(TINY, root)
    message = str(raised.value)
    assert f"Put the file at {root / TINY}" in message
    assert f"{root} holds mine.safetensors, other.pth" in message
    assert str(error) in message
    assert "https://huggingface.co/GLIPModel/GLIP" in message


def test_a_real_client_without_a_network_is_understood(root, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_url", lambda *_: "http://127.0.0.1:9/GLIPModel/GLIP"
    )
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(FileNotFoundError, match=r"The hub gave no file: .*Connect"):
        find_weights(TINY, root)


def test_a_folder_is_called_one(root):
    (root / "some.pth").mkdir(parents=True)
    (root / "some.pth" / "last.pth").write_text("")
    with pytest.raises(FileNotFoundError, match=r"is a folder; name one file.*holds last\.pth"):
        find_weights(root / "some.pth", root)


@pytest.mark.parametrize("spec", ["gone.pth", "/nowhere/glip_large_model.pth"])
def test_does_not_fetch_what_nobody_published(spec, hub, root):
    with pytest.raises(FileNotFoundError, match="neither a path nor in"):
        find_weights(spec, root)
    assert not hub.asked


def test_a_checksum_that_differs_is_an_error(hub, root, caplog):
    with pytest.raises(CheckpointError, match="that you gave"):
        find_weights("other", root, sha256="0" * 64)
    hub.etag = "0" * 64
    with pytest.raises(CheckpointError, match="that the hub has on record"):
        find_weights(TINY, root)
    hub.etag = "short"
    find_weights(TINY, root)
    assert "was not verified" in caplog.text


def test_refuses_nonsense(root):
    with pytest.raises(ValueError, match="--weight"):
        find_weights("", root)
    with pytest.raises(ValueError, match="64 hexadecimal digits, got 'abc'"):
        find_weights("other", root, sha256="abc")
