"""How often what was found, for the table at the end."""

from collections.abc import Mapping
from typing import Any

from glipkit.shell.tables import table


class Tally:
    """Counts boxes by phrase over the lines of found.jsonl, in memory of the phrases alone."""

    def __init__(self) -> None:
        self.pictures = 0
        self.boxes = 0
        self.next_track = 0  # a number that no object has
        self._found: dict[str, int] = {}
        self._pictures: dict[str, int] = {}
        self._best: dict[str, float] = {}
        self._tracks: dict[str, set[tuple[str, int]]] = {}

    def ask(self, phrases: tuple[str, ...]) -> None:
        """These were looked for: they get a row even if nothing is found."""
        for phrase in phrases:
            self._found.setdefault(phrase, 0)

    def count(self, line: Mapping[str, Any]) -> None:
        """Take in one line of found.jsonl."""
        self.pictures += 1
        film = line["file"] if "frame" in line else ""  # pictures are one sequence
        self.ask(tuple(line["phrases"]))
        for phrase in {box["label"] for box in line["boxes"]}:
            self._pictures[phrase] = self._pictures.get(phrase, 0) + 1
        for box in line["boxes"]:
            phrase = box["label"]
            self.boxes += 1
            self._found[phrase] = self._found.get(phrase, 0) + 1
            self._best[phrase] = max(self._best.get(phrase, 0.0), box["score"])
            if box.get("track_id", -1) >= 0:
                self._tracks.setdefault(phrase, set()).add((film, box["track_id"]))
                self.next_track = max(self.next_track, box["track_id"] + 1)

    def __str__(self) -> str:
        heading = ["phrase", "boxes", "pictures", "best score"]
        rows = []
        for phrase, boxes in self._found.items():
            best = f"{self._best[phrase]:.2f}" if phrase in self._best else "-"
            row = [_short(phrase), str(boxes), str(self._pictures.get(phrase, 0)), best]
            if self._tracks:
                row.append(str(len(self._tracks.get(phrase, ()))))
            rows.append(row)
        return table([[*heading, *(["objects"] if self._tracks else [])], *rows])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 50 else f"{text[:49]}…"
