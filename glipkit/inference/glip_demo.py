"""The one class that projects built on GLIP use, so that they change an import and no more.

Written from what is known of its interface and behaviour (docs/migrating.md says where it differs);
new code is better served by `glipkit.load`.
"""

import logging
import sys
from collections.abc import Sequence, Sized
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from glipkit.config.published import checked
from glipkit.data.build import build_test_transform
from glipkit.data.transforms import resized_size
from glipkit.engine.launch import choose_device
from glipkit.engine.weights import find_here
from glipkit.inference.box_list import BoxList
from glipkit.inference.build import load_vocabulary, warn_of_descriptions
from glipkit.inference.counts import check_count
from glipkit.inference.demo_words import custom_prompt, names_prompts, sentence_prompt
from glipkit.inference.forward import full_digits, memory_errors
from glipkit.inference.known_words import word_notes
from glipkit.inference.models import model_folders
from glipkit.modeling.build import build_detector, build_model
from glipkit.modeling.glip import GLIP
from glipkit.programs.evaluation import load_model
from glipkit.structures.detections import Detections
from glipkit.structures.images import pad_images
from glipkit.structures.prompts import Prompt
from glipkit.visualize import outline_boxes, write_labels

logger = logging.getLogger(__name__)

# The long side is not capped, so a thin strip could grow without end; this is 16 full pictures.
_MAX_PIXELS = 2**24

Caption = str | Sequence[str]


