"""Answers out: what was found in one picture, and everything people do with it."""

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from glipkit import __version__
from glipkit.evaluation.coco_results import decimals, to_coco_results
from glipkit.inference.asked import Asked
from glipkit.inference.counts import whole
from glipkit.inference.formats import data_frame, supervision_detections
from glipkit.runtime.files import replacing, write_atomically
from glipkit.structures.detections import Detections
from glipkit.visualize import draw

if TYPE_CHECKING:  # optional, and slow to import
    import pandas
    import supervision

_LARGEST_PREVIEW = 1024  # pixels, the longer side in a notebook
_PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class FoundBox(NamedTuple):
    """One box: (x1, y1, x2, y2) in pixels of the original picture."""

    box: tuple[float, float, float, float]
    score: float  # in [0, 1]
    label: str  # the phrase
    track_id: int | None = None  # the object, over the frames of a film; -1 while it is unsure


@dataclass(frozen=True, eq=False, repr=False)
class Found:
    """What was found in one picture: N boxes, the best first.

    Iterate over it, index it (`found[0]` is a `FoundBox`; of a slice, a list of numbers or a mask
    it is a `Found`, the best first again), or take the tensors, which are on the CPU. Boxes lie
    inside the picture. It never changes: `above` and the like make another one.

    Raises:
        ValueError: shapes do not agree, a phrase id has no phrase, a number is not finite, or
            there is neither a picture nor its size.
    """

    boxes: Tensor  # (N, 4) float32: x1, y1, x2, y2 in pixels of the original picture
    scores: Tensor  # (N,) float32 in [0, 1]
    phrase_ids: Tensor  # (N,) int64, index `phrases`
    phrases: tuple[str, ...]  # what was looked for, without what was unwanted
    picture: Image.Image | None  # RGB
    source: str | None  # where the picture is from
    asked: Asked  # how the words were read
    track_ids: Tensor | None = None  # (N,) int64
    size: tuple[int, int] | None = None  # (width, height) in pixels; taken from the picture

    def __post_init__(self) -> None:
        size = self.picture.size if self.picture is not None else self.size
        if size is None:
            raise ValueError("Found needs the picture or its size=(width, height), got neither")
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"size is (width, height) in pixels, from 1 on, got {tuple(size)}")
        if self.size is not None and tuple(self.size) != tuple(size):
            raise ValueError(f"the picture is {size} (width, height), but size={self.size}")
        count = len(self.boxes)
        for name, shape in (("boxes", (count, 4)), *((each, (count,)) for each in self._rows())):
            given = tuple(getattr(self, name).shape)
            if given != shape:
                raise ValueError(f"{name} must have shape {shape}, got {given}")
        self._set(
            boxes=self.boxes.detach().float().cpu(),
            scores=self.scores.detach().float().cpu(),
            size=(int(size[0]), int(size[1])),
            phrases=tuple(self.phrases),
            **{
                name: getattr(self, name).detach().long().cpu()
                for name in self._rows()
                if name != "scores"
            },
        )
        if not (self.boxes.isfinite().all() and self.scores.isfinite().all()):
            raise ValueError("boxes or scores are not finite: the model's weights are broken")
        if count and not 0 <= self.phrase_ids.min() <= self.phrase_ids.max() < len(self.phrases):
            raise ValueError(
                f"phrase_ids index {len(self.phrases)} phrases, got {self.phrase_ids.unique()}"
            )
        order = self.scores.argsort(descending=True, stable=True)
        if not torch.equal(order, torch.arange(count)):
            self._set(**{name: getattr(self, name)[order] for name in ("boxes", *self._rows())})

    def _rows(self) -> tuple[str, ...]:
        """The fields of shape (N,)."""
        return ("scores", "phrase_ids", *(("track_ids",) if self.track_ids is not None else ()))

    def _set(self, **values: Any) -> None:
        """What a frozen dataclass allows its own `__post_init__` alone."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def labels(self) -> list[str]:
        """N texts, the phrase of each box."""
        return [self.phrases[index] for index in self.phrase_ids.tolist()]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[FoundBox]:
        tracks = [None] * len(self) if self.track_ids is None else self.track_ids.tolist()
        for box, score, label, track in zip(
            decimals(self.boxes), decimals(self.scores), self.labels, tracks
        ):
            yield FoundBox(tuple(box), score, label, track)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> "FoundBox | Found":
        chosen = self._chosen(index)
        if chosen.dim() == 0:
            position = range(len(self))[int(chosen)]  # IndexError as for a list
            return next(iter(self[position : position + 1]))
        return replace(
            self, **{name: getattr(self, name)[chosen] for name in ("boxes", *self._rows())}
        )

    def _chosen(self, index: Any) -> Tensor:
        """What an index means: a number, () int64; several, (K,) int64; or a mask, (N,) bool."""
        if isinstance(index, slice):
            return torch.arange(len(self))[index]
        try:
            chosen = torch.as_tensor(index).cpu()
        except (TypeError, ValueError, RuntimeError):  # text, None, lists of different lengths
            chosen = torch.empty(1, 1)
        is_mask = chosen.dtype == torch.bool
        is_none = chosen.is_floating_point() and chosen.numel()
        if is_none or chosen.dim() > 1 or (is_mask and chosen.dim() == 0):
            raise TypeError(
                f"boxes are chosen by a number, a slice, a list of numbers or a mask, got {index!r}"
            )
        return chosen if chosen.numel() else chosen.long()

    def __repr__(self) -> str:
        by_phrase = defaultdict(list)
        for label, score in zip(self.labels, self.scores.tolist()):
            by_phrase[label].append(f"{score:.2f}")
        parts = []
        for label, scores in by_phrase.items():
            more = f" and {len(scores) - 3} more" if len(scores) > 3 else ""
            parts.append(f"{label!r} {', '.join(scores[:3])}{more}")
        where = f" in {self.source}" if self.source else ""
        what = "; ".join(parts) or f"nothing of {', '.join(map(repr, self.phrases))}"
        return f"<Found {len(self)}{where} ({self.size[0]}x{self.size[1]}): {what}>"

    def above(self, threshold: float | Mapping[str, float]) -> "Found":
        """The boxes that score at least so much; no new forward pass.

        Args:
            threshold: in [0, 1], for all phrases, or by phrase; those not named keep all they have.

        Raises:
            TypeError: it is no number.
            ValueError: it is outside [0, 1], or names a phrase that was not asked.
        """
        by_phrase = isinstance(threshold, Mapping)
        limits = dict(threshold) if by_phrase else dict.fromkeys(self.phrases, threshold)
        unknown = [phrase for phrase in limits if phrase not in self.phrases]
        if unknown:
            raise ValueError(f"there are thresholds for {unknown}, asked was {list(self.phrases)}")
        for limit in limits.values():
            if isinstance(limit, bool) or not isinstance(limit, Real):
                raise TypeError(f"a threshold is a number in [0, 1], got {limit!r}")
            if not 0 <= limit <= 1:
                raise ValueError(f"a threshold lies in [0, 1], got {limit}")
        least = torch.tensor([float(limits.get(phrase, 0)) for phrase in self.phrases])
        return self[self.scores >= least[self.phrase_ids]]

    def draw(self, **how: Any) -> Image.Image:
        """The picture with its boxes, in RGB.

        Each phrase has a colour; where objects are tracked, each object has one, and its number is
        before the phrase. Beside the `truth`, which knows phrases alone, phrases have them again.

        Args:
            **how: for `glipkit.visualize.draw`; all boxes are drawn unless `score_threshold` says
                otherwise.

        Raises:
            ValueError: the picture was not kept.
        """
        if self.picture is None:
            raise ValueError(
                "there is no picture to draw on; open it and give it to this answer: "
                "dataclasses.replace(found, picture=Image.open(…))"
            )
        tracked = self.track_ids is not None and how.get("truth") is None
        shown = self._objects() if tracked else (self._detections(), self.phrases)
        return draw(self.picture, *shown, **{"score_threshold": 0.0, **how})

    def save(self, path: str | Path, **how: Any) -> Path:
        """Leave the drawn picture, or `to_json` if the name ends in .json; whole or not at all.

        Args:
            path: its suffix says the form. Missing folders are made, an old file is replaced.
            **how: for `draw`.

        Returns:
            The path.

        Raises:
            ValueError: the suffix is unknown, or the picture was not kept.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".json":
            text = json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n"
            # Names of files need not be text: what is none is escaped, and read back by JSON.
            write_atomically(path, text.encode(errors="backslashreplace").decode())
            return path
        if suffix not in _PICTURES:
            raise ValueError(
                f"{path} must end in .json or {', '.join(_PICTURES)}, got {suffix or 'no suffix'}"
            )
        image = self.draw(**how)
        with replacing(path) as file:
            image.save(file, format=Image.registered_extensions()[suffix], quality=95)
        return path

    def to_coco(
        self, image_id: int | str = 0, category_ids: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Results in COCO's format: image_id, category_id, bbox, score, and track_id if tracked.

        `bbox` is [x, y, width, height] with width = x2 - x1 + 1, as the published evaluation (and
        ours) exports it.

        Args:
            image_id: of the picture; text where that is how a dataset names them.
            category_ids: phrase -> category id; None numbers the phrases from 1.

        Raises:
            TypeError: an id is no whole number.
            ValueError: a phrase has no category id.
        """
        if category_ids is None:
            ids = list(range(1, len(self.phrases) + 1))
        else:
            missing = [phrase for phrase in self.phrases if phrase not in category_ids]
            if missing:
                raise ValueError(f"category_ids has none for {missing}, got {list(category_ids)}")
            ids = [whole(category_ids[phrase]) for phrase in self.phrases]  # numpy's own too
        name = image_id if isinstance(image_id, str) else whole(image_id)
        results = to_coco_results(name, self._detections(), ids)
        if self.track_ids is not None:
            for result, track in zip(results, self.track_ids.tolist()):
                result["track_id"] = track
        return results

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads back.

        `{"glipkit": version, "source": str | null, "size": [width, height],
        "asked": {"captions": [str], "phrases": [{"text", "caption", "spans", "wanted"}]},
        "phrases": [str], "tracked": bool,
        "boxes": [{"label": str, "phrase_id": int, "score": float, "box": [x1, y1, x2, y2],
        "track_id": int (only if tracked)}]}`, boxes in pixels of the original picture, best first.
        """
        boxes = []
        for phrase_id, each in zip(self.phrase_ids.tolist(), self):
            row = {"label": each.label, "phrase_id": phrase_id, "score": each.score}
            row["box"] = list(each.box)
            boxes.append(row if each.track_id is None else row | {"track_id": each.track_id})
        return {
            "glipkit": __version__,
            "source": self.source,
            "size": list(self.size),
            "asked": self.asked.to_json(),
            "phrases": list(self.phrases),
            "tracked": self.track_ids is not None,
            "boxes": boxes,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], picture: Image.Image | None = None) -> "Found":
        """What `to_json` made (or `json.load` read).

        Args:
            data: of that form; without "tracked", as it once was written, the boxes tell.
            picture: to draw on; JSON does not hold it.

        Raises:
            ValueError: a part is missing or malformed.
        """
        try:
            rows = data["boxes"]
            tracked = data.get("tracked", any("track_id" in row for row in rows))
            values = {
                "boxes": torch.tensor([row["box"] for row in rows], dtype=torch.float32),
                "scores": torch.tensor([row["score"] for row in rows], dtype=torch.float32),
                "phrase_ids": _whole(row["phrase_id"] for row in rows),
                "phrases": tuple(map(str, data["phrases"])),
                "source": data["source"],
                "size": tuple(map(whole, data["size"])),
                "asked": Asked.from_json(data["asked"]),
            }
            if tracked:
                values["track_ids"] = _whole(row["track_id"] for row in rows)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"expected what Found.to_json makes, got something else "
                f"({type(error).__name__}: {error})"
            ) from error
        values["boxes"] = values["boxes"].reshape(len(rows), -1 if rows else 4)
        return cls(picture=picture, **values)

    def to_pandas(self) -> "pandas.DataFrame":
        """A table with a row per box: label, phrase_id, score, x1, y1, x2, y2, source (, track_id).

        Raises:
            ImportError: pandas is not installed; says how.
        """
        return data_frame(
            self.boxes, self.scores, self.phrase_ids, self.labels, self.track_ids, self.source
        )

    def to_supervision(self) -> "supervision.Detections":
        """`supervision.Detections`: class_id is the phrase id, data["class_name"] its text.

        Raises:
            ImportError: supervision is not installed; says how.
        """
        return supervision_detections(
            self.boxes, self.scores, self.phrase_ids, self.labels, self.track_ids
        )

    def _objects(self) -> tuple[Detections, Sequence[str]]:
        """Detections whose phrases are the objects; what is unsure keeps its phrase."""
        unsure = max([-1, *self.track_ids.tolist()]) + 1  # numbers from here on are free
        numbers = torch.where(self.track_ids < 0, unsure + self.phrase_ids, self.track_ids)
        names = [*[""] * unsure, *self.phrases]
        for number, label in zip(self.track_ids.tolist(), self.labels):
            if number >= 0:
                names[number] = f"{number} {label}"
        return replace(self._detections(), phrase_ids=numbers), names

    def _detections(self) -> Detections:
        width, height = self.size
        return Detections(self.boxes, self.scores, self.phrase_ids, (height, width))

    def _repr_png_(self) -> bytes | None:
        """For notebooks: the drawn picture, if there is one."""
        if self.picture is None:
            return None
        image = self.draw()
        image.thumbnail((_LARGEST_PREVIEW, _LARGEST_PREVIEW))
        file = io.BytesIO()
        image.save(file, format="PNG")
        return file.getvalue()


def _whole(numbers: Iterable[int]) -> Tensor:
    """Whole numbers as (N,) int64; TypeError for others, which torch would round."""
    return torch.tensor([whole(number) for number in numbers], dtype=torch.int64)
