"""Boxes of any detection data, as they reach the model beside their caption."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from PIL import Image

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import load_coco
from glipkit.data.datasets.coco_pictures import CocoPictures
from glipkit.data.detection_prompts import make_detection_prompts
from glipkit.data.detection_source import DetectionSource, LabelledBoxes
from glipkit.data.images import ImageError
from glipkit.data.randomness import SampleRandom
from glipkit.data.sources import GroundedImage
from glipkit.grounding.captions import clean_name
from glipkit.grounding.tokenizer import Tokenizer

NAMES = {1: "cat", 2: "dog_(small)", 3: "owl"}


@dataclass
class Pictures:
    """One grey picture of 100 x 50 for each list of annotations."""

    annotated: Sequence[LabelledBoxes]
    classes: Mapping[int, str] = field(default_factory=lambda: NAMES)
    absent: Sequence[int] | None = None
    claimed: tuple[int, int] | None = (50, 100)
    name: str = "grey"

    def __len__(self) -> int:
        return len(self.annotated)

    def size(self, index: int) -> tuple[int, int] | None:
        return self.claimed

    def image_id(self, index: int) -> int:
        return 70 + index

    def read(self, index: int) -> Image.Image:
        return Image.new("RGB", (100, 50))

    def labels_and_boxes(self, index: int) -> LabelledBoxes:
        return self.annotated[index]

    def negatives(self, index: int) -> Sequence[int] | None:
        return self.absent


def annotated(*rows: Sequence[float], is_crowd: Sequence[bool] = ()) -> LabelledBoxes:
    """Rows of label, x, y, width, height."""
    labels = [int(row[0]) for row in rows]
    return LabelledBoxes(
        labels, torch.tensor([row[1:] for row in rows]).float().view(-1, 4), is_crowd
    )


def source(pictures: Pictures, tokenizer: Tokenizer, **settings: object) -> DetectionSource:
    prompts = make_detection_prompts(pictures.classes, tokenizer, sampled=False)
    return DetectionSource(pictures, prompts, **settings)


def load(data: DetectionSource, index: int = 0, seed: int = 1) -> GroundedImage:
    return data.load(index, SampleRandom.of([seed, index]))


def names(sample: GroundedImage) -> list[str]:
    """What the caption says at the phrase of each box; a box has exactly one."""
    assert (sample.box_phrases.sum(dim=1) == 1).all()
    spans = [sample.prompt.phrases[i].spans[0] for i in sample.box_phrases.int().argmax(dim=1)]
    return [sample.prompt.caption[start:end] for start, end in spans]


def test_boxes_find_their_words_in_any_order(tokenizer: Tokenizer) -> None:
    data = source(
        Pictures([annotated((2, 10, 5, 20, 10), (1, 0, 0, 5, 5), (2, 1, 1, 9, 9))]), tokenizer
    )
    captions = set()
    for seed in range(10):
        sample = load(data, seed=seed)
        assert names(sample) == ["dog ", "cat", "dog "]
        captions.add(sample.prompt.caption)
    expected = torch.tensor([[10, 5, 29, 14], [0, 0, 4, 4], [1, 1, 9, 9]]).float()
    torch.testing.assert_close(sample.boxes, expected)  # x2 = x + width - 1
    assert sample.image_id == 70
    assert len(captions) > 1


BROKEN = [
    (1, 95, 40, 20, 20),  # reaches over the edge
    (2, -10, -10, 15, 15),  # reaches over the other
    (1, 120, 5, 10, 10),  # outside
    (1, 5, 5, 1, 10),  # a single column has no width: x2 = x1
    (1, 5, 5, 0, 10),
    (1, 5, 5, -3, 10),
    (1, float("nan"), 5, 10, 10),
    (1, 5, 5, float("inf"), 10),
    (3, 0, 0, 10, 10),
]


def test_clipping_and_dropping(tokenizer: Tokenizer) -> None:
    sample = load(source(Pictures([annotated(*BROKEN)]), tokenizer))
    assert names(sample) == ["cat", "dog ", "cat", "owl"]
    expected = [[95, 40, 99, 49], [0, 0, 4, 4], [5, 5, 99, 14], [0, 0, 9, 9]]
    torch.testing.assert_close(sample.boxes, torch.tensor(expected).float())


def test_without_clipping(tokenizer: Tokenizer) -> None:
    sample = load(source(Pictures([annotated(*BROKEN)]), tokenizer, clip_boxes=False))
    expected = [[95, 40, 114, 59], [-10, -10, 4, 4], [120, 5, 129, 14], [0, 0, 9, 9]]
    torch.testing.assert_close(sample.boxes, torch.tensor(expected).float())


def test_size_of_the_file_clips_where_none_is_claimed(tokenizer: Tokenizer) -> None:
    sample = load(source(Pictures([annotated(*BROKEN)], claimed=None), tokenizer))
    torch.testing.assert_close(sample.boxes[0], torch.tensor([95.0, 40, 99, 49]))


def test_crowds_and_the_limit(tokenizer: Tokenizer) -> None:
    boxes = [(1, 0, 0, 5, 5), (2, 0, 0, 50, 40), (3, 0, 0, 9, 9), (2, 1, 1, 8, 8)]
    pictures = Pictures([annotated(*boxes, is_crowd=[False, True, False, False])])
    assert names(load(source(pictures, tokenizer))) == ["cat", "owl", "dog "]
    assert len(load(source(pictures, tokenizer, use_crowd=True)).boxes) == 4
    assert names(load(source(pictures, tokenizer, max_boxes=2))) == ["cat", "owl"]
    with pytest.raises(ValueError, match="MAX_BOX"):
        source(pictures, tokenizer, max_boxes=0)


def test_a_picture_that_loses_all_boxes_stays(tokenizer: Tokenizer) -> None:
    data = source(
        Pictures([annotated((1, 0, 0, 5, 5)), annotated(), annotated(BROKEN[2])]), tokenizer
    )
    for index in (1, 2):
        sample = load(data, index)
        assert sample.boxes.shape == (0, 4)
        assert sample.box_phrases.shape == (0, 3)
        assert sample.prompt.caption
    assert len(data) == 3


def test_boxes_of_classes_beyond_the_caption_are_dropped(tokenizer: Tokenizer) -> None:
    classes = {i: f"very long class name {i}" for i in range(1, 101)}
    pictures = Pictures([annotated((100, 0, 0, 5, 5), (1, 0, 0, 9, 9))], classes=classes)
    prompts = make_detection_prompts(classes, tokenizer, sampled=False, disable_shuffle=True)
    sample = load(DetectionSource(pictures, prompts))
    assert names(sample) == ["very long class name 1"]
    torch.testing.assert_close(sample.boxes, torch.tensor([[0.0, 0, 8, 8]]))


def test_negatives_of_the_picture_restrict_the_draw(tokenizer: Tokenizer) -> None:
    pictures = Pictures([annotated((1, 0, 0, 5, 5))], absent=[3])
    data = DetectionSource(pictures, make_detection_prompts(NAMES, tokenizer, sampled=True))
    sample = load(data)
    assert {phrase.text for phrase in sample.prompt.phrases} == {"cat", "owl"}
    assert sample.maskable == tuple(phrase.spans[0] for phrase in sample.prompt.phrases)


def test_nothing_to_learn_from(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="'grey' has no picture"):
        source(Pictures([]), tokenizer)
    with pytest.raises(ValueError, match=r"none of the 2 pictures .* none is annotated"):
        source(Pictures([annotated(), annotated()]), tokenizer)
    crowd = annotated((1, 0, 0, 5, 5), (1, 0, 0, 5, 5), is_crowd=[True, True])
    with pytest.raises(ValueError, match=r"2 are marked as crowd .*; 1 have no area") as error:
        source(Pictures([crowd, annotated(BROKEN[4])]), tokenizer)
    assert "USE_CROWD" in str(error.value)
    with pytest.raises(ValueError, match=r"labels \[9\]"):
        load(source(Pictures([annotated((9, 0, 0, 5, 5))]), tokenizer))


SHARED = {
    "coco": ("coco_mini/annotations/instances_train.json", "coco_mini/train", False),
    "raccoon": ("raccoon/train/_annotations.coco.json", "raccoon/train", False),
    "lvis": ("lvis_sample/lvis_val_3.json", "lvis_sample/images", True),
}


@pytest.mark.parametrize(("file", "folder", "sampled"), SHARED.values(), ids=SHARED)
def test_real_annotations(
    shared_data: Path, tokenizer: Tokenizer, file: str, folder: str, sampled: bool
) -> None:
    dataset = load_coco(DatasetSpec("real", shared_data / file, shared_data / folder))
    pictures = CocoPictures(dataset)
    prompts = make_detection_prompts(
        pictures.classes, tokenizer, sampled=sampled, num_negatives=85, control=(0, 0, 0.5, 0)
    )
    data = pickle.loads(pickle.dumps(DetectionSource(pictures, prompts)))
    name_of = {category.category_id: category.name for category in dataset.categories}
    for index in range(min(len(data), 12)):
        record = dataset.images[index]
        own = [
            each
            for each in dataset.annotations
            if each["image_id"] == record.image_id and not each.get("iscrowd")
        ]
        sample = load(data, index)
        assert sample.image_id == data.image_id(index) == record.image_id
        assert (sample.image.height, sample.image.width) == data.size(index) == record.size
        assert names(sample) == [clean_name(name_of[each["category_id"]]) for each in own]
        x, y, width, height = torch.tensor([each["bbox"] for each in own]).unbind(dim=1)
        expected = torch.stack([x, y, x + width - 1, y + height - 1], dim=1)
        torch.testing.assert_close(sample.boxes, expected, rtol=0, atol=1)  # some are clipped
        tokens = tokenizer(sample.prompt).phrase_tokens
        assert (tokens.sum(dim=1) > 0).all()


def test_lvis_names_only_what_is_known(shared_data: Path, tokenizer: Tokenizer) -> None:
    file, folder, _ = SHARED["lvis"]
    dataset = load_coco(DatasetSpec("lvis", shared_data / file, shared_data / folder))
    pictures = CocoPictures(dataset)
    data = DetectionSource(
        pictures, make_detection_prompts(pictures.classes, tokenizer, sampled=True)
    )
    name_of = {category.category_id: category.name for category in dataset.categories}
    for index, record in enumerate(dataset.images):
        sample = load(data, index)
        absent = {name_of[each] for each in record.absent}
        present = {
            name_of[each["category_id"]]
            for each in dataset.annotations
            if each["image_id"] == record.image_id
        }
        assert {phrase.text for phrase in sample.prompt.phrases} == absent | present


def test_missing_picture(shared_data: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    file, _, _ = SHARED["raccoon"]
    pictures = CocoPictures(load_coco(DatasetSpec("elsewhere", shared_data / file, tmp_path)))
    with pytest.raises(ImageError, match="no such file"):
        load(source(pictures, tokenizer))
