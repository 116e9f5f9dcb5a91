"""A real (tiny) model through files, batches, chunks, odd pictures and the judge."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawn import CATEGORIES, draw, write
from PIL import Image
from tiny import tiny_glip

from glipkit.config.load import load_config
from glipkit.data.build import build_test_sets
from glipkit.data.test_set import TestSet
from glipkit.evaluation.build import build_evaluator, describe_protocol
from glipkit.evaluation.results import Results
from glipkit.evaluation.run import evaluate
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.multi_prompt import Detector
from glipkit.modeling.postprocess import Postprocessor

GLIP_T = Path(__file__).parents[2] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
TASK = {
    "DATASETS": {
        "REGISTER": {"drawn": {"ann_file": "boxes.json", "img_dir": "pictures"}},
        "TEST": '("drawn",)',
    },
    "DATALOADER": {"SIZE_DIVISIBILITY": 32},
    "INPUT": {"MIN_SIZE_TEST": 64, "MAX_SIZE_TEST": 128},
}


def load_test_set(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> TestSet:
    monkeypatch.setenv("DATASET", str(folder))
    (folder / "task.yaml").write_text(json.dumps(TASK))
    cfg = load_config([GLIP_T, folder / "task.yaml"], list(overrides))
    (test_set,) = build_test_sets(cfg, Tokenizer.load("bert-base-uncased"))
    return test_set


def run(test_set: TestSet, folder: Path, batch_size: int = 1) -> Results:
    detector = Detector(tiny_glip(), Postprocessor(score_threshold=0.001))
    return evaluate(
        detector.each, test_set, build_evaluator(test_set), output_dir=folder,
        depends_on={"weights": "tiny"}, batch_size=batch_size,
    )  # fmt: skip


def by_image(folder: Path) -> dict[int, np.ndarray]:
    """image id -> rows of (category, x, y, w, h, score), best score first."""
    rows: dict[int, list] = {}
    for each in json.loads((folder / "predictions.json").read_text()):
        row = [each["category_id"], *each["bbox"], each["score"]]
        rows.setdefault(each["image_id"], []).append(row)
    return {image_id: np.array(found) for image_id, found in rows.items()}


@pytest.mark.parametrize("divisor", [32, 0])
def test_batch_size_does_not_change_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, divisor: int
) -> None:
    draw(tmp_path)
    test_set = load_test_set(tmp_path, monkeypatch, "DATALOADER.SIZE_DIVISIBILITY", str(divisor))
    assert test_set.divisor == divisor  # 0: nothing is padded, so odd maps reach every layer
    one = run(test_set, tmp_path / "one", batch_size=1)
    four = run(test_set, tmp_path / "four", batch_size=4)
    assert one.num_predictions > 100
    for name, value in one.metrics.items():
        assert four.metrics[name] == (value if value is None else pytest.approx(value, abs=1e-3))
    alone, together = by_image(tmp_path / "one"), by_image(tmp_path / "four")
    assert alone.keys() == together.keys()
    for image_id, rows in alone.items():
        # Scores are sorted, so that rounding can only swap neighbours that are equal.
        np.testing.assert_allclose(together[image_id][:, 5], rows[:, 5], rtol=1e-4)


def test_every_kind_of_picture_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {
        "gray.png": picture.convert("L"),
        "cmyk.jpg": picture.convert("CMYK"),
        "palette.png": picture.convert("P"),
        "deep.png": Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257),
        "turned.jpg": picture,
        "line.png": Image.new("RGB", (1, 3000)),
        "dot.png": Image.new("L", (1, 1)),
    }
    images = []
    (tmp_path / "pictures").mkdir()
    for number, (name, image) in enumerate(kinds.items()):
        options = {"exif": exif} if name == "turned.jpg" else {}
        image.save(tmp_path / "pictures" / name, **options)
        size = image.size[::-1] if name == "turned.jpg" else image.size  # as a viewer sees it
        images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
    write(tmp_path, images, [])
    results = run(load_test_set(tmp_path, monkeypatch), tmp_path / "out", batch_size=4)
    assert results.failures == ()
    assert results.num_images == len(kinds)
    assert results.metrics["AP"] is None  # there is nothing to find
    for image_id, rows in by_image(tmp_path / "out").items():
        limits = [images[image_id]["width"], images[image_id]["height"]]
        assert (rows[:, 3:5] <= np.array(limits) + 1).all()  # + 1: the export counts pixels


def test_many_and_odd_class_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = draw(tmp_path, num_images=2)
    content = json.loads(spec.ann_file.read_text())
    odd = ["bow_(weapon)", "and/or", "crab 🦀", "dog", "dog", "a very " * 39 + "long name"]
    extra = [{"id": 100 + i, "name": name} for i, name in enumerate(odd)]
    extra += [{"id": 1000 + i, "name": f"thing number {i}"} for i in range(200)]
    content["categories"] = [*CATEGORIES, *extra]
    spec.ann_file.write_text(json.dumps(content))
    test_set = load_test_set(tmp_path, monkeypatch)
    assert len(test_set.prompts) > 3  # split by itself: nothing is cut
    results = run(test_set, tmp_path / "out")
    assert len(results.judgement.per_class) == 209
    assert results.judgement.per_class[3].name == "bow_(weapon)"
    assert "thing number 199" in results.report()


def protocol_of(folder: Path, *overrides: str) -> dict:
    (folder / "task.yaml").write_text(json.dumps(TASK))
    return describe_protocol(load_config([GLIP_T, folder / "task.yaml"], overrides), weights="abc")


@pytest.mark.parametrize(
    "override",
    [
        ("MODEL.LANGUAGE_BACKBONE.MASK_SPECIAL", "True"),
        ("MODEL.LANGUAGE_BACKBONE.N_LAYERS", "2"),
        ("MODEL.DYHEAD.FUSE_CONFIG.NUM_HEADS", "4"),
        ("MODEL.GROUP_NORM.NUM_GROUPS", "8"),
        ("MODEL.RPN.ANCHOR_SIZES", "(32, 64, 128, 256, 512)"),
        ("TEST.PRECISION", "bfloat16"),
    ],
)
def test_protocol_tells_what_no_weight_tells(tmp_path: Path, override: tuple[str, str]) -> None:
    """The same weights fit both: without it a journal would be resumed by another model."""
    assert protocol_of(tmp_path, *override) != protocol_of(tmp_path)


def test_protocol_names_what_matters(tmp_path: Path) -> None:
    protocol = protocol_of(tmp_path)
    assert protocol["weights"] == "abc"
    assert protocol["chunk_size"] == -1
    assert protocol["nms_threshold"] == 0.6
    json.dumps(protocol)
