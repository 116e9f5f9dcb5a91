"""Two processes learn what one learns from the pictures of both."""

from pathlib import Path
from typing import Any

import pytest
import torch
from launched import launched
from torch.testing import assert_close
from whole_steps import CASES, CPU, learner, steps

from glipkit.engine.parallel import copy_whole, is_sharded, no_sync, on_main, placed, unwrap, wrap


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two gloo processes with a picture each found, case by case."""
    folder = tmp_path_factory.mktemp("two")
    launched(Path(__file__).parent / "whole_steps.py", folder, timeout=600)
    return torch.load(folder / "results.pt")


def assert_near(found: dict[str, Any], expected: dict[str, Any], relative: float) -> None:
    """Every tensor within a relative L2 distance; zeros must be zeros, but for rounding."""
    assert found.keys() == expected.keys()
    largest = max(tensor.norm() for tensor in expected.values())
    for name, tensor in expected.items():
        distance = (found[name] - tensor).norm()
        assert distance <= relative * tensor.norm() + 1e-3 * relative * largest, name


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: " ".join(map(str, CASES[i])))
def test_two_processes_are_one_with_twice_the_batch(
    of_two: list[dict[str, Any]], case: int
) -> None:
    kind, dtype, recompute = CASES[case]
    found, expected = of_two[case], steps("ddp", dtype, recompute)
    exact = dtype is torch.float64
    for step, (mine, theirs) in enumerate(zip(found["losses"], expected["losses"], strict=True)):
        # Adam takes whole steps along gradients that are nothing but rounding (a key's bias).
        rounding = 1e-5 if step == 0 else 1e-3
        assert mine == pytest.approx(theirs, rel=1e-10 if exact else rounding)
    assert found["norms"] == pytest.approx(expected["norms"], rel=1e-10 if exact else 1e-3)
    assert_near(found["gradients"], expected["gradients"], 1e-10 if exact else 2e-3)
    if exact:
        assert_near(found["weights"], expected["weights"], 1e-10)
    assert_close(found["plain"], found["weights"], rtol=0, atol=0)
    assert found["sharded"] is (kind == "fsdp")
    assert found["local share"] < 0.6 if kind == "fsdp" else found["local share"] == 1


def test_two_pieces_are_the_batch() -> None:
    found = steps("ddp", torch.float64, False, pieces=2)
    expected = steps("ddp", torch.float64, False)
    for mine, theirs in zip(found["losses"], expected["losses"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-10)
    assert_near(found["gradients"], expected["gradients"], 1e-10)


def test_one_process_is_not_wrapped() -> None:
    own = learner(torch.float32)
    for kind in ("ddp", "fsdp"):
        assert wrap(own, kind, device=CPU) is own
    assert unwrap(own) is own
    assert not is_sharded(own)
    with no_sync(own):
        pass


def test_an_unknown_way_to_be_parallel() -> None:
    with pytest.raises(ValueError, match=r"SOLVER\.PARALLEL must be one of ddp, fsdp, got 'zero'"):
        wrap(learner(torch.float32), "zero", device=CPU)


def test_trees_keep_their_form() -> None:
    tree = {"a": [torch.ones(2), (1, None)], "b": {"c": torch.zeros(1)}}
    copy = placed(on_main(tree), tree)
    assert_close(copy, tree)
    copy["a"][0].zero_()
    assert tree["a"][0].tolist() == [1, 1]


def test_whole_copies() -> None:
    source, target = learner(torch.float32), learner(torch.float32)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    copy_whole(source, target)
    assert_close(dict(target.state_dict()), dict(source.state_dict()), rtol=0, atol=0)
