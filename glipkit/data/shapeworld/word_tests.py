"""What a word is worth: names with a training word, an unseen synonym, or a nonsense word."""

from typing import Any

from glipkit.data.shapeworld.scenes import SceneObject
from glipkit.data.shapeworld.vocabulary import (
    COLOURS,
    CONCEPTS,
    NOUNS,
    PAIRS,
    SHAPES,
    SIZES,
    TEXTURES,
    Concept,
)

# The words of one column stand together, so that a prompt of a few names says no concept twice.
COLUMNS = ("trained", "unseen", "unseen too", "nonsense")
# "medium" and "plain" say little without others beside them.
TESTED = (
    *COLOURS.values(),
    *SHAPES.values(),
    *(SIZES[name] for name in ("small", "large")),
    *(TEXTURES[name] for name in ("striped", "dotted", "checkered")),
)


def synonym_categories() -> list[dict[str, Any]]:
    """The categories of the detection files, said with words that training never says."""
    return [
        {"id": number, "name": f"{COLOURS[colour].unseen[0]} {SHAPES[shape].unseen[0]}"}
        for number, (colour, shape) in enumerate(PAIRS, start=1)
    ]


def word_categories() -> list[dict[str, Any]]:
    """A category for each tested word: "crimson thing", "disc"."""
    return [
        {"id": _category_id(row, column), "name": _name(concept, _words(concept)[column])}
        for column in range(len(COLUMNS))
        for row, concept in enumerate(TESTED)
    ]


def word_category_ids(thing: SceneObject) -> list[int]:
    """The categories of `word_categories` that an object belongs to, whatever their words."""
    concepts = {thing.colour, thing.shape, thing.size, thing.texture}
    rows = [row for row, concept in enumerate(TESTED) if concept.name in concepts]
    return [_category_id(row, column) for row in rows for column in range(len(COLUMNS))]


def described_tests() -> list[dict[str, Any]]:
    """Which words stand for each other: an entry per concept, for `info` of the file."""
    return [
        {
            "concept": concept.name,
            "kind": concept.kind,
            "words": [
                {"is": kind.removesuffix(" too"), "word": word, "category_id": _category_id(row, n)}
                for n, (kind, word) in enumerate(zip(COLUMNS, _words(concept)))
            ],
        }
        for row, concept in enumerate(TESTED)
    ]


def unseen_words() -> set[str]:
    """Every word that training must not say: synonyms and nonsense."""
    return {word for concept in CONCEPTS.values() for word in (*concept.unseen, concept.nonsense)}


def _words(concept: Concept) -> tuple[str, ...]:
    return concept.name, *concept.unseen, concept.nonsense


def _name(concept: Concept, word: str) -> str:
    return word if concept.kind == "shape" else f"{word} {NOUNS[0]}"


def _category_id(row: int, column: int) -> int:
    return column * len(TESTED) + row + 1
