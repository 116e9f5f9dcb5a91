import json
import logging
from pathlib import Path

import huggingface_hub
import pytest

from glipkit.grounding.captions import class_prompt, free_prompt
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import Prompt


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.load("bert-base-uncased")


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a network that must not be asked."""

    def refuse(*args: object, **kwargs: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: None)
    monkeypatch.chdir(tmp_path)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog", "##gy", "."]


def write_vocabulary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def test_the_vocabulary_is_berts(bert: Tokenizer) -> None:
    assert bert.vocabulary_size == 30522
    assert bert.token_ids("Person. bicycle") == [101, 2711, 1012, 10165, 102]


def test_nothing_is_cut_or_padded_by_the_file(bert: Tokenizer) -> None:
    assert bert.count("cat") == 3
    assert bert.count("cat " * 400) == 402
    tokens = bert(class_prompt(["cat"]))
    assert tokens.token_ids.shape == (3,)
    assert tokens.token_mask.all()


def test_padding_on_request(bert: Tokenizer) -> None:
    tokens = bert(class_prompt(["cat", "hot dog"]), pad_to=12)
    assert tokens.token_mask.sum() == 6
    assert tokens.phrase_tokens.shape == (2, 12)
    assert tokens.phrase_tokens[1].nonzero()[:, 0].tolist() == [3, 4]
    assert tokens.token_ids[6:].tolist() == [0] * 6


def test_tokens_that_are_no_words(bert: Tokenizer) -> None:
    assert bert.mask_id == 103
    assert bert.special_ids == {0, 100, 101, 102, 103}


def test_a_vocabulary_without_a_mask(tmp_path: Path) -> None:
    folder = write_vocabulary(tmp_path / "bert")
    (folder / "vocab.txt").write_text("\n".join(w for w in WORDS if w != "[MASK]") + "\n")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.special_ids == {0, 1, 2, 3}
    with pytest.raises(ValueError, match=r"no \[MASK\].*MLM_LOSS False"):
        _ = tokenizer.mask_id


def test_lost_phrases_can_stay_unnamed(bert: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    prompt = class_prompt(["cat", "dog", "owl"])
    assert not bert(prompt, max_tokens=4, truncate=True, name_lost=False).phrase_tokens[2].any()
    assert caplog.text == ""
    bert(prompt, max_tokens=4, truncate=True)
    assert "'owl'" in caplog.text


def test_overlapping_spans_count_twice(bert: Tokenizer) -> None:
    tokens = bert(free_prompt("red hot dog", [[(0, 11), (8, 11)]]))
    assert tokens.phrase_tokens.tolist() == [[0, 1, 1, 2, 0]]


def test_exactly_the_limit_fits(bert: Tokenizer) -> None:
    caption = "cat " * 254
    assert len(bert(free_prompt(caption, [[(0, 3)]])).token_ids) == 256
    with pytest.raises(ValueError, match="257 tokens, the limit is 256"):
        bert(free_prompt(caption + "dog", [[(0, 3)]]))


def test_a_caption_too_long_names_what_it_would_lose(bert: Tokenizer) -> None:
    caption = "cat " * 260 + "dog"
    prompt = free_prompt(caption, [[(0, 3)], [(1040, 1043)], [(0, 1043)]])
    with pytest.raises(ValueError, match=r"2 phrases would fall outside: 'dog', 'cat cat.*Split"):
        bert(prompt)


def test_truncation_is_never_silent(bert: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    prompt = free_prompt("cat " * 260 + "dog", [[(0, 3)], [(1040, 1043)]])
    with caplog.at_level(logging.WARNING):
        tokens = bert(prompt, truncate=True)
    assert tokens.token_ids.shape == (256,)
    assert tokens.token_ids[-1] == 102
    assert tokens.phrase_tokens.sum(dim=1).tolist() == [1, 0]
    assert "1 of 2 phrases have no token" in caplog.text
    assert "'dog'" in caplog.text


@pytest.mark.parametrize("caption", ["", "   ", "\u200b"])
def test_no_words(bert: Tokenizer, caption: str) -> None:
    with pytest.raises(ValueError, match="no words"):
        bert(Prompt(caption, ()))


def test_half_an_emoji_is_refused(bert: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"character 4 is half of a surrogate pair"):
        bert.count("cat \ud83d")


def test_characters_beyond_one_code_unit(bert: Tokenizer) -> None:
    tokens = bert(free_prompt("😀😀 cat 犬", [[(3, 6)], [(7, 8)]]))
    assert tokens.phrase_tokens.nonzero().tolist() == [[0, 2], [1, 3]]


@pytest.mark.usefixtures("no_hub")
def test_a_folder_comes_first(tmp_path: Path) -> None:
    folder = write_vocabulary(tmp_path / "mine")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.vocabulary_size == 9
    assert tokenizer.token_ids("DOGGY cats.") == [2, 6, 7, 1, 8, 3]


@pytest.mark.usefixtures("no_hub")
def test_model_folder_comes_before_the_package(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "MODEL" / "bert-base-uncased")
    assert Tokenizer.load("bert-base-uncased").vocabulary_size == 9
    assert Tokenizer.load("bert-base-uncased", roots=[tmp_path / "none"]).vocabulary_size == 30522


@pytest.mark.usefixtures("no_hub")
def test_a_cased_vocabulary_stays_cased(tmp_path: Path) -> None:
    folder = write_vocabulary(tmp_path / "mine")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert Tokenizer.load(folder).token_ids("cat CAT") == [2, 5, 1, 3]


@pytest.mark.usefixtures("no_hub")
def test_bare_vocabulary_reads_like_the_full_description(bert: Tokenizer, tmp_path: Path) -> None:
    words = sorted(bert._encoder.get_vocab().items(), key=lambda item: item[1])
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(word for word, _ in words) + "\n", encoding="utf-8")
    caption = "A café owner — hot-air balloon, 犬 😀 naïve [SEP] bob's Band_Aid unbelievableness"
    assert Tokenizer.load(folder).token_ids(caption) == bert.token_ids(caption)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("name", ["roberta-base", "/no/such/folder"])
def test_not_found_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"put its tokenizer.json \(or vocab.txt\) into"):
        Tokenizer.load(name)


def test_a_failing_hub_is_reported_with_the_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*args: object, **kwargs: object) -> str:
        raise OSError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    with pytest.raises(FileNotFoundError, match=r"put its tokenizer.json .* no route to host"):
        Tokenizer.load("some-unknown-tokenizer")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "no JSON"), ("[1]", "no 'model' entry"), ('{"a": 1}', "no 'model' entry")],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=f"is not a tokenizer: .*{message}"):
        Tokenizer.load(tmp_path)


def test_an_empty_folder_and_a_foreign_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer.json nor vocab.txt"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\ncat\n")
    with pytest.raises(ValueError, match=r"vocab.txt is not the vocabulary of a BERT: sep_token"):
        Tokenizer.load(tmp_path)
