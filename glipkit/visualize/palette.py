"""Which colour and which line a phrase is drawn with, so that phrases are told apart."""

Color = tuple[int, int, int]

# Told apart by colour-blind eyes too: Okabe & Ito, "Color Universal Design" (2008), without black
# and grey, which pictures are full of; then three of Tol's "muted" scheme for longer prompts.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (136, 34, 85),
    (153, 153, 51),
    (221, 170, 255),
)
DARK: Color = (20, 20, 20)
LIGHT: Color = (255, 255, 255)
BACKGROUND: Color = (38, 38, 38)  # of sheets, between pictures

# After ten phrases the colours come again, and the lines differ: lengths of colour and of white,
# in turn, in units of the line's thickness. An empty pattern is a solid line.
_PATTERNS: tuple[tuple[int, ...], ...] = ((), (8, 3), (2, 2), (8, 2, 2, 2))
TRUTH_PATTERN = (4, 4)  # colour and dark: what should have been found


def phrase_color(phrase_id: int) -> Color:
    """The colour of a phrase, the same in every picture; there are ten."""
    return PALETTE[phrase_id % len(PALETTE)]


def phrase_pattern(phrase_id: int) -> tuple[int, ...]:
    """How the line of a phrase is broken up: solid for the first ten, then three kinds of dashes.

    Colour and pattern together tell 40 phrases apart.
    """
    return _PATTERNS[phrase_id // len(PALETTE) % len(_PATTERNS)]


def is_bright(color: Color) -> bool:
    """Whether dark ink reads better on it than light ink."""
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140  # luma, ITU-R BT.601


def ink_on(color: Color) -> Color:
    """What to write with on that colour, or to draw around it."""
    return DARK if is_bright(color) else LIGHT
