"""The class that projects built on GLIP use, as they use it."""

import logging
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.config.published import OpenConfig, checked
from glipkit.data.build import build_test_transform
from glipkit.engine.checkpoint import save_weights
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.inference.demo_words import names_prompts, sentence_prompt
from glipkit.inference.detector import PhraseDetector
from glipkit.inference.glip_demo import GLIPDemo
from glipkit.modeling.build import build_detector, build_model
from glipkit.modeling.fill import fill_model

GLIP_T = Path(__file__).parents[2] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
TINY = [
    *("MODEL.SWINT.EMBED_DIM", 16, "MODEL.SWINT.OUT_CHANNELS", (16, 32, 64, 128)),
    *("MODEL.SWINT.DEPTHS", (1, 1, 1, 1), "MODEL.SWINT.NUM_HEADS", (1, 2, 2, 4)),
    *("MODEL.BACKBONE.OUT_CHANNELS", 32, "MODEL.DYHEAD.CHANNELS", 32),
    *("MODEL.DYHEAD.NUM_CONVS", 1, "MODEL.LANGUAGE_BACKBONE.LANG_DIM", 32),
    *("MODEL.LANGUAGE_BACKBONE.NUM_LAYERS", 1, "MODEL.LANGUAGE_BACKBONE.NUM_HEADS", 4),
    *("MODEL.LANGUAGE_BACKBONE.MLP_DIM", 64, "MODEL.DYHEAD.FUSE_CONFIG.EMBED_DIM", 64),
    *("MODEL.ATSS.INFERENCE_TH", 0.001, "MODEL.DEVICE", "cpu"),
]
CAPTION = "bobble heads on top of the shelf"
SPANS = [[[0, 12]], [[27, 32]]]


@pytest.fixture(scope="module")
def weight(tmp_path_factory: pytest.TempPathFactory) -> str:
    model = build_model(load_config([GLIP_T], list(map(str, TINY))))
    fill_model(model, seed=0)
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    save_weights(model, path, layout="published")
    return str(path)


@pytest.fixture(scope="module")
def cfg(weight: str) -> CfgNode:
    """As the published example makes it."""
    cfg = OpenConfig.of_defaults()
    cfg.local_rank = 0
    cfg.num_gpus = 1
    cfg.merge_from_file(GLIP_T)
    cfg.merge_from_list(["MODEL.WEIGHT", weight])
    cfg.merge_from_list(TINY)
    return cfg


@pytest.fixture(scope="module")
def demo(cfg: CfgNode) -> GLIPDemo:
    return GLIPDemo(cfg, min_image_size=64, confidence_threshold=0.1, show_mask_heatmaps=False)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(70, 100, 3) BGR."""
    return np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)


def test_prediction_has_the_published_form(demo: GLIPDemo, picture: np.ndarray) -> None:
    found = demo.compute_prediction(picture, CAPTION, SPANS)
    assert len(found) > 0
    assert found.size == (100, 70)
    assert found.mode == "xyxy"
    assert sorted(found.fields()) == ["labels", "scores"]
    assert found.bbox.shape == (len(found), 4)
    scores, labels = found.get_field("scores"), found.get_field("labels")
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    assert set(labels.tolist()) <= {1, 2}
    assert demo.entities == ["bobble heads", "shelf"]
    names = [demo.entities[label - demo.plus] for label in labels]
    assert set(names) <= set(demo.entities)


def test_boxes_are_the_callers_own(demo: GLIPDemo, picture: np.ndarray) -> None:
    found = demo.compute_prediction(picture, CAPTION, SPANS)
    before = found.bbox.tolist()
    found.bbox.add_(1)  # refused for tensors of inference mode
    found.get_field("scores").mul_(0.5)
    found.get_field("labels").add_(1)
    assert demo.compute_prediction(picture, CAPTION, SPANS).bbox.tolist() == before


def test_answers_are_those_of_the_phrase_detector(
    demo: GLIPDemo, picture: np.ndarray, cfg: CfgNode
) -> None:
    """Where the long side needs no cap, only the way in and out differs."""
    settings = checked(cfg)
    settings.defrost()
    settings.INPUT.MIN_SIZE_TEST, settings.INPUT.MAX_SIZE_TEST = 64, 1000
    image = Image.fromarray(picture[:, :, ::-1].copy())
    detector = PhraseDetector(
        build_detector(settings, demo.model),
        demo.tokenizer,
        build_test_transform(settings),
        name="tiny",
    )
    wanted = detector(image, CAPTION, spans=SPANS, threshold=0)
    found = demo.compute_prediction(picture, CAPTION, SPANS)
    torch.testing.assert_close(found.bbox, wanted.boxes)
    torch.testing.assert_close(found.get_field("scores"), wanted.scores)
    assert (found.get_field("labels") - 1).tolist() == wanted.phrase_ids.tolist()


def test_gpus_compute_with_all_digits(
    demo: GLIPDemo, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the answers there would not be those of `glipkit.load`, which evaluates so."""
    seen = []
    encode = demo.model.encode_image

    def watch(pixels: torch.Tensor) -> object:
        seen.append(torch.backends.cudnn.allow_tf32)
        return encode(pixels)

    monkeypatch.setattr(demo.model, "encode_image", watch)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    demo.compute_prediction(picture, "a cat")
    monkeypatch.setattr(demo, "device", torch.device("cuda"))  # as it calls itself; runs here
    demo.compute_prediction(picture, "a cat")
    assert seen == [True, False]
    assert torch.backends.cudnn.allow_tf32


