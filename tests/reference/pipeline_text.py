"""The text side of the published pipeline: transformers' BERT and the tower's text layer.

Attention is "eager", as the published code's transformers had it, and captions are always 256
tokens long (BEHAVIOUR 4, 5.2). Parameters have the published names.
"""

import copy
import math

import torch
import torch.nn.functional as F
from reference.text_layer import PlainTextLayer, clamp
from torch import Tensor, nn
from transformers import BertConfig, BertModel


class PlainTextEncoder(nn.Module):
    """BERT, without a pooler; the last layers averaged."""

    def __init__(self, architecture: BertConfig, averaged: int):
        super().__init__()
        architecture = copy.deepcopy(architecture)
        architecture._attn_implementation = "eager"
        self.averaged = averaged
        self.body = nn.Module()
        self.body.model = BertModel(architecture, add_pooling_layer=False)

    def forward(self, token_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) twice to `hidden` and `embedded`, (B, T, D) each."""
        states = self.body.model(
            input_ids=token_ids, attention_mask=mask.long(), output_hidden_states=True
        ).hidden_states[1:]
        average = torch.stack(states[-self.averaged :], 1).mean(1) / self.averaged
        return states[-1], average * mask.unsqueeze(2).to(average.dtype)


class EagerTextLayer(PlainTextLayer):
    """The arithmetic of `PlainTextLayer` in the calls of a BERT layer of transformers."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        B, L, _ = x.shape
        own = self.attention.self
        q, k, v = (
            part(x).view(B, L, self.heads, -1).permute(0, 2, 1, 3)
            for part in (own.query, own.key, own.value)
        )
        scores = clamp(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]))
        unseen = (1.0 - mask.to(x.dtype)) * torch.finfo(x.dtype).min
        weights = self.dropout((scores + unseen.view(B, 1, 1, L)).softmax(dim=-1))
        context = (weights @ v).permute(0, 2, 1, 3).contiguous().view(B, L, -1)
        attended = self.dropout(self.attention.output.dense(context))
        x = self.attention.output.LayerNorm(attended + x)

        hidden = clamp(F.gelu(clamp(self.intermediate.dense(x))))
        update = clamp(self.dropout(self.output.dense(hidden)))
        return clamp(self.output.LayerNorm(update + x))
