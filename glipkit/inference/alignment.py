"""Which places of a picture answer which tokens of a text: the scores that boxes are made from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glipkit.inference.asked import Asked
from glipkit.modeling.glip import GroundingOutput
from glipkit.modeling.multi_prompt import Detector
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import TokenizedPrompt, batch_prompts

NO_PHRASE = -1
_SPECIAL = ("[CLS]", "[SEP]", "[PAD]")


@dataclass(frozen=True, slots=True)
class Alignment:
    """The tokens of a text, and where a picture answers them."""

    tokens: tuple[str, ...]  # T of them: words and pieces of words, without [CLS] and [SEP]
    phrase_ids: tuple[int, ...]  # for each token the phrase that it spells; NO_PHRASE for none
    phrases: tuple[str, ...]
    # (T, H, W) in [0, 1]: the probability of a match, the highest over all levels. The grid is that
    # of the finest level (8 pixels of the resized picture, mostly) and covers the whole picture.
    maps: Tensor

    def phrase_map(self, phrase_id: int) -> Tensor:
        """(H, W): the mean over the tokens of a phrase.

        Boxes are scored so by the published models; nano's by the geometric mean
        (MODEL.DYHEAD.SCORE_AGG), which one token that is not seen spoils.

        Raises:
            IndexError: there is no such phrase, or the text encoder knows none of its words.
        """
        rows = [row for row, index in enumerate(self.phrase_ids) if index == phrase_id]
        if not rows:
            raise IndexError(
                f"no token spells phrase {phrase_id}; there are {len(self.phrases)} phrases"
            )
        return self.maps[rows].mean(dim=0)


def align(detector: Detector, images: ImageBatch, asked: Asked) -> Alignment:
    """The alignment of one picture and a text, by one forward for each prompt of the text.

    Args:
        detector: whose model, precision and device are used.
        images: one picture.
        asked: the text; of its prompts, negative ones among them, all tokens are reported.
    """
    model, device = detector.model, detector.device
    tokens: list[str] = []
    phrase_ids: list[int] = []
    maps: list[Tensor] = []
    first = 0  # phrase of the prompt at hand
    enabled = detector.autocast_dtype is not None
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=detector.autocast_dtype, enabled=enabled),
    ):
        levels = model.encode_image(images.to(device).pixels)
        for prompt, spelled in zip(asked.prompts, asked.tokens):
            words = batch_prompts([prompt]).to(device)
            text = model.encode_text(words.token_ids, words.token_mask)
            scores = _token_maps(model.ground(levels, text), levels, model.anchors.strides)
            shown = {i: token for i, token in enumerate(spelled) if token not in _SPECIAL}
            rows, columns = (-(-side // model.anchors.strides[0]) for side in images.sizes[0])
            maps.append(scores[list(shown), :rows, :columns].cpu())
            tokens += shown.values()
            phrase_ids += _phrases(prompt, list(shown), first)
            first += prompt.num_phrases
    return Alignment(
        tokens=tuple(tokens),
        phrase_ids=tuple(phrase_ids),
        phrases=asked.wanted,
        maps=torch.cat(maps),
    )


def _token_maps(
    output: GroundingOutput, levels: tuple[Tensor, ...], strides: tuple[int, ...]
) -> Tensor:
    """(T, H, W) on the grid of the finest level: each place as its best level sees it."""
    height, width = levels[0].shape[2:]
    best: Tensor | None = None
    for prediction, level, stride in zip(output.levels, levels, strides):
        scores = prediction.token_logits[0].float().sigmoid().mT  # (T, h * w)
        scores = scores.unflatten(1, tuple(level.shape[2:]))
        times = stride // strides[0]  # sides round up, so that a coarser level covers as much
        scores = scores.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
        scores = scores[:, :height, :width]
        best = scores if best is None else torch.maximum(best, scores)
    return best


def _phrases(prompt: TokenizedPrompt, positions: list[int], first: int) -> list[int]:
    """The phrase of each token; where several share it, the first of them."""
    spells = prompt.phrase_tokens[:, positions] > 0  # (P, tokens)
    owner = spells.int().argmax(dim=0) + first
    return owner.where(spells.any(dim=0), NO_PHRASE).tolist()
