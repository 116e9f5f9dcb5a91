"""Operators share their work among threads, also where the tests have one each (`make test`)."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True, scope="module")
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(max(before, 2))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bits_by_threads() -> Callable[[Callable[[], Sequence[Tensor]]], list[list[bytes]]]:
    """The bits of all that a function computes: with one thread, with two, with three."""

    def run(function: Callable[[], Sequence[Tensor]]) -> list[list[bytes]]:
        before, found = torch.get_num_threads(), []
        try:
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                assert torch.get_num_threads() == count
                parts = [part.detach().contiguous().view(-1) for part in function()]
                found.append([part.view(torch.uint8).numpy().tobytes() for part in parts])
        finally:
            torch.set_num_threads(before)
        return found

    return run
