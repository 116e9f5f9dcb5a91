"""Pictures that are asked their own captions."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from glipkit.data.datasets.captioned_pictures import CaptionedPictures, JudgedCaption
from glipkit.data.test_set import TestSet, hash_prompts
from glipkit.data.transforms import TestTransform
from glipkit.data.views import stay_true_mirrored
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import TokenizedPrompt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionTestSet(TestSet):
    """Pictures with one prompt for each of their captions; see `make_caption_test_set`.

    Prompts are made when they are asked for: those of a large file would fill the memory.
    """

    dataset: CaptionedPictures
    tokenizer: Tokenizer
    max_tokens: int
    prompts_sha256: str  # of all prompts

    def prompts_of(self, index: int) -> Sequence[TokenizedPrompt]:
        """A prompt for each caption of picture `index`, in their order."""
        return tuple(
            caption_prompt(caption, self.tokenizer, max_tokens=self.max_tokens)
            for caption in self.dataset.captions(index)
        )

    def stay_true_mirrored(self, index: int) -> tuple[bool, ...]:
        """For each caption of picture `index`."""
        captions = self.dataset.captions(index)
        return stay_true_mirrored([each.prompt.caption for each in captions])

    def _words(self) -> dict[str, Any]:
        return {
            "num_captions": self.dataset.num_captions,
            "prompts_sha256": self.prompts_sha256,
        }


def make_caption_test_set(
    dataset: CaptionedPictures,
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
    transform: TestTransform,
    divisor: int,
) -> CaptionTestSet:
    """Read all captions once, and say what of them no detector can find.

    Args:
        dataset: pictures, captions, boxes.
        tokenizer: of the text encoder.
        max_tokens: the text encoder's limit, [CLS] and [SEP] included. A longer caption is cut, as
            in training; what is cut off counts as missed.
        transform: of the pictures.
        divisor: padded sides are multiples of this; 0 pads nothing.

    Raises:
        ValueError: a caption has no words; names its record.
    """
    num_lost = num_cut = 0

    def read(caption: JudgedCaption) -> TokenizedPrompt:
        nonlocal num_lost, num_cut
        prompt = caption_prompt(caption, tokenizer, max_tokens=max_tokens)
        found = prompt.phrase_tokens.any(dim=1).tolist()
        num_lost += sum(len(boxes) > 0 for boxes, is_found in zip(caption.boxes, found)
                        if not is_found)  # fmt: skip
        num_cut += len(prompt.token_ids) == max_tokens < tokenizer.count(caption.prompt.caption)
        return prompt

    captions = (caption for index in range(len(dataset)) for caption in dataset.captions(index))
    digest = hash_prompts(map(read, captions))
    if num_lost or num_cut:
        logger.warning(
            "%s: %d captions are longer than %d tokens and cut; %d phrases have no token of their "
            "caption and count as missed",
            *(dataset.name, num_cut, max_tokens, num_lost),
        )
    return CaptionTestSet(
        dataset=dataset,
        transform=transform,
        divisor=divisor,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        prompts_sha256=digest,
    )


def caption_prompt(
    caption: JudgedCaption, tokenizer: Tokenizer, *, max_tokens: int
) -> TokenizedPrompt:
    """A caption as the text encoder reads it.

    A token that two ranges of a phrase share counts once, unlike that of a class (BEHAVIOUR 11).

    Args:
        caption: with its phrases.
        tokenizer: of the text encoder.
        max_tokens: its limit, [CLS] and [SEP] included; what is beyond is cut off.

    Raises:
        ValueError: the caption has no words; names its record.
    """
    try:
        prompt = tokenizer(
            caption.prompt, max_tokens=max_tokens, truncate=True, name_lost=False
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"image record {caption.record_id}: {error}") from error
    return replace(prompt, phrase_tokens=prompt.phrase_tokens.clamp(max=1))
