"""cfg -> the words in which classes are asked: names, what is said around and about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

from glipkit.grounding.class_questions import ClassQuestions, ask_classes
from glipkit.grounding.knowledge import GPT3, WIKI, Knowledge, load_knowledge, plainly
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.grounding.wordings import load_wordings

__all__ = ["CONFIGURED", "Asking", "build_asking", "build_wordings"]

CONFIGURED = "configured"  # the run whose words are those of the configuration


class Asking(NamedTuple):
    """Classes, asked in one way."""

    name: str  # of the way
    questions: ClassQuestions
    said: tuple[Mapping[str, str], ...]  # for each class {"prefix", "name", "suffix"}
    knowledge: dict[str, Any] | None  # what else is said, as plain data; None: nothing


def build_asking(cfg: CfgNode, names: Sequence[str], tokenizer: Tokenizer) -> Asking:
    """How the configuration asks for classes.

    Args:
        cfg: TEST.CHUNKED_EVALUATION, DATASETS.CAPTION_PROMPT, GLIPKNOW.*.
        names: of the classes, in order of the ids.
        tokenizer: of the text encoder.

    Raises:
        TypeError, ValueError: as `ask_classes`, or as `Knowledge.describe`.
        FileNotFoundError: a file is not there.
    """
    said = _configured(cfg, names)
    return _Asker(cfg, names, tokenizer)(CONFIGURED, said, said or plainly(names))


def build_wordings(
    cfg: CfgNode, names: Sequence[str], tokenizer: Tokenizer, path: str | Path
) -> tuple[list[Asking], dict[str, Any]]:
    """How the configuration asks for classes, and then each run of a file of alternatives.

    Args:
        cfg: as for `build_asking`.
        names: of the classes.
        tokenizer: of the text encoder.
        path: of the file; see `load_wordings`.

    Returns:
        The ways to ask, the first one called "configured", the others "1", "2" and so on; and
        where their words are from, as plain data.

    Raises:
        TypeError, ValueError, FileNotFoundError: as `build_asking`, `load_wordings` and
            `Wordings.runs`.
    """
    wordings = load_wordings(path)
    ask, said = _Asker(cfg, names, tokenizer), _configured(cfg, names)
    plain = said or plainly(names)
    runs = wordings.runs(names, plain)
    askings = [ask(CONFIGURED, said, plain)]
    askings += [ask(str(number), run, run) for number, run in enumerate(runs, start=1)]
    return askings, {"file": wordings.path.name, "sha256": wordings.digest}


def _configured(cfg: CfgNode, names: Sequence[str]) -> Sequence[Mapping[str, str]] | None:
    """How each class is said; None where its name is all."""
    if not cfg.DATASETS.USE_CAPTION_PROMPT or cfg.DATASETS.CAPTION_PROMPT is None:
        return None
    said = cfg.DATASETS.CAPTION_PROMPT
    if len(said) != len(names):
        raise ValueError(
            f"{len(names)} classes came with {len(said)} caption prompts (DATASETS.CAPTION_PROMPT)"
        )
    return said


class _Asker:
    """Asks for the same classes in one way after the other."""

    def __init__(self, cfg: CfgNode, names: Sequence[str], tokenizer: Tokenizer) -> None:
        know = cfg.GLIPKNOW
        self.names = names
        self.descriptions: Sequence[str] | None = None
        self.facts: dict[str, Any] = {}
        if know.KNOWLEDGE_FILE:
            knowledge = load_knowledge(know.KNOWLEDGE_FILE)
            kinds = (WIKI, GPT3) if know.WIKI_AND_GPT3 else (know.KNOWLEDGE_TYPE,)
            self.descriptions = knowledge.describe(names, kinds=kinds, sentences=know.GPT3_NUM)
            self.facts |= _facts(knowledge, kinds, know.GPT3_NUM)
        parallel = know.LAN_FEATURE_AGG_TYPE if know.PARALLEL_LANGUAGE_INPUT else None
        if parallel:
            self.facts |= {"parallel_language_input": parallel}
        self.options = {
            "tokenizer": tokenizer,
            "chunk_size": cfg.TEST.CHUNKED_EVALUATION,
            "max_tokens": cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN,
            "separator": cfg.DATASETS.SEPARATION_TOKENS,
            "parallel": parallel,
        }

    def __call__(
        self,
        name: str,
        caption_prompts: Sequence[Mapping[str, str]] | None,
        said: Sequence[Mapping[str, str]],
    ) -> Asking:
        questions = ask_classes(
            self.names,
            caption_prompts=caption_prompts,
            descriptions=self.descriptions,
            **self.options,
        )
        return Asking(name, questions, tuple(said), self.facts or None)


def _facts(knowledge: Knowledge, kinds: Sequence[str], sentences: int) -> dict[str, Any]:
    """What results.json says of a file of descriptions."""
    facts: dict[str, Any] = {
        "file": knowledge.path.name,
        "sha256": knowledge.digest,
        "kinds": list(filter(None, kinds)) or None,
    }
    return facts | ({"sentences": sentences} if GPT3 in kinds else {})
