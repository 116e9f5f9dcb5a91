"""The vocabulary keeps its promises: no word means two things, held-out pairs are spread."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest

from glipkit.data.shapeworld.outlines import OUTLINES
from glipkit.data.shapeworld.painting import Look, make_patch
from glipkit.data.shapeworld.vocabulary import (
    COLOURS,
    CONCEPTS,
    HELD_OUT,
    HSV,
    NOUNS,
    PAIRS,
    SECOND_TONE,
    SEEN,
    SHAPES,
    SIZE_RANGES,
    plural,
    with_article,
)
from glipkit.data.shapeworld.word_tests import (
    described_tests,
    synonym_categories,
    unseen_words,
    word_categories,
)


def test_no_word_means_two_things() -> None:
    words = [*NOUNS]
    for concept in CONCEPTS.values():
        words += [*concept.words, *concept.unseen, concept.nonsense]
        assert len(concept.words) >= 2
        assert concept.unseen
    assert [word for word, count in Counter(words).items() if count > 1] == []


def test_every_concept_can_be_drawn() -> None:
    assert len(COLOURS) == 10
    assert len(SHAPES) == 12
    assert set(HSV) == set(SECOND_TONE) == set(COLOURS)
    assert set(OUTLINES) == set(SHAPES)


def test_a_fifth_of_the_pairs_is_held_out_evenly() -> None:
    assert len(HELD_OUT) / len(PAIRS) == pytest.approx(0.2)
    assert set(SEEN) == set(PAIRS) - HELD_OUT
    assert set(Counter(shape for _, shape in HELD_OUT).values()) == {2}
    by_colour = Counter(colour for colour, _ in HELD_OUT)
    assert set(by_colour) == set(COLOURS)
    assert set(by_colour.values()) <= {2, 3}


def test_sizes_leave_gaps() -> None:
    for (_, most), (least, _) in pairwise(
        SIZE_RANGES[name] for name in ("small", "medium", "large")
    ):
        assert least / most >= 1.35


@pytest.mark.parametrize(
    ("one", "many"),
    [("circle", "circles"), ("cross", "crosses"), ("box", "boxes"), ("love heart", "love hearts")],
)
def test_plural(one: str, many: str) -> None:
    assert plural(one) == many


def test_articles() -> None:
    assert with_article("orange ball") == "an orange ball"
    assert with_article("red arrow") == "a red arrow"


@pytest.mark.parametrize("angle", [0, 13])
def test_shapes_differ_at_twelve_pixels(angle: float) -> None:
    masks = {}
    for name in SHAPES:
        patch = make_patch(Look(name, 12, (255, 255, 255), angle=angle))
        field = np.zeros((32, 32), dtype=bool)
        solid = patch.solid
        corner = (32 - solid.shape[0]) // 2
        field[corner : corner + solid.shape[0], corner : corner + solid.shape[1]] = solid
        masks[name] = field
    for first, second in combinations(masks, 2):
        both = (masks[first] & masks[second]).sum() / (masks[first] | masks[second]).sum()
        assert both < 0.85, f"{first} and {second}"


def test_outlines_fill_their_frame() -> None:
    for outline in OUTLINES.values():
        low, high = outline.points.min(axis=0), outline.points.max(axis=0)
        np.testing.assert_allclose(low + high, 0, atol=1e-9)
        np.testing.assert_allclose((high - low).max(), 2)


def test_a_word_and_its_stand_ins_have_a_category_each() -> None:
    names = {category["id"]: category["name"] for category in word_categories()}
    tests = {test["concept"]: test["words"] for test in described_tests()}
    red = {names[word["category_id"]]: word["is"] for word in tests["red"]}
    assert red == {
        "red thing": "trained",
        "crimson thing": "unseen",
        "carmine thing": "unseen",
        "dax thing": "nonsense",
    }
    circle = [names[word["category_id"]] for word in tests["circle"]]
    assert circle == ["circle", "disc", "disk", "gorp"]
    asked = [word["category_id"] for words in tests.values() for word in words]
    assert sorted(asked) == sorted(names)
    assert len(set(names.values())) == len(names)


def test_synonyms_say_no_word_of_training() -> None:
    trained = {word for concept in CONCEPTS.values() for word in concept.words}
    names = [category["name"] for category in synonym_categories()]
    assert names[0] == "crimson disc"
    assert len(set(names)) == len(PAIRS)
    assert unseen_words().isdisjoint(trained)
