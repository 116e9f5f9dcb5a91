"""How many prompts are asked about a picture at once: as many as pay, and as fit into memory."""

from collections.abc import Sequence

from torch import Tensor

from glipkit.runtime.memory import free_bytes

# Of the memory that is free, how much a batch of prompts may be planned to take.
_SHARE = 0.8
# Tensors of the size of all levels that are alive at once in the tower, at most.
_MAPS = 10


def bytes_per_prompt(levels: Sequence[Tensor], num_tokens: int, num_heads: int) -> int:
    """Memory that asking one prompt about one picture takes besides what is there already.

    With V positions, C channels, T tokens and H heads: 10 maps of V x C values (the levels of the
    tower as they come and go, and DyConv's taps), 2 of V x H x T (the scores of a fusion and one
    softmax of them; an upper bound, they are streamed in slices) and 4 of V x T (token logits,
    their probabilities and a phrase's scores), of 4 bytes each.

    Rather too much than too little: GLIP-T in float32 on a CPU, a picture of 608x800, 4 prompts of
    up to 184 tokens at once took 34 to 55 MiB each, this says 241.

    Args:
        levels: (B, C, H, W) each.
        num_tokens: T, of the longest prompt.
        num_heads: H.
    """
    channels = levels[0].shape[1]
    values = _MAPS * channels + 2 * num_heads * num_tokens + 4 * num_tokens
    return 4 * _positions(levels) * values


class ChunkBatch:
    """Decides the size of a batch of prompts, and learns from the times when memory ran out.

    Args:
        asked: TEST.CHUNK_BATCH: prompts at once; 0 chooses. On a GPU that is what fits into its
            free memory. On a CPU it is 1: a prompt keeps all cores busy, and a batch of them only
            leaves the caches (4 prompts on 2 cores: 2.6 s one by one, 3.0 s at once).
        num_heads: of the fusions.

    Raises:
        ValueError: `asked` is negative.
    """

    def __init__(self, asked: int, *, num_heads: int) -> None:
        if asked < 0:
            raise ValueError(
                f"TEST.CHUNK_BATCH must be 0 (chosen from free memory) or more, got {asked}"
            )
        self.asked = asked
        self.num_heads = num_heads
        self._most: int | None = None  # prompts x pictures x positions that may be tried

    def size(self, levels: Sequence[Tensor], num_tokens: int) -> int:
        """Prompts to ask at once, at least 1.

        Args:
            levels: (B, C, H, W) each; every prompt is asked about all B pictures.
            num_tokens: of the longest prompt.
        """
        size = self.asked or self._chosen(levels, num_tokens)
        if self._most is not None:
            size = min(size, self._most // (len(levels[0]) * _positions(levels)))
        return max(size, 1)

    def failed(self, size: int, levels: Sequence[Tensor]) -> None:
        """There was no memory for `size` prompts: half as many for such pictures from now on."""
        self._most = size // 2 * len(levels[0]) * _positions(levels)

    def _chosen(self, levels: Sequence[Tensor], num_tokens: int) -> int:
        free = free_bytes(levels[0].device)
        if free is None:  # no GPU
            return 1
        cost = len(levels[0]) * bytes_per_prompt(levels, num_tokens, self.num_heads)
        return int(free * _SHARE) // cost


def _positions(levels: Sequence[Tensor]) -> int:
    """V, of one picture."""
    return sum(level.shape[2] * level.shape[3] for level in levels)
