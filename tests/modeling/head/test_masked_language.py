"""The head that guesses words: it can learn, and it is silent where nothing is asked."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from glipkit.grounding.masking import IGNORED
from glipkit.modeling.head.masked_language import MaskedLanguageHead, count_hidden

WORDS, D = 11, 8


@pytest.fixture
def head() -> MaskedLanguageHead:
    return MaskedLanguageHead(D, vocabulary_size=WORDS)


def test_only_hidden_words_are_asked_for(head: MaskedLanguageHead) -> None:
    hidden = torch.randn(2, 4, D)
    words = torch.full((2, 4), IGNORED)
    words[0, 1], words[1, 3] = 7, 0
    expected = cross_entropy(head(hidden[0, 1][None]), torch.tensor([7]))
    expected = expected + cross_entropy(head(hidden[1, 3][None]), torch.tensor([0]))
    assert_close(head.loss(hidden, words), expected)
    assert count_hidden(words) == 2


def test_by_hand() -> None:
    """Decoder and bias 0: every word is equally likely."""
    head = MaskedLanguageHead(D, vocabulary_size=WORDS)
    torch.nn.init.zeros_(head.decoder.weight)
    loss = head.loss(torch.randn(1, 3, D), torch.tensor([[2, IGNORED, 5]]))
    assert loss.item() == pytest.approx(2 * torch.tensor(WORDS).log().item())


def test_nothing_hidden_is_zero_and_connected(head: MaskedLanguageHead) -> None:
    hidden = torch.randn(2, 4, D, requires_grad=True)
    loss = head.loss(hidden, torch.full((2, 4), IGNORED))
    loss.backward()
    assert loss.item() == 0
    for tensor in (hidden, *head.parameters()):
        assert_close(tensor.grad, torch.zeros_like(tensor))


def test_features_of_autocast_are_read_in_the_weights_precision(head: MaskedLanguageHead) -> None:
    words = torch.tensor([[3, IGNORED]])
    assert head.loss(torch.randn(1, 2, D).bfloat16(), words).dtype == torch.float32


def test_it_learns(head: MaskedLanguageHead) -> None:
    hidden, words = torch.randn(1, WORDS, D), torch.randperm(WORDS)[None]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    first = head.loss(hidden, words).item()
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(hidden, words).backward()
        optimizer.step()
    assert head.loss(hidden, words).item() < 0.05 * first
    assert head(hidden).argmax(dim=2).tolist() == words.tolist()
