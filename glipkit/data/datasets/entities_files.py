"""The files of Flickr30K Entities, a picture at a time: marked sentences, and boxes of entities.

`Sentences/<id>.txt` has a caption a line, its phrases marked: `[/EN#3/people/other A man] runs .`
`Annotations/<id>.xml` names the picture's file and size, and for each entity its boxes, or says
that it has none (`nobndbox`, `scene`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_PHRASE = re.compile(
    r"\[/EN#(?P<id>\d+)(?P<types>(?:/[^\s/\[\]]+)+)\s+(?P<words>[^\[\]]*[^\[\]\s])\s*\]"
)
_MARK = "[/EN#"
_END_OF_LINE = re.compile(r"\r\n?|\n")  # no other: a sentence may hold what splitlines() splits at
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class EntityPhrase:
    """Words of a sentence that speak of an entity."""

    entity: str  # the number behind EN#; the same thing has the same in all sentences of a picture
    types: tuple[str, ...]  # "people", "clothing", ...; at least one
    span: tuple[int, int]  # characters of the sentence


@dataclass(frozen=True, slots=True)
class Sentence:
    """A caption without its marks, words one space apart."""

    text: str
    phrases: tuple[EntityPhrase, ...]  # in their order


@dataclass(frozen=True, slots=True)
class Annotation:
    """What an xml file says of a picture."""

    file_name: str
    size: tuple[int, int]  # (height, width) in pixels
    boxes: dict[str, list[tuple[int, int, int, int]]]  # entity -> x1, y1, x2, y2 in pixels


def parse_sentences(raw: bytes, path: Path) -> list[Sentence]:
    """The captions of a picture; blank lines are none.

    Args:
        raw: what its file holds.
        path: of the file, for messages.

    Raises:
        ValueError: it is not UTF-8, or a phrase is not marked as it should be; names the line.
    """
    try:
        lines = _END_OF_LINE.split(raw.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}; copy or download it again") from None
    return [
        parse_sentence(line, where=f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def parse_sentence(line: str, *, where: str = "sentence") -> Sentence:
    """Take the marks out of a line.

    Args:
        line: such as "[/EN#1/people A man] holds [/EN#2/other two balls] .".
        where: it stands, for messages.

    Raises:
        ValueError: a mark is broken: no closing bracket, no type, or no words.
    """
    text, phrases, at = "", [], 0
    for match in _PHRASE.finditer(line):
        text = _joined(text, line[at : match.start()])
        words = " ".join(match["words"].split())
        start = len(text) + 1 if text else 0
        text = _joined(text, words)
        types = tuple(match["types"].strip("/").split("/"))
        phrases.append(EntityPhrase(match["id"], types, (start, start + len(words))))
        at = match.end()
    text = _joined(text, line[at:])
    if _MARK in text:
        broken = text[text.index(_MARK) :][:60]
        raise ValueError(
            f"{where}: expected phrases marked like [/EN#3/people A man], got {broken!r}; correct "
            "the line, or take the file from the published archive again"
        )
    return Sentence(text, tuple(phrases))


def _joined(text: str, more: str) -> str:
    return " ".join([*text.split(), *more.split()])


def parse_annotation(raw: bytes, path: Path) -> Annotation:
    """The boxes of a picture's entities. A box may belong to several.

    Args:
        raw: what the picture's file holds.
        path: of the file, for messages.

    Raises:
        ValueError: it is not XML, or what it must say is missing or no number; names the entity.
    """
    try:
        root = ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise ValueError(
            f"{path} is not XML ({error}); was it copied or unpacked to its end?"
        ) from None
    file_name = (root.findtext("filename") or "").strip()
    if not file_name:
        raise ValueError(f"{path} names no picture; expected <filename>1000092795.jpg</filename>")
    height, width = (_number(root, f"size/{side}", path, "the picture")
                     for side in ("height", "width"))  # fmt: skip
    if height < 1 or width < 1:
        raise ValueError(f"{path}: a picture of {width} x {height} pixels; expected its real size")
    boxes: dict[str, list[tuple[int, int, int, int]]] = {}
    for entities, corners in _boxes(root, path):
        for entity in entities:
            boxes.setdefault(entity, []).append(corners)
    return Annotation(file_name, (height, width), boxes)


def _boxes(
    root: ElementTree.Element, path: Path
) -> Iterator[tuple[list[str], tuple[int, int, int, int]]]:
    """Entities, and a box of theirs."""
    for number, entry in enumerate(root.iter("object"), start=1):
        entities = [(name.text or "").strip() for name in entry.findall("name")]
        if not entities or not all(entities):
            raise ValueError(
                f"{path}: object {number} names no entity; expected <name>3</name>, the number "
                "behind EN# in the sentences"
            )
        who = f"entity {', '.join(entities)}"
        found = entry.findall("bndbox")
        if not found and not any(_is_set(entry, flag) for flag in ("nobndbox", "scene")):
            raise ValueError(
                f"{path}: {who} has neither a <bndbox> nor <nobndbox>1</nobndbox>; give it one"
            )
        for box in found:
            x1, y1, x2, y2 = (_number(box, corner, path, who) for corner in _CORNERS)
            yield entities, (x1, y1, x2, y2)


def _is_set(entry: ElementTree.Element, flag: str) -> bool:
    return (entry.findtext(flag) or "0").strip() not in ("", "0")


def _number(parent: ElementTree.Element, tag: str, path: Path, who: str) -> int:
    text = (parent.findtext(tag) or "").strip()
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"{path}: {who} needs a whole number in <{tag.rpartition('/')[2]}>, got {text!r}"
        ) from None
