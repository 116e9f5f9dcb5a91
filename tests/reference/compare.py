"""How far two tensors are apart."""

from torch import Tensor


def assert_relative(actual: Tensor, expected: Tensor, limit: float, what: str = "tensors") -> None:
    """The L2 norm of the difference is at most `limit` times that of `expected`."""
    assert actual.shape == expected.shape, f"{what}: {actual.shape} is not {expected.shape}"
    difference = float((actual.detach().double() - expected.detach().double()).norm())
    size = float(expected.detach().double().norm())
    assert difference <= limit * size, f"{what}: {difference:.3g} beside a norm of {size:.3g}"
