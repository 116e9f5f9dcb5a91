"""What is asked of a picture: a caption, and where it names the things to find."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

CLASS_VECTORS = ("first", "mean")  # values of GLIPKNOW.LAN_FEATURE_AGG_TYPE


@dataclass(frozen=True, slots=True)
class Phrase:
    """One thing to find, and where the caption names it.

    `spans` are half-open character ranges. A phrase may own several of them:
    in "a dog and another dog" both mentions can belong to one phrase.
    """

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A caption and its phrases; phrase `i` of the prompt is class `i` of its detections."""

    caption: str
    phrases: tuple[Phrase, ...]

    def __post_init__(self) -> None:
        for phrase in self.phrases:
            for start, end in phrase.spans:
                if not 0 <= start < end <= len(self.caption):
                    raise ValueError(
                        f"phrase {phrase.text!r} claims characters [{start}, {end}) of a caption "
                        f"with {len(self.caption)} characters"
                    )


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A prompt as the text encoder reads it. Shapes: T tokens, P phrases."""

    token_ids: Tensor  # (T,) int64, [CLS] ... [SEP], padding included
    token_mask: Tensor  # (T,) bool, False on padding
    # (P, T) int64: how often the token spells the phrase. Mostly 0 or 1; a token that two spans of
    # one phrase share counts twice in the mean (BEHAVIOUR 11). A row of zeros can never be found.
    phrase_tokens: Tensor

    def __post_init__(self) -> None:
        length = self.token_ids.shape[0]
        if self.token_ids.dim() != 1 or self.token_mask.shape != (length,):
            raise ValueError(
                f"token_ids and token_mask must both have shape (T,), got "
                f"{tuple(self.token_ids.shape)} and {tuple(self.token_mask.shape)}"
            )
        if self.phrase_tokens.dim() != 2 or self.phrase_tokens.shape[1] != length:
            raise ValueError(
                f"phrase_tokens must have shape (P, {length}), got "
                f"{tuple(self.phrase_tokens.shape)}"
            )

    @property
    def num_phrases(self) -> int:
        """P, the classes of the detections that answer this prompt."""
        return self.phrase_tokens.shape[0]

    def padded(self, length: int) -> "TokenizedPrompt":
        """The same prompt with masked padding tokens (id 0) up to `length` tokens."""
        missing = length - self.token_ids.shape[0]
        if missing < 0:
            raise ValueError(f"a prompt of {self.token_ids.shape[0]} tokens does not fit {length}")
        return TokenizedPrompt(
            pad(self.token_ids, (0, missing)),
            pad(self.token_mask, (0, missing)),
            pad(self.phrase_tokens, (0, missing)),
        )


@dataclass(frozen=True, slots=True)
class ParallelPrompt:
    """Classes read side by side: each in a caption of its own, of which one vector is kept.

    The vectors stand where a caption has its tokens: T = K + 1 places, class k at place k, and the
    last one, which is masked, for no object (BEHAVIOUR 16).
    """

    captions: tuple[TokenizedPrompt, ...]  # K, one for each class
    aggregation: str  # what is kept of a caption: its "first" token, or the "mean" of all visible

    def __post_init__(self) -> None:
        if not self.captions:
            raise ValueError("a parallel prompt needs at least one class, got none")
        if self.aggregation not in CLASS_VECTORS:
            raise ValueError(
                f"aggregation must be one of {', '.join(CLASS_VECTORS)}, got {self.aggregation!r}"
            )

    @property
    def num_phrases(self) -> int:
        """K, the classes of the detections that answer this prompt."""
        return len(self.captions)

    @property
    def phrase_tokens(self) -> Tensor:
        """(K, K + 1) int64: a class is spelled by its own place."""
        return torch.eye(self.num_phrases, self.num_phrases + 1, dtype=torch.int64)


AnyPrompt = TokenizedPrompt | ParallelPrompt


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """B tokenised prompts of one length, one for each picture of a batch."""

    token_ids: Tensor  # (B, T) int64
    token_mask: Tensor  # (B, T) bool, False on padding
    phrase_tokens: tuple[Tensor, ...]  # B times (P_i, T) int64

    def __len__(self) -> int:
        return len(self.phrase_tokens)

    def to(self, device: torch.device | str) -> "PromptBatch":
        """The same batch on another device."""
        return PromptBatch(
            self.token_ids.to(device, non_blocking=True),
            self.token_mask.to(device, non_blocking=True),
            tuple(tokens.to(device, non_blocking=True) for tokens in self.phrase_tokens),
        )


def batch_prompts(prompts: Sequence[TokenizedPrompt], multiple: int = 8) -> PromptBatch:
    """Put prompts of any length into one batch, no longer than the longest needs.

    Padding never changes an answer (DESIGN 3), so the text is cut to the longest prompt of the
    batch, rounded up to `multiple` for the sake of matrix kernels.

    Raises:
        ValueError: there is no prompt.
    """
    if not prompts:
        raise ValueError("batch_prompts needs at least one prompt, got none")
    longest = max(int(prompt.token_mask.sum()) for prompt in prompts)
    length = -(-longest // multiple) * multiple
    fitted = [_cut(prompt, length).padded(length) for prompt in prompts]
    return PromptBatch(
        torch.stack([prompt.token_ids for prompt in fitted]),
        torch.stack([prompt.token_mask for prompt in fitted]),
        tuple(prompt.phrase_tokens for prompt in fitted),
    )


def _cut(prompt: TokenizedPrompt, length: int) -> TokenizedPrompt:
    return TokenizedPrompt(
        prompt.token_ids[:length], prompt.token_mask[:length], prompt.phrase_tokens[:, :length]
    )
