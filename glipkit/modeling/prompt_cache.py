"""What the text encoder said, kept until the weights change: the words are the same every time."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable

from torch import Tensor

from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.weight_stamp import WeightStamp


class PromptCache:
    """Text features by prompt, the last used ones.

    Args:
        max_prompts: how many are kept; 0 keeps none.
        max_bytes: how much memory they may take together.

    Raises:
        ValueError: a bound is negative.
    """

    def __init__(self, *, max_prompts: int, max_bytes: int) -> None:
        for name, bound in (("remembered_prompts", max_prompts), ("remembered_bytes", max_bytes)):
            if bound < 0:
                raise ValueError(f"{name} must not be negative, got {bound}")
        self.max_prompts = max_prompts
        self.max_bytes = max_bytes
        self.num_bytes = 0  # of all that is kept
        self._kept: OrderedDict[Hashable, TextFeatures] = OrderedDict()
        self._stamp = WeightStamp()
        self._kinds: Hashable = ()

    def __len__(self) -> int:
        """How many prompts are kept."""
        return len(self._kept)

    def forget_if_changed(self, weights: Iterable[Tensor], kinds: Hashable = ()) -> None:
        """Drop everything unless all is what it was at the last call.

        Args:
            weights: everything that features are made from; see `WeightStamp`.
            kinds: what else they depend on, such as the classes of the layers.
        """
        changed = self._stamp.changed(weights)
        if changed or kinds != self._kinds:
            self.forget()
        self._kinds = kinds

    def forget(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self.num_bytes = 0

    def get(self, key: Hashable, make: Callable[[], TextFeatures]) -> TextFeatures:
        """The features of a prompt, kept or made now.

        Args:
            key: everything besides the weights that they depend on.
            make: called when they are not kept.
        """
        text = self._kept.pop(key, None)
        if text is None:
            text = make()
            self.num_bytes += _num_bytes(text)
        self._kept[key] = text  # the end is the most recently used
        while len(self._kept) > self.max_prompts or self.num_bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= _num_bytes(oldest)
        return text


def _num_bytes(text: TextFeatures) -> int:
    """Memory behind the features; a tensor that stands in two places counts once."""
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in text}
    return sum(storage.nbytes() for storage in storages.values())