class GLIPDemo:
    """Finds in a picture what a caption, or a list of class names, speaks of.

    Pictures are arrays as OpenCV reads them: (height, width, 3) uint8, channels in the order BGR.
    They are resized by their short side alone, without a cap for the long one (BEHAVIOUR 1).

    Args:
        cfg: `glipkit.config.cfg` after merges, or what `glipkit.config.load_config` returns;
            MODEL.WEIGHT names the weights, MODEL.DEVICE where to run.
        confidence_threshold: of `inference` and `select_top_predictions`, in [0, 1].
        min_image_size: pixels of the short side; None: INPUT.MIN_SIZE_TEST.
        show_mask_heatmaps: nothing to show: no GLIP predicts masks.
        masks_per_dim: nothing to arrange.
        load_model: load MODEL.WEIGHT; otherwise weights are random.

    Attributes:
        entities: the phrases of the last caption; label i is `entities[i - plus]`.
        plus: 1: labels start at 1.

    Raises:
        ConfigError: the configuration describes nothing that can be built.
        FileNotFoundError: the weights are not there.
        ValueError: the threshold is above 1, or the size no number of pixels.
    """

    plus = 1

    def __init__(
        self,
        cfg: CfgNode,
        confidence_threshold: float = 0.7,
        min_image_size: int | None = None,
        show_mask_heatmaps: bool = False,
        masks_per_dim: int = 5,
        load_model: bool = True,
    ) -> None:
        if show_mask_heatmaps:
            logger.warning("show_mask_heatmaps: no GLIP predicts masks, so there is none to show")
        _check_threshold(confidence_threshold)
        if min_image_size is not None:
            check_count(min_image_size, "min_image_size")
        self.cfg = checked(cfg)
        warn_of_descriptions(self.cfg, "the configuration")
        self.device = choose_device(None, self.cfg.MODEL.DEVICE)
        self.cpu_device = torch.device("cpu")
        self.tokenizer = load_vocabulary(self.cfg)
        model = _loaded(self.cfg) if load_model else _random(self.cfg)
        self.model = model.to(self.device)
        self.confidence_threshold = confidence_threshold
        self.min_image_size = min_image_size or self.cfg.INPUT.MIN_SIZE_TEST
        self.show_mask_heatmaps = show_mask_heatmaps
        self.masks_per_dim = masks_per_dim
        self.entities: list[str] = []
        self._noted: list[str] = []  # of the last caption
        self._transform = build_test_transform(self.cfg)
        self._detector = build_detector(self.cfg, self.model)

    def inference(self, original_image: np.ndarray, original_caption: Caption) -> BoxList:
        """The boxes above `confidence_threshold`, best first; see `compute_prediction`."""
        return self.select_top_predictions(
            self.compute_prediction(original_image, original_caption)
        )

    def run_on_web_image(
        self,
        original_image: np.ndarray,
        original_caption: Caption,
        thresh: float = 0.5,
        custom_entity: Sequence[Sequence[Sequence[int]]] | None = None,
        alpha: float = 0.0,
    ) -> tuple[np.ndarray, BoxList]:
        """The picture with what was found in it, and what that is.

        Args:
            original_image: (height, width, 3) uint8, BGR; it is not changed.
            original_caption: see `compute_prediction`.
            thresh: boxes that score above it are drawn and returned; in [0, 1].
            custom_entity: see `compute_prediction`.
            alpha: how much colour is laid over the inside of boxes, in [0, 1].

        Returns:
            The annotated picture, BGR, and the boxes, best first.

        Raises:
            TypeError, ValueError, MemoryError: as `compute_prediction`; or `thresh` is above 1.
        """
        predictions = self.compute_prediction(original_image, original_caption, custom_entity)
        return self.visualize_with_predictions(original_image, predictions, thresh, alpha)

    def compute_prediction(
        self,
        original_image: np.ndarray,
        original_caption: Caption,
        custom_entity: Sequence[Sequence[Sequence[int]]] | None = None,
    ) -> BoxList:
        """All boxes above MODEL.ATSS.INFERENCE_TH.

        Args:
            original_image: (height, width, 3) uint8, BGR.
            original_caption: a sentence, whose noun phrases are looked for, or a list of class
                names, asked as "a . b . c . "; a list that is too long for one caption is asked in
                several.
            custom_entity: instead of the sentence's noun phrases: for each phrase its character
                ranges in the caption, [[[0, 12]], [[27, 32]]].

        Returns:
            Boxes in pixels of the picture, with the fields "scores", (N,) in [0, 1], and "labels",
            (N,) int64, whose names are `entities`; best first.

        Raises:
            TypeError, ValueError: the picture or the caption is not usable; says why.
            MemoryError: there is not enough memory for the picture and one caption.
        """
        image = _as_rgb(original_image)
        pixels = pad_images([self._pixels(image)], self.cfg.DATALOADER.SIZE_DIVISIBILITY)
        prompts = self._prompts(original_caption, custom_entity)
        max_tokens = self.cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN
        tokens = [self.tokenizer(prompt, max_tokens=max_tokens) for prompt in prompts]
        phrases = [phrase.text for prompt in prompts for phrase in prompt.phrases]
        self._note(word_notes(phrases, tokens, unknown_id=self.tokenizer.unknown_id))
        with full_digits(self.device), memory_errors(self.device, image):
            (found,) = self._detector(pixels, tokens, [(image.height, image.width)])
        self.entities = phrases
        # Copies: what was made in inference mode may not be written to afterwards.
        predictions = BoxList(found.boxes.clone(), image.size)
        predictions.add_field("labels", found.phrase_ids + self.plus)
        predictions.add_field("scores", found.scores.clone())
        return predictions

    def select_top_predictions(self, predictions: BoxList) -> BoxList:
        """Those that score above `confidence_threshold`, best first."""
        return _above(predictions, self.confidence_threshold)

    def visualize_with_predictions(
        self,
        original_image: np.ndarray,
        predictions: BoxList,
        thresh: float = 0.5,
        alpha: float = 0.0,
        box_pixel: int | None = None,
        text_size: float = 1.0,
        text_pixel: int | None = None,
        text_offset: int | None = None,
        text_offset_original: int | None = None,
        color: object = None,
    ) -> tuple[np.ndarray, BoxList]:
        """The picture with boxes and names, and the boxes that are shown.

        Args:
            original_image: (height, width, 3) uint8, BGR; it is not changed.
            predictions: of `compute_prediction`, scaled here to the picture.
            thresh: boxes that score above it are shown; in [0, 1].
            alpha: how much colour is laid over the inside of boxes, in [0, 1].
            box_pixel: thickness of the lines; None chooses it by the size of the picture.
            text_size: factor of the letters' size.
            text_pixel: has no effect, like all that follow: names are placed where they hide
                least, in the colour of their phrase.
            text_offset: no effect.
            text_offset_original: no effect.
            color: no effect.

        Raises:
            TypeError, ValueError: the picture is not usable, or `thresh` is above 1.
        """
        top = _above(predictions.resize(_as_rgb(original_image).size), thresh)
        result = self.overlay_boxes(original_image, top, alpha, box_pixel)
        return self.overlay_entity_names(result, top, text_size=text_size), top

    def overlay_boxes(
        self,
        image: np.ndarray,
        predictions: BoxList,
        alpha: float = 0.5,
        box_pixel: int | None = None,
    ) -> np.ndarray:
        """The picture, BGR, with the lines of the boxes; see `visualize_with_predictions`.

        Args:
            image: (height, width, 3) uint8, BGR; it is not changed.
            predictions: whose boxes to draw, in pixels of the picture.
            alpha: how much colour is laid over the inside of boxes, in [0, 1].
            box_pixel: thickness of the lines; None chooses it by the size of the picture.
        """
        found = self._detections(predictions)
        picture = outline_boxes(_as_rgb(image), found, opacity=alpha, thickness=box_pixel)
        return _as_bgr(picture)

    def overlay_entity_names(
        self,
        image: np.ndarray,
        predictions: BoxList,
        names: Sequence[str] | None = None,
        text_size: float = 1.0,
        text_pixel: int | None = None,
        text_offset: int | None = None,
        text_offset_original: int | None = None,
    ) -> np.ndarray:
        """The picture, BGR, with names and scores at the boxes.

        Args:
            image: (height, width, 3) uint8, BGR; it is not changed.
            predictions: whose names to write.
            names: of the phrases, in place of `entities`.
            text_size: factor of the letters' size.
            text_pixel: no effect, like all that follow.
            text_offset: no effect.
            text_offset_original: no effect.
        """
        known = self.entities if names is None else names
        found = self._detections(predictions)
        return _as_bgr(write_labels(_as_rgb(image), found, known, text_size=text_size))

    def _note(self, notes: list[str]) -> None:
        """Log what is to be said of the words; of a film that is asked the same, once."""
        if notes != self._noted:
            self._noted = notes
            for note in notes:
                logger.warning("%s", note)

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        transform = replace(self._transform, min_size=self.min_image_size, max_size=sys.maxsize)
        height, width = resized_size((image.height, image.width), self.min_image_size, sys.maxsize)
        if height * width > _MAX_PIXELS:
            raise ValueError(
                f"a picture of {image.height}x{image.width} (height x width) would be resized to "
                f"{height}x{width}, since only its short side counts; cut it, or lower "
                f"min_image_size ({self.min_image_size})"
            )
        return transform(image)

    def _prompts(
        self, caption: Caption, custom_entity: Sequence[Sequence[Sequence[int]]] | None
    ) -> list[Prompt]:
        if isinstance(caption, str):
            if custom_entity is not None:
                return [custom_prompt(caption, custom_entity)]
            return [sentence_prompt(caption)]
        if not isinstance(caption, Sized) or isinstance(caption, bytes):
            raise TypeError(f"a caption is a sentence or a list of class names, got {caption!r}")
        if custom_entity is not None:
            raise ValueError("custom_entity marks phrases of a sentence; got a list of class names")
        max_tokens = self.cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN
        return names_prompts(caption, self.tokenizer, max_tokens=max_tokens)

    def _detections(self, predictions: BoxList) -> Detections:
        boxes = predictions.convert("xyxy")
        labels, scores = boxes.get_field("labels"), boxes.get_field("scores")
        return Detections(boxes.bbox, scores, labels - self.plus, boxes.size[::-1]).to("cpu")


