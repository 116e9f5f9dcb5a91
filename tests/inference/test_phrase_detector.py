"""A detector called from Python: pictures, words, thresholds, batches."""

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import write_run

import glipkit
from glipkit import Texts
from glipkit.data.images import ImageError
from glipkit.inference.detector import PhraseDetector, without_explained
from glipkit.inference.found import Found
from glipkit.structures.detections import Detections

NAMES = ["cat", "dog", "owl"]
SIZES = ((60, 90), (90, 60), (60, 90), (64, 64), (30, 95), (60, 90), (60, 90))  # (height, width)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> PhraseDetector:
    return glipkit.load(write_run(tmp_path_factory.mktemp("runs") / "tiny"), device="cpu")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [noise(*size, seed=seed) for seed, size in enumerate(SIZES)]


def everything(detector: PhraseDetector, *asked: object, **options: object) -> Found:
    return detector(*asked, threshold=0.0, **options)


def assert_same(found: Found, expected: Found) -> None:
    """Equal to the last bit."""
    assert found.phrases == expected.phrases
    for name in ("boxes", "scores", "phrase_ids"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_an_answer(detector: PhraseDetector, tmp_path: Path) -> None:
    Image.fromarray(noise(60, 90)).save(tmp_path / "noise.png")
    found = everything(detector, tmp_path / "noise.png", NAMES)
    assert len(found) > 10
    assert found.phrases == tuple(NAMES)
    assert set(found.labels) <= set(NAMES)
    assert found.size == (90, 60)
    assert found.picture.size == (90, 60)
    assert found.source == str(tmp_path / "noise.png")
    assert found.asked.captions == ("cat. dog. owl",)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([90.0, 60.0, 90.0, 60.0])).all()
    found.boxes.add_(1)  # the caller's own: nothing of inference mode is left
    found.scores.requires_grad_()


def test_every_form_of_a_picture_gets_one_answer(detector: PhraseDetector, tmp_path: Path) -> None:
    array = noise(60, 90)
    path = tmp_path / "noise.png"
    Image.fromarray(array).save(path)
    expected = everything(detector, array, NAMES)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), Image.open(path)]
    for form in (*forms, tensor, tensor / 255):
        assert_same(everything(detector, form, NAMES), expected)
    for form in (array[..., ::-1], tensor.flip(0)):
        assert_same(everything(detector, form, NAMES, bgr=True), expected)
    assert not torch.equal(everything(detector, array, NAMES, bgr=True).scores, expected.scores)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_a_list_is_answered_in_its_order(
    detector: PhraseDetector, pictures: list[np.ndarray], batch_size: int
) -> None:
    answers = everything(detector, pictures, NAMES, batch_size=batch_size)
    assert [found.size[::-1] for found in answers] == list(SIZES)
    for found, picture in zip(answers, pictures):
        alone = everything(detector, picture, NAMES)
        torch.testing.assert_close(found.scores[:20], alone.scores[:20], rtol=1e-4, atol=1e-5)
    assert everything(detector, [], NAMES) == []
    assert len(everything(detector, tuple(pictures[:1]), NAMES)) == 1


