"""One sample to learn from: read, varied, tokenised, and its faults noted."""

import logging
import random
from dataclasses import dataclass, replace

from torch import Tensor
from torch.utils.data import Dataset

from glipkit.data.images import ImageError
from glipkit.data.mixture import Mixture, Part
from glipkit.data.sample import Failure
from glipkit.data.sources import GroundedImage
from glipkit.data.train_sampler import Draw
from glipkit.data.train_transform import TrainTransform
from glipkit.grounding.masking import hide_words
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import Phrase, Prompt, TokenizedPrompt
from glipkit.structures.targets import GroundingTarget

logger = logging.getLogger(__name__)

MAX_TRIES = 10  # pictures in a row; more that cannot be read are no accident
# Which words the masked-language loss may ask for: those that name a box, or all of a caption.
HIDING = (None, "named", "all")


class SampleError(RuntimeError):
    """A sample broke in a way that is no fault of the data: names which one."""


@dataclass(frozen=True, slots=True)
class LostBoxes:
    """Boxes whose words are not in the prompt that the model reads, so they were left out."""

    count: int
    caption: str
    where: str  # data set and picture
    num_tokens: int  # that were read of the caption


@dataclass(frozen=True, slots=True)
class TrainSample:
    """One picture, its prompt and its truth, ready for a batch."""

    pixels: Tensor  # (3, h, w) float, resized and normalised
    prompt: TokenizedPrompt
    target: GroundingTarget
    hidden_words: Tensor | None = None  # (T,) int64, see TrainBatch
    failures: tuple[Failure, ...] = ()  # pictures that this one stands in for
    lost: LostBoxes | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A reason to stop that the user can do something about; travels in the place of a sample."""

    reason: str
    failures: tuple[Failure, ...] = ()


class TrainSet(Dataset[TrainSample | Unusable]):
    """The samples of a mixture, one for each `Draw`.

    A sample depends on the seed and on its draw alone, not on what was read before it or where.
    When a picture cannot be read, the next sample of the mixture takes its place.

    Args:
        mixture: what there is.
        tokenizer: how words become tokens.
        transform: how pictures vary.
        max_tokens: longer captions are cut (MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN).
        seed: of the run (SOLVER.SEED).
        hiding: one of HIDING; None when there is no such loss.

    Raises:
        ValueError: `hiding` is none of these, or the tokenizer has no [MASK] to hide words with.
    """

    def __init__(
        self,
        mixture: Mixture,
        tokenizer: Tokenizer,
        transform: TrainTransform,
        *,
        max_tokens: int,
        seed: int,
        hiding: str | None = None,
    ) -> None:
        if hiding not in HIDING:
            raise ValueError(f"hiding must be one of {HIDING}, got {hiding!r}")
        self.mixture = mixture
        self._tokenizer = tokenizer
        self._transform = transform
        self._max_tokens = max_tokens
        self._seed = seed
        self._hiding = hiding
        self._mask_id = None if hiding is None else tokenizer.mask_id
        self._special_ids = tokenizer.special_ids

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, draw: Draw) -> TrainSample | Unusable:
        failures = []
        for step in range(min(MAX_TRIES, len(self.mixture))):
            attempt = draw._replace(index=(draw.index + step) % len(self.mixture))
            part, index = self.mixture.locate(attempt.index)
            try:
                sample = self._sample(part, index, attempt)
            except ImageError as error:
                failures.append(Failure(part.source.image_id(index), error.path, error.reason))
                continue
            except ValueError as error:
                logger.debug("what led to the end of the run", exc_info=True)
                return Unusable(f"{_where(part, index)}: {error}", tuple(failures))
            except Exception as error:  # passed on, with what it needs to be looked into
                place = f"{_where(part, index)}, shown in epoch {draw.epoch}"
                raise SampleError(f"{place}: {type(error).__name__}: {error}") from error
            return replace(sample, failures=tuple(failures))
        return Unusable(
            f"{len(failures)} pictures in a row cannot be read, the first one is {failures[0]}; is "
            "the image folder of this data set the right one?",
            tuple(failures),
        )

    def _sample(self, part: Part, index: int, draw: Draw) -> TrainSample:
        chance = draw.chance(self._seed)
        grounded = part.source.load(index, chance)
        pixels, target = self._transform(grounded, chance.python)
        prompt, maskable = self._read(grounded, part)
        target, num_lost = _with_words(target, prompt)
        lost = None
        if num_lost:
            caption = grounded.prompt.caption
            lost = LostBoxes(num_lost, caption, _where(part, index), len(prompt.token_ids))
        sample = TrainSample(pixels, prompt, target, lost=lost)
        if self._hiding is None:
            return sample
        return self._with_hidden_words(sample, maskable, chance.python)

    def _read(self, grounded: GroundedImage, part: Part) -> tuple[TokenizedPrompt, Tensor]:
        """The prompt in tokens, and (T,) bool: those that may be hidden."""
        spans = grounded.maskable if part.maskable else ()
        caption, phrases = grounded.prompt.caption, grounded.prompt.phrases
        # What may be hidden is found like the tokens of a phrase, as one phrase more.
        asked = Prompt(caption, (*phrases, Phrase("", spans or ())))
        read = self._tokenizer(asked, max_tokens=self._max_tokens, truncate=True, name_lost=False)
        maskable = read.token_mask if spans is None else read.phrase_tokens[-1] > 0
        return replace(read, phrase_tokens=read.phrase_tokens[:-1]), maskable

    def _with_hidden_words(
        self, sample: TrainSample, maskable: Tensor, chance: random.Random
    ) -> TrainSample:
        if self._hiding == "named":
            named = sample.target.box_phrases.any(dim=0)  # (P,), phrases with a box
            maskable = maskable & (sample.prompt.phrase_tokens[named] > 0).any(dim=0)
        hidden = hide_words(
            sample.prompt.token_ids,
            maskable,
            mask_id=self._mask_id,
            special_ids=self._special_ids,
            vocabulary_size=self._tokenizer.vocabulary_size,
            chance=chance,
        )
        prompt = replace(sample.prompt, token_ids=hidden.token_ids)
        return replace(sample, prompt=prompt, hidden_words=hidden.labels)


def _with_words(target: GroundingTarget, prompt: TokenizedPrompt) -> tuple[GroundingTarget, int]:
    """The boxes that some token of the prompt names, and how many others there are."""
    spelled = (prompt.phrase_tokens > 0).any(dim=1)  # (P,)
    kept = (target.box_phrases & spelled).any(dim=1)  # (N,)
    if kept.all():
        return target, 0
    named = GroundingTarget(target.boxes[kept], target.box_phrases[kept], target.image_id)
    return named, int((~kept).sum())


def _where(part: Part, index: int) -> str:
    return f"{part.source.name!r}, sample {index} (image {part.source.image_id(index)})"
