"""The learned prompt: what is added to the words when nothing else may change."""

import torch
from torch import nn

from glipkit.modeling.language.features import TextFeatures

# Rows of the published matrix (BEHAVIOUR 16): more than any caption has tokens.
MAX_TOKENS = 1000


class PromptOffset(nn.Module):
    """A learned vector for every token position, added to what the text encoder says.

    GLIP's prompt tuning (Li et al., CVPR 2022, section 5.2; BEHAVIOUR 16): row t is added to
    token t of every caption, whatever word stands there, so what was learnt belongs to the
    caption it was learnt with. Zero to begin with: the model starts as it was.

    Args:
        dim: D, channels of a token.
        max_tokens: the longest caption that has a row for each token.
    """

    def __init__(self, dim: int, *, max_tokens: int = MAX_TOKENS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(max_tokens, dim))

    def forward(self, text: TextFeatures) -> TextFeatures:
        """Add the first T rows to `hidden` and to `embedded`, on padding too (as published).

        Args:
            text: of T tokens and D channels.

        Raises:
            ValueError: there are more tokens than rows, or the text has other channels.
        """
        tokens, channels = text.hidden.shape[1:]
        max_tokens, dim = self.weight.shape
        if channels != dim or tokens > max_tokens:
            raise ValueError(
                f"the prompt offset is for captions of at most {max_tokens} tokens of {dim} "
                f"channels, got {tokens} tokens of {channels}"
            )
        rows = self.weight[:tokens].to(text.hidden.dtype)
        return text._replace(hidden=text.hidden + rows, embedded=text.embedded + rows)
