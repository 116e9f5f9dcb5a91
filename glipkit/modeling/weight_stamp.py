"""Notices that weights changed, so that nothing derived from them outlives them."""

from collections.abc import Iterable

import torch
from torch import Tensor

_SAMPLES = 16  # values of each tensor that are compared


class WeightStamp:
    """Remembers which tensors there were, where, how often each was written, and some values.

    PyTorch counts what is written in place: optimizer steps, `copy_`, `load_state_dict`. It does
    not count writes through `tensor.data`; on a CPU those are seen in the values, of which 16
    evenly spaced ones are compared for each tensor. So such a write goes unseen where it touches a
    few places of a tensor and leaves the others as they are, and on a GPU, where reading values
    back would make every picture wait for the one before it.
    """

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._facts: tuple[object, ...] | None = None
        self._views: list[Tensor] = []
        self._values = torch.empty(0)

    @torch.inference_mode()
    def changed(self, tensors: Iterable[Tensor]) -> bool:
        """Whether any of them is not what it was at the last call; True at the first.

        Also true of tensors born in inference mode, whose writes are not counted, and of NaN.

        Args:
            tensors: on one device.
        """
        tensors = list(tensors)
        uncounted = any(tensor.is_inference() for tensor in tensors)
        facts = tuple((id(t), t.data_ptr(), 0 if uncounted else t._version) for t in tensors)
        moved = facts != self._facts
        if moved:
            self._views = [_sampled(tensor) for tensor in tensors if tensor.device.type == "cpu"]
            self._facts = facts
            self._tensors = tensors  # kept alive, so that no id is given to another tensor
        values = torch.cat(self._views) if self._views else torch.empty(0)
        same = not moved and torch.equal(values, self._values)
        self._values = values
        return uncounted or not same


def _sampled(tensor: Tensor) -> Tensor:
    """A few values of a tensor as a view of its memory."""
    tensor = tensor.detach()
    # A sparse layout of memory shows one of its rows: nothing else is a view in one dimension.
    flat = tensor.view(-1) if tensor.is_contiguous() else tensor[(0,) * (tensor.dim() - 1)]
    step = max(len(flat) // _SAMPLES, 1) | 1  # odd, so that not all fall on the same columns
    return flat[::step]
