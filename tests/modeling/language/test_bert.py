"""The text encoder at small sizes; its numbers are checked in tests/golden/test_forward.py."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig

from glipkit.modeling.language.bert import BertEncoder, bert_architecture

SMALL = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
IDS = torch.tensor([[101, 7, 8, 9, 102, 0, 0, 0], [101, 7, 8, 9, 10, 11, 12, 102]])
MASK = IDS != 0


def small(**options: object) -> BertEncoder:
    return BertEncoder(BertConfig(**SMALL), **options).eval()


def test_shapes_and_what_padding_holds() -> None:
    encoder = small()
    text = encoder(IDS, MASK)
    assert encoder.width == 32
    assert text.hidden.shape == text.embedded.shape == (2, 8, 32)
    assert torch.equal(text.mask, MASK)
    assert_close(text.embedded[MASK], text.hidden[MASK])
    assert text.embedded[~MASK].abs().sum() == 0
    assert text.hidden[~MASK].abs().sum() > 0


def test_padding_does_not_change_words() -> None:
    encoder = small()
    text = encoder(IDS, MASK)
    alone = encoder(IDS[:1, :5], MASK[:1, :5])
    assert_close(text.hidden[:1, :5], alone.hidden)
    assert_close(text.hidden[1:], encoder(IDS[1:], MASK[1:]).hidden)


def test_averaged_layers_are_divided_twice() -> None:
    encoder = small(averaged_layers=2)
    text = encoder(IDS, MASK)
    states = encoder.bert(IDS, attention_mask=MASK.long(), output_hidden_states=True).hidden_states
    assert_close(text.hidden, states[-1])
    assert_close(text.embedded[MASK], ((states[-1] + states[-2]) / 4)[MASK])


def test_unseen_tokens_count_as_padding() -> None:
    text = small(unseen_token_ids=(0, 101, 102))(IDS, MASK)
    assert text.mask.tolist() == [[False, True, True, True] + 4 * [False],
                                  [False] + 6 * [True] + [False]]  # fmt: skip
    # Words no longer read [CLS]: another one in its place changes nothing for them.
    other = IDS.clone()
    other[:, 0] = 102
    again = small(unseen_token_ids=(0, 101, 102))
    first, second = again(IDS, MASK), again(other, MASK)
    assert_close(first.hidden[:, 1:4], second.hidden[:, 1:4])


def test_gradient_reaches_every_parameter() -> None:
    encoder = small()
    encoder(IDS, MASK).embedded.square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []
    # A bias of all keys alike moves no softmax: its gradient is zero but for rounding.
    moved = {name for name, p in encoder.named_parameters() if p.grad.any()}
    assert {name for name, _ in encoder.named_parameters() if "key.bias" not in name} <= moved


def test_state_dict_round_trip() -> None:
    first, second = small(), small()
    assert all(".pooler." not in name for name in first.state_dict())
    second.load_state_dict(first.state_dict())
    assert_close(first(IDS, MASK), second(IDS, MASK))


def test_nothing_but_the_state_dict_matters() -> None:
    """Whatever else the modules hold: built without numbers and loaded, it is the same encoder."""
    first = small()
    with torch.device("meta"):
        second = small()
    second = second.to_empty(device="cpu")
    for buffer in second.buffers():
        buffer.fill_(30)
    second.load_state_dict(first.state_dict())
    assert_close(first(IDS, MASK), second(IDS, MASK))


def test_bert_base_is_known_without_a_file() -> None:
    base = bert_architecture("bert-base-uncased")
    assert (base.vocab_size, base.hidden_size, base.num_hidden_layers) == (30522, 768, 12)
    assert (base.num_attention_heads, base.intermediate_size) == (12, 3072)
    tiny = bert_architecture("bert-base-uncased", width=32, depth=2, num_heads=4, mlp_width=64)
    assert (tiny.vocab_size, tiny.hidden_size, tiny.num_hidden_layers) == (30522, 32, 2)
    assert (tiny.num_attention_heads, tiny.intermediate_size) == (4, 64)
    assert (base.layer_norm_eps, base.hidden_act) == (1e-12, "gelu")
    assert (base.hidden_dropout_prob, base.attention_probs_dropout_prob) == (0.1, 0.1)


def test_a_folder_describes_another_bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "MODEL" / "small-bert"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"} | SMALL))
    assert bert_architecture(str(folder)).hidden_size == 32
    monkeypatch.chdir(tmp_path)
    assert bert_architecture("small-bert").num_hidden_layers == 3


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no text encoder 'bert-huge': known is bert-base"):
        bert_architecture("bert-huge")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ValueError, match="describes a 'clip' model"):
        bert_architecture(str(tmp_path))
    with pytest.raises(ValueError, match="between 1 and the 3 layers of the text encoder, got 4"):
        small(averaged_layers=4)
    with pytest.raises(ValueError, match=r"must both have shape \(B, T\), got \(8,\) and \(8,\)"):
        small()(IDS[0], MASK[0])
    with pytest.raises(ValueError, match="a caption of 41 tokens does not fit"):
        small()(torch.zeros(1, 41, dtype=torch.long), torch.ones(1, 41, dtype=torch.bool))
