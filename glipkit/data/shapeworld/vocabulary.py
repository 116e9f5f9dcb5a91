"""What there is in shapeworld, and the words for it: those said in training, and others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Concept:
    """Something that words can mean."""

    name: str  # its main word, the one of category names
    kind: str  # "colour", "shape", "size" or "texture"
    words: tuple[str, ...]  # said in training, the main one first
    unseen: tuple[str, ...]  # mean the same, and are never said in training
    nonsense: str  # means nothing; takes the place of a word to see what the word is worth


def _concepts(kind: str, *rows: tuple[str, str, str]) -> dict[str, Concept]:
    """Concepts by name, from rows of (training words, unseen words, nonsense word)."""
    concepts = []
    for words, unseen, nonsense in rows:
        said, unsaid = tuple(words.split(", ")), tuple(unseen.split(", "))
        concepts.append(Concept(said[0], kind, said, unsaid, nonsense))
    return {concept.name: concept for concept in concepts}


COLOURS = _concepts(
    "colour",
    ("red, scarlet, ruby, cherry", "crimson, carmine", "dax"),
    ("orange, tangerine, pumpkin, amber", "apricot, mandarin", "wug"),
    ("yellow, golden, lemon, mustard", "canary, saffron", "blicket"),
    ("green, emerald, jade, grassy", "lime, mint", "toma"),
    ("blue, azure, cobalt, bluish", "navy, sapphire", "fep"),
    ("purple, violet, lilac, lavender", "plum, mauve", "zorp"),
    ("pink, rose, blush, flamingo", "rosy, salmon", "modi"),
    ("brown, chocolate, hazel, mocha", "coffee, chestnut", "koba"),
    ("black, ebony, inky, coal", "charcoal, onyx", "snig"),
    ("white, ivory, milky, chalky", "snowy, pearl", "larpen"),
)
SHAPES = _concepts(
    "shape",
    ("circle, ball, round shape, sphere", "disc, disk", "gorp"),
    ("square, box, tile", "block, cube", "tulver"),
    ("triangle, triangular shape, wedge", "pyramid, delta", "zib"),
    ("star, star shape, pentagram", "starfish, starburst", "nonk"),
    ("heart, love heart, heart symbol", "valentine, sweetheart", "plim"),
    ("ring, hoop, loop, circlet", "donut, doughnut", "druv"),
    ("cross, plus, cross sign", "crucifix, cruciform", "frib"),
    ("diamond, kite, rhombus", "lozenge, gem", "mep"),
    ("crescent, moon, half moon", "sickle, croissant", "vash"),
    ("arrow, pointer, dart", "cursor, arrowhead", "jorp"),
    ("bolt, lightning bolt, lightning symbol", "thunderbolt, flash", "trob"),
    ("drop, teardrop, raindrop", "droplet, tear", "kelv"),
)
SIZES = _concepts(
    "size",
    ("small, little, miniature", "tiny, mini", "ludge"),
    ("medium, medium-sized", "mid-sized, average", "sprock"),
    ("large, big, giant", "huge, enormous", "brell"),
)
TEXTURES = _concepts(
    "texture",
    ("plain, solid, uniform", "unpatterned, blank", "norb"),
    ("striped, stripy, barred", "lined, pinstriped", "quib"),
    ("dotted, spotted, speckled", "polka-dot, freckled", "flane"),
    ("checkered, checked, checkerboard", "chequered, plaid", "grast"),
)
CONCEPTS = {**COLOURS, **SHAPES, **SIZES, **TEXTURES}
NOUNS = ("thing", "shape", "object")  # for something whose shape is not said

# Category i + 1 of the detection files is PAIRS[i].
PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
# Two colours of every shape; every colour loses two or three shapes.
HELD_OUT = frozenset(
    (tuple(COLOURS)[(3 * row + turn) % len(COLOURS)], shape)
    for row, shape in enumerate(SHAPES)
    for turn in (0, 5)
)
SEEN = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

# Longer side of the upright shape, as a share of the side of the picture.
SIZE_RANGES = {"small": (0.082, 0.112), "medium": (0.158, 0.215), "large": (0.30, 0.42)}

# Ranges of hue in degrees, saturation and value in [0, 1]. Light takes up to a third off.
HSV = {
    "red": ((-6, 5), (0.78, 0.95), (0.70, 0.92)),
    "orange": ((23, 31), (0.88, 1.0), (0.94, 1.0)),
    "yellow": ((49, 57), (0.72, 0.95), (0.93, 1.0)),
    "green": ((105, 148), (0.55, 0.90), (0.42, 0.75)),
    "blue": ((208, 230), (0.68, 0.95), (0.60, 0.95)),
    "purple": ((270, 290), (0.50, 0.80), (0.45, 0.72)),
    "pink": ((326, 344), (0.30, 0.46), (0.94, 1.0)),
    "brown": ((18, 28), (0.58, 0.75), (0.34, 0.46)),
    "black": ((0, 360), (0.0, 0.25), (0.03, 0.12)),
    "white": ((0, 360), (0.0, 0.03), (0.95, 1.0)),
}
# Hues between them: the names that somebody might give one, then its HSV as above.
ODD_HSV = {
    "teal": (("green", "blue"), ((165, 195), (0.50, 0.95), (0.50, 0.95))),
    "chartreuse": (("green", "yellow"), ((68, 92), (0.60, 0.95), (0.60, 0.95))),
    "magenta": (("pink", "purple", "red"), ((298, 318), (0.60, 0.95), (0.60, 0.95))),
    "grey": (("black", "white"), ((0, 360), (0.0, 0.10), (0.40, 0.70))),
    "beige": (("white", "brown", "orange"), ((28, 46), (0.18, 0.35), (0.75, 0.90))),
    "olive": (("green", "brown", "yellow"), ((55, 68), (0.60, 0.90), (0.35, 0.55))),
    "salmon": (("pink", "orange", "red"), ((5, 16), (0.45, 0.65), (0.85, 1.0))),
    "navy": (("blue", "black", "purple"), ((225, 245), (0.60, 0.90), (0.22, 0.36))),
    "maroon": (("red", "brown", "purple"), ((345, 360), (0.60, 0.90), (0.30, 0.48))),
}
# The other tone of a texture: what the colour is mixed with, and how much of that. None of the
# mixtures is another colour of the list where it covers half of an object.
SECOND_TONE = {
    "red": ("black", 0.55),
    "orange": ("white", 0.70),
    "yellow": ("black", 0.45),
    "green": ("white", 0.60),
    "blue": ("white", 0.60),
    "purple": ("white", 0.60),
    "pink": ("white", 0.85),
    "brown": ("white", 0.45),
    "black": ("white", 0.50),
    "white": ("black", 0.42),
}


def pair_name(pair: tuple[str, str]) -> str:
    """The category name of a (colour, shape) pair."""
    return " ".join(pair)


def plural(noun: str) -> str:
    """More than one: "love hearts", "crosses", "boxes"."""
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch")) else "s")


def with_article(words: str) -> str:
    """The words after "a" or "an"."""
    vowel = words[0] in "aeiou" and not words.startswith("uniform")  # spoken "you"
    return f"{'an' if vowel else 'a'} {words}"
