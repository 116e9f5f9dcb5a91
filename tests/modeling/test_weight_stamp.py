"""What counts as a change of weights."""

import torch
from torch import nn

from glipkit.modeling.weight_stamp import WeightStamp


def weights() -> list[torch.Tensor]:
    layers = nn.Sequential(nn.Linear(100, 50), nn.Conv2d(3, 8, 3), nn.BatchNorm1d(3))
    layers[1].to(memory_format=torch.channels_last)
    return [*layers.parameters(), *layers.buffers(), torch.zeros(()), torch.zeros(0, 3)]


def test_the_same_weights_are_no_change() -> None:
    tensors, stamp = weights(), WeightStamp()
    assert stamp.changed(tensors)
    assert not stamp.changed(tensors)
    assert not stamp.changed(iter(tensors))


def test_each_tensor_and_each_way_of_writing_is_seen() -> None:
    tensors, stamp = weights(), WeightStamp()
    stamp.changed(tensors)
    for index, tensor in enumerate(tensors[:-1]):  # the last one has nothing to write
        with torch.no_grad():
            tensor.add_(1)
        assert stamp.changed(tensors), index
        tensor.data.add_(1)
        assert stamp.changed(tensors), index
        tensors[index] = tensor.clone()
        assert stamp.changed(tensors), index
        assert not stamp.changed(tensors)
    assert stamp.changed(tensors[1:])


def test_without_weights_nothing_changes() -> None:
    stamp = WeightStamp()
    stamp.changed([])
    assert not stamp.changed([])


def test_writes_that_are_not_counted_are_taken_for_granted() -> None:
    with torch.inference_mode():
        tensor = torch.ones(3)
    stamp = WeightStamp()
    assert stamp.changed([tensor])
    assert stamp.changed([tensor])


def test_values_on_a_device_are_not_read():
    """Reading them would wait for the device; a tensor without values stands for one there."""
    tensor = torch.zeros(8, device="meta")
    stamp = WeightStamp()
    assert stamp.changed([tensor])
    assert not stamp.changed([tensor])
    tensor.add_(1)
    assert stamp.changed([tensor])
