"""What the text encoder said, kept until the weights change: the words are the same every time."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable

from torch import Tensor

from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.weight_stamp import WeightStamp


class PromptCache:
    """Text features by prompt, in bounded memory.

    An evaluation asks its prompts round and round, one round for each batch of pictures. If there
    is no room for all of them, then what is dropped because it was used longest ago is just what
    comes next, and nothing would ever be found. So nothing makes room for another prompt of its own
    round: the first ones stay, and only the others are encoded in every round.

    Args:
        max_bytes: how much memory the features may take together; 0 keeps none.

    Raises:
        ValueError: the bound is negative.
    """

    def __init__(self, *, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"remembered_bytes must not be negative, got {max_bytes}")
        self.max_bytes = max_bytes
        self.num_bytes = 0  # of all that is kept
        self._kept: OrderedDict[Hashable, TextFeatures] = OrderedDict()  # the last used at the end
        self._asked: set[Hashable] = set()  # of what is kept, in this round
        self._stamp = WeightStamp()
        self._kinds: Hashable = ()

    def __len__(self) -> int:
        """How many prompts are kept."""
        return len(self._kept)

    def start_round(self) -> None:
        """What was asked until now may go."""
        self._asked.clear()

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
        self._asked.clear()
        self.num_bytes = 0

    def get(self, key: Hashable, make: Callable[[], TextFeatures]) -> TextFeatures:
        """The features of a prompt, kept or made now.

        Args:
            key: everything besides the weights that they depend on.
            make: called when they are not kept.
        """
        text = self._kept.get(key)
        if text is None:
            text = make()
            if not self._has_room(_num_bytes(text)):
                return text
            self._kept[key] = text
            self.num_bytes += _num_bytes(text)
        self._kept.move_to_end(key)
        self._asked.add(key)
        return text

    def _has_room(self, wanted: int) -> bool:
        """Whether `wanted` bytes fit, now that what was used before this round has made room."""
        while self.num_bytes + wanted > self.max_bytes:
            oldest = next(iter(self._kept), None)
            if oldest is None or oldest in self._asked:
                return False
            self.num_bytes -= _num_bytes(self._kept.pop(oldest))
        return True


def _num_bytes(text: TextFeatures) -> int:
    """Memory behind the features; a tensor that stands in two places counts once."""
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in text}
    return sum(storage.nbytes() for storage in storages.values())
