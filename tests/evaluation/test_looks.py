"""A picture asked in several ways: what is asked, where its boxes lie, what is counted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from captioned import answer, caption_test_set, record, write_captions
from drawn import draw, make_test_set, write
from PIL import Image, ImageDraw
from tiny import tiny_glip

from glipkit.data.loading import placed
from glipkit.data.test_set import TestSet
from glipkit.data.transforms import TestTransform
from glipkit.data.views import View
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.looks import Looks
from glipkit.evaluation.run import evaluate
from glipkit.modeling.joining import Joiner
from glipkit.modeling.multi_prompt import Detector
from glipkit.modeling.postprocess import Postprocessor
from glipkit.structures.boxes import resize
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import TokenizedPrompt


def views(*sizes: int, flip: bool = True) -> tuple[View, ...]:
    return tuple(View(TestTransform(s, 4 * s, (0.5,) * 3, (0.25,) * 3), flip) for s in sizes)


class Bright:
    """Finds the bright rectangle of a picture, and says it once for each phrase."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []  # phrases of the prompts of a picture, call by call
        self.seen: list[tuple[int, int]] = []

    def __call__(
        self,
        images: ImageBatch,
        prompts: Sequence[Sequence[TokenizedPrompt]],
        original_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        answers = []
        for pixels, size, asked, whole in zip(images.pixels, images.sizes, prompts, original_sizes):
            self.asked.append([prompt.num_phrases for prompt in asked])
            self.seen.append(size)
            y, x = (pixels[0, : size[0], : size[1]] > 0).nonzero(as_tuple=True)
            box = torch.stack([x.min(), y.min(), x.max(), y.max()]).float()[None]
            count = sum(self.asked[-1])
            answers.append(
                Detections(
                    resize(box, size, whole).repeat(count, 1),
                    torch.full((count,), 0.5),
                    torch.arange(count),
                    whole,
                )
            )
        return answers


class Keeping:
    """Joins nothing: keeps what the views gave."""

    def __init__(self) -> None:
        self.given: list[list[Detections]] = []

    def __call__(self, given: Sequence[Detections], counts: Sequence[int]) -> Detections:
        self.given.append(list(given))
        return given[0]


def run_looks(looks: Looks, test_set: TestSet, batch_size: int = 2) -> dict[int, Detections]:
    loader = test_set.loader(range(len(test_set)), batch_size=batch_size, num_workers=0)
    found = {}
    for fetched in placed(loader, "cpu"):
        for batch in fetched.batches:
            found.update(looks(batch))
    return found


@pytest.fixture
def rectangle(tmp_path: Path) -> TestSet:
    """One dark picture of 90 x 60 pixels with a bright rectangle on its left."""
    (tmp_path / "pictures").mkdir()
    picture = Image.new("RGB", (90, 60))
    ImageDraw.Draw(picture).rectangle((6, 12, 29, 41), fill="white")
    picture.save(tmp_path / "pictures" / "0.png")
    return make_test_set(
        write(tmp_path, [{"id": 1, "file_name": "0.png", "width": 90, "height": 60}], [])
    )


def test_boxes_of_the_mirrored_picture_come_back(rectangle: TestSet) -> None:
    test_set = replace(rectangle, views=views(60, 120))
    keeping = Keeping()
    detector = Bright()
    run_looks(Looks(detector, test_set, keeping), test_set)
    assert detector.seen == [(60, 90)] * 2 + [(120, 180)] * 2
    plain, mirrored, large, large_mirrored = (each.boxes[0] for each in keeping.given[0])
    torch.testing.assert_close(plain, torch.tensor([6.0, 12, 29, 41]))
    torch.testing.assert_close(mirrored, plain)
    torch.testing.assert_close(large_mirrored, large, atol=1e-4, rtol=0)


@pytest.mark.parametrize("width", [90, 91, 47])
def test_mirrored_boxes_come_back_from_odd_widths(tmp_path: Path, width: int) -> None:
    """What is found in the mirror is what is found without, at any size it was shown in."""
    picture = Image.new("RGB", (width, 60))
    ImageDraw.Draw(picture).rectangle((6, 12, 29, 41), fill="white")
    (tmp_path / "pictures").mkdir()
    picture.save(tmp_path / "pictures" / "0.png")
    record = {"id": 1, "file_name": "0.png", "width": width, "height": 60}
    test_set = replace(make_test_set(write(tmp_path, [record], [])), views=views(31, 53, 60, 97))
    keeping, detector = Keeping(), Bright()
    run_looks(Looks(detector, test_set, keeping), test_set)
    assert any(shown % 2 for _, shown in detector.seen)
    for plain, mirrored in zip(keeping.given[0][::2], keeping.given[0][1::2]):
        torch.testing.assert_close(mirrored.boxes, plain.boxes, atol=1e-4, rtol=0)
        assert plain.boxes[0, 0] < 8 < 27 < plain.boxes[0, 2] < 31


def test_a_view_gives_boxes_of_its_sizes_only(rectangle: TestSet) -> None:
    small, large = views(60, 120, flip=False)
    keeping = Keeping()
    side = (23 * 29) ** 0.5  # of the rectangle, in original pixels
    test_set = replace(
        rectangle,
        views=(
            replace(small, box_range=(side + 1, 1000)),
            replace(small, box_range=(side - 1, side + 1)),
            replace(large, box_range=(0, side - 3)),
        ),
    )
    run_looks(Looks(Bright(), test_set, keeping), test_set)
    assert [len(each) for each in keeping.given[0]] == [0, 3, 0]


def test_captions_that_name_a_side_are_not_asked_mirrored(tmp_path: Path) -> None:
    texts = ("the ball and the left dog", "a cat beside an owl", "the rightmost man")
    spans = (((4, 8), (17, 25)), ((0, 5), (13, 19)), ((0, 17),))
    (tmp_path / "pictures").mkdir()
    picture = Image.new("RGB", (60, 60))
    ImageDraw.Draw(picture).rectangle((6, 12, 29, 41), fill="white")
    picture.save(tmp_path / "pictures" / "0.png")
    images = [record(number, "0.png", (60, 60), text) for number, text in enumerate(texts)]
    boxes = [
        answer(10 * number + place, number, [5, 5, 9, 9], [span])
        for number, listed in enumerate(spans)
        for place, span in enumerate(listed)
    ]
    test_set = replace(caption_test_set(write_captions(tmp_path, images, boxes)), views=views(60))
    detector, keeping = Bright(), Keeping()
    run_looks(Looks(detector, test_set, keeping), test_set)
    assert detector.asked == [[2, 2, 1], [2]]
    plain, mirrored = keeping.given[0]
    assert plain.phrase_ids.tolist() == [0, 1, 2, 3, 4]
    assert mirrored.phrase_ids.tolist() == [2, 3]  # phrases of the second caption of three


def test_the_views_of_a_picture_come_together_and_to_one_rank(tmp_path: Path) -> None:
    test_set = replace(make_test_set(draw(tmp_path)), views=views(32, 48, 64))
    seen: list[int] = []
    for rank in range(2):
        loader = test_set.loader(
            range(len(test_set)), batch_size=3, num_workers=0, rank=rank, world_size=2
        )
        turns = [fetched.batches[0] for fetched in loader]
        assert [turn.view for turn in turns] == [0, 1, 2] * (len(turns) // 3)
        for start in range(0, len(turns), 3):
            together = {turn.image_ids for turn in turns[start : start + 3]}
            assert len(together) == 1
            seen += together.pop()
        assert loader.batch_sampler.num_images == sum(len(turn) for turn in turns[::3])
    assert sorted(seen) == sorted(image.image_id for image in test_set.dataset.images)


def test_a_broken_picture_counts_once(tmp_path: Path) -> None:
    spec = draw(tmp_path, num_images=5)
    test_set = replace(make_test_set(spec), views=views(32, 48))
    (spec.img_dir / "2.png").write_bytes((spec.img_dir / "2.png").read_bytes()[:300])
    detector = Detector(tiny_glip(), Postprocessor(score_threshold=0.001))
    results = evaluate(
        detector.each, test_set, build_evaluator(test_set), output_dir=tmp_path / "out",
        depends_on={}, batch_size=4, join=Joiner(),
    )  # fmt: skip
    (failure,) = results.failures
    assert failure.path.name == "2.png"
    assert results.num_images == 5
    assert results.num_predictions > 0


def test_prompts_are_encoded_once_for_all_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = draw(tmp_path, num_images=4)
    test_set = replace(make_test_set(spec, chunk_size=1), views=views(32, 48, 64))
    ids = torch.tensor([7, 8, 9])
    prompts = (
        replace(prompt, token_ids=torch.tensor([101, number, 102]))
        for prompt, number in zip(test_set.prompts, ids.tolist())
    )
    test_set = replace(test_set, prompts=tuple(prompts))
    model = tiny_glip()
    encoded: list[int] = []
    encode = model.encode_text

    def counting(token_ids: torch.Tensor, token_mask: torch.Tensor) -> object:
        encoded.append(len(token_ids))
        return encode(token_ids, token_mask)

    monkeypatch.setattr(model, "encode_text", counting)
    detector = Detector(model, Postprocessor(score_threshold=0.001))
    found = run_looks(Looks(detector.each, test_set, Joiner()), test_set)
    assert len(found) == 4
    assert encoded == [1, 1, 1]


def test_views_and_their_joining_go_together(rectangle: TestSet) -> None:
    with pytest.raises(ValueError, match="0 views, and something was given"):
        Looks(Bright(), rectangle, Keeping())
    with pytest.raises(ValueError, match="1 views, and nothing was given"):
        Looks(Bright(), replace(rectangle, views=views(60)))
