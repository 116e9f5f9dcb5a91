"""Words that stop being true when a picture is mirrored."""

import re

# A word stands between characters that are no letters: "left-hand" and "lower_left" say left,
# "bright", "upright" and "copyright" do not say right. A word of two meanings counts: a caption
# that says "the one who left" costs one flip, a wrong caption would teach.
_WORD = r"(?<![^\W\d_])(?:{})(?![^\W\d_])"
_SIDE = r"(?:left|right)(?:most|wards?|hand|hands|handed|hander|side)?"
_HEIGHT = (
    r"top(?:most)?|bottom(?:most)?|above|below|beneath|under(?:neath)?|over|overhead"
    r"|up|upwards?|upside|upper(?:most)?|down|downwards?|lower(?:most)?|high(?:er|est)?|low(?:est)?"
)
_SAYS_SIDE = re.compile(_WORD.format(_SIDE), re.IGNORECASE)
_SAYS_HEIGHT = re.compile(_WORD.format(_HEIGHT), re.IGNORECASE)


def says_left_or_right(caption: str) -> bool:
    """Whether a caption names a side as a word: left, rightmost, right-hand, leftward ..."""
    return _SAYS_SIDE.search(caption) is not None


def says_up_or_down(caption: str) -> bool:
    """Whether a caption names a height as a word: top, below, upper, lowest, upside ..."""
    return _SAYS_HEIGHT.search(caption) is not None
