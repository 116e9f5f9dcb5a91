"""How much a visitor of the page may ask of the machine that serves it."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused with a message, before it costs memory or time.

    Args:
        upload_bytes: of one picture's file; 20 MB holds any camera's JPEG.
        stored_bytes: of all uploads together; the oldest go first, and all of them after an hour.
        pixels: of one picture, read from its header before anything is decoded.
        characters: of the words that are asked.
        waiting: questions, moves of sliders and looks that may queue, of all visitors together; the
            model answers one at a time.
        sessions: browser tabs whose last answer is remembered; that of the tab that was used
            longest ago is forgotten first.

    Raises:
        ValueError: a limit is below 1.
    """

    upload_bytes: int = 20_000_000
    stored_bytes: int = 1_000_000_000
    pixels: int = 50_000_000
    characters: int = 1_000
    waiting: int = 16
    sessions: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ValueError(f"limit {field.name} must be at least 1, got {value}")
