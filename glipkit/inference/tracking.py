"""Which box of a frame is which object of the frame before."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glipkit.inference.counts import check_count
from glipkit.inference.found import Found
from glipkit.structures.boxes import iou

NO_TRACK = -1


@dataclass(slots=True)
class _Track:
    """One object that is being followed."""

    label: str
    box: Tensor  # (4,) where it was seen last
    hits: int = 1  # frames it was seen in
    age: int = 0  # frames since it was seen last
    number: int = NO_TRACK  # until it has been seen often enough
    velocity: Tensor | None = None  # (2,) pixels per frame, once it was seen twice

    def expected(self) -> Tensor:
        """(4,) where it should be now, if it goes on as it did."""
        if self.velocity is None:
            return self.box
        return self.box + (self.velocity * self.age).repeat(2)

    def see(self, box: Tensor, smoothing: float) -> None:
        """It was found at `box`."""
        moved = ((box[:2] + box[2:]) - (self.box[:2] + self.box[2:])) / 2 / self.age
        old = moved if self.velocity is None else self.velocity
        self.velocity = smoothing * old + (1 - smoothing) * moved
        self.box = box
        self.hits += 1
        self.age = 0


class IouTracker:
    """Numbers the objects of a film by the overlap of their boxes from frame to frame.

    A box continues the track of its own phrase that it overlaps most, where the track is expected
    by its speed so far; better boxes choose first (greedily by IoU times score, after Bochinski et
    al., "High-Speed Tracking-by-Detection Without Using Image Information", AVSS 2017, with the
    constant speed of SORT, Bewley et al., ICIP 2016). Looks are not compared: what leaves for
    longer than `max_age` frames, or jumps further than its own size between frames, comes back as
    another.

        tracker = IouTracker()
        for found in frames: found = tracker.update(found)

    Args:
        min_iou: less overlap than this is another object.
        max_age: frames that an object may be hidden and keep its number.
        min_hits: frames that it must have been found in before it gets a number; what has none
            yet has track id -1.
        smoothing: share of the old speed in the new one, in [0, 1).
        first: the first number that is given, where smaller ones belong to others.

    Raises:
        ValueError: one of them is out of its range, or frames are no whole number.
    """

    def __init__(
        self,
        *,
        min_iou: float = 0.2,
        max_age: int = 10,
        min_hits: int = 1,
        smoothing: float = 0.5,
        first: int = 0,
    ) -> None:
        if not 0 < min_iou <= 1:
            raise ValueError(f"min_iou is above 0 and at most 1, got {min_iou}")
        check_count(max_age, "max_age", least=0)
        check_count(min_hits, "min_hits")
        check_count(first, "first", least=0)
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing is at least 0 and below 1, got {smoothing}")
        self._min_iou = min_iou
        self._max_age = max_age
        self._min_hits = min_hits
        self._smoothing = smoothing
        self._tracks: list[_Track] = []
        self._next = first

    def update(self, found: Found) -> Found:
        """The next frame's boxes with the numbers of their objects.

        Args:
            found: N boxes; a number that they have already is replaced.

        Returns:
            The same with `track_ids`, (N,) int64. A number is never given twice, also not to
            another phrase or after `cut`.
        """
        boxes, scores, labels = found.boxes.float().cpu(), found.scores.float().cpu(), found.labels
        for track in self._tracks:
            track.age += 1
        continued = self._continued(boxes, scores, labels)
        for row, box in enumerate(boxes):
            if row in continued:
                continued[row].see(box, self._smoothing)
            else:
                continued[row] = _Track(labels[row], box)
                self._tracks.append(continued[row])
        # What had no number yet and is gone again was no object.
        self._tracks = [
            track
            for track in self._tracks
            if track.age <= (self._max_age if track.hits >= self._min_hits else 0)
        ]
        numbers = [self._number(continued[row]) for row in range(len(boxes))]
        ids = torch.tensor(numbers, dtype=torch.int64, device=found.boxes.device)
        return replace(found, track_ids=ids)

    def cut(self) -> None:
        """What comes next continues nothing: another film, or another scene of it."""
        self._tracks.clear()

    def _number(self, track: _Track) -> int:
        if track.number == NO_TRACK and track.hits >= self._min_hits:
            track.number = self._next
            self._next += 1
        return track.number

    def _continued(self, boxes: Tensor, scores: Tensor, labels: list[str]) -> dict[int, _Track]:
        """Row of `boxes` -> the track that it continues, each at most once."""
        if not self._tracks or not len(boxes):
            return {}
        expected = torch.stack([track.expected() for track in self._tracks])
        overlaps = iou(expected, boxes, plus_one=False)  # (tracks, N)
        same = torch.tensor([[t.label == label for label in labels] for t in self._tracks])
        overlaps = torch.where(same, overlaps, 0)
        quality = overlaps * scores
        pairs = (overlaps >= self._min_iou).nonzero().tolist()
        pairs.sort(key=lambda pair: -float(quality[pair[0], pair[1]]))
        chosen: dict[int, _Track] = {}
        taken: set[int] = set()
        for number, row in pairs:
            if number not in taken and row not in chosen:
                taken.add(number)
                chosen[row] = self._tracks[number]
        return chosen
