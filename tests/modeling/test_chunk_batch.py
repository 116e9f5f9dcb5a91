"""How many prompts at once: the formula, the free memory, the lesson of a failure."""

import pytest
import torch

from glipkit.modeling import chunk_batch
from glipkit.modeling.chunk_batch import ChunkBatch, bytes_per_prompt


def levels(pictures: int = 1, side: int = 10, device: str = "meta") -> list[torch.Tensor]:
    return [torch.empty(pictures, 16, side, side, device=device) for side in (side, side // 2)]


def test_the_formula() -> None:
    maps, scores, logits = 10 * 16, 2 * 4 * 24, 4 * 24
    assert bytes_per_prompt(levels(), 24, num_heads=4) == 4 * 125 * (maps + scores + logits)


def test_as_many_as_fit_into_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    one = bytes_per_prompt(levels(), 24, num_heads=4)
    monkeypatch.setattr(chunk_batch, "free_bytes", lambda device: 10 * one)
    chosen = ChunkBatch(0, num_heads=4)
    assert chosen.size(levels(), 24) == 8  # a fifth is left alone
    assert chosen.size(levels(pictures=3), 24) == 2
    assert chosen.size(levels(pictures=100), 24) == 1
    assert chosen.size(levels(), 8) > 8
    assert ChunkBatch(50, num_heads=4).size(levels(), 24) == 50  # asked for


def test_without_a_gpu_one_is_chosen() -> None:
    assert ChunkBatch(0, num_heads=4).size(levels(device="cpu"), 24) == 1
    assert ChunkBatch(0, num_heads=4).size(levels(device="meta"), 24) == 1


def test_a_failure_is_remembered_by_what_was_asked_of_the_memory() -> None:
    batch = ChunkBatch(16, num_heads=4)
    batch.failed(16, levels(pictures=2))
    assert batch.size(levels(pictures=2), 24) == 8
    assert batch.size(levels(pictures=4), 24) == 4
    assert batch.size(levels(pictures=1), 24) == 16
    batch.failed(1, levels())
    assert batch.size(levels(), 24) == 1
