"""Which places answer which tokens, and that boxes are made from just that."""

import numpy as np
import pytest
import torch
from tiny_run import write_run

import glipkit
from glipkit.inference.alignment import NO_PHRASE
from glipkit.inference.detector import PhraseDetector


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> PhraseDetector:
    return glipkit.load(write_run(tmp_path_factory.mktemp("runs") / "tiny"), device="cpu")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8)


def test_tokens_and_their_phrases(detector: PhraseDetector, picture: np.ndarray) -> None:
    found = detector.alignment(picture, "a red circle . the star")
    assert found.phrases == ("a red circle", "the star")
    assert found.tokens == ("a", "red", "circle", ".", "the", "star")
    assert found.phrase_ids == (0, 0, 0, NO_PHRASE, 1, 1)
    # 50x75 becomes 64x96, the finest level has stride 8
    assert found.maps.shape == (6, 8, 12)
    assert ((found.maps >= 0) & (found.maps <= 1)).all()
    assert found.maps.std() > 0
    found.maps.add_(1)  # nothing of inference mode is left


def test_padding_is_no_part_of_the_maps(detector: PhraseDetector) -> None:
    found = detector.alignment(np.zeros((40, 47, 3), np.uint8), ["cat"])
    assert found.maps.shape[1:] == (8, 10)  # 64x75 of the padded 64x96


def test_scores_of_boxes_are_made_from_the_maps(
    detector: PhraseDetector, picture: np.ndarray
) -> None:
    """A box reports sqrt(mean of its phrase's tokens x centerness), and centerness is below 1."""
    names = ["cat", "large dog", "owl"]
    found = detector(picture, names, threshold=0.0)
    maps = detector.alignment(picture, names)
    for index in range(3):
        best = float(found.scores[found.phrase_ids == index].max())
        highest = maps.maps[[row for row, p in enumerate(maps.phrase_ids) if p == index]]
        assert 0.1 * best < best**2 < highest.amax(dim=(1, 2)).mean() + 1e-4


def test_every_prompt_of_a_long_text_is_there(
    detector: PhraseDetector, picture: np.ndarray
) -> None:
    names = [f"thing number {index}" for index in range(100)]
    found = detector.alignment(picture, names)
    assert set(found.phrase_ids) == {*range(100), NO_PHRASE}
    assert len(found.tokens) == len(found.phrase_ids) == len(found.maps)
    together = detector.alignment(picture, names[:20])
    first = found.phrase_map(0)
    assert first.shape == together.phrase_map(0).shape == (8, 12)
    with pytest.raises(IndexError, match="no token spells phrase 100; there are 100 phrases"):
        found.phrase_map(100)


def test_a_word_alone_is_its_tokens_mean(detector: PhraseDetector, picture: np.ndarray) -> None:
    found = detector.alignment(picture, ["large dog"])
    torch.testing.assert_close(found.phrase_map(0), found.maps[:2].mean(dim=0))
