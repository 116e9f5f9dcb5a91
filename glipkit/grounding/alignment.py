"""The bridge between phrases and tokens, crossed in both directions.

Training goes from phrases to tokens (which tokens should this box light up?), inference from
tokens to phrases (how strongly does this box match each phrase?). Both use one (P, T) matrix, which
is made and read here.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from glipkit.structures.prompts import Phrase

AGGREGATIONS = ("MEAN", "MAX", "POWER", "ONEHOT")  # values of MODEL.DYHEAD.SCORE_AGG


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
        how: "MEAN" of the phrase's tokens, each as often as it is counted (one matrix product, so a
            NaN spoils all phrases of its row); "MAX" of them; "POWER", their geometric mean; or
            "ONEHOT": token column i is phrase i.

    Returns:
        (..., P) in [0, 1]. A phrase without tokens scores 0.

    Raises:
        ValueError: `how` is none of these, the two do not agree on T, or ONEHOT has more phrases
            than tokens.
    """
    count, length = phrase_tokens.shape
    if token_scores.shape[-1] != length:
        raise ValueError(
            f"token_scores has {token_scores.shape[-1]} tokens in its last dimension, "
            f"phrase_tokens (P, T) has T = {length}"
        )
    if how == "MEAN":
        return token_scores @ _mean_weights(phrase_tokens, token_scores.dtype).T  # (..., P)
    if how == "MAX":
        return _phrase_by_phrase(token_scores, phrase_tokens, lambda rows, _: rows.amax(dim=0))
    if how == "POWER":
        return _phrase_by_phrase(token_scores.log(), phrase_tokens, _exp_of_mean)
    if how == "ONEHOT":
        if count > length:
            raise ValueError(
                f"ONEHOT needs a token per phrase, got {count} phrases, {length} tokens"
            )
        return token_scores[..., :count]
    raise ValueError(f"scores can be aggregated by {', '.join(AGGREGATIONS)}, not by {how!r}")


def _first_token(
    characters: Sequence[int], char_to_token: Callable[[int], int | None]
) -> int | None:
    for character in characters:
        token = char_to_token(character) if character >= 0 else None
        if token is not None:
            return token
    return None


def _mean_weights(phrase_tokens: Tensor, dtype: torch.dtype) -> Tensor:
    weights = phrase_tokens.to(dtype)
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1)


def _exp_of_mean(rows: Tensor, counts: Tensor) -> Tensor:
    return (torch.tensordot(counts, rows, dims=1) / counts.sum()).exp()


def _phrase_by_phrase(
    values: Tensor, phrase_tokens: Tensor, reduce: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Reduce the (tokens of the phrase, ...) rows of `values` (..., T), for each phrase."""
    by_token = values.movedim(-1, 0).contiguous()  # (T, ...): a phrase reads whole rows
    scores = values.new_zeros(phrase_tokens.shape[0], *by_token.shape[1:])
    for row, counts in zip(scores, phrase_tokens.cpu()):
        tokens = counts.nonzero()[:, 0]
        if len(tokens):
            row.copy_(reduce(by_token[tokens.to(values.device)], counts[tokens].to(values)))
    return scores.movedim(0, -1)
