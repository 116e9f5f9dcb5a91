"""GLIP: the whole model. It predicts; others judge (`Criterion`) and decide (`Postprocessor`)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glipkit.layers.linear import speed_up_linears
from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.backbone.fpn import FeaturePyramid
from glipkit.modeling.backbone.swin import SwinTransformer
from glipkit.modeling.head.predictor import GroundingPredictor, LevelPrediction
from glipkit.modeling.head.tower import Tower
from glipkit.modeling.language.bert import BertEncoder
from glipkit.modeling.language.class_vectors import as_one_text, class_vectors
from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.language.prompt_tuning import PromptOffset
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch


class GroundingOutput(NamedTuple):
    """What the model says about every anchor, level by level, finest first."""

    levels: tuple[LevelPrediction, ...]
    anchors: tuple[Tensor, ...]  # (H*W, 4) float32 for each level, the same for every picture
    # What the predictions were made from, for losses that compare features; the predictor has both
    # in hand anyway, so that they are kept costs no memory before the output is used.
    features: tuple[Tensor, ...] = ()  # (B, C, H, W) levels, as they left the tower
    text: TextFeatures | None = None  # as it left the tower


class GLIP(nn.Module):
    """Grounded Language-Image Pre-training (Li et al., CVPR 2022, figure 2).

    Args:
        backbone: pixels -> maps.
        pyramid: maps -> levels.
        text_encoder: tokens -> text features.
        tower: levels and text read each other, several times.
        predictor: levels and text -> predictions.
        anchors: where the predictions stand.
        aligns_fused_text: whether positions are aligned with the text that left the tower (models
            with early fusion) or with the text as it was encoded (BEHAVIOUR 5).
        prompt_offset: added to the encoded text; None for a model without a learned prompt.
    """

    def __init__(
        self,
        *,
        backbone: SwinTransformer,
        pyramid: FeaturePyramid,
        text_encoder: BertEncoder,
        tower: Tower,
        predictor: GroundingPredictor,
        anchors: AnchorGenerator,
        aligns_fused_text: bool,
        prompt_offset: PromptOffset | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.text_encoder = text_encoder
        self.tower = tower
        self.predictor = predictor
        self.anchors = anchors
        self.aligns_fused_text = aligns_fused_text
        self.prompt_offset = prompt_offset
        speed_up_linears(self)

    def forward(self, images: ImageBatch, prompts: PromptBatch) -> GroundingOutput:
        """What every anchor of every picture has to say about its prompt.

        Args:
            images: B pictures.
            prompts: B prompts, one for each picture.

        Raises:
            ValueError: there are not as many prompts as pictures.
        """
        if len(images) != len(prompts):
            raise ValueError(
                f"every picture needs its prompt, got {len(images)} pictures and "
                f"{len(prompts)} prompts"
            )
        # The words first: their gradients, almost half of all, then come when the backward pass is
        # through with the picture and has let go of all the maps.
        text = self.encode_text(prompts.token_ids, prompts.token_mask)
        levels = self.encode_image(images.pixels)
        return self.ground(levels, text)

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The pyramid of B pictures; it does not depend on any prompt.

        Args:
            pixels: (B, 3, H, W) float, normalised.

        Returns:
            Levels (B, C, H / s, W / s), rounded up; in the published models five, s = 8, 16, 32,
            64, 128.
        """
        return self.pyramid(self.backbone(pixels))

    def encode_text(self, token_ids: Tensor, token_mask: Tensor) -> TextFeatures:
        """The features of B captions; they do not depend on any picture.

        Args:
            token_ids: (B, T) int64.
            token_mask: (B, T) bool, False on padding.
        """
        text = self.text_encoder(token_ids, token_mask)
        return text if self.prompt_offset is None else self.prompt_offset(text)

    def encode_classes(self, batches: Sequence[PromptBatch], aggregation: str) -> TextFeatures:
        """One text of K classes from K captions that are each read alone (BEHAVIOUR 16).

        A learned prompt is added to the class vectors: its rows belong to places of the text that
        enters the tower.

        Args:
            batches: the captions, one for each class, in as many batches as memory asks for.
            aggregation: as in `ParallelPrompt`.

        Returns:
            Of one text with T = K + 1 places; the last one is zero and masked.
        """
        captions = (self.text_encoder(batch.token_ids, batch.token_mask) for batch in batches)
        text = as_one_text([class_vectors(each, aggregation) for each in captions])
        return text if self.prompt_offset is None else self.prompt_offset(text)

    def ground(self, levels: tuple[Tensor, ...], text: TextFeatures) -> GroundingOutput:
        """Bring B encoded pictures and B encoded captions together.

        Args:
            levels: as `encode_image` gives them.
            text: as `encode_text` gives it.
        """
        levels, text = self.tower(levels, text)
        rows = text.hidden if self.aligns_fused_text else text.embedded
        sizes = [tuple(level.shape[-2:]) for level in levels]
        return GroundingOutput(
            levels=self.predictor(levels, rows),
            anchors=self.anchors(sizes, device=levels[0].device),
            features=levels,
            text=text,
        )

    def anchor_levels(
        self, padded_size: tuple[int, int], device: torch.device | str = "cpu"
    ) -> tuple[Tensor, ...]:
        """The anchors that a forward pass will have, known before it.

        Args:
            padded_size: (height, width) of a batch in pixels.
            device: where they go.

        Returns:
            One (H*W, 4) float32 tensor for each level: those of `GroundingOutput.anchors`.
        """
        # Every layer that shrinks rounds up, and rounding up step by step is rounding up at once.
        sizes = [
            tuple(-(-side // stride) for side in padded_size) for stride in self.anchors.strides
        ]
        return self.anchors(sizes, device=device)
