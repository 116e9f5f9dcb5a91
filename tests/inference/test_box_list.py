import pytest
import torch

from glipkit.inference.box_list import BoxList


@pytest.fixture
def three() -> BoxList:
    boxes = BoxList(torch.tensor([[0, 0, 9, 19], [10, 10, 19, 29], [5, 5, 5, 5]]), (40, 60))
    boxes.add_field("scores", torch.tensor([0.9, 0.8, 0.7]))
    boxes.add_field("names", ["a", "b", "c"])
    return boxes


def test_indexing_takes_fields_along(three: BoxList) -> None:
    for index in (
        torch.tensor([2, 0]),
        [2, 0],
        slice(None, None, None),
        three.get_field("scores") > 0.75,
        1,
        [],
    ):
        chosen = three[index]
        assert len(chosen) == len(chosen.get_field("scores")) == len(chosen.get_field("names"))
        assert chosen.size == (40, 60)
    assert three[torch.tensor([2, 0])].get_field("names") == ["c", "a"]
    assert three[three.get_field("scores") > 0.75].get_field("names") == ["a", "b"]
    assert three[:2].bbox.tolist() == three.bbox[:2].tolist()
    assert len(three[[]]) == 0
    assert three[1].get_field("names") == ["b"]


def test_resize_scales_each_axis(three: BoxList) -> None:
    larger = three.resize((80, 180))
    assert larger.size == (80, 180)
    assert larger.bbox[1].tolist() == [20, 30, 38, 87]
    assert larger.get_field("names") == ["a", "b", "c"]
    assert three.bbox[1].tolist() == [10, 10, 19, 29]


def test_both_forms_count_both_ends(three: BoxList) -> None:
    wide = three.convert("xywh")
    assert wide.bbox.tolist() == [[0, 0, 10, 20], [10, 10, 10, 20], [5, 5, 1, 1]]
    assert wide.convert("xyxy").bbox.tolist() == three.bbox.tolist()
    assert wide.area().tolist() == three.area().tolist() == [200, 200, 1]
    assert wide.resize((80, 120)).mode == "xywh"


def test_fields(three: BoxList) -> None:
    assert three.fields() == ["scores", "names"]
    assert three.has_field("scores")
    assert not three.has_field("masks")
    with pytest.raises(KeyError, match="no field 'masks'; there are: scores, names"):
        three.get_field("masks")
    with pytest.raises(ValueError, match="2 values for 3 boxes"):
        three.add_field("labels", [1, 2])
    assert "3 boxes, image 40x60" in repr(three)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="mode must be one of"):
        BoxList(torch.zeros(1, 4), (9, 9), "cxcywh")
    with pytest.raises(ValueError, match=r"shape \(N, 4\)"):
        BoxList(torch.zeros(4), (9, 9))