def test_a_full_memory_is_said(
    demo: GLIPDemo, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(pixels: torch.Tensor) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(demo.model, "encode_image", none)
    with pytest.raises(MemoryError, match=r"on cpu for one picture of \(70, 100\)"):
        demo.inference(picture, "a cat")


def test_channels_are_bgr(demo: GLIPDemo, picture: np.ndarray) -> None:
    one = demo.compute_prediction(picture, CAPTION, SPANS)
    other = demo.compute_prediction(picture[:, :, ::-1], CAPTION, SPANS)
    assert one.get_field("scores")[:5].tolist() != other.get_field("scores")[:5].tolist()


def test_the_long_side_has_no_cap(demo: GLIPDemo, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    encode = demo.model.encode_image

    def watch(pixels: torch.Tensor) -> object:
        shapes.append(tuple(pixels.shape))
        return encode(pixels)

    monkeypatch.setattr(demo.model, "encode_image", watch)
    demo.inference(np.zeros((100, 1500, 3), np.uint8), "a cat")
    assert shapes == [(1, 3, 64, 960)]
    with pytest.raises(ValueError, match=r"1x9000000.*64x576000000"):
        demo.inference(np.zeros((1, 9_000_000, 3), np.uint8), "a cat")


def test_thresholds(demo: GLIPDemo, picture: np.ndarray) -> None:
    everything = demo.compute_prediction(picture, CAPTION, SPANS)
    scores = everything.get_field("scores")
    threshold = float(scores[len(scores) // 2])
    drawn, top = demo.run_on_web_image(picture, CAPTION, threshold, SPANS)
    assert top.get_field("scores").tolist() == scores[scores > threshold].tolist()
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    assert (drawn != picture).any()
    demo.confidence_threshold = threshold
    assert len(demo.select_top_predictions(everything)) == len(top)
    assert len(demo.inference(picture, CAPTION)) <= len(demo.compute_prediction(picture, CAPTION))
    none, nothing = demo.run_on_web_image(picture, CAPTION, thresh=0.9999, custom_entity=SPANS)
    assert len(nothing) == 0
    assert (none == picture).all()
    for wrong in (float("nan"), 50):  # which no score exceeds
        with pytest.raises(ValueError, match=f"from 0 to 1, got {wrong}: nothing would score"):
            demo.visualize_with_predictions(picture, everything, wrong)
    with pytest.raises(TypeError, match="as OpenCV reads it"):  # what cv2.imread gives of no file
        demo.visualize_with_predictions(None, everything)


def test_pictures_are_left_alone(demo: GLIPDemo, picture: np.ndarray) -> None:
    before = picture.copy()
    found = demo.compute_prediction(picture, CAPTION, SPANS)
    drawn, _ = demo.visualize_with_predictions(picture, found, 0.01, alpha=0.5, box_pixel=3)
    named = demo.overlay_entity_names(picture, found[:2], names=["first", "second"])
    lines = demo.overlay_boxes(picture, found[:2])
    assert (picture == before).all()
    for result in (drawn, named, lines):
        assert (result != picture).any()
        assert result.flags.c_contiguous


def test_colours_come_out_in_bgr(demo: GLIPDemo, cfg: CfgNode) -> None:
    grey = np.full((100, 100, 3), 100, dtype=np.uint8)
    found = demo.compute_prediction(grey, ["cat"])[:1]
    found.bbox[0] = torch.tensor([20.0, 30.0, 80.0, 90.0])
    drawn = demo.overlay_boxes(grey, found, alpha=0.0)
    assert drawn[60, 20].tolist() == [0, 159, 230]  # the first phrase is orange


def test_predictions_follow_a_resized_picture(demo: GLIPDemo, picture: np.ndarray) -> None:
    found = demo.compute_prediction(picture, CAPTION, SPANS)
    twice = np.ascontiguousarray(picture.repeat(2, axis=0).repeat(2, axis=1))
    _, top = demo.visualize_with_predictions(twice, found, 0.0)
    assert top.size == (200, 140)
    torch.testing.assert_close(top.bbox, 2 * found.bbox)


def test_a_list_is_class_names(demo: GLIPDemo, picture: np.ndarray) -> None:
    found = demo.compute_prediction(picture, ["cat", "remote control", "sofa"])
    assert demo.entities == ["cat", "remote control", "sofa"]
    assert set(found.get_field("labels").tolist()) <= {1, 2, 3}
    many = [f"thing number {i}" for i in range(150)]
    labels = demo.compute_prediction(picture, many).get_field("labels")
    assert demo.entities == many
    assert labels.max() > 75  # nothing is cut off


def test_names_are_joined_as_the_published_demo_joins_them() -> None:
    tokenizer = Tokenizer.load("bert-base-uncased")
    (prompt,) = names_prompts(["cat", " Remote_control ", "sofa"], tokenizer)
    assert prompt.caption == "cat .  Remote_control  . sofa . "
    spelled = [prompt.caption[slice(*phrase.spans[0])] for phrase in prompt.phrases]
    assert spelled == ["cat", "Remote_control", "sofa"]
    chunks = names_prompts([f"name {i}" for i in range(100)], tokenizer, max_tokens=50)
    assert sum(len(prompt.phrases) for prompt in chunks) == 100
    assert all(tokenizer.count(prompt.caption) <= 50 for prompt in chunks)


def test_a_sentence_is_noun_phrases() -> None:
    prompt = sentence_prompt("a dog chases the red ball and a dog sleeps")
    assert [phrase.text for phrase in prompt.phrases] == ["a dog", "the red ball"]
    assert prompt.phrases[0].spans == ((0, 5), (30, 35))  # both mentions
    whole = sentence_prompt("  quickly  ")
    assert [phrase.text for phrase in whole.phrases] == ["quickly"]


@pytest.mark.parametrize(
    ("caption", "entity", "message"),
    [
        ("", None, "has no words"),
        ("   ", None, "has no words"),
        ("?!", None, "has no words"),
        ("\U0001f980\U0001f980", None, "knows no word of"),
        (["\U0001f980"], None, "knows no word of"),
        ([], None, "no class name"),
        (["cat", " "], None, "class 1 is blank"),
        (["cat"], SPANS, "got a list of class names"),
        (CAPTION, [[0, 12], [27, 32]], r"like \[\[\[0, 12\]\]"),
        (CAPTION, [[[0, 99]]], "claims characters"),
        (CAPTION, [[[0.0, 12.9]]], r"like \[\[\[0, 12\]\]"),
        (CAPTION, [[[False, True]]], r"like \[\[\[0, 12\]\]"),
        ("word " * 300, None, "300|tokens"),
    ],
)
def test_captions_that_say_nothing(
    demo: GLIPDemo, picture: np.ndarray, caption: object, entity: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        demo.compute_prediction(picture, caption, entity)


def test_words_that_the_model_does_not_know_are_noted(
    demo: GLIPDemo, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    russian = "\u043a\u0440\u0443\u0433"
    for _ in range(3):  # as in the frames of a film
        demo.compute_prediction(picture, ["cat", "\U0001f980", russian])
    unknown, foreign = [record.message for record in caplog.records]
    assert unknown == "words unknown to the text encoder, told apart by nothing: '\U0001f980'"
    assert foreign == f"the text encoder learnt English, say in English: {russian!r}"
    demo.compute_prediction(picture, "a cat")
    demo.compute_prediction(picture, russian)
    assert len(caplog.records) == 3


def test_pictures_that_are_none(demo: GLIPDemo) -> None:
    with pytest.raises(TypeError, match="as OpenCV reads it"):
        demo.inference(Image.new("RGB", (9, 9)), "cat")
    for shape, dtype in (((9, 9), np.uint8), ((9, 9, 4), np.uint8), ((9, 9, 3), float)):
        with pytest.raises(ValueError, match=r"expected a picture of shape"):
            demo.inference(np.zeros(shape, dtype), "cat")
    with pytest.raises(TypeError, match="expected text"):
        demo.inference(np.zeros((9, 9, 3), np.uint8), ["cat", 3])
    for caption in (None, b"cat"):
        with pytest.raises(TypeError, match=f"a sentence or a list of class names, got {caption}"):
            demo.inference(np.zeros((9, 9, 3), np.uint8), caption)


def test_nothing_is_downloaded(
    cfg: CfgNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("GLIPDemo asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = cfg.clone()
    settings.MODEL.WEIGHT = "MODEL/glip_large_model.pth"
    with pytest.raises(
        FileNotFoundError, match=r"glip_large_model\.pth is there, and nothing is d"
    ):
        GLIPDemo(settings)
    settings.MODEL.WEIGHT = ""
    with pytest.raises(ValueError, match=r"set MODEL\.WEIGHT"):
        GLIPDemo(settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence_threshold": 70}, "from 0 to 1, got 70"),
        ({"min_image_size": 0}, "min_image_size is a whole number from 1 on, got 0"),
        ({"min_image_size": 99.5}, "min_image_size is a whole number"),
    ],
)
def test_settings_are_checked_before_weights_are_read(
    cfg: CfgNode, options: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glipkit.inference.glip_demo._loaded", lambda _: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=message):
        GLIPDemo(cfg, **options)


def test_weights_may_be_left_out(cfg: CfgNode, caplog: pytest.LogCaptureFixture) -> None:
    settings = cfg.clone()
    settings.MODEL.WEIGHT = "not there.pth"
    settings.GLIPKNOW.PARALLEL_LANGUAGE_INPUT = True
    with pytest.raises(FileNotFoundError, match="not there"):
        GLIPDemo(settings)
    with caplog.at_level(logging.WARNING):
        demo = GLIPDemo(settings, load_model=False, show_mask_heatmaps=True)
    assert "no GLIP predicts masks" in caplog.text
    assert "the configuration tells classes what they are (GLIPKNOW.*)" in caplog.text
    assert not demo.model.training
    assert demo.min_image_size == 800
    assert demo.confidence_threshold == 0.7


def test_the_page_for_migrating_runs(
    weight: str, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new imports and its script, with a smaller model."""
    page = (GLIP_T.parents[2] / "docs" / "migrating.md").read_text()
    imports, script = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]
    imports = imports.split("# after")[1]
    assert "MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth" in script
    script = script.replace("MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth", weight)
    script = script.replace("min_image_size=800", "min_image_size=64").replace(", 0.5)", ", 0.0)")
    monkeypatch.chdir(GLIP_T.parents[2])
    monkeypatch.setattr("glipkit.config.cfg", OpenConfig.of_defaults())
    printed: list[tuple] = []
    smaller = script.replace('["MODEL.DEVICE", "cuda"]', "TINY")
    assert smaller != script
    scope = {"TINY": TINY, "bgr": picture, "print": lambda *words: printed.append(words)}
    exec(imports, scope)
    exec(smaller, scope)
    assert {words[0] for words in printed} <= {"bobble heads", "top", "the shelf"}
    assert all(0 <= words[1] <= 1 and len(words[2]) == 4 for words in printed)
    assert printed
