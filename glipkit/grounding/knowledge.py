"""What is known about classes: descriptions, from a file of the user's, that join their names.

K-LITE (Shen et al., NeurIPS 2022) found that a detector that reads finds rare things better when
it is told what they are. `docs/knowledge.md` documents the file.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glipkit.grounding.captions import clean_name
from glipkit.grounding.word_files import NameTable, WordFileError, quoted, read_word_file

logger = logging.getLogger(__name__)

WIKI, GPT3 = "wiki", "gpt3"  # the two kinds that GLIPKNOW.WIKI_AND_GPT3 joins
UNNAMED = ""  # the kind of descriptions in a file that has one kind only
COLON = ": "  # between a name and its description (BEHAVIOUR 16)
_NAME_FIELD = "classname"  # in a file that is a list of records
_FORMS = (
    "expected class names, each with a description (text, or a list of texts) or with kinds of "
    "descriptions: 'stingray: {wiki: a flat fish, gpt3: [text, text]}', or a list of records "
    "'{classname: stingray, wiki: a flat fish}'; see docs/knowledge.md"
)

Texts = Mapping[str, tuple[str, ...]]  # kind -> descriptions of that kind


@dataclass(frozen=True, slots=True)
class Knowledge:
    """A file of descriptions."""

    path: Path
    digest: str  # SHA-256 of the file, in hex
    entries: Mapping[str, Texts]  # class, as the file spells it -> what it says

    @property
    def kinds(self) -> list[str]:
        """All kinds of descriptions in the file, sorted."""
        return sorted({kind for texts in self.entries.values() for kind in texts})

    def describe(
        self, names: Sequence[str], *, kinds: Sequence[str], sentences: int = -1
    ) -> list[str]:
        """A description of each class, without a full stop behind it.

        Names that differ from the file's in case, underscores or spaces are found, and the log says
        how many; a remark in parentheses is part of the name ("crane (bird)" is no "crane").

        Args:
            names: of the classes.
            kinds: of descriptions, joined in this order; `UNNAMED` for a file without kinds.
            sentences: of the kind "gpt3" at most, the first ones; -1: all. Other kinds are taken
                whole.

        Raises:
            WordFileError: a kind that the file does not have, or classes that are missing in it,
                have no description of a kind, or an empty one; names all of them.
        """
        self._check_kinds(kinds)
        table = NameTable(tuple(self.entries))
        missing, lacking, empty, respelled, described = [], [], [], [], []
        for name in names:
            known = table.find(name)
            if known is None:
                missing.append(name)
                continue
            if known != name:
                respelled.append(name)
            texts = self.entries[known]
            lacking += [f"{name} ({kind})" for kind in kinds if kind not in texts]
            parts = [part for kind in kinds for part in _cut(kind, texts.get(kind, ()), sentences)]
            if any(kind in texts and not texts[kind] for kind in kinds) or not all(parts):
                empty.append(name)
            described.append("; ".join(parts))
        troubles = [
            f"{trouble} {len(classes)} of {len(names)} classes: {quoted(classes, len(classes))}"
            for classes, trouble in (
                (missing, "has no entry for"),
                (lacking, "does not say this kind of description of"),
                (empty, "has an empty description of"),
            )
            if classes
        ]
        if troubles:
            raise WordFileError(f"{self.path} {'; it '.join(troubles)}")
        if respelled:
            logger.info(
                "%s: %d classes are spelled in another case or with other spaces: %s",
                *(self.path, len(respelled), quoted(respelled)),
            )
        return described

    def _check_kinds(self, kinds: Sequence[str]) -> None:
        strange = [kind for kind in kinds if kind not in self.kinds]
        if not strange:
            return
        known = [kind for kind in self.kinds if kind != UNNAMED]
        if not known:
            raise WordFileError(
                f"{self.path} has one description of each class and no kinds of them, but "
                f"{quoted(strange)} was asked for; leave GLIPKNOW.KNOWLEDGE_TYPE empty"
            )
        asked = "no kind was named" if UNNAMED in strange else f"{quoted(strange)} was asked for"
        raise WordFileError(
            f"{self.path} has descriptions of the kinds {', '.join(known)}, but {asked}; choose "
            "with GLIPKNOW.KNOWLEDGE_TYPE (or GLIPKNOW.WIKI_AND_GPT3)"
        )


def load_knowledge(path: str | Path) -> Knowledge:
    """Read a file of descriptions; see `docs/knowledge.md`.

    Args:
        path: YAML, or JSON.

    Raises:
        FileNotFoundError: there is no such file.
        WordFileError: it is of another form; says where.
    """
    path = Path(path)
    said, digest = read_word_file(path, what="knowledge file")
    if isinstance(said, list):
        said = _by_name(path, said)
    if not isinstance(said, dict) or not said:
        raise WordFileError(f"{path} is no knowledge file: {_FORMS}")
    entries = {}
    for name, value in said.items():
        if not isinstance(name, str):
            raise WordFileError(f"{path}: the class {name!r} is no text; put it into quotes")
        kinds = value if isinstance(value, dict) else {UNNAMED: value}
        if not kinds or not all(isinstance(kind, str) for kind in kinds):
            raise WordFileError(f"{path}: class {name!r}: {_FORMS}")
        entries[name] = {kind: _texts(path, name, text) for kind, text in kinds.items()}
    return Knowledge(path, digest, entries)


def described(
    said: Sequence[Mapping[str, str]], descriptions: Sequence[str]
) -> list[dict[str, str]]:
    """How captions say classes with what is known about them: "stingray: a flat fish".

    Args:
        said: for each class {"prefix", "name", "suffix"}; the phrase stays the name alone.
        descriptions: of each class.
    """
    return [
        {**each, "suffix": each["suffix"].rstrip() + COLON + description}
        for each, description in zip(said, descriptions, strict=True)
    ]


def plainly(names: Sequence[str]) -> list[dict[str, str]]:
    """How captions say classes of which nothing is said but their names."""
    return [{"prefix": "", "name": clean_name(name).strip(), "suffix": ""} for name in names]


def _by_name(path: Path, records: Sequence[Any]) -> dict[str, Any]:
    """Records that name their class, as a mapping."""
    found: dict[str, Any] = {}
    for index, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get(_NAME_FIELD), str):
            raise WordFileError(f"{path}: record {index} has no {_NAME_FIELD!r}: {_FORMS}")
        name = record[_NAME_FIELD]
        if name in found:
            raise WordFileError(f"{path}: class {name!r} has two records; keep one")
        found[name] = {kind: text for kind, text in record.items() if kind != _NAME_FIELD}
    return found


def _texts(path: Path, name: str, value: Any) -> tuple[str, ...]:
    """One text or several, without outer spaces and the full stop at the end."""
    texts = value if isinstance(value, list) else [value]
    texts = ["" if text is None else text for text in texts]
    if not all(isinstance(text, str) for text in texts):
        raise WordFileError(f"{path}: class {name!r}: {_FORMS}")
    return tuple(" ".join(text.split()).rstrip(". ") for text in texts)


def _cut(kind: str, texts: Sequence[str], sentences: int) -> Sequence[str]:
    return texts[:sentences] if kind == GPT3 and sentences >= 0 else texts
