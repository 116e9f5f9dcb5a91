"""The pyramid against a plain writing of BEHAVIOUR 3."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, relu
from torch.testing import assert_close

from glipkit.modeling.backbone.fpn import FeaturePyramid


def pyramid(**options: object) -> FeaturePyramid:
    module = FeaturePyramid((4, 8, 16), channels=6, **options)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def maps(sizes: tuple[tuple[int, int], ...] = ((13, 10), (7, 5), (4, 3))) -> list[torch.Tensor]:
    return [torch.randn(2, width, *size) for width, size in zip((4, 8, 16), sizes)]


def test_levels_follow_the_definition() -> None:
    module, inputs = pyramid().eval(), maps()
    weights = module.state_dict()

    def conv(x: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        return conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    sums = [conv(x, f"laterals.{index}") for index, x in enumerate(inputs)]
    for index in (1, 0):
        sums[index] = sums[index] + interpolate(sums[index + 1], size=sums[index].shape[-2:])
    expected = [conv(x, f"outputs.{index}", padding=1) for index, x in enumerate(sums)]
    expected.append(conv(expected[2], "p6", stride=2, padding=1))
    expected.append(conv(relu(expected[3]), "p7", stride=2, padding=1))
    levels = module(inputs)
    assert len(levels) == 5
    for level, value in zip(levels, expected):
        assert_close(level, value)
    assert [tuple(level.shape[-2:]) for level in levels] == [
        (13, 10),
        (7, 5),
        (4, 3),
        (2, 2),
        (1, 1),
    ]


def test_one_pixel_maps() -> None:
    levels = pyramid().eval()(maps(((1, 1), (1, 1), (1, 1))))
    assert all(level.shape == (2, 6, 1, 1) for level in levels)


def test_layout_of_the_maps_does_not_matter() -> None:
    module, inputs = pyramid().eval(), maps()
    last = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    for one, other in zip(module(inputs), module(last)):
        assert_close(one, other)


def test_gradient_reaches_every_parameter() -> None:
    module = pyramid(drop_block=0.0)
    sum(level.square().sum() for level in module(maps())).backward()
    assert [name for name, p in module.named_parameters() if not p.grad.any()] == []


def test_drop_block_spares_the_way_down_and_the_coarsest_map() -> None:
    module, inputs = pyramid(drop_block=1.0, drop_block_size=1), maps()  # drops everything
    whole = module.eval()(inputs)
    dropped = module.train()(inputs)
    for index in (0, 1):
        bias = module.outputs[index].bias[:, None, None]
        assert_close(dropped[index], bias.expand_as(dropped[index]))
    for index in (2, 3, 4):
        assert_close(dropped[index], whole[index])
    # Only P4's own output is spared here: what came down to P3 was whole, as its gradient shows.
    sum(level.sum() for level in dropped).backward()
    assert not module.laterals[0].weight.grad.any()
    assert module.laterals[2].weight.grad.any()


def test_state_dict_round_trip() -> None:
    first, second, inputs = pyramid().eval(), pyramid().eval(), maps()
    second.load_state_dict(first.state_dict())
    assert_close(first(inputs), second(inputs))


@pytest.mark.parametrize("extra", [0, 1])
def test_fewer_levels_are_the_first_of_five(extra: int) -> None:
    inputs = maps()
    whole, short = pyramid().eval(), pyramid(extra_levels=extra).eval()
    short.load_state_dict(whole.state_dict(), strict=False)
    names = {name.split(".")[0] for name in short.state_dict()}
    assert names == {"laterals", "outputs", *("p6", "p7")[:extra]}
    levels = short(inputs)
    assert len(levels) == 3 + extra
    assert_close(levels, whole(inputs)[: 3 + extra])


def test_errors() -> None:
    with pytest.raises(ValueError, match="0, 1 or 2 levels above its maps, got 3"):
        FeaturePyramid(extra_levels=3)
    with pytest.raises(ValueError, match=r"probability must be in \[0, 1\], got 3"):
        FeaturePyramid(drop_block=3)


def test_narrow_maps_learn_in_bfloat16() -> None:
    """oneDNN's gradient of P6 and P7 was whatever lay in memory where a map is one pixel wide."""
    module = FeaturePyramid((32, 32, 32), channels=32, drop_block=0.0)
    inputs = [torch.randn(2, 32, *size) for size in ((4, 2), (2, 1), (1, 1))]

    def gradients(*, half: bool) -> tuple[torch.Tensor, ...]:
        torch.empty(32 * 32 * 9 * 2).fill_(float("nan"))  # given back at once: memory full of NaN
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            total = sum(level.float().sum() for level in module(inputs)[-2:])
        return torch.autograd.grad(total, (module.p6.weight, module.p7.weight))

    expected = gradients(half=False)
    for _ in range(20):
        for rounded, precise in zip(gradients(half=True), expected):
            assert (rounded - precise).norm() < 0.1 * precise.norm()
