"""Ask any number of prompts about a batch of pictures, and compute nothing twice."""

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from glipkit.modeling.chunk_batch import ChunkBatch
from glipkit.modeling.glip import GLIP, GroundingOutput
from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.postprocess import Postprocessor
from glipkit.modeling.prompt_cache import PromptCache
from glipkit.runtime.memory import is_out_of_memory
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import AnyPrompt, ParallelPrompt, batch_prompts

logger = logging.getLogger(__name__)

_CAPTIONS_AT_ONCE = 32  # of single classes, in one pass of the text encoder
_MULTIPLE = 8  # lengths of texts, for the sake of matrix kernels


class Dense(Protocol):
    """What computes the dense parts of a GLIP: itself, or a stand-in with the same answers."""

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """As `GLIP.encode_image`."""

    def ground(self, levels: tuple[Tensor, ...], text: TextFeatures) -> GroundingOutput:
        """As `GLIP.ground`."""


class Detector:
    """Pictures and prompts in, detections in original pixels out.

    A vocabulary of many classes is asked in several prompts (BEHAVIOUR 11). The pyramid of a
    picture does not depend on the words, so it is computed once for all prompts; the text features
    do not depend on the picture, so they are computed once and remembered until the weights change.
    Each prompt is encoded alone: an answer does not depend on what was asked before, and only by
    rounding on what is asked beside it.

    Args:
        model: on the device where it shall run, in evaluation mode.
        postprocessor: decides what is a detection, prompt by prompt.
        autocast_dtype: bfloat16 or float16 for the matrix work; None computes in the weights'
            precision, also inside a surrounding autocast.
        chunk_batch: prompts in one forward pass of a picture; 0 chooses (see `ChunkBatch`). Where
            memory runs out, half as many are tried from then on.
        num_heads: of the fusions, from which memory is estimated.
        dense: computes pyramids and predictions in place of `model`.
        remembered_bytes: how much memory the features of prompts may take that are kept from call
            to call: GLIP-T's take 1.5 MiB for 256 tokens. See `PromptCache`.

    Raises:
        ValueError: a number is negative.
    """

    def __init__(
        self,
        model: GLIP,
        postprocessor: Postprocessor,
        *,
        autocast_dtype: torch.dtype | None = None,
        chunk_batch: int = 0,
        num_heads: int = 8,
        dense: Dense | None = None,
        remembered_bytes: int = 2**29,
    ) -> None:
        self.model = model
        self.postprocessor = postprocessor
        self.autocast_dtype = autocast_dtype
        self.chunk_batch = ChunkBatch(chunk_batch, num_heads=num_heads)
        self._dense = dense or model
        self._text = PromptCache(max_bytes=remembered_bytes)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def __call__(
        self,
        images: ImageBatch,
        prompts: Sequence[AnyPrompt],
        original_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        """Ask every prompt about every picture.

        Args:
            images: B pictures, on any device.
            prompts: one or more, the same for all pictures, padded or not.
            original_sizes: B times (height, width) of the picture before it was resized.

        Returns:
            B detections, as `each` gives them.

        Raises:
            ValueError, MemoryError: as `each`.
        """
        return self.each(images, [prompts] * len(images), original_sizes)

    @torch.inference_mode()
    def each(
        self,
        images: ImageBatch,
        prompts: Sequence[Sequence[AnyPrompt]],
        original_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        """Ask every picture its own prompts.

        The answers to all prompts of a picture stand side by side: there is no suppression between
        prompts and no cap over them (BEHAVIOUR 11).

        Args:
            images: B pictures, on any device.
            prompts: for each picture one or more, padded or not.
            original_sizes: B times (height, width) of the picture before it was resized.

        Returns:
            B detections on the CPU, best score first, in pixels of the original pictures. Phrase
            ids run on from prompt to prompt of a picture: phrase i of its second is P_1 + i.

        Raises:
            ValueError: a picture has no prompt, the pictures do not match their prompts or sizes,
                or the model is in training mode.
            MemoryError: there is not enough memory for one prompt.
        """
        self._check(images, prompts, original_sizes)
        self._forget_if_changed()
        self._text.start_round()
        device = self.device
        images = images.to(device)
        enabled = self.autocast_dtype is not None
        with torch.autocast(device.type, dtype=self.autocast_dtype, enabled=enabled):
            levels = self._dense.encode_image(images.pixels)
            passes = self._ask_all(levels, images, prompts)
        # Only now is a GPU waited for, when it has all its work.
        found: dict[tuple[int, int], Detections] = {}
        for questions, reports in passes:
            sizes = [images.sizes[question.picture] for question in questions]
            for question, answer in zip(questions, self.postprocessor.collect(reports, sizes)):
                found[question.picture, question.place] = answer
        return [
            _side_by_side(
                [found[picture, place] for place in range(len(asked))],
                [prompt.num_phrases for prompt in asked],
            ).resized(size)
            for picture, (asked, size) in enumerate(zip(prompts, original_sizes))
        ]

    def forget(self) -> None:
        """Drop the remembered prompts.

        Never needed after training steps, `load_state_dict`, moving the model or replacing a
        parameter: those are noticed, and nearly all that is written through `parameter.data`, too
        (see `WeightStamp`).
        """
        self._text.forget()

    def _check(
        self,
        images: ImageBatch,
        prompts: Sequence[Sequence[AnyPrompt]],
        original_sizes: Sequence[tuple[int, int]],
    ) -> None:
        if not all(prompts):
            raise ValueError("the detector needs at least one prompt, got none")
        for what, given in (("prompts", prompts), ("original sizes", original_sizes)):
            if len(given) != len(images):
                raise ValueError(f"{len(images)} pictures came with {len(given)} {what}")
        if self.model.training:
            raise ValueError(
                "the model is in training mode, where dropout makes answers random; call "
                "model.eval() first"
            )

    def _ask_all(
        self,
        levels: tuple[Tensor, ...],
        images: ImageBatch,
        prompts: Sequence[Sequence[AnyPrompt]],
    ) -> list[tuple[list["_Question"], Tensor]]:
        """All questions, pass by pass, with what `Postprocessor.decide` reports of them.

        Prompts of a length are asked together, so that little is padded, the longest first: if
        memory runs out, then at once.
        """
        waiting = _questions(prompts)
        passes = []
        while waiting:
            length = waiting[0].length
            # What the model does for one prompt and all pictures is one unit.
            most = -(-len(waiting) // len(images))
            size = min(self.chunk_batch.size(levels, length), most)
            group = waiting[: size * len(images)]
            reports = None
            try:
                reports = self._ask(levels, images.sizes, group)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise MemoryError(_too_large(images, length, self.device)) from error
            if reports is None:  # and the error is gone, which held what the attempt had made
                self.chunk_batch.failed(size, levels)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()  # pieces too small for the next attempt
                logger.warning(
                    "out of memory with %d prompts at once; going on with %d", size, size // 2
                )
                continue
            passes.append((group, reports))
            del waiting[: len(group)]
        return passes

    def _ask(
        self,
        levels: tuple[Tensor, ...],
        sizes: Sequence[tuple[int, int]],
        questions: Sequence["_Question"],
    ) -> Tensor:
        """What is found for each question, all in one pass: (questions, N, 6)."""
        length = _rounded_up(max(question.length for question in questions))
        phrases = [_as_long(question.prompt.phrase_tokens, length) for question in questions]
        # Encoded pass by pass: never more are alive than this pass's and those that are remembered.
        asked = {id(question.prompt): question.prompt for question in questions}
        texts = {key: _padded(self._encoded(prompt), length) for key, prompt in asked.items()}
        rows = zip(*(texts[id(question.prompt)] for question in questions))
        text = TextFeatures(*(torch.cat(parts) for parts in rows))
        pictures = [question.picture for question in questions]
        output = self._dense.ground(_taken(levels, pictures), text)
        asked_of = [sizes[picture] for picture in pictures]
        return self.postprocessor.decide(output, phrases, asked_of)

    def _encoded(self, prompt: AnyPrompt) -> TextFeatures:
        """Features of a batch of one, remembered or made now."""
        if isinstance(prompt, ParallelPrompt):
            return self._encoded_classes(prompt)
        words = batch_prompts([prompt], _MULTIPLE)
        # Read where the prompt was made, on the CPU: reading it back from a GPU would wait for it.
        key = (
            *(self.autocast_dtype, *words.token_ids[0].tolist()),
            *words.token_mask[0].tolist(),
        )

        def make() -> TextFeatures:
            placed = words.to(self.device)
            return self.model.encode_text(placed.token_ids, placed.token_mask)

        return self._text.get(key, make)

    def _encoded_classes(self, prompt: ParallelPrompt) -> TextFeatures:
        """The vectors of classes as a batch of one text, remembered or made now."""
        captions = prompt.captions
        seen = (caption.token_ids[caption.token_mask].tolist() for caption in captions)
        key = (self.autocast_dtype, prompt.aggregation, *map(tuple, seen))

        def make() -> TextFeatures:
            starts = range(0, len(captions), _CAPTIONS_AT_ONCE)
            batches = [batch_prompts(captions[i : i + _CAPTIONS_AT_ONCE]) for i in starts]
            placed = [batch.to(self.device) for batch in batches]
            return self.model.encode_classes(placed, prompt.aggregation)

        return self._text.get(key, make)

    def _forget_if_changed(self) -> None:
        """Compare all that text features are made from with the last call's."""
        parts = (self.model.text_encoder, self.model.prompt_offset)
        modules = [module for part in parts if part is not None for module in part.modules()]
        # In one walk, as `parameters()` and `buffers()` are two.
        tensors = [
            tensor
            for module in modules
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        ]
        # Rounding to 8 bits replaces a module's class and leaves its weights.
        self._text.forget_if_changed(tensors, kinds=tuple(map(type, modules)))


class _Question(NamedTuple):
    """One prompt about one picture."""

    picture: int  # of the batch
    place: int  # among the prompts of this picture
    prompt: AnyPrompt
    length: int  # T, of its text


def _questions(prompts: Sequence[Sequence[AnyPrompt]]) -> list[_Question]:
    """Every prompt of every picture, the longest first."""
    lengths = {id(prompt): _length(prompt) for asked in prompts for prompt in asked}
    questions = [
        _Question(picture, place, prompt, lengths[id(prompt)])
        for picture, asked in enumerate(prompts)
        for place, prompt in enumerate(asked)
    ]
    return sorted(questions, key=lambda each: (-each.length, each.place, each.picture))


def _length(prompt: AnyPrompt) -> int:
    """T of a prompt's text, known before it is encoded."""
    if isinstance(prompt, ParallelPrompt):
        return prompt.num_phrases + 1
    return _rounded_up(int(prompt.token_mask.sum()))


def _rounded_up(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def _taken(levels: tuple[Tensor, ...], pictures: Sequence[int]) -> tuple[Tensor, ...]:
    """The pyramids of these pictures of a batch, which may repeat: (N, C, H, W) levels."""
    if len(levels[0]) == 1:  # shared by all questions without a copy
        return tuple(level.expand(len(pictures), -1, -1, -1) for level in levels)
    if list(pictures) == list(range(len(levels[0]))):
        return levels
    # Several pictures are small beside the tower. Slices need no index on a GPU, to be waited for.
    return tuple(torch.cat([level[index : index + 1] for index in pictures]) for level in levels)


def _as_long(phrase_tokens: Tensor, length: int) -> Tensor:
    """(P, T) counts for a text of another length; what is cut off is padding."""
    return pad(phrase_tokens, (0, length - phrase_tokens.shape[1]))


def _padded(text: TextFeatures, length: int) -> TextFeatures:
    """The features of a caption with masked padding, which nobody reads, up to `length` tokens."""
    missing = length - text.mask.shape[1]
    if missing == 0:
        return text
    return TextFeatures(
        hidden=pad(text.hidden, (0, 0, 0, missing)),
        embedded=pad(text.embedded, (0, 0, 0, missing)),
        mask=pad(text.mask, (0, missing)),
    )


def _too_large(images: ImageBatch, num_tokens: int, device: torch.device) -> str:
    """What to say when not even one prompt fits."""
    height, width = images.pixels.shape[2:]
    return (
        f"not enough memory on {device} to ask one prompt of {num_tokens} tokens about "
        f"{len(images)} picture(s) of {height}x{width} pixels (height x width, padded); lower "
        "TEST.IMS_PER_BATCH if it is above 1, INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST, or ask "
        "for fewer classes at once (TEST.CHUNKED_EVALUATION)"
    )


def _side_by_side(answers: Sequence[Detections], counts: Sequence[int]) -> Detections:
    """All prompts' answers about one picture as one, best score first."""
    offsets = [sum(counts[:index]) for index in range(len(counts))]
    boxes = torch.cat([found.boxes for found in answers])
    scores = torch.cat([found.scores for found in answers])
    phrase_ids = torch.cat([found.phrase_ids + start for found, start in zip(answers, offsets)])
    order = scores.argsort(descending=True, stable=True)
    return Detections(boxes[order], scores[order], phrase_ids[order], answers[0].image_size)
