import pytest
import torch

from glipkit.grounding.alignment import (
    normalised,
    phrase_scores,
    phrase_tokens,
    span_tokens,
    token_targets,
)
from glipkit.structures.prompts import Phrase

# "a  dog ,  cat": a token per word, none for the spaces
CAPTION = "a  dog ,  cat"
TOKEN_AT = {0: 1, 3: 2, 4: 2, 5: 2, 7: 3, 10: 4, 11: 4, 12: 4}


def test_boundaries_look_two_characters_inward() -> None:
    assert list(span_tokens((0, 6), TOKEN_AT.get)) == [1, 2]
    assert list(span_tokens((1, 6), TOKEN_AT.get)) == [2]  # begins on two spaces
    assert list(span_tokens((3, 10), TOKEN_AT.get)) == [2, 3]  # ends on two spaces
    assert list(span_tokens((1, 2), TOKEN_AT.get)) == []  # "a" lies before, the dog behind


def test_a_boundary_too_far_from_a_token_drops_the_span() -> None:
    lonely = {3: 1}
    assert list(span_tokens((0, 4), lonely.get)) == []
    assert list(span_tokens((1, 4), lonely.get)) == [1]
    assert list(span_tokens((3, 7), lonely.get)) == []
    assert list(span_tokens((3, 6), lonely.get)) == [1]
    assert list(span_tokens((0, 1), {}.get)) == []  # never asks for character -1


def test_spans_add_up() -> None:
    phrases = [Phrase("dog cat", ((3, 6), (10, 13))), Phrase("a dog", ((0, 6), (3, 6)))]
    counts = phrase_tokens([*phrases, Phrase("", ())], TOKEN_AT.get, 6)
    assert counts.tolist() == [[0, 0, 1, 0, 1, 0], [0, 1, 2, 0, 0, 0], [0] * 6]
    target = normalised(counts)
    assert target[1, 1] == target[1, 2]  # present or not, however often
    torch.testing.assert_close(target.sum(1), torch.tensor([1.0, 1.0, 0.0]))


def test_a_box_lights_up_all_tokens_of_all_its_phrases() -> None:
    counts = torch.tensor([[0, 1, 2, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
    answers = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    expected = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]).bool()
    assert torch.equal(token_targets(answers, counts), expected)
    assert token_targets(answers[:0], counts).shape == (0, 4)
    assert token_targets(torch.zeros(2, 0).bool(), counts[:0]).tolist() == [[False] * 4] * 2
    with pytest.raises(ValueError, match=r"P = 3 phrases.*has 2"):
        token_targets(answers, counts[:2])


SCORES = torch.tensor([[0.9, 0.4, 0.1], [0.0, 0.5, 1.0]])
PHRASES = torch.tensor([[1, 1, 0], [0, 2, 1], [0, 0, 0]])


def test_mean_max_and_power_by_hand() -> None:
    mean = torch.tensor([[0.65, 0.3, 0.0], [0.25, 2 / 3, 0.0]])
    largest = torch.tensor([[0.9, 0.4, 0.0], [0.5, 1.0, 0.0]])
    power = torch.tensor([[0.6, 0.016 ** (1 / 3), 0.0], [0.0, 0.25 ** (1 / 3), 0.0]])
    torch.testing.assert_close(phrase_scores(SCORES, PHRASES), mean)
    torch.testing.assert_close(phrase_scores(SCORES, PHRASES, "MAX"), largest)
    torch.testing.assert_close(phrase_scores(SCORES, PHRASES, "POWER"), power)
    torch.testing.assert_close(phrase_scores(SCORES, PHRASES[:2], "ONEHOT"), SCORES[:, :2])


@pytest.mark.parametrize("how", ["MEAN", "MAX", "POWER", "ONEHOT"])
def test_any_leading_shape(how: str, device: str) -> None:
    scores = torch.rand(2, 5, 7, 3, device=device)
    result = phrase_scores(scores, PHRASES.to(device), how)
    assert result.shape == (2, 5, 7, 3)
    torch.testing.assert_close(result[1, 2], phrase_scores(scores[1, 2], PHRASES.to(device), how))
    assert phrase_scores(scores[:0], PHRASES.to(device), how).shape == (0, 5, 7, 3)
    assert phrase_scores(scores, PHRASES[:0].to(device), how).shape == (2, 5, 7, 0)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="MEAN, MAX, POWER, ONEHOT, not by 'SUM'"):
        phrase_scores(SCORES, PHRASES, "SUM")
    with pytest.raises(ValueError, match=r"has 3 tokens .* T = 2"):
        phrase_scores(SCORES, PHRASES[:, :2])
    with pytest.raises(ValueError, match="5 phrases, 3 tokens"):
        phrase_scores(SCORES, torch.zeros(5, 3, dtype=torch.int64), "ONEHOT")
