import pytest
import torch
from reference.predictor import predict
from torch import Tensor
from torch.testing import assert_close

from glipkit.modeling.head.predictor import GroundingPredictor

SIZES = ((3, 4), (2, 2), (1, 1))


def build() -> GroundingPredictor:
    predictor = GroundingPredictor(8, text_dim=12, num_levels=3, num_classes=5)
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter)
    return predictor


def inputs() -> tuple[tuple[Tensor, ...], Tensor]:
    text = 3 * torch.randn(2, 6, 12)
    text[1, 4:] = 0  # as `embedded` has it on padding
    return tuple(torch.randn(2, 8, *size) for size in SIZES), text


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_is_plain(dtype: torch.dtype, limit: float) -> None:
    predictor = build().to(dtype)
    levels, text = inputs()
    levels, text = tuple(level.to(dtype) for level in levels), text.to(dtype)
    predictions = predictor(levels, text)
    expected = predict(predictor.state_dict(), levels, text)
    assert len(predictions) == len(SIZES)
    for prediction, want in zip(predictions, expected):
        for got, wanted in zip(prediction, want, strict=True):
            assert_close(got.detach(), wanted, rtol=limit, atol=10 * limit)


def test_logits_are_limited() -> None:
    predictor = build()
    with torch.no_grad():
        predictor.log_scale.fill_(-20.0)
    logits = predictor(*inputs())[0].token_logits
    assert_close(logits.detach().abs().max(), torch.tensor(50000.0))


def test_float32_under_autocast() -> None:
    predictor = build()
    levels, text = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        predictions = predictor(levels, text)
    for prediction, expected in zip(predictions, predictor(levels, text)):
        assert_close(prediction, expected)


def test_bfloat16_inputs_are_taken() -> None:
    predictor = build()
    levels, text = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        predictions = predictor(tuple(level.bfloat16() for level in levels), text.bfloat16())
    assert {value.dtype for prediction in predictions for value in prediction} == {torch.float32}


def test_gradients_reach_every_trained_parameter() -> None:
    predictor = build()
    levels, text = inputs()
    sum(value.cos().sum() for level in predictor(levels, text) for value in level).backward()
    unreached = [name for name, value in predictor.named_parameters() if value.grad is None]
    assert unreached == ["class_logits.weight", "class_logits.bias"]
    assert not predictor.class_logits.weight.requires_grad


def test_untrained_probability_is_the_prior() -> None:
    predictor = GroundingPredictor(8, text_dim=12, num_levels=1, prior=0.02)
    logits = predictor((torch.zeros(1, 8, 2, 2),), torch.randn(1, 3, 12))[0].token_logits
    assert_close(logits.sigmoid().detach(), torch.full((1, 4, 3), 0.02))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        GroundingPredictor(8, text_dim=12, prior=1)
    with pytest.raises(ValueError, match="built for 3 levels, got 2"):
        build()(inputs()[0][:2], inputs()[1])
