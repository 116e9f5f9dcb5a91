"""The learned prompt: where it is added, and what it must not change."""

import pytest
import torch
from tiny import TEXT_DIM, tiny_glip
from torch.testing import assert_close

from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.language.prompt_tuning import MAX_TOKENS, PromptOffset

IDS = torch.tensor([[101, 5000, 102, 0, 0], [101, 6000, 7000, 8000, 102]])


def text(tokens: int = 3, dim: int = 2) -> TextFeatures:
    mask = torch.ones(2, tokens, dtype=torch.bool)
    return TextFeatures(torch.randn(2, tokens, dim), torch.randn(2, tokens, dim), mask)


def test_rows_are_added_to_both_features_by_position() -> None:
    offset = PromptOffset(2)
    assert offset.weight.shape == (1000, 2)
    assert not offset.weight.any()
    before = text()
    with torch.no_grad():
        offset.weight[:4] = torch.arange(8.0).view(4, 2)
    after = offset(before)
    rows = torch.tensor([[0.0, 1], [2, 3], [4, 5]])
    assert_close(after.hidden, before.hidden + rows)
    assert_close(after.embedded, before.embedded + rows)
    assert after.mask is before.mask


def test_only_rows_of_tokens_get_a_gradient() -> None:
    offset = PromptOffset(2)
    sum(part.sum() for part in offset(text())[:2]).backward()
    assert_close(offset.weight.grad[:3], torch.full((3, 2), 4.0))  # two captions, two features
    assert not offset.weight.grad[3:].any()


@pytest.mark.parametrize(("tokens", "dim"), [(MAX_TOKENS + 1, 2), (3, 4)])
def test_what_does_not_fit_is_refused(tokens: int, dim: int) -> None:
    with pytest.raises(
        ValueError, match=rf"1000 tokens of 2 channels, got {tokens} tokens of {dim}"
    ):
        PromptOffset(2)(text(tokens, dim))


@pytest.mark.parametrize("fused", [True, False])
def test_a_fresh_one_changes_nothing(fused: bool) -> None:
    plain, tuned = tiny_glip(fused), tiny_glip(fused, prompt_offset=True)
    assert set(tuned.state_dict()) - set(plain.state_dict()) == {"prompt_offset.weight"}
    with torch.inference_mode():
        for one, other in zip(plain.encode_text(IDS, IDS > 0), tuned.encode_text(IDS, IDS > 0)):
            assert torch.equal(one, other)


def test_padding_is_offset_too_as_published() -> None:
    model = tiny_glip(prompt_offset=True)
    with torch.inference_mode():
        before = model.encode_text(IDS, IDS > 0)
        model.prompt_offset.weight += 1.0
        after = model.encode_text(IDS, IDS > 0)
    assert not before.embedded[0, 3:].any()
    assert_close(after.embedded[0, 3:], torch.ones(2, TEXT_DIM))
    assert_close(after.hidden, before.hidden + 1)


def test_half_precision_features_stay_so() -> None:
    half = TextFeatures(*(part.bfloat16() for part in text()[:2]), mask=text().mask)
    assert PromptOffset(2)(half).hidden.dtype == torch.bfloat16
