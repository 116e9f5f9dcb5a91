"""Words hidden from the model, for it to guess from the picture (BEHAVIOUR 16, MLM)."""

import random
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100  # the label of a token that nobody asks for; cross-entropy's own default
PROBABILITY = 0.15  # of a token to be asked for
AS_MASK, AS_OTHER = 0.8, 0.1  # of those asked for: replaced by [MASK], by a random token; else kept


class HiddenWords(NamedTuple):
    """A prompt with gaps, and what stood in them."""

    token_ids: Tensor  # (T,) int64
    labels: Tensor  # (T,) int64, the token to be guessed, IGNORED elsewhere


def hide_words(
    token_ids: Tensor,
    allowed: Tensor,
    *,
    mask_id: int,
    special_ids: frozenset[int],
    vocabulary_size: int,
    chance: random.Random,
) -> HiddenWords:
    """Ask for 15 % of the tokens: 80 % of them hidden, 10 % changed, 10 % as they are.

    Two numbers are drawn for every token that may be hidden, and more for those that are changed,
    so what is hidden depends on `chance` and on the prompt alone.

    Args:
        token_ids: (T,) int64.
        allowed: (T,) bool, tokens that may be asked for. Special tokens never are.
        mask_id: the token [MASK].
        special_ids: [CLS], [SEP] and their like; neither asked for nor put in a word's place.
        vocabulary_size: token ids lie in [0, vocabulary_size).
        chance: where the draws come from.

    Returns:
        The prompt with gaps, and the labels; `token_ids` itself stays as it is.

    Raises:
        ValueError: the two tensors have not one shape (T,).
    """
    if token_ids.dim() != 1 or allowed.shape != token_ids.shape:
        raise ValueError(
            "token_ids and allowed must both have shape (T,), got "
            f"{tuple(token_ids.shape)} and {tuple(allowed.shape)}"
        )
    shown, labels = token_ids.tolist(), [IGNORED] * len(token_ids)
    for place, may_be_asked in enumerate(allowed.tolist()):
        token = shown[place]
        if not may_be_asked or token in special_ids:
            continue
        asked, how = chance.random() < PROBABILITY, chance.random()
        if not asked:
            continue
        labels[place] = token
        if how < AS_MASK:
            shown[place] = mask_id
        elif how < AS_MASK + AS_OTHER:
            shown[place] = _other_token(special_ids, vocabulary_size, chance)
    return HiddenWords(
        torch.tensor(shown, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64)
    )


def _other_token(special_ids: frozenset[int], vocabulary_size: int, chance: random.Random) -> int:
    while True:
        token = chance.randrange(vocabulary_size)
        if token not in special_ids:
            return token