def _loaded(cfg: CfgNode) -> GLIP:
    """The model with the weights of MODEL.WEIGHT, if they are on this machine."""
    weight, roots = cfg.MODEL.WEIGHT, tuple(model_folders())
    if weight and (found := find_here(weight, roots)) is None:
        places = " nor ".join(str(root / Path(weight).name) for root in roots)
        raise FileNotFoundError(
            f"no weights {weight!r}: neither that file nor {places} is there, and "
            "nothing is downloaded here; docs/checkpoints.md says where the published files are"
        )
    return load_model(cfg, weight=str(found) if weight else weight, roots=roots)


def _random(cfg: CfgNode) -> GLIP:
    return build_model(cfg, roots=tuple(model_folders())).eval()


def _above(predictions: BoxList, threshold: float) -> BoxList:
    _check_threshold(threshold)
    scores = predictions.get_field("scores")
    order = scores.argsort(descending=True, stable=True)
    return predictions[order[scores[order] > threshold]]


def _check_threshold(threshold: float) -> None:
    if not threshold <= 1:  # NaN too
        raise ValueError(
            f"a threshold is a number from 0 to 1, got {threshold}: nothing would score above it"
        )


def _as_rgb(image: np.ndarray) -> Image.Image:
    if not isinstance(image, np.ndarray):
        raise TypeError(
            "expected a picture as OpenCV reads it, a numpy array (height, width, 3) in BGR, got "
            f"{type(image).__name__}; for PIL: np.array(picture.convert('RGB'))[:, :, ::-1]"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"expected a picture of shape (height, width, 3), uint8, BGR, got {image.shape} "
            f"{image.dtype}"
        )
    return Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))


def _as_bgr(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
