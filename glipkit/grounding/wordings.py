"""Prompts as data: several wordings of each class, from a file of the user's.

GLIP's authors tuned prompts by hand: "stingray, flat and round" finds more than "stingray" (Li et
al., CVPR 2022, section 5). `docs/prompt_tuning.md` documents the file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glipkit.grounding.word_files import NameTable, WordFileError, quoted, read_word_file

EVERY_CLASS = "*"  # says how classes are asked that the file does not name
PLACE = "{name}"  # where an alternative has the class's own name; only that is looked for
_PLACES = re.compile(r"\{[^{}]*\}")  # what may be meant as a place
_FIELDS = ("prefix", "name", "suffix")
_FORMS = (
    "expected class names, each with a list of alternatives: text, such as 'stingray, flat and "
    "round' or '{name}, flat and round', or a record of prefix, name and suffix; see "
    "docs/prompt_tuning.md"
)

Said = Mapping[str, str]  # {"prefix", "name", "suffix"}, as in DATASETS.CAPTION_PROMPT


@dataclass(frozen=True, slots=True)
class Wordings:
    """A file of alternatives."""

    path: Path
    digest: str  # SHA-256 of the file, in hex
    entries: Mapping[str, tuple[str | Said, ...]]  # class, or EVERY_CLASS -> alternatives

    def runs(self, names: Sequence[str], configured: Sequence[Said]) -> list[list[Said]]:
        """Alternative i of every class, for each i.

        A class with one alternative is said so in every run; one that the file does not name is
        said as `EVERY_CLASS`, or else as configured.

        Args:
            names: of the classes.
            configured: how each is said without the file.

        Returns:
            For each run, how each class is said.

        Raises:
            WordFileError: the file names a class that there is not, or classes have different
                numbers of alternatives, other than one; names all of them.
        """
        by_class = self._by_class(names)
        counts = {name: len(said) for name, said in self.entries.items() if len(said) > 1}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise WordFileError(
                f"{self.path} has different numbers of alternatives ({told}), but run i asks "
                "alternative i of every class; give all of them as many, or one"
            )
        number = next(iter(counts.values()), 1)
        return [
            [
                _said(said[min(run, len(said) - 1)], plain) if said else plain
                for said, plain in zip((by_class[name] for name in names), configured, strict=True)
            ]
            for run in range(number)
        ]

    def _by_class(self, names: Sequence[str]) -> dict[str, tuple[str | Said, ...]]:
        """Class -> its alternatives, none where it is said as configured."""
        table = NameTable([name for name in self.entries if name != EVERY_CLASS])
        own = {name: table.find(name) for name in names}
        strange = [name for name in self.entries if name not in {*own.values(), EVERY_CLASS}]
        if strange:
            raise WordFileError(
                f"{self.path} words {len(strange)} classes that there are not: "
                f"{quoted(strange, limit=len(strange))}; the classes are {quoted(names)}"
            )
        others = self.entries.get(EVERY_CLASS, ())
        return {
            name: others if known is None else self.entries[known] for name, known in own.items()
        }


def load_wordings(path: str | Path) -> Wordings:
    """Read a file of alternatives; see `docs/prompt_tuning.md`.

    Args:
        path: YAML, or JSON.

    Raises:
        FileNotFoundError: there is no such file.
        WordFileError: it is of another form; says where.
    """
    path = Path(path)
    said, digest = read_word_file(path, what="file of prompts")
    if not isinstance(said, dict) or not said:
        raise WordFileError(f"{path} is no file of prompts: {_FORMS}")
    entries = {}
    for name, value in said.items():
        if not isinstance(name, str):
            raise WordFileError(f"{path}: the class {name!r} is no text; put it into quotes")
        alternatives = value if isinstance(value, list) else [value]
        if not alternatives:
            raise WordFileError(f"{path}: class {name!r} has no alternative: {_FORMS}")
        entries[name] = tuple(
            _checked(f"{path}: class {name!r}, alternative {number}", alternative)
            for number, alternative in enumerate(alternatives, start=1)
        )
    return Wordings(path, digest, entries)


def as_text(said: Said) -> str:
    """How a class is said, as it reads."""
    return "".join(said[field] for field in _FIELDS)


def _checked(where: str, alternative: Any) -> str | Said:
    if isinstance(alternative, dict):
        record = {"prefix": "", "suffix": "", **alternative}
        if set(record) != set(_FIELDS) or not all(isinstance(t, str) for t in record.values()):
            raise WordFileError(
                f"{where}: a record has a name, and may have a prefix and a suffix, all text; got "
                f"{alternative!r}"
            )
        alternative = record
        words, own_name = record["name"], record["name"] == PLACE
        is_understood = _PLACES.findall(as_text(record)) == [PLACE] * own_name
    elif isinstance(alternative, str):
        words = alternative
        is_understood = _PLACES.findall(alternative) in ([], [PLACE])
    else:
        raise WordFileError(f"{where}: {_FORMS}; got {alternative!r}")
    if not is_understood:
        raise WordFileError(
            f"{where}: the one placeholder is {PLACE}, once at most, and in a record the whole "
            f"name; got {alternative!r}"
        )
    if not words.strip():
        raise WordFileError(f"{where} is empty")
    return alternative


def _said(alternative: str | Said, configured: Said) -> Said:
    """An alternative as a record."""
    if not isinstance(alternative, str):
        own = alternative["name"] == PLACE
        return {**alternative, "name": configured["name"] if own else alternative["name"]}
    before, place, after = alternative.partition(PLACE)
    if not place:
        return {"prefix": "", "name": alternative, "suffix": ""}
    return {"prefix": before, "name": configured["name"], "suffix": after}
