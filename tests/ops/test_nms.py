import math
import re

import pytest
import torch
from torch import Tensor

from glipkit.ops import library
from glipkit.ops.nms import nms, nms_mask, nms_mask_reference, nms_reference

FORMS = [nms, nms_reference]
MASK_FORMS = [nms_mask, nms_mask_reference]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def slow_nms(boxes, scores, groups, threshold, plus_one) -> list[int]:
    """The definition, a pair at a time, in float64: for boxes whose IoU has no rounding to it."""
    extra = 1.0 if plus_one else 0.0

    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0]) + extra
        height = min(a[3], b[3]) - max(a[1], b[1]) + extra
        inter = width * height if width > 0 and height > 0 else 0.0
        areas = [(c[2] - c[0] + extra) * (c[3] - c[1] + extra) for c in (a, b)]
        union = sum(areas) - inter
        return inter / union if union else math.nan

    boxes, scores, groups = boxes.tolist(), scores.tolist(), groups.tolist()
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if not any(groups[k] == groups[i] and iou(boxes[k], boxes[i]) > threshold for k in kept):
            kept.append(i)
    return kept


def draw(count: int, num_groups: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on a coarse grid and few distinct scores: many ties, exact in every dtype."""
    corner = torch.randint(0, 24, (count, 2))
    size = torch.randint(0, 16, (count, 2))
    boxes = torch.cat([corner, corner + size], dim=1).float()
    scores = torch.randint(0, 17, (count,)) / 16
    groups = torch.randint(0, num_groups, (count,)) * 1000 - 5
    return boxes.to(device), scores.to(device), groups.to(device)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("plus_one", [True, False])
@pytest.mark.parametrize(("count", "num_groups"), [(1, 1), (2, 1), (64, 1), (65, 3), (300, 100)])
def test_agrees_with_the_definition(form, dtype, plus_one, count, num_groups, device):
    boxes, scores, groups = draw(count, num_groups, device)
    kept = form(boxes.to(dtype), scores.to(dtype), groups, 0.45, plus_one=plus_one)
    assert kept.dtype == torch.int64
    assert kept.device.type == device
    assert kept.tolist() == slow_nms(boxes, scores, groups, 0.45, plus_one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("plus_one", [True, False])
@pytest.mark.parametrize("num_groups", [1, 80, 5000])
def test_compiled_is_reference_to_the_bit(dtype, plus_one, num_groups, device):
    count = 1500
    corner = torch.rand(count, 2, dtype=dtype) * 300
    boxes = torch.cat([corner, corner + torch.rand(count, 2, dtype=dtype) * 150], dim=1)
    boxes = torch.cat([boxes, boxes + torch.rand_like(boxes) * 20])
    scores = torch.rand(2 * count, dtype=dtype)
    groups = torch.randint(0, num_groups, (2 * count,))
    arguments = [t.to(device) for t in (boxes, scores, groups)]
    kept = nms(*arguments, 0.6, plus_one=plus_one)
    torch.testing.assert_close(kept, nms_reference(*arguments, 0.6, plus_one=plus_one))
    assert num_groups > 80 or len(kept) < 2 * count


@pytest.mark.parametrize("form", FORMS)
def test_threshold_is_strict_and_plus_one_counts_pixels(form, device):
    boxes = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 4.0]], device=device)  # IoU 50 / 100 and 36 / 81
    scores, groups = torch.tensor([0.9, 0.8], device=device), torch.zeros(2, dtype=torch.int64)
    groups = groups.to(device)
    assert form(boxes, scores, groups, 0.5).tolist() == [0, 1]
    assert form(boxes, scores, groups, 0.499).tolist() == [0]
    assert form(boxes, scores, groups, 0.45, plus_one=False).tolist() == [0, 1]
    assert form(boxes, scores, groups, 0.44, plus_one=False).tolist() == [0]


@pytest.mark.parametrize("form", FORMS)
def test_equal_scores_keep_the_lower_index(form, device):
    boxes = torch.tensor([[0, 0, 10, 10.0]], device=device).repeat(3000, 1)
    boxes[1::2] += 100
    scores = torch.full((3000,), 0.5, device=device)
    groups = torch.zeros(3000, dtype=torch.int64, device=device)
    assert form(boxes, scores, groups, 0.5).tolist() == [0, 1]


@pytest.mark.parametrize("form", FORMS)
def test_a_removed_box_removes_none(form, device):
    boxes = torch.tensor([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10.0]], device=device)
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    groups = torch.zeros(3, dtype=torch.int64, device=device)
    assert form(boxes, scores, groups, 0.3).tolist() == [0, 2]


@pytest.mark.parametrize("form", FORMS)
def test_groups_leave_each_other_alone(form, device):
    boxes = torch.tensor([[0, 0, 10, 10.0]], device=device).repeat(4, 1)
    scores = torch.tensor([0.1, 0.4, 0.3, 0.2], device=device)
    groups = torch.tensor([7, -7, 2**62, 7], device=device)
    assert form(boxes, scores, groups, 0.5).tolist() == [1, 2, 3]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_boxes(form, dtype, device):
    boxes = torch.zeros(0, 4, dtype=dtype, device=device)
    groups = torch.zeros(0, dtype=torch.int64, device=device)
    kept = form(boxes, boxes[:, 0], groups, 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


@pytest.mark.parametrize("form", FORMS)
def test_layout_does_not_matter(form, device):
    boxes, scores, groups = draw(200, 4, device)
    expected = form(boxes, scores, groups, 0.5)
    strided_scores = torch.stack([scores, scores], dim=1)[:, 0]
    strided_groups = torch.stack([groups, groups], dim=1)[:, 1]
    transposed = boxes.T.contiguous().T
    assert not transposed.is_contiguous()
    torch.testing.assert_close(form(transposed, strided_scores, strided_groups, 0.5), expected)


@pytest.mark.parametrize("form", FORMS)
def test_nan_is_kept_and_seen(form, device):
    nan = math.nan
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [nan, 0, 10, 10], [0, 0, 10, nan], [0, 0, 10, 10]]
    boxes = torch.tensor(boxes, device=device)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95, nan], device=device)
    groups = torch.tensor([0, 0, 0, 0, 1], device=device)
    assert form(boxes, scores, groups, 0.5).tolist() == [4, 3, 0, 2]


@pytest.mark.parametrize("scores_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [200, 3000])
def test_many_survivors_come_best_first(scores_dtype, count, device):
    corner = torch.rand(count, 2) * 5000
    boxes = torch.cat([corner, corner + 9], dim=1).to(device)
    scores = (
        torch.randn(count, dtype=scores_dtype) * 10 ** torch.arange(-3, 3).repeat(count)[:count]
    )
    scores[::7], scores[1::7], scores[2::7] = 0.0, -0.0, -torch.inf
    groups = torch.randint(-(2**62), 2**62, (count,)).to(device)
    kept = nms(boxes, scores.to(device), groups, 0.5)
    assert kept.tolist() == scores.argsort(descending=True, stable=True).tolist()


@pytest.mark.parametrize("form", MASK_FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "num_groups"), [(1, 1), (65, 1), (300, 5)])
def test_mask_is_nms_of_every_list(form, dtype, count, num_groups, device):
    lists = [draw(count, num_groups, device) for _ in range(3)]
    boxes, scores, groups = (torch.stack(parts) for parts in zip(*lists))
    kept = form(boxes.to(dtype), scores.to(dtype), groups, 0.45)
    assert kept.dtype == torch.bool
    assert kept.device.type == device
    for flags, one in zip(kept, lists):
        assert flags.nonzero()[:, 0].tolist() == nms(*one, 0.45).sort().values.tolist()


@pytest.mark.parametrize("form", MASK_FORMS)
def test_fillers_are_not_kept_and_suppress_none(form, device):
    boxes, scores, groups = draw(120, 2, device)
    longer = torch.cat([boxes[:1].expand(40, 4), boxes])[None]
    filled = torch.cat([scores.new_full((40,), -torch.inf), scores])[None]
    kept = form(longer, filled, torch.cat([groups[:1].expand(40), groups])[None], 0.5)
    assert not kept[0, :40].any()
    assert (
        kept[0, 40:].nonzero()[:, 0].tolist() == nms(boxes, scores, groups, 0.5).sort()[0].tolist()
    )
    assert not form(
        longer, torch.full_like(filled, -torch.inf), groups.new_zeros(1, 160), 0.5
    ).any()


@pytest.mark.parametrize("form", MASK_FORMS)
@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_mask_of_no_boxes(form, shape, device):
    boxes = torch.zeros(*shape, 4, device=device)
    assert form(boxes, boxes[..., 0], boxes[..., 0].long(), 0.5).shape == shape


def test_gradients_stop_here(device):
    boxes, scores, groups = draw(20, 2, device)
    kept = nms(boxes.requires_grad_(), scores.requires_grad_(), groups, 0.5)
    assert not kept.requires_grad


def test_opcheck(device):
    boxes, scores, groups = draw(50, 3, device)
    for count in (50, 0):
        arguments = (boxes[:count], scores[:count], groups[:count], 0.5, True)
        torch.library.opcheck(torch.ops.glipkit.nms.default, arguments)


def test_mask_opcheck(device):
    boxes, scores, groups = (part.unflatten(0, (2, -1)) for part in draw(60, 3, device))
    torch.library.opcheck(torch.ops.glipkit.nms_mask.default, (boxes, scores, groups, 0.5, True))


def test_mask_needs_no_size_from_the_data(device):
    compiled = torch.compile(nms_mask, backend="eager", fullgraph=True, dynamic=True)
    for count in (60, 90):
        arguments = [part.unflatten(0, (2, -1)) for part in draw(count, 3, device)]
        assert torch.equal(compiled(*arguments, 0.5), nms_mask(*arguments, 0.5))


def test_compiles_without_a_break(device):
    boxes, scores, groups = draw(100, 3, device)
    compiled = torch.compile(nms, backend="eager", fullgraph=True)
    expected = nms(boxes, scores, groups, 0.5)
    torch.testing.assert_close(compiled(boxes, scores, groups, 0.5), expected)


BAD = [
    ({"boxes": torch.zeros(3, 5)}, "boxes must have shape (N, 4), got [3, 5]"),
    ({"boxes": torch.zeros(4)}, "boxes must have shape (N, 4), got [4]"),
    ({"scores": torch.zeros(2)}, "scores must have shape (3,), got [2]"),
    ({"scores": torch.zeros(3, 1)}, "scores must have shape (3,), got [3, 1]"),
    ({"groups": torch.zeros(4, dtype=torch.int64)}, "groups must have shape (3,), got [4]"),
    ({"groups": torch.zeros(3, dtype=torch.int32)}, "groups must be int64, got "),
]
BAD_IN_PYTHON = [
    ({"boxes": torch.zeros(3, 4).int()}, "boxes must be floating point, got torch.int32"),
    ({"scores": torch.zeros(3).long()}, "scores must be floating point, got torch.int64"),
    ({"scores": torch.zeros(3, device="meta")}, "scores must be on cpu, as boxes are; got meta"),
    ({"iou_threshold": 60}, "iou_threshold must be between 0 and 1, got 60"),
    ({"iou_threshold": math.nan}, "iou_threshold must be between 0 and 1, got nan"),
]
BAD_IN_KERNEL = [
    ({"boxes": torch.zeros(3, 4).half()}, "boxes must be float32 or float64, got Half"),
    ({"scores": torch.zeros(3).long()}, "scores must be float32 or float64, got Long"),
]


def good_arguments() -> dict:
    return {
        "boxes": torch.zeros(3, 4),
        "scores": torch.zeros(3),
        "groups": torch.zeros(3, dtype=torch.int64),
        "iou_threshold": 0.5,
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("wrong", "words"), BAD + BAD_IN_PYTHON)
def test_bad_input_is_refused(form, wrong, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        form(**good_arguments() | wrong)


@pytest.mark.parametrize(("wrong", "words"), BAD + BAD_IN_KERNEL)
def test_kernel_refuses_bad_input_by_itself(wrong, words, device):
    arguments = good_arguments() | wrong | {"plus_one": True}
    arguments = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in arguments.items()}
    with pytest.raises(RuntimeError, match=re.escape(words)):
        torch.ops.glipkit.nms(**arguments)


BAD_LISTS = [
    ({"boxes": torch.zeros(3, 4)}, "boxes must have shape (B, N, 4), got [3, 4]"),
    ({"scores": torch.zeros(2, 4)}, "scores must have shape (2, 3), got [2, 4]"),
    ({"groups": torch.zeros(6).long()}, "groups must have shape (2, 3), got [6]"),
    ({"groups": torch.zeros(2, 3)}, "groups must be int64, got "),
]


@pytest.mark.parametrize(("wrong", "words"), BAD_LISTS)
def test_bad_lists_are_refused(wrong, words, device):
    arguments = {
        k: torch.stack([v, v]) for k, v in good_arguments().items() if k != "iou_threshold"
    }
    arguments = {k: v.to(device) for k, v in (arguments | wrong).items()} | {"iou_threshold": 0.5}
    for form in MASK_FORMS:
        with pytest.raises(ValueError, match=re.escape(words)):
            form(**arguments)
    with pytest.raises(RuntimeError, match=re.escape(words)):
        torch.ops.glipkit.nms_mask(**arguments, plus_one=True)


def test_the_compiled_form_is_what_was_tested():
    assert library.loaded()
