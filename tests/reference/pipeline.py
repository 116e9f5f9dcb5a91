"""The published pipeline with today's PyTorch: what "times faster" is measured against.

Written from BEHAVIOUR.md in ordinary PyTorch: `nn.Linear` through `F.linear`, transformers' BERT,
torchvision's deformable convolution and NMS. It remembers nothing: captions are padded to 256
tokens and encoded for every picture, the picture is encoded again for every chunk of classes, one
picture at a time. Where BEHAVIOUR leaves a choice, the cheaper form is taken, so that no ratio is
flattered. All activations are kept in training, which is quicker and takes more memory than
recomputing the tower, as the published files ask (MODEL.DYHEAD.USE_CHECKPOINT).

The numbers of the architecture are read off the model of ours that it is made from; the state dict
has exactly the published names.
"""

from collections.abc import Sequence

import torch
from reference.fusion import PlainVLFuse
from reference.pipeline_boxes import Level, Rules, detect, level_anchors
from reference.pipeline_head import PlainHead, TorchvisionDyConv
from reference.pipeline_image import PlainPyramid, PlainSwin
from reference.pipeline_text import EagerTextLayer, PlainTextEncoder
from torch import Tensor, nn

from glipkit.modeling.backbone.swin import SwinTransformer
from glipkit.modeling.glip import GLIP, GroundingOutput
from glipkit.modeling.head.predictor import LevelPrediction
from glipkit.modeling.head.tower import TowerBlock
from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.official import has_fusion, published_name
from glipkit.modeling.postprocess import Postprocessor
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch, TokenizedPrompt

MAX_TOKENS = 256


def full_length(prompts: PromptBatch) -> PromptBatch:
    """The same prompts padded to 256 tokens, as `Criterion` must see them beside this pipeline."""
    rows = zip(prompts.token_ids, prompts.token_mask, prompts.phrase_tokens)
    padded = [TokenizedPrompt(*row).padded(MAX_TOKENS) for row in rows]
    return PromptBatch(
        torch.stack([prompt.token_ids for prompt in padded]),
        torch.stack([prompt.token_mask for prompt in padded]),
        tuple(prompt.phrase_tokens for prompt in padded),
    )


