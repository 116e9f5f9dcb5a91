"""The bridge between phrases and tokens, crossed in both directions.

Training goes from phrases to tokens (which tokens should this box light up?), inference from
tokens to phrases (how strongly does this box match each phrase?). Both use one (P, T) matrix, which
is made and read here.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from glipkit.structures.prompts import Phrase

AGGREGATIONS = ("MEAN", "MAX", "POWER", "ONEHOT")  # values of MODEL.DYHEAD.SCORE_AGG
_LOG_OF_ZERO = -1e30  # exp of any share of it is 0, and 0 times it is 0


def span_tokens(span: tuple[int, int], char_to_token: Callable[[int], int | None]) -> Sequence[int]:
    """The tokens that spell the characters [start, end) (BEHAVIOUR 11).

    A boundary may fall on a character that no token holds (a space, an accent that was stripped):
    then up to two characters further in are tried. If that finds nothing, neither does the span.

    Args:
        span: half-open character range of the caption.
        char_to_token: index of the token that holds a character, or None.

    Returns:
        Consecutive token indices; empty if a boundary was not found.
    """
    start, end = span
    first = _first_token((start, start + 1, start + 2), char_to_token)
    last = _first_token((end - 1, end - 2, end - 3), char_to_token)
    if first is None or last is None:
        return ()
    return range(first, last + 1)


def phrase_tokens(
    phrases: Sequence[Phrase], char_to_token: Callable[[int], int | None], num_tokens: int
) -> Tensor:
    """How often each token spells each phrase.

    Args:
        phrases: P phrases of one caption.
        char_to_token: index of the token that holds a character of the caption, or None.
        num_tokens: T.

    Returns:
        (P, T) int64 counts. Spans that overlap count their common tokens twice, which matters for
        the mean (BEHAVIOUR 11). A phrase whose spans found no token has a row of zeros.
    """
    counts = np.zeros((len(phrases), num_tokens), dtype=np.int64)  # faster than a tensor
    for row, phrase in zip(counts, phrases):
        for span in phrase.spans:
            tokens = span_tokens(span, char_to_token)
            if tokens:
                row[tokens[0] : tokens[-1] + 1] += 1
    return torch.from_numpy(counts)


def normalised(phrase_tokens: Tensor) -> Tensor:
    """Rows that sum to one: the published form of a grounding target (BEHAVIOUR 11).

    Args:
        phrase_tokens: (P, T) counts; only whether they are zero matters.

    Returns:
        (P, T) float32. Each row is divided by its sum + 1e-6; a row of zeros stays zero.
    """
    present = (phrase_tokens > 0).float()
    return present / (present.sum(dim=1, keepdim=True) + 1e-6)


def token_targets(box_phrases: Tensor, phrase_tokens: Tensor) -> Tensor:
    """Which tokens each box should light up: all that spell a phrase it answers (BEHAVIOUR 11).

    Args:
        box_phrases: (N, P) bool, True where the box answers the phrase.
        phrase_tokens: (P, T) counts; only whether they are zero matters.

    Returns:
        (N, T) bool. A row is all False for a box whose phrases found no token.

    Raises:
        ValueError: the two do not agree on P.
    """
    if box_phrases.shape[1] != phrase_tokens.shape[0]:
        raise ValueError(
            f"box_phrases (N, P) has P = {box_phrases.shape[1]} phrases, phrase_tokens (P, T) has "
            f"{phrase_tokens.shape[0]}"
        )
    # Counts are small whole numbers: exact in float32, and a matrix product exists on every device.
    return box_phrases.float() @ (phrase_tokens > 0).float() > 0  # (N, P) @ (P, T)


def phrase_scores(token_scores: Tensor, phrase_tokens: Tensor, how: str = "MEAN") -> Tensor:
    """How strongly each phrase is meant, from how strongly each token is (BEHAVIOUR 10).

    Args:
        token_scores: (..., T) float, probabilities in [0, 1].
        phrase_tokens: (P, T) int64 counts.
        how: "MEAN" of the phrase's tokens, each as often as it is counted; "MAX" of them; "POWER",
            their geometric mean; or "ONEHOT": token column i is phrase i. Mean and power are one
            matrix product, so there a NaN spoils all phrases of its row.

    Returns:
        (..., P) in [0, 1]. A phrase without tokens scores 0.

    Raises:
        ValueError: `how` is none of these, the two do not agree on T, or ONEHOT has more phrases
            than tokens.
    """
    table = reading_table([phrase_tokens], how, dtype=token_scores.dtype)
    _check_length(token_scores, phrase_tokens)
    leading, length = token_scores.shape[:-1], token_scores.shape[-1]
    scores = read_phrases(token_scores.reshape(1, -1, length), table, how)
    return scores.reshape(*leading, phrase_tokens.shape[0])


def reading_table(
    phrase_tokens: Sequence[Tensor], how: str, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """What `read_phrases` has to know about the phrases of B prompts, as one tensor.

    It is best made on the CPU, where prompts are made, and moved then: for "MAX" the counts are
    looked at, and a GPU would be waited for.

    Args:
        phrase_tokens: B times (P_i, T) int64 counts. P is the largest P_i; phrases that a prompt
            does not have score 0.
        how: see `phrase_scores`.
        dtype: of the scores that will be read.

    Returns:
        For MEAN and POWER (B, P, T), the weight of every token; for MAX (B, P, M) int64, the
        phrase's tokens, over and over, or -1; for ONEHOT (B, P) bool, whether there is a phrase.

    Raises:
        ValueError: `how` is unknown, or ONEHOT has more phrases than tokens.
    """
    if how in ("MEAN", "POWER"):
        counts = pad_sequence(list(phrase_tokens), batch_first=True).to(dtype)  # (B, P, T)
        return counts / counts.sum(dim=2, keepdim=True).clamp(min=1)
    if how == "MAX":
        return _token_lists(pad_sequence([one.cpu() for one in phrase_tokens], batch_first=True))
    if how == "ONEHOT":
        for count, length in (one.shape for one in phrase_tokens):
            if count > length:
                raise ValueError(
                    f"ONEHOT needs a token per phrase, got {count} phrases, {length} tokens"
                )
        exists = [one.new_ones(one.shape[0], dtype=torch.bool) for one in phrase_tokens]
        return pad_sequence(exists, batch_first=True)
    raise ValueError(f"scores can be aggregated by {', '.join(AGGREGATIONS)}, not by {how!r}")


def _product(values: Tensor, weights: Tensor) -> Tensor:
    return values @ weights.mT


def read_phrases(
    token_scores: Tensor,
    table: Tensor,
    how: str,
    *,
    product: Callable[[Tensor, Tensor], Tensor] = _product,
) -> Tensor:
    """`phrase_scores` for B pictures, each with its own phrases; no value is looked at on the way.

    Args:
        token_scores: (B, A, T) float, probabilities.
        table: of B prompts, as `reading_table` made it, on the device of the scores.
        how: as for the table.
        product: of (B, A, T) and (B, P, T), summed over T.

    Returns:
        (B, A, P).
    """
    if how == "MEAN":
        return product(token_scores, table)
    if how == "POWER":
        logarithms = token_scores.log().clamp(min=_LOG_OF_ZERO)  # 0 x -inf would be NaN
        has_tokens = table.any(dim=2)[:, None]
        return torch.where(has_tokens, product(logarithms, table).exp(), 0)
    if how == "MAX":
        return _largest(token_scores, table.to(token_scores.device))
    return torch.where(table[:, None], token_scores[..., : table.shape[1]], 0)


def _first_token(
    characters: Sequence[int], char_to_token: Callable[[int], int | None]
) -> int | None:
    for character in characters:
        token = char_to_token(character) if character >= 0 else None
        if token is not None:
            return token
    return None


def _check_length(token_scores: Tensor, phrase_tokens: Tensor) -> None:
    if token_scores.shape[-1] != phrase_tokens.shape[1]:
        raise ValueError(
            f"token_scores has {token_scores.shape[-1]} tokens in its last dimension, "
            f"phrase_tokens (P, T) has T = {phrase_tokens.shape[1]}"
        )


def _token_lists(counts: Tensor) -> Tensor:
    """(B, P, T) counts on the CPU to (B, P, M) tokens, M those of the longest phrase."""
    present = counts > 0
    sizes = present.sum(dim=2, keepdim=True)  # (B, P, 1)
    longest = max(1, int(sizes.amax())) if sizes.numel() else 1
    tokens = present.int().argsort(dim=2, descending=True, stable=True)[..., :longest]
    tokens = tokens.gather(2, torch.arange(longest) % sizes.clamp(min=1))
    return tokens.where(sizes > 0, -1)


def _largest(token_scores: Tensor, tokens: Tensor) -> Tensor:
    """The largest of each phrase's (B, P, M) tokens, for every (B, A) of `token_scores`."""
    B, A, T = token_scores.shape
    by_token = token_scores.mT.reshape(B * T, A)  # a phrase reads whole rows
    rows = tokens.clamp(min=0) + T * torch.arange(B, device=tokens.device)[:, None, None]
    best = by_token.index_select(0, rows[..., 0].flatten())
    for index in range(1, tokens.shape[2]):
        best = torch.maximum(best, by_token.index_select(0, rows[..., index].flatten()))
    best = best.unflatten(0, tokens.shape[:2])  # (B, P, A)
    return torch.where(tokens[..., :1] >= 0, best, 0).mT
