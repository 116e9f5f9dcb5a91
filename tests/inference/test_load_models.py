"""glipkit.load: names, folders, files, and what is said where there is none."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import drawn
import pytest
import torch
import yaml
from tiny_run import tiny_config, write_run

import glipkit
from glipkit.config.load import to_yaml
from glipkit.engine.checkpoint import save_weights, weights_hash
from glipkit.engine.tensor_files import CheckpointError, read_tensors, write_tensors
from glipkit.engine.tuned import save_tuned
from glipkit.inference import build, models
from glipkit.inference.build import recognise
from glipkit.inference.known import KNOWN, SHIPPED, KnownModel
from glipkit.modeling.build import build_model
from glipkit.modeling.fill import fill_model

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
import test_grounding_net  # noqa: E402

NAMES = ["cat", "dog", "owl"]
PUBLISHED = ["glip_Swin_T_O365_GoldG", "glip_Swin_T_O365", "glip_A_Swin_T_O365", "glip_Swin_L"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(autouse=True)
def _own_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights of this machine take part, and nobody is asked for any."""
    monkeypatch.setenv("GLIPKIT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("glipkit.load asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def hash_of(detector: glipkit.PhraseDetector) -> str:
    return weights_hash(detector.detector.model)


@pytest.mark.parametrize("chunk", ["-1", "2"])
def test_answers_are_those_of_the_evaluation(chunk: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "TEST.CHUNKED_EVALUATION", chunk)
    spec = drawn.draw(tmp_path / "data", num_images=10)
    entry = {"ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir)}
    task = {"DATASETS": {"REGISTER": {"drawn": entry}, "TEST": '("drawn",)'}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    words = ["--config-file", run / "config.yaml", "--task_config", tmp_path / "task.yaml"]
    words += ["--weight", run / "model_best.safetensors", "OUTPUT_DIR", tmp_path / "out"]
    words += ["TEST.IMS_PER_BATCH", 1]
    assert test_grounding_net.main([str(word) for word in words]) == 0
    written = json.loads((tmp_path / "out" / "task" / "drawn" / "predictions.json").read_text())

    content = json.loads(spec.ann_file.read_text())
    ids = {each["name"]: each["id"] for each in content["categories"]}
    detector = glipkit.load(run, device="cpu")
    for image in content["images"]:
        path = spec.img_dir / image["file_name"]
        found = detector(path, NAMES, threshold=0.0).to_coco(image["id"], ids)
        expected = [each for each in written if each["image_id"] == image["id"]]
        assert len(expected) > 5
        assert sorted(map(str, found)) == sorted(map(str, expected))


def test_a_folder_says_the_best_it_has(run: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "some run", weights="model_final.safetensors", seed=1)
    assert hash_of(glipkit.load(folder)) != hash_of(glipkit.load(run))
    assert glipkit.load(str(folder)).name == "some run"
    write_run(folder, weights="model_best.safetensors")
    assert hash_of(glipkit.load(folder)) == hash_of(glipkit.load(run))
    last = hash_of(glipkit.load(folder, weights="model_final.safetensors"))
    assert last != hash_of(glipkit.load(run))
    other = glipkit.load(run, weights=folder / "model_final.safetensors")
    assert hash_of(other) == last


def test_a_file_knows_the_configuration_beside_it(run: Path) -> None:
    detector = glipkit.load(run / "model_best.safetensors")
    assert detector.name == "model_best"
    assert hash_of(detector) == hash_of(glipkit.load(run))


def test_a_yaml_file_with_weights(run: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text((run / "config.yaml").read_text())
    detector = glipkit.load("tiny.yaml", weights=run / "model_best.safetensors")
    assert hash_of(detector) == hash_of(glipkit.load(run))
    with pytest.raises(ValueError, match=r"'tiny\.yaml', weights=FILE\), or a folder with both"):
        glipkit.load("tiny.yaml")
    with pytest.raises(ValueError, match=r"already; got other\.pth as well"):
        glipkit.load(run / "model_best.safetensors", weights="other.pth")


def make_known(monkeypatch: pytest.MonkeyPatch, **known: Path) -> None:
    """These are the models with a name, for the length of a test."""
    table = {key: KnownModel("", str(path), f"{key}.pth", 0.25) for key, path in known.items()}
    monkeypatch.setattr(models, "KNOWN", table)
    monkeypatch.setattr(build, "KNOWN", table)


@pytest.mark.parametrize("name", ["tiny.pth", "tiny.safetensors"])
@pytest.mark.parametrize("folder", ["models", "MODEL"])
def test_a_name_finds_its_published_file(
    name: str, folder: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_known(monkeypatch, tiny=run / "config.yaml")
    model = build_model(tiny_config())
    fill_model(model, seed=2)
    save_weights(model, tmp_path / folder / name, layout="published")
    detector = glipkit.load("Tiny")
    assert (detector.name, detector.default_threshold) == ("tiny", 0.25)
    assert hash_of(detector) == weights_hash(model)


def test_missing_weights_say_where_they_go(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        glipkit.load("glip-l")
    for part in (
        *("glip_large_model.pth", "nothing is downloaded", "https://huggingface.co/GLIPModel/GLIP"),
        *(str(tmp_path / "models" / "glip_large_model.pth"), "glipkit.load('nano')"),
    ):
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no weights 'mine\.pth': looked into"):
        glipkit.load("glip-t", weights="mine.pth")


def test_a_published_file_that_is_not_there_is_told_from_where_it_is() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"the published glip-l is at https://hugg.*/GLIPModel/GLIP$"
    ):
        glipkit.load("MODEL/glip_large_model.pth")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'nanoo'; known are nano, .*glip-l"):
        glipkit.load("nanoo")
    with pytest.raises(ValueError, match=r"known are glip-t-a, glip-t"):
        glipkit.load("glipta")
    with pytest.raises(ValueError, match="unknown model ''; known are"):
        glipkit.load("")
    for path in (Path("nano"), "./nano", "gone.pth", "out/gone"):
        with pytest.raises(FileNotFoundError, match="no such file or folder"):
            glipkit.load(path)
    for model in (None, 3, b"nano"):
        with pytest.raises(TypeError, match=f"name, a folder or a file, got {model}"):
            glipkit.load(model)
    with pytest.raises(ValueError, match="is an address, and nothing is fetched"):
        glipkit.load("https://example.org/glip.pth")


def test_folders_that_are_no_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"it has no config\.yaml; .* holds nothing"):
        glipkit.load(tmp_path)
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(FileNotFoundError, match=r"expected one of model_best\.safetensors, "):
        glipkit.load(tmp_path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match="a web page"):
        glipkit.load(tmp_path / "page.pth")
    write_tensors({"conv1.weight": torch.zeros(2)}, tmp_path / "resnet.safetensors")
    with pytest.raises(CheckpointError, match="none of the 1 names is GLIP's"):
        glipkit.load(tmp_path / "resnet.safetensors")


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_architectures_are_recognised(
    model: str, golden: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By names and shapes alone: on the meta device."""
    entries = json.loads((golden / "manifests" / f"{model}.json").read_text())["entries"]
    tensors = {each["name"]: torch.empty(each["shape"], device="meta") for each in entries}
    known = recognise(tensors, source="published.pth")
    same = {"glip_Swin_T_O365": "glip_Swin_T_O365_GoldG"}.get(model, model)
    assert known.config == f"{same}.yaml"
    assert not caplog.records  # GLIP-L's file has keys that mean nothing here


def alone(run: Path, folder: Path) -> Path:
    """The weights of a run, without its configuration."""
    folder.mkdir(exist_ok=True)
    data = (run / "model_best.safetensors").read_bytes()
    (folder / "alone.safetensors").write_bytes(data)
    return folder / "alone.safetensors"


def test_weights_alone_are_recognised_or_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = alone(run, tmp_path / "alone")
    make_known(monkeypatch, tiny=run / "config.yaml")
    assert hash_of(glipkit.load(weights)) == hash_of(glipkit.load(run))

    other = tmp_path / "deeper.yaml"
    other.write_text(to_yaml(tiny_config("MODEL.DYHEAD.NUM_CONVS", "2")))
    make_known(monkeypatch, deeper=other)
    with pytest.raises(CheckpointError) as caught:
        glipkit.load(weights)
    message = str(caught.value)
    assert "fits no known model: it has Swin of 16 channels and 1-1-1-1 blocks, 1 tower" in message
    assert "  deeper: " in message
    assert "Put the config.yaml of its run beside it" in message


def test_two_architectures_of_the_same_shapes_are_not_guessed_between(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "larger anchors.yaml"
    other.write_text(to_yaml(tiny_config("MODEL.RPN.ANCHOR_SIZES", "(80, 160, 320, 640, 1280)")))
    make_known(monkeypatch, tiny=run / "config.yaml", larger=other)
    with pytest.raises(CheckpointError, match="fits tiny and larger"):
        glipkit.load(alone(run, tmp_path / "alone"))


def test_a_learned_prompt_is_loaded_onto_its_base(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = ("SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "language_prompt_v2")
    folder = write_run(tmp_path / "tuned", *mode, weights="base.safetensors")
    model = build_model(tiny_config(*mode))
    fill_model(model, seed=0)
    base_hash = weights_hash(model)
    model.prompt_offset.weight.data[:9] = 0.1
    save_tuned(
        *(model, folder / "tuned_best.safetensors", ["prompt_offset.weight"]),
        base_path="elsewhere/base.safetensors",
        base_hash=base_hash,
        mode="language_prompt_v2",
        extra={"captions": json.dumps(["cat. dog. owl"])},
    )
    assert hash_of(glipkit.load(folder)) == weights_hash(model) != base_hash
    assert (
        'learned prompt, which belongs to the words it was learnt with: ["cat. dog' in caplog.text
    )
    tuned = folder / "tuned_best.safetensors"
    assert hash_of(glipkit.load(tuned)) == weights_hash(model)
    assert hash_of(glipkit.load(folder / "config.yaml", weights=tuned)) == weights_hash(model)
    make_known(monkeypatch, tiny=folder / "config.yaml")
    known = glipkit.load("tiny", weights=tuned)
    assert (hash_of(known), known.default_threshold) == (weights_hash(model), 0.25)
    (tmp_path / "away").mkdir()
    base = (folder / "base.safetensors").rename(tmp_path / "away" / "base.safetensors")
    with pytest.raises(FileNotFoundError, match=r"was tuned of base\.safetensors, which is not"):
        glipkit.load(folder)
    assert hash_of(glipkit.load(folder, weights=base)) == weights_hash(model)
    for weight in (str(base), "elsewhere.safetensors", None, 5):
        (folder / "run.json").write_text(json.dumps({"settings": {"--weight": weight}}))
        if weight == str(base):
            assert hash_of(glipkit.load(folder)) == weights_hash(model)
        else:
            with pytest.raises(FileNotFoundError, match="which is not beside it"):
                glipkit.load(folder)
    monkeypatch.setattr(models, "SHIPPED", base.parent)  # as "nano" comes with glipkit
    config = str(folder / "config.yaml")
    monkeypatch.setattr(models, "KNOWN", {"base": KnownModel("", config, base.name, 0.25)})
    assert hash_of(glipkit.load(folder)) == weights_hash(model)


def test_a_whole_model_keeps_its_learned_prompt(run: Path, tmp_path: Path) -> None:
    tensors = read_tensors(run / "model_best.safetensors")
    tensors["prompt_offset.weight"] = torch.full((1000, 32), 0.1)
    write_tensors(tensors, tmp_path / "with.safetensors")
    detector = glipkit.load(run, weights=tmp_path / "with.safetensors")
    assert detector.detector.model.prompt_offset.weight[0, 0].item() == pytest.approx(0.1)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_precisions_answer_alike(precision: str, run: Path) -> None:
    picture = torch.rand(3, 64, 64)
    whole = glipkit.load(run)(picture, NAMES, threshold=0.0)
    low = glipkit.load(run, device="cpu", precision=precision)(picture, NAMES, threshold=0.0)
    assert low.scores[0] == pytest.approx(float(whole.scores[0]), abs=0.05)
    assert not torch.equal(low.scores[:5], whole.scores[:5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, "precision is 'float16'; known: float32, bfloat16, int8"),
        ({"device": "tpu"}, "device is 'tpu'; glipkit runs on cpu, cuda or cuda:1"),
        ({"device": "meta"}, "device is 'meta'"),
        ({"device": 1.5}, "device is 1.5; glipkit runs on cpu"),
        ({"device": "cuda:99"}, "'cuda:99', but this machine has"),
    ],
)
def test_options_that_do_not_exist(options: dict, message: str, run: Path) -> None:
    with pytest.raises(ValueError, match=message):
        glipkit.load(run, **options)


def test_every_named_model_has_its_configuration() -> None:
    assert {"nano", "glip-t", "glip-t-a", "glip-t-b", "glip-l"} <= KNOWN.keys()
    for known in KNOWN.values():
        assert known.config_file.is_file()
        assert known.config_file.is_relative_to(SHIPPED)
        assert 0 < known.default_threshold < 1


LAZY = """
import sys
import glipkit
assert not {"torch", "numpy", "PIL", "transformers"} & sys.modules.keys(), "import is not lazy"
assert {*glipkit.__all__} <= set(dir(glipkit))
assert glipkit.__version__.count(".") == 2
try:
    glipkit.lod
except AttributeError as error:
    assert "module 'glipkit' has no attribute 'lod'" in str(error), error
from glipkit import Found, GLIPDemo, PhraseDetector, Texts, load
assert load.__module__ == "glipkit.inference.build"
assert "torch" in sys.modules
"""


@pytest.mark.slow
def test_names_are_imported_when_they_are_used() -> None:
    told = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
