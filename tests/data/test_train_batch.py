import pytest
import torch

from glipkit.data.train_batch import TrainBatch
from glipkit.structures.images import pad_images
from glipkit.structures.prompts import TokenizedPrompt, batch_prompts
from glipkit.structures.targets import GroundingTarget


def make_batch(*, words: bool = True) -> TrainBatch:
    prompts = [
        TokenizedPrompt(torch.arange(n), torch.ones(n, dtype=torch.bool), torch.ones(2, n).long())
        for n in (3, 5, 4, 3)
    ]
    targets = tuple(
        GroundingTarget(torch.ones(n, 4), torch.ones(n, 2, dtype=torch.bool), image_id=n)
        for n in range(4)
    )
    return TrainBatch(
        pad_images([torch.full((3, 20, 30 + n), float(n)) for n in range(4)]),
        batch_prompts(prompts),
        targets,
        torch.arange(32).reshape(4, 8) if words else None,
    )


def test_pieces_make_up_the_batch() -> None:
    batch = make_batch()
    first, second = batch.split(2)
    assert first.image_ids + second.image_ids == batch.image_ids == (0, 1, 2, 3)
    assert torch.equal(torch.cat([first.images.pixels, second.images.pixels]), batch.images.pixels)
    assert torch.equal(torch.cat([first.hidden_words, second.hidden_words]), batch.hidden_words)
    assert second.images.sizes == ((20, 32), (20, 33))
    assert torch.equal(second.prompts.token_ids, batch.prompts.token_ids[2:])
    assert make_batch(words=False).split(4)[3].hidden_words is None


@pytest.mark.parametrize("parts", [0, 3, 8])
def test_pieces_must_come_out_even(parts: int) -> None:
    with pytest.raises(ValueError, match=f"4 pictures cannot be split in {parts} parts"):
        make_batch().split(parts)


def test_every_tensor_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = make_batch().to("meta")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.to("meta"))
    for batch in (moved, make_batch().pin_memory()):
        tensors = [batch.images.pixels, batch.prompts.token_ids, batch.prompts.token_mask]
        tensors += [*batch.prompts.phrase_tokens, batch.hidden_words]
        tensors += [part for each in batch.targets for part in (each.boxes, each.box_phrases)]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
        assert batch.images.sizes == make_batch().images.sizes
        assert batch.image_ids == (0, 1, 2, 3)


def test_parts_of_a_batch_belong_together() -> None:
    batch = make_batch()
    with pytest.raises(ValueError, match="4 pictures came with 4 prompts and 3 targets"):
        TrainBatch(batch.images, batch.prompts, batch.targets[:3])
