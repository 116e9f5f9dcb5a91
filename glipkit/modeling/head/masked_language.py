"""The head that guesses hidden words; it exists in training only."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from glipkit.grounding.masking import IGNORED


class MaskedLanguageHead(nn.Module):
    """From the features of a token to the word that stood there, as BERT was pre-trained.

    Dense, GELU, LayerNorm, decoder (BERT, Devlin et al., 2019, section 3.1). The text features have
    seen the picture, so a hidden word may be read off it. Published files of pre-training carry
    such a head too (`rpn.head.mlm_head`); nobody asks it after training, so it is not loaded.

    Args:
        text_dim: channels of a text token.
        vocabulary_size: words it chooses from.
        eps: of the layer norm.
    """

    def __init__(self, text_dim: int, *, vocabulary_size: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(text_dim, text_dim)
        self.norm = nn.LayerNorm(text_dim, eps=eps)
        self.decoder = nn.Linear(text_dim, vocabulary_size)
        for layer in (self.dense, self.decoder):
            nn.init.normal_(layer.weight, std=0.02)  # BERT's
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., text_dim) to logits (..., vocabulary_size)."""
        return self.decoder(self.norm(gelu(self.dense(hidden))))

    def loss(self, hidden: Tensor, hidden_words: Tensor) -> Tensor:
        """The cross-entropy of all hidden words, summed.

        Only the tokens asked for pass through the head: a few of each caption, 30 thousand logits
        each. Where nothing is hidden the loss is 0, with gradients of 0 for every parameter.

        Args:
            hidden: (B, T, text_dim), text features as they left the tower.
            hidden_words: (B, T) int64, the token that stood there, IGNORED where nobody asks.
        """
        asked = hidden_words != IGNORED
        logits = self(hidden[asked].to(self.decoder.weight.dtype))  # (M, vocabulary_size)
        return cross_entropy(logits, hidden_words[asked], reduction="sum")


def count_hidden(hidden_words: Tensor) -> Tensor:
    """How many words are to be guessed, a scalar int64."""
    return torch.count_nonzero(hidden_words != IGNORED)
