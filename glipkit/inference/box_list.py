"""Boxes with scores and labels in the shape that scripts written for GLIP take apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from glipkit.structures.boxes import area, from_xywh, resize, to_xywh

MODES = ("xyxy", "xywh")


class BoxList:
    """N boxes of one picture, and values that belong to them.

    The rest of glipkit passes `Detections` and `Found` about, whose sizes are (height, width) and
    whose phrase ids start at 0; here, as in GLIP, a size is (width, height).

    Args:
        bbox: (N, 4) float, in the form that `mode` says.
        image_size: (width, height) of the picture in pixels.
        mode: "xyxy", or "xywh" with width = x2 - x1 + 1.

    Raises:
        ValueError: another mode, or another shape.
    """

    def __init__(self, bbox: Tensor, image_size: Sequence[int], mode: str = "xyxy") -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        bbox = torch.as_tensor(bbox, dtype=torch.float32)
        if bbox.dim() != 2 or bbox.shape[1] != 4:
            raise ValueError(f"bbox must have shape (N, 4), got {tuple(bbox.shape)}")
        self.bbox = bbox
        self.size = (int(image_size[0]), int(image_size[1]))
        self.mode = mode
        self.extra_fields: dict[str, object] = {}

    def add_field(self, field: str, field_data: object) -> None:
        """Give the boxes a value each: a tensor or a sequence of N."""
        if len(field_data) != len(self):
            raise ValueError(f"field {field!r} has {len(field_data)} values for {len(self)} boxes")
        self.extra_fields[field] = field_data

    def get_field(self, field: str) -> object:
        """The values of that name.

        Raises:
            KeyError: there are none; says which there are.
        """
        if field not in self.extra_fields:
            raise KeyError(f"no field {field!r}; there are: {', '.join(self.fields()) or 'none'}")
        return self.extra_fields[field]

    def has_field(self, field: str) -> bool:
        """Whether there are values of that name."""
        return field in self.extra_fields

    def fields(self) -> list[str]:
        """The names of all values."""
        return list(self.extra_fields)

    def convert(self, mode: str) -> "BoxList":
        """The same boxes in the other form."""
        if mode == self.mode:
            return self
        other = to_xywh if mode == "xywh" else from_xywh
        return self._with(BoxList(other(self.bbox, plus_one=True), self.size, mode))

    def resize(self, size: Sequence[int]) -> "BoxList":
        """The same boxes in the picture scaled to `size`, (width, height)."""
        boxes = self.convert("xyxy").bbox
        boxes = resize(boxes, self.size[::-1], (int(size[1]), int(size[0])))
        return self._with(BoxList(boxes, size)).convert(self.mode)

    def area(self) -> Tensor:
        """(N,) square pixels, both ends counted."""
        return area(self.convert("xyxy").bbox, plus_one=True)

    def to(self, device: torch.device | str) -> "BoxList":
        """The same boxes and tensors on another device."""
        moved = BoxList(self.bbox.to(device), self.size, self.mode)
        for name, values in self.extra_fields.items():
            moved.add_field(name, values.to(device) if isinstance(values, Tensor) else values)
        return moved

    def __len__(self) -> int:
        return len(self.bbox)

    def __getitem__(self, index: object) -> "BoxList":
        """Some of the boxes: by a slice, or a tensor or list of numbers or of truth values."""
        if isinstance(index, int):
            index = [index]
        if not isinstance(index, slice):
            index = torch.as_tensor(index).flatten().cpu()
            index = index if index.numel() else index.long()
        numbers = torch.arange(len(self))[index]
        chosen = BoxList(self.bbox[numbers.to(self.bbox.device)], self.size, self.mode)
        for name, values in self.extra_fields.items():
            if isinstance(values, Tensor):
                chosen.add_field(name, values[numbers.to(values.device)])
            else:
                chosen.add_field(name, [values[number] for number in numbers.tolist()])
        return chosen

    def __repr__(self) -> str:
        width, height = self.size
        return f"BoxList({len(self)} boxes, image {width}x{height}, {self.mode}, {self.fields()})"

    def _with(self, other: "BoxList") -> "BoxList":
        other.extra_fields = dict(self.extra_fields)
        return other
