"""Ask any number of prompts about a batch of pictures, and compute nothing twice."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from glipkit.modeling.glip import GLIP
from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.postprocess import Postprocessor
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch, TokenizedPrompt, batch_prompts


class Detector:
    """Pictures and prompts in, detections in original pixels out.

    A vocabulary of many classes is asked in several prompts (BEHAVIOUR 11). The pyramid of a
    picture does not depend on the words, so it is computed once for all prompts; the text features
    do not depend on the picture, so they are computed once and remembered until the weights change.
    Each prompt is encoded alone: an answer does not depend on what was asked before.

    Args:
        model: on the device where it shall run, in evaluation mode.
        postprocessor: decides what is a detection, prompt by prompt.
        autocast_dtype: bfloat16 or float16 for the matrix work; None computes in the weights'
            precision, also inside a surrounding autocast.
        remembered_prompts: how many prompts' features are kept, the last used ones
            (about 1.5 MB each for 256 tokens).

    Raises:
        ValueError: `remembered_prompts` is negative.
    """

    def __init__(
        self,
        model: GLIP,
        postprocessor: Postprocessor,
        *,
        autocast_dtype: torch.dtype | None = None,
        remembered_prompts: int = 128,
    ) -> None:
        if remembered_prompts < 0:
            raise ValueError(f"remembered_prompts must not be negative, got {remembered_prompts}")
        self.model = model
        self.postprocessor = postprocessor
        self.autocast_dtype = autocast_dtype
        self.remembered_prompts = remembered_prompts
        self._text: OrderedDict[tuple[int, ...], TextFeatures] = OrderedDict()
        self._weights: list[Tensor] = []
        self._stamp: tuple[object, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def __call__(
        self,
        images: ImageBatch,
        prompts: Sequence[TokenizedPrompt],
        original_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        """Ask every prompt about every picture.

        The answers to all prompts stand side by side: there is no suppression between prompts and
        no cap over them (BEHAVIOUR 11).

        Args:
            images: B pictures, on any device.
            prompts: one or more, the same for all pictures, padded or not.
            original_sizes: B times (height, width) of the picture before it was resized.

        Returns:
            B detections on the CPU, best score first, in pixels of the original pictures. Phrase
            ids run on from prompt to prompt: phrase i of the second is P_1 + i.

        Raises:
            ValueError: there is no prompt, the sizes do not match the pictures, or the model is in
                training mode.
        """
        self._check(images, prompts, original_sizes)
        self._forget_if_weights_changed()
        device = self.device
        images = images.to(device)
        enabled = self.autocast_dtype is not None
        with torch.autocast(device.type, dtype=self.autocast_dtype, enabled=enabled):
            levels = self.model.encode_image(images.pixels)
            answers = [self._ask(levels, images.sizes, prompt) for prompt in prompts]
        counts = [prompt.num_phrases for prompt in prompts]
        return [
            _side_by_side(of_image, counts).resized(size).to("cpu")
            for of_image, size in zip(zip(*answers), original_sizes)
        ]

    def forget(self) -> None:
        """Drop the remembered prompts.

        Never needed after training steps, `load_state_dict` or moving the model: those are noticed.
        Only writing through `parameter.data` goes unseen.
        """
        self._text.clear()

    def _check(
        self,
        images: ImageBatch,
        prompts: Sequence[TokenizedPrompt],
        original_sizes: Sequence[tuple[int, int]],
    ) -> None:
        if not prompts:
            raise ValueError("the detector needs at least one prompt, got none")
        if len(original_sizes) != len(images):
            raise ValueError(
                f"{len(images)} pictures came with {len(original_sizes)} original sizes"
            )
        if self.model.training:
            raise ValueError(
                "the model is in training mode, where dropout makes answers random; call "
                "model.eval() first"
            )

    def _ask(
        self,
        levels: tuple[Tensor, ...],
        sizes: Sequence[tuple[int, int]],
        prompt: TokenizedPrompt,
    ) -> list[Detections]:
        """What one prompt finds in each picture, in pixels of the resized pictures."""
        words = batch_prompts([prompt])
        text = self._encoded(words)
        text = TextFeatures(*(part.expand(len(sizes), *part.shape[1:]) for part in text))
        output = self.model.ground(levels, text)
        phrase_tokens = words.to(self.device).phrase_tokens
        return self.postprocessor(output, phrase_tokens * len(sizes), sizes)

    def _encoded(self, words: PromptBatch) -> TextFeatures:
        """Features of a batch of one, remembered or made now."""
        # Read where the prompt was made, on the CPU: reading it back from a GPU would wait for it.
        key = (*words.token_ids[0].tolist(), *words.token_mask[0].tolist())
        text = self._text.pop(key, None)
        if text is None:
            words = words.to(self.device)
            text = self.model.encode_text(words.token_ids, words.token_mask)
        self._text[key] = text  # the end is the most recently used
        while len(self._text) > self.remembered_prompts:
            self._text.popitem(last=False)
        return text

    def _forget_if_weights_changed(self) -> None:
        """Compare which tensors the model has, where, and how often each was written."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        # Tensors born in inference mode count no writes: with them nothing is remembered.
        uncounted = any(tensor.is_inference() for tensor in tensors)
        stamp = (
            self.autocast_dtype,
            *((id(t), t.data_ptr(), 0 if uncounted else t._version) for t in tensors),
        )
        if uncounted or stamp != self._stamp:
            self.forget()
        self._stamp = stamp
        self._weights = tensors  # kept alive, so that no id is given to another tensor


def _side_by_side(answers: Sequence[Detections], counts: Sequence[int]) -> Detections:
    """All prompts' answers about one picture as one, best score first."""
    offsets = [sum(counts[:index]) for index in range(len(counts))]
    boxes = torch.cat([found.boxes for found in answers])
    scores = torch.cat([found.scores for found in answers])
    phrase_ids = torch.cat([found.phrase_ids + start for found, start in zip(answers, offsets)])
    order = scores.argsort(descending=True, stable=True)
    return Detections(boxes[order], scores[order], phrase_ids[order], answers[0].image_size)
