"""What the head says about every position: which words, which box, how central."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from glipkit.layers.blocks import Scale
from glipkit.layers.numerics import limited


class LevelPrediction(NamedTuple):
    """Predictions for one pyramid level; positions row by row, one anchor each.

    In the precision of the weights, also under autocast.
    """

    token_logits: Tensor  # (B, H*W, T) match with each text token, before the sigmoid
    box_deltas: Tensor  # (B, H*W, 4) as `BoxCoder` reads them
    centerness: Tensor  # (B, H*W) before the sigmoid


class GroundingPredictor(nn.Module):
    """Box, centerness and word alignment of every position (GLIP section 3.1, BEHAVIOUR 7).

    Args:
        channels: of every level.
        text_dim: channels of a text token.
        num_levels: levels, each with a box scale of its own.
        num_classes: outputs of `class_logits`. Published checkpoints carry this convolution; it
            is never trained and no answer depends on it, so it is kept and not run.
        prior: probability with which an untrained model calls a token a match.

    Raises:
        ValueError: `prior` is not between 0 and 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        text_dim: int,
        num_levels: int = 5,
        num_classes: int = 80,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        if not 0 < prior < 1:
            raise ValueError(f"prior is a probability between 0 and 1, got {prior}")
        self.class_logits = nn.Conv2d(channels, num_classes, kernel_size=1).requires_grad_(False)
        self.box = nn.Conv2d(channels, 4, kernel_size=1)
        self.centerness = nn.Conv2d(channels, 1, kernel_size=1)
        for layer in (self.class_logits, self.box, self.centerness):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.level_scales = nn.ModuleList(Scale() for _ in range(num_levels))
        self.text_projection = nn.Linear(text_dim, channels)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.text_bias = nn.Parameter(torch.zeros(text_dim))
        self.bias = nn.Parameter(torch.tensor([-math.log((1 - prior) / prior)]))

    def forward(self, levels: tuple[Tensor, ...], text: Tensor) -> tuple[LevelPrediction, ...]:
        """Predict for every position of every level.

        Args:
            levels: (B, channels, H, W) each.
            text: (B, T, text_dim), the rows that positions are aligned with.

        Returns:
            One prediction for each level.

        Raises:
            ValueError: the model was built for another number of levels.
        """
        if len(levels) != len(self.level_scales):
            raise ValueError(
                f"the predictor was built for {len(self.level_scales)} levels, got {len(levels)}"
            )
        with torch.autocast(text.device.type, enabled=False):  # cheap, and boxes need the digits
            words, word_bias = self._words(text)
            return tuple(
                self._predict(level.to(words.dtype), scale, words, word_bias)
                for level, scale in zip(levels, self.level_scales)
            )

    def _words(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """The text in the channels of the image, (B, T, C), and its bias, (B, 1, T)."""
        text = normalize(text.to(self.text_bias.dtype), dim=2, eps=1e-12)
        # Halved for the projection, not for the bias: as published (BEHAVIOUR 7, trap 6).
        words = self.text_projection(text / 2) / self.log_scale.exp()
        return words, (text @ self.text_bias + self.bias)[:, None]

    def _predict(
        self, level: Tensor, scale: Scale, words: Tensor, word_bias: Tensor
    ) -> LevelPrediction:
        tokens = level.flatten(2).mT  # (B, H*W, C)
        return LevelPrediction(
            token_logits=limited(torch.baddbmm(word_bias, tokens, words.mT)),
            box_deltas=scale(_at_every_position(self.box, tokens)),
            centerness=_at_every_position(self.centerness, tokens).squeeze(2),
        )


def _at_every_position(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    """A 1x1 convolution over (B, H*W, C) tokens."""
    return linear(tokens, layer.weight.flatten(1), layer.bias)
