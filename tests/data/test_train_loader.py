"""Training batches: repeatable, resumable, shared, and open about what went wrong."""

import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch
from drawn_source import WORDS, DrawnSource

from glipkit.data import train_loader
from glipkit.data.mixture import Mixture, Part
from glipkit.data.train_batch import TrainBatch
from glipkit.data.train_loader import TrainLoader
from glipkit.data.train_sampler import Draw, TrainOrder
from glipkit.data.train_set import SampleError, TrainSet
from glipkit.data.train_transform import ColourJitter, TrainTransform
from glipkit.grounding.tokenizer import Tokenizer

VARIED = TrainTransform(
    (16, 20), 64, (0.0,) * 3, (1.0,) * 3, flip=0.5, colours=ColourJitter(brightness=0.3)
)
PLAIN = TrainTransform((16,), 64, (0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.load("bert-base-uncased")


def make_loader(
    bert: Tokenizer,
    *parts: Part,
    transform: TrainTransform = VARIED,
    batch_size: int = 4,
    seed: int = 0,
    grouped: bool = True,
    max_tokens: int = 256,
    hiding: str | None = "all",
    **settings: int,
) -> TrainLoader:
    mixture = Mixture(parts or (Part(DrawnSource("a", 7)), Part(DrawnSource("b", 4, 2000), 2)))
    shapes = mixture.shapes() if grouped else None
    return TrainLoader(
        TrainSet(mixture, bert, transform, max_tokens=max_tokens, seed=seed, hiding=hiding),
        TrainOrder(len(mixture), batch_size=batch_size, seed=seed, shapes=shapes),
        **settings,
    )


def take(loader: TrainLoader, count: int, first_step: int = 0) -> list[TrainBatch]:
    return list(islice(loader.batches(first_step), count))


def assert_same(found: list[TrainBatch], expected: list[TrainBatch]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.image_ids == b.image_ids
        assert a.images.sizes == b.images.sizes
        for ours, theirs in zip(tensors(a), tensors(b), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def tensors(batch: TrainBatch) -> list[torch.Tensor]:
    found = [batch.images.pixels, batch.prompts.token_ids, batch.prompts.token_mask]
    for target, phrases in zip(batch.targets, batch.prompts.phrase_tokens):
        found += [target.boxes, target.box_phrases, phrases]
    return found if batch.hidden_words is None else [*found, batch.hidden_words]


def test_a_batch_by_hand(bert: Tokenizer) -> None:
    source = DrawnSource(count=2, sizes=((16, 32), (32, 16)))
    loader = make_loader(bert, Part(source), transform=PLAIN, batch_size=2, hiding=None)
    (batch,) = take(loader, 1)
    assert (loader.steps_per_epoch, loader.num_images, loader.batch_size) == (1, 2, 2)
    assert sorted(batch.image_ids) == [1000, 1001]
    assert batch.hidden_words is None
    assert batch.failures == ()
    assert tuple(batch.images.pixels.shape) == (2, 3, 32, 32)
    at = batch.image_ids.index(1001)
    assert batch.images.sizes[at] == (32, 16)
    pixels = batch.images.pixels[at]
    torch.testing.assert_close(pixels[:, :, :16], torch.ones(3, 32, 16))  # grey value 1
    assert not pixels[:, :, 16:].any()
    expected = torch.tensor([[1.0, 1.0, 6.0, 6.0], [2.0, 2.0, 15.0, 31.0]])
    torch.testing.assert_close(batch.targets[at].boxes, expected)
    ids = batch.prompts.token_ids[at]
    assert tuple(batch.prompts.token_ids.shape) == (2, 8)
    spelled = [ids[row > 0].tolist() for row in batch.prompts.phrase_tokens[at]]
    assert sorted(spelled) == sorted(bert.token_ids(word)[1:-1] for word in WORDS)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(bert: Tokenizer, num_workers: int) -> None:
    alone = make_loader(bert)
    assert_same(take(make_loader(bert, num_workers=num_workers), 9), take(alone, 9))


@pytest.mark.parametrize("first_step", [1, 4, 7])  # 15 samples in 4 steps an epoch
def test_any_step_is_a_start(bert: Tokenizer, first_step: int) -> None:
    straight = take(make_loader(bert), 9)
    resumed = take(make_loader(bert, num_workers=1), 9 - first_step, first_step)
    assert_same(resumed, straight[first_step:])


def test_two_ranks_see_the_batches_of_one(bert: Tokenizer) -> None:
    whole = take(make_loader(bert), 5)
    halves = [take(make_loader(bert, rank=rank, world_size=2), 5) for rank in (0, 1)]
    for batch, first, second in zip(whole, *halves):
        assert batch.image_ids == first.image_ids + second.image_ids
        for half, offset in ((first, 0), (second, 2)):
            for i in range(2):
                height, width = half.images.sizes[i]
                assert (height, width) == batch.images.sizes[offset + i]
                torch.testing.assert_close(
                    half.images.pixels[i, :, :height, :width],
                    batch.images.pixels[offset + i, :, :height, :width],
                )
                torch.testing.assert_close(half.targets[i].boxes, batch.targets[offset + i].boxes)
                length = half.prompts.token_ids.shape[1]
                assert torch.equal(
                    half.prompts.token_ids[i], batch.prompts.token_ids[offset + i][:length]
                )


def test_epochs_differ_and_so_do_seeds(bert: Tokenizer) -> None:
    loader = make_loader(bert)
    first, second = take(loader, 4), take(loader, 4, 4)
    assert [b.image_ids for b in first] != [b.image_ids for b in second]
    assert [b.image_ids for b in first] != [b.image_ids for b in take(make_loader(bert, seed=1), 4)]


def test_showings_of_one_sample_differ(bert: Tokenizer) -> None:
    """Copies, and what fills up the last batch, are drawn anew."""
    part = Part(DrawnSource(count=1), copies=30)
    batches = take(make_loader(bert, part, batch_size=40, grouped=False), 1)
    sizes = set(batches[0].images.sizes)
    assert sizes == {(16, 32), (20, 40)}
    assert len({tuple(row.tolist()) for row in batches[0].prompts.token_ids}) > 6


def test_an_epoch_shows_each_source_as_often_as_it_has_copies(bert: Tokenizer) -> None:
    ids = [i for batch in take(make_loader(bert, batch_size=5), 3) for i in batch.image_ids]
    assert sorted(ids) == sorted([*range(1000, 1007), *list(range(2000, 2004)) * 2])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_global_generators_stay_where_they_are(bert: Tokenizer, num_workers: int) -> None:
    torch.manual_seed(12)
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = np.random.get_state()[1].copy()
    first = take(make_loader(bert, num_workers=num_workers), 5)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert (np.random.get_state()[1] == numpy_state).all()
    torch.manual_seed(13)
    assert_same(take(make_loader(bert, num_workers=num_workers), 5), first)


def test_hidden_words(bert: Tokenizer) -> None:
    batch = take(make_loader(bert, batch_size=15), 1)[0]
    plain = take(make_loader(bert, batch_size=15, hiding=None), 1)[0]
    labels = batch.hidden_words
    assert labels.shape == batch.prompts.token_ids.shape
    asked = labels != -100
    assert asked.any()
    assert not asked[~batch.prompts.token_mask].any()
    restored = torch.where(asked, labels, batch.prompts.token_ids)
    assert torch.equal(restored, plain.prompts.token_ids)  # and the rest was drawn alike


def test_only_words_that_name_a_box_are_hidden(bert: Tokenizer) -> None:
    loader = make_loader(bert, hiding="named", batch_size=100)
    batch = take(loader, 1)[0]
    asked = batch.hidden_words != -100
    named = torch.stack([tokens[[0, 2]].any(dim=0) for tokens in batch.prompts.phrase_tokens])
    assert asked.any()
    assert not (asked & ~named).any()


@pytest.mark.parametrize("maskable", [((0, 2),), ()])
def test_only_what_the_source_allows_is_hidden(bert: Tokenizer, maskable: tuple) -> None:
    source = DrawnSource(filler=1, maskable=maskable)  # "so cat dog owl"
    asked = take(make_loader(bert, Part(source), batch_size=100), 1)[0].hidden_words != -100
    assert asked[:, 1].any() == bool(maskable)
    assert not asked[:, 2:].any()


def test_a_part_can_keep_all_its_words(bert: Tokenizer) -> None:
    part = Part(DrawnSource(), maskable=False)
    assert (take(make_loader(bert, part, batch_size=100), 1)[0].hidden_words == -100).all()


def test_another_picture_stands_in_for_one_that_cannot_be_read(
    bert: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    source = DrawnSource(count=6, unreadable=frozenset({2, 3}))
    loader = make_loader(bert, Part(source), batch_size=6, num_workers=1, grouped=False)
    first, second = take(loader, 2)
    for batch in (first, second):
        assert sorted(batch.image_ids) == [1000, 1001, 1004, 1004, 1004, 1005]
        assert sorted(failure.image_id for failure in batch.failures) == [1002, 1003, 1003]
    reports = [r.getMessage() for r in caplog.records if "stands in" in r.getMessage()]
    assert sorted(reports) == [
        f"image {i + 1000}, drawn/{i}.jpg: no such file; another picture stands in for it"
        for i in (2, 3)
    ]
    assert len(take(loader, 1)[0].split(2)[0].failures) == 3


def test_nothing_can_be_read(bert: Tokenizer) -> None:
    source = DrawnSource(count=40, unreadable=frozenset(range(40)))
    loader = make_loader(bert, Part(source), num_workers=1)
    with pytest.raises(ValueError, match=r"^10 pictures in a row .*drawn/\d+\.jpg: no such file"):
        take(loader, 1)
    few = DrawnSource(count=2, unreadable=frozenset({0, 1}))
    with pytest.raises(ValueError, match=r"^2 pictures in a row"):
        take(make_loader(bert, Part(few)), 1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_sample_says_which_it_is(bert: Tokenizer, num_workers: int) -> None:
    source = DrawnSource("odd", 3, broken=frozenset({1}))
    loader = make_loader(bert, Part(source), num_workers=num_workers)
    with pytest.raises(SampleError, match=r"'odd', sample 1 \(image 1001\).*KeyError: 'tokens_pos"):
        take(loader, 1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_wrong_annotation_is_the_users(bert: Tokenizer, num_workers: int) -> None:
    source = DrawnSource("odd", 3, wrong=frozenset({2}))
    loader = make_loader(bert, Part(source), num_workers=num_workers)
    with pytest.raises(ValueError, match=r"^'odd', sample 2 \(image 1002\): a rect has three"):
        take(loader, 1)


def test_boxes_without_words_are_left_out_and_counted(
    bert: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    # [CLS] so so one two | three [SEP]: the third phrase, and with it the second box, is cut off.
    loader = make_loader(bert, Part(DrawnSource(filler=2)), batch_size=5, max_tokens=6, hiding=None)
    batches = take(loader, 2)
    for batch in batches:
        for target, tokens in zip(batch.targets, batch.prompts.phrase_tokens):
            assert target.box_phrases.tolist() == [[True, False, False]]
            assert tokens.any(dim=1).tolist() == [True, True, False]
    assert loader.num_lost_boxes == 10
    (warning,) = [r.getMessage() for r in caplog.records]
    assert "'drawn', sample" in warning
    assert "1 boxes are left out" in warning
    assert "6 tokens" in warning
    assert "caption 'so so " in warning


def test_samples_survive_pickling(bert: Tokenizer) -> None:
    """Where processes are not forked, workers get their data set this way."""
    mixture = Mixture([Part(DrawnSource())])
    samples = TrainSet(mixture, bert, VARIED, max_tokens=256, seed=0, hiding="all")
    first, second = samples[Draw(3, 1)], pickle.loads(pickle.dumps(samples))[Draw(3, 1)]
    assert torch.equal(first.pixels, second.pixels)
    assert torch.equal(first.hidden_words, second.hidden_words)


def test_leaving_early_ends_the_workers(bert: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_loader, "usable_cpus", lambda: 2)  # and as many workers
    before = set(torch.multiprocessing.active_children())  # a test that saw an error may leave some
    batches = make_loader(bert, num_workers=2).batches(3)
    next(batches)
    assert len(set(torch.multiprocessing.active_children()) - before) == 2
    batches.close()
    assert not set(torch.multiprocessing.active_children()) - before


def test_bad_loaders(bert: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH is 4 .* 3 processes"):
        make_loader(bert, rank=0, world_size=3)
    with pytest.raises(ValueError, match="steps count from 0, got -2"):
        make_loader(bert).batches(-2)
    with pytest.raises(ValueError, match="hiding must be one of"):
        make_loader(bert, hiding="everything")