class PublishedModel(nn.Module):
    """Pixels and tokens in, `GroundingOutput` out. `Learner` takes it in place of a `GLIP`."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.strides, self.sizes = model.anchors.strides, model.anchors.sizes
        self.unseen_token_ids = model.text_encoder.unseen_token_ids
        pyramid, encoder = model.pyramid, model.text_encoder
        channels = pyramid.p6.out_channels
        self.backbone = nn.Module()
        self.backbone.body = _swin(model.backbone)
        self.backbone.fpn = PlainPyramid(
            model.backbone.out_channels,
            channels,
            pyramid.drop_block.probability,
            pyramid.drop_block.block,
        )
        self.language_backbone = PlainTextEncoder(encoder.bert.config, encoder.averaged_layers)
        self.rpn = nn.Module()
        blocks = list(model.tower.blocks)
        self.rpn.head = PlainHead(
            [part for block in blocks for part in _tower_parts(block, channels, encoder.width)],
            channels=channels,
            text_dim=encoder.width,
            num_classes=model.predictor.class_logits.out_channels,
            num_levels=len(self.strides),
            uses_fused_text=model.aligns_fused_text,
        )
        if model.prompt_offset is not None:
            rows, width = model.prompt_offset.weight.shape
            self.rpn.tunable_linear = nn.Linear(width, rows, bias=False)
        self._take_weights(model)
        self.train(model.training)

    def _take_weights(self, model: GLIP) -> None:
        """Copy every tensor by its name; what is frozen there is frozen here."""
        state = model.state_dict()
        fused = has_fusion(state)
        names = {name: published_name(name, fused=fused) for name in state}
        some = next(iter(state.values()))
        self.to(some.device, some.dtype)
        self.load_state_dict({names[name]: value for name, value in state.items()}, strict=True)
        own = dict(self.named_parameters())
        for name, parameter in model.named_parameters():
            own[names[name]].requires_grad_(parameter.requires_grad)

    def forward(self, images: ImageBatch, prompts: PromptBatch) -> GroundingOutput:
        """T is 256 in the output, whatever the prompts' length."""
        prompts = full_length(prompts)
        levels = self.backbone.fpn(self.backbone.body(images.pixels))
        mask = prompts.token_mask
        if self.unseen_token_ids:
            unseen = prompts.token_ids.new_tensor(self.unseen_token_ids)
            mask = mask & ~torch.isin(prompts.token_ids, unseen)
        hidden, embedded = self.language_backbone(prompts.token_ids, mask)
        if hasattr(self.rpn, "tunable_linear"):
            rows = self.rpn.tunable_linear.weight[:MAX_TOKENS]
            hidden, embedded = hidden + rows, embedded + rows
        head = self.rpn.head
        levels, hidden = head.run_tower(levels, hidden, mask)
        answers = head.predict(levels, hidden if head.uses_fused_text else embedded)
        return GroundingOutput(
            levels=tuple(LevelPrediction(*answer) for answer in answers),
            anchors=self._anchors([x.shape[2:] for x in levels], levels[0].device),
            features=tuple(levels),
            text=TextFeatures(hidden, embedded, mask),
        )

    def anchor_levels(
        self, padded_size: tuple[int, int], device: torch.device | str = "cpu"
    ) -> tuple[Tensor, ...]:
        """As `GLIP.anchor_levels`."""
        sizes = [[-(-side // stride) for side in padded_size] for stride in self.strides]
        return self._anchors(sizes, device)

    def _anchors(
        self, sizes: Sequence[Sequence[int]], device: torch.device | str
    ) -> tuple[Tensor, ...]:
        return tuple(
            level_anchors(tuple(size), stride, side, device)
            for size, stride, side in zip(sizes, self.strides, self.sizes)
        )


class PublishedPipeline(nn.Module):
    """The model, and what turns its answers into detections.

    Calling it detects, as `Detector` does; `forward` is the differentiable model alone.
    """

    def __init__(self, model: PublishedModel, rules: Rules):
        super().__init__()
        self.model = model
        self.rules = rules

    @classmethod
    def of(
        cls, model: GLIP, postprocessor: Postprocessor, *, columns: int = 80
    ) -> "PublishedPipeline":
        """With a copy of the weights of `model`, in its mode (training or not).

        Args:
            model: of ours; it stays as it is.
            postprocessor: whose thresholds are used.
            columns: labels for which a score is kept at every position, at least
                (MDETR_STYLE_AGGREGATE_CLASS_NUM; the published LVIS command says 3000).
        """
        rules = Rules(
            postprocessor.score_threshold,
            postprocessor.pre_nms_top_n,
            postprocessor.nms_threshold,
            postprocessor.detections_per_image,
            postprocessor.aggregation,
            columns,
        )
        return cls(PublishedModel(model), rules)

    def forward(self, images: ImageBatch, prompts: PromptBatch) -> GroundingOutput:
        return self.model(images, prompts)

    @torch.no_grad()
    def __call__(
        self,
        images: ImageBatch,
        prompts: Sequence[TokenizedPrompt],
        original_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        """Picture by picture, and for each of them prompt by prompt, from the pixels on."""
        found = []
        for index, (size, original) in enumerate(zip(images.sizes, original_sizes)):
            picture = ImageBatch(images.pixels[index : index + 1], (size,))
            answers, start = [], 0
            for prompt in prompts:
                boxes, scores, labels = self.ask(picture, prompt)
                answers.append((boxes, scores, labels + start))
                start += prompt.num_phrases
            boxes, scores, labels = (torch.cat(part) for part in zip(*answers))
            order = scores.argsort(descending=True, stable=True)
            both = Detections(boxes[order], scores[order], labels[order], size)
            found.append(both.resized(original).to("cpu"))
        return found

    def ask(self, picture: ImageBatch, prompt: TokenizedPrompt) -> tuple[Tensor, Tensor, Tensor]:
        """What one prompt finds in one picture: boxes, scores, phrase numbers."""
        batch = PromptBatch(
            prompt.token_ids[None], prompt.token_mask[None], (prompt.phrase_tokens,)
        ).to(picture.pixels.device)
        output = self.model(picture, batch)
        (tokens,) = full_length(batch).phrase_tokens
        return self.decide(output, tokens, picture.sizes[0])

    def decide(
        self,
        output: GroundingOutput,
        phrase_tokens: Tensor,
        size: tuple[int, int],
        picture: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Post-processing of one picture of an output."""
        levels = [
            Level(*(part[picture] for part in level), anchors)
            for level, anchors in zip(output.levels, output.anchors)
        ]
        return detect(levels, phrase_tokens, size, self.rules)


def _swin(ours: SwinTransformer) -> PlainSwin:
    first = ours.stages[0].blocks[0]
    dim = first.norm1.weight.numel()
    return PlainSwin(
        dim,
        num_heads=[stage.blocks[0].attention.num_heads for stage in ours.stages],
        drop_paths=[
            [getattr(block.drop_path, "drop_prob", 0.0) for block in stage.blocks]
            for stage in ours.stages
        ],
        window=first.attention.window,
        hidden_ratio=first.mlp.fc1.out_features / dim,
        patch=ours.patch_embed.patch,
    )


def _tower_parts(block: TowerBlock, channels: int, text_dim: int) -> list[nn.Module]:
    dyconv = TorchvisionDyConv(channels, block.dyconv.same.norm.num_groups)
    if block.fusion is None:
        return [dyconv]
    attention, layer = block.fusion.attention, block.text_layer
    fusion = PlainVLFuse(
        channels,
        text_dim,
        attention.image_query.out_features,
        attention.num_heads,
        dropout=attention.image_dropout.p,
    )
    text_layer = EagerTextLayer(
        text_dim, layer.num_heads, layer.intermediate.out_features, layer.dropout
    )
    return [fusion, text_layer, dyconv]