def test_only_pictures_that_pad_alike_share_a_batch(
    detector: PhraseDetector, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    ask = detector.detector.each

    def watch(images: object, *rest: object) -> object:
        shapes.append(tuple(images.pixels.shape))
        assert {tuple(-(-side // 32) * 32 for side in size) for size in images.sizes} == {
            shapes[-1][2:]
        }
        return ask(images, *rest)

    monkeypatch.setattr(detector.detector, "each", watch)
    detector(pictures, NAMES, batch_size=3)
    assert sorted(shape[0] for shape in shapes) == [1, 1, 1, 1, 3]
    for size in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"batch_size is a whole number from 1 on, got {size}"):
            detector(pictures, NAMES, batch_size=size)


def test_pictures_of_many_sizes_do_not_pile_up(
    detector: PhraseDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one picture of each size no batch is ever full."""
    waiting = most = 0
    prepare, ask = type(detector.transform).__call__, detector.detector.each

    def count(transform: object, image: object) -> torch.Tensor:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return prepare(transform, image)

    def watch(images: object, *rest: object) -> object:
        nonlocal waiting
        waiting -= len(images)
        return ask(images, *rest)

    monkeypatch.setattr(detector, "divisor", 1)
    monkeypatch.setattr(type(detector.transform), "__call__", count)
    monkeypatch.setattr(detector.detector, "each", watch)
    shapes = [(60, 60 + 2 * index) for index in range(14)]
    answers = detector([noise(*shape) for shape in shapes], NAMES, batch_size=2)
    assert [found.size[::-1] for found in answers] == shapes
    assert waiting == 0
    assert most == 9  # four batches, and the one that made it too many


def test_one_text_for_each_picture(detector: PhraseDetector, pictures: list[np.ndarray]) -> None:
    asked = Texts(["a red circle . a star", NAMES, "a cat"])
    answers = everything(detector, pictures[:3], asked)
    for found, picture, text in zip(answers, pictures, asked):
        alone = everything(detector, picture, text)
        assert found.phrases == alone.phrases
        torch.testing.assert_close(found.scores[:20], alone.scores[:20], rtol=1e-4, atol=1e-5)
    assert answers[1].phrases == tuple(NAMES)
    with pytest.raises(ValueError, match="2 texts came with 3 pictures; Texts has one for each"):
        detector(pictures[:3], Texts(["a cat", "a dog"]))


def test_spans(detector: PhraseDetector, pictures: list[np.ndarray]) -> None:
    text = "bobble heads on top of the shelf"
    found = everything(detector, pictures[0], text, spans=[[(0, 12)], [(27, 32)]])
    assert found.phrases == ("bobble heads", "shelf")
    texts = Texts(["a cat on a mat", "two dogs"])
    marks = [[[(2, 5)]], [[(4, 8)]]]
    first, second = everything(detector, pictures[:2], texts, spans=marks)
    assert (first.phrases, second.phrases) == (("cat",), ("dogs",))
    with pytest.raises(ValueError, match="1 lists of spans came with 2 texts"):
        detector(pictures[:2], texts, spans=marks[:1])


def test_thresholds(detector: PhraseDetector, pictures: list[np.ndarray]) -> None:
    whole = everything(detector, pictures[0], NAMES)
    middle = float(whole.scores.median())
    assert_same(detector(pictures[0], NAMES, threshold=middle), whole.above(middle))
    assert_same(detector(pictures[0], NAMES), whole.above(detector.default_threshold))
    mixed = detector(pictures[0], NAMES, threshold={"dog": middle, "owl": 0.0})
    expected = {"cat": detector.default_threshold, "dog": middle, "owl": 0.0}
    assert_same(mixed, whole.above(expected))
    each = detector(pictures[:2], Texts(["a cat", "a dog"]), threshold={"a dog": 0.0})
    assert len(each[1]) > 0


@pytest.mark.parametrize(
    ("threshold", "error", "message"),
    [
        (50, ValueError, "number from 0 to 1, got 50"),
        (-0.1, ValueError, "got -0.1"),
        (float("nan"), ValueError, "got nan"),
        ("0.5", TypeError, "got '0.5'"),
        (True, TypeError, "got True"),
        ({"cat": 2}, ValueError, "of 'cat' is a number from 0 to 1"),
        ({"cats": 0.5}, ValueError, "names 'cats', which is not asked for; phrases are: 'cat'"),
    ],
)
def test_thresholds_that_are_none(
    threshold: object, error: type, message: str, detector: PhraseDetector
) -> None:
    with pytest.raises(error, match=message):
        detector(noise(60, 90), NAMES, threshold=threshold)


def test_negative_prompts_compete_and_are_not_returned(
    detector: PhraseDetector, pictures: list[np.ndarray]
) -> None:
    found = everything(detector, pictures[0], ["cat"], negative_prompts=["dog", "owl"])
    assert found.phrases == ("cat",)
    assert (found.phrase_ids == 0).all()
    competing = everything(detector, pictures[0], NAMES)
    assert 0 < len(found) < int((competing.phrase_ids == 0).sum())


def test_which_boxes_a_negative_prompt_takes() -> None:
    """IoU above 0.6 with a better negative box; negative is phrase 2."""
    place, near, far = [0.0, 0, 99, 99], [0.0, 0, 99, 80], [0.0, 0, 99, 50]
    rows = [
        (place, 0.9, 0, True),  # better than the negative
        (place, 0.8, 2, False),
        (near, 0.7, 1, False),
        (far, 0.7, 1, True),  # elsewhere
        ([200.0, 0, 299, 99], 0.6, 0, True),
        ([200.0, 0, 299, 99], 0.6, 2, False),  # no better
    ]
    found = Detections(
        torch.tensor([row[0] for row in rows]),
        torch.tensor([row[1] for row in rows]),
        torch.tensor([row[2] for row in rows]),
        (100, 300),
    )
    left = without_explained(found, num_phrases=2)
    kept = torch.tensor([row[3] for row in rows])
    assert torch.equal(left.boxes, found.boxes[kept])
    assert torch.equal(left.scores, found.scores[kept])
    assert torch.equal(left.phrase_ids, found.phrase_ids[kept])


def test_three_hundred_names(
    detector: PhraseDetector, pictures: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"thing number {index}" for index in range(300)]
    found = everything(detector, pictures[0], names)
    assert found.phrases == tuple(names)
    for prompt in range(len(found.asked.captions)):  # each has the boxes of its own names
        own = [i for i, index in enumerate(found.asked.caption_ids) if index == prompt]
        mine = found[(found.phrase_ids >= own[0]) & (found.phrase_ids <= own[-1])]
        alone = everything(detector, pictures[0], names[own[0] : own[-1] + 1])
        assert len(alone) > 0
        assert mine.labels[:20] == alone.labels[:20]
        torch.testing.assert_close(mine.scores, alone.scores, rtol=1e-4, atol=1e-5)
    (line,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert "300 names in 1 prompt(s) would be longer than 256 tokens: asked in" in line
    caplog.clear()
    everything(detector, pictures[1], names)  # words are read once
    assert not caplog.records


def test_long_texts_are_forgotten_sooner(
    detector: PhraseDetector,
    pictures: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("glipkit.inference.detector.REMEMBERED_PHRASES", 4)
    first, second = "a toad . a newt . a toad", "an eel . a crab . a hen"
    said = "repeat another"  # when the text is read
    for text, times in ((first, 1), (first, 1), (second, 1), (first, 2), (first, 2)):
        detector(pictures[0], text)
        assert caplog.text.count(said) == times, text
    detector(pictures[0], "a bee . a wasp . an ant . a fly . a moth")  # too long by itself


def test_words_are_read_anew_with_other_settings(
    detector: PhraseDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value, captions in (
        ("chunk_size", 1, ("cat", "dog", "owl")),
        ("max_tokens", 5, ("cat. dog", "owl")),
        ("separator", " / ", ("cat / dog / owl",)),
    ):
        assert detector(noise(60, 90), NAMES).asked.captions == ("cat. dog. owl",)
        with monkeypatch.context() as other:
            other.setattr(detector, name, value)
            assert detector(noise(60, 90), NAMES).asked.captions == captions


@pytest.mark.parametrize("text", ["", "   ", " . ", [], [""], ["cat", " "], "\n", "🦀🦀", "()"])
def test_words_that_are_none(text: object, detector: PhraseDetector) -> None:
    with pytest.raises(ValueError, match=r"no words? (to look for|of)|no class name to look for"):
        detector(noise(60, 90), text)


@pytest.mark.parametrize("text", [None, 3, {"cat": 1}, b"cat", ["cat", 3], np.zeros(3)])
def test_what_is_no_text(text: object, detector: PhraseDetector) -> None:
    with pytest.raises(TypeError, match="text"):
        detector(noise(60, 90), text)


def test_long_and_foreign_texts(detector: PhraseDetector, pictures: list[np.ndarray]) -> None:
    listing = " . ".join(f"a thing like number {index}" for index in range(400))
    assert len(listing) > 9000
    found = everything(detector, pictures[0], listing)
    assert len(found.phrases) == 400
    with pytest.raises(ValueError, match="tokens, and free text must fit into one prompt"):
        detector(pictures[0], "a man who looks at a horse " * 400)
    for text in ("a crab 🦀 . a dog", "eine rote Katze", "красный круг", "红色的圆"):
        assert len(everything(detector, pictures[0], text).phrases) >= 1


def test_a_picture_of_a_list_that_cannot_be_read_is_named(
    detector: PhraseDetector, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=r"picture 1: cannot be read"):
        detector([pictures[0], b"hello"], NAMES)
    with pytest.raises(ImageError, match=r"is a folder, where one picture was expected"):
        detector(tmp_path, NAMES)
    with pytest.raises(ValueError, match="nothing is fetched here"):
        detector("https://example.org/cat.jpg", NAMES)


def test_threads_may_share_a_detector(detector: PhraseDetector, pictures: list[np.ndarray]) -> None:
    before = torch.get_num_threads()
    texts = [f"a cat . a dog . number {index}" for index in range(8)]
    expected = [everything(detector, pictures[0], text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda text: everything(detector, pictures[0], text), texts))
    for found, alone in zip(answers, expected):
        assert_same(found, alone)
    assert torch.get_num_threads() == before


def test_a_batch_that_is_too_large_is_asked_in_parts(
    detector: PhraseDetector,
    pictures: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ask = detector.detector.each

    def small(images: object, *rest: object) -> object:
        if len(images) > 1:
            raise MemoryError
        return ask(images, *rest)

    expected = everything(detector, pictures[0], NAMES)
    monkeypatch.setattr(detector.detector, "each", small)
    answers = everything(detector, [pictures[0]] * 3, NAMES)
    assert len(answers) == 3
    for found in answers:
        assert_same(found, expected)
    assert "not enough memory for 3 pictures at once" in caplog.text
    monkeypatch.setattr(detector.detector, "each", lambda *_: small([1, 2]))
    with pytest.raises(MemoryError, match=r"on cpu for one picture of \(60, 90\)"):
        detector(pictures[0], NAMES)


def test_a_gpu_that_is_full_is_no_other_error(
    detector: PhraseDetector, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding a picture says so in torch's own way."""
    encode = detector.detector.model.encode_image

    def small(pixels: torch.Tensor) -> object:
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(pixels)

    monkeypatch.setattr(detector.detector.model, "encode_image", small)
    assert len(everything(detector, [pictures[0]] * 3, NAMES)) == 3

    def none(pixels: torch.Tensor) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detector.detector.model, "encode_image", none)
    for ask in (detector, detector.alignment):
        with pytest.raises(MemoryError, match=r"on cpu for one picture of \(60, 90\)"):
            ask(pictures[0], NAMES)

    def broken(pixels: torch.Tensor) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr(detector.detector.model, "encode_image", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        detector(pictures[0], NAMES)


def test_a_folder_is_streamed(detector: PhraseDetector, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(noise(60, 90, seed=number)).save(tmp_path / f"{number}.png")
    answers = list(detector.stream(tmp_path, NAMES, threshold=0.0, batch_size=2))
    assert [Path(found.source).name for found in answers] == ["0.png", "1.png", "2.png"]
    for number, found in enumerate(answers):
        alone = everything(detector, tmp_path / f"{number}.png", NAMES)
        torch.testing.assert_close(found.scores[:20], alone.scores[:20], rtol=1e-4, atol=1e-5)


def test_it_says_what_it_is(detector: PhraseDetector) -> None:
    assert repr(detector) == "<PhraseDetector 'tiny' on cpu>"
    assert detector.device == torch.device("cpu")
