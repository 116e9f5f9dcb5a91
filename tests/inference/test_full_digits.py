"""What stands around every forward pass: the switch of the GPU that all threads share."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from glipkit.inference.forward import full_digits

GPU = torch.device("cuda")  # the switch can be read and set without one
SECONDS = 30  # to wait for the other thread, at most


@pytest.fixture(params=[True, False])
def callers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What the caller has set."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", request.param)
    return request.param


def test_two_threads_that_overlap_keep_the_setting(callers: bool) -> None:
    """The first goes while the second computes."""
    first_in, second_in, first_gone = (threading.Event() for _ in range(3))
    seen = []

    def first() -> None:
        with full_digits(GPU):
            first_in.set()
            assert second_in.wait(SECONDS)
            seen.append(torch.backends.cudnn.allow_tf32)
        first_gone.set()

    def second() -> None:
        assert first_in.wait(SECONDS)
        with full_digits(GPU):
            second_in.set()
            assert first_gone.wait(SECONDS)
            seen.append(torch.backends.cudnn.allow_tf32)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32 == callers


def test_an_error_gives_the_setting_back(callers: bool) -> None:
    with pytest.raises(ZeroDivisionError), full_digits(GPU):
        1 / 0  # noqa: B018
    assert torch.backends.cudnn.allow_tf32 == callers
    torch.backends.cudnn.allow_tf32 = not callers  # the next one saves what is set by then
    with full_digits(GPU), full_digits(GPU):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 != callers


def test_a_cpu_needs_no_switch(callers: bool) -> None:
    with full_digits(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32 == callers
