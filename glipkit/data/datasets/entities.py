"""Flickr30K Entities in its original files, read as if it were a grounding json.

The folder, as <https://github.com/BryanPlummer/flickr30k_entities> unpacks it:
`Sentences/<id>.txt`, `Annotations/<id>.xml`, and a list of ids for each split (`val.txt`).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glipkit.data.datasets.entities_files import (
    Annotation,
    EntityPhrase,
    Sentence,
    parse_annotation,
    parse_sentences,
)
from glipkit.data.datasets.grounding_file import GroundingFile, assemble
from glipkit.data.datasets.json_values import check_unique

SENTENCES, ANNOTATIONS = "Sentences", "Annotations"


def read_entities(path: Path) -> GroundingFile:
    """Read the pictures of a split, a record for each of their sentences.

    A record lists the phrases that have a box in `tokens_positive_eval`, as MDETR's files do, and
    beside it their types in `phrase_types`; those without a box are counted in
    `phrases_without_box`. The boxes of an entity answer all its phrases of a sentence.

    Args:
        path: the list of the split, an id a line; `Sentences` and `Annotations` lie beside it.

    Raises:
        FileNotFoundError: a picture has no sentences or no annotation.
        ValueError: a file is broken, lists a picture twice, or names that of another one.
    """
    reader = _Reader(path)
    return assemble(path, reader, lambda: reader.digest.hexdigest())


def sentences_file(folder: Path, picture: str) -> Path:
    """Where the sentences of a picture lie."""
    return folder / SENTENCES / f"{picture}.txt"


class _Reader:
    """Yields what a grounding json would hold, and hashes what it reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        pictures = self._listed()
        known, owners = set(pictures), {}
        num_records = num_boxes = 0
        for picture in pictures:
            sentences, annotation = self._read(picture)
            self._check_name(picture, annotation, known, owners)
            for number, sentence in enumerate(sentences):
                yield "images", _record(num_records, picture, number, sentence, annotation)
                for box, spans in _answers(sentence, annotation):
                    yield "annotations", {
                        "id": num_boxes, "image_id": num_records, "category_id": 1, "iscrowd": 0,
                        "bbox": box, "tokens_positive": spans,
                    }  # fmt: skip
                    num_boxes += 1
                num_records += 1

    def _listed(self) -> list[str]:
        raw = self._path.read_bytes()
        self.digest.update(raw)
        try:
            pictures = raw.decode().split()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._path} is no list of ids: {error}") from None
        if not pictures:
            raise ValueError(f"{self._path} lists no picture; expected an id a line")
        for each in pictures:
            if Path(each).name != each:
                raise ValueError(
                    f"{self._path} must list the ids of pictures, one a line, like 1000092795; "
                    f"got {each[:60]!r}"
                )
        check_unique(self._path, "ids of pictures", pictures)
        return pictures

    def _read(self, picture: str) -> tuple[list[Sentence], Annotation]:
        sentences = sentences_file(self._folder, picture)
        annotation = self._folder / ANNOTATIONS / f"{picture}.xml"
        return (
            parse_sentences(self._content(sentences, picture), sentences),
            parse_annotation(self._content(annotation, picture), annotation),
        )

    def _content(self, file: Path, picture: str) -> bytes:
        if not file.is_file():
            raise FileNotFoundError(
                f"{self._path} lists picture {picture}, but there is no {file}; unpack "
                "annotations.zip of Flickr30K Entities beside the list (see DATASET.md)"
            )
        raw = file.read_bytes()
        self.digest.update(raw)
        return raw

    def _check_name(
        self, picture: str, annotation: Annotation, known: set[str], owners: dict[str, str]
    ) -> None:
        """Refuse a file that speaks of another picture: its boxes would be judged on that one."""
        file = self._folder / ANNOTATIONS / f"{picture}.xml"
        stem = Path(annotation.file_name).stem
        other = owners.setdefault(annotation.file_name, picture)
        if stem != picture and (stem in known or file.with_stem(stem).is_file()):
            other = stem
        if other != picture:
            raise ValueError(
                f"{file} names picture {annotation.file_name}, which {other}.xml describes; "
                "correct its <filename>, or take the file from the published archive again"
            )


def _record(
    number: int, picture: str, place: int, sentence: Sentence, annotation: Annotation
) -> dict[str, Any]:
    height, width = annotation.size
    boxed = [each for each in sentence.phrases if each.entity in annotation.boxes]
    return {
        "id": number, "file_name": annotation.file_name, "height": height, "width": width,
        "caption": sentence.text, "dataset_name": "flickr", "sentence_id": place,
        "original_img_id": int(picture) if picture.isdecimal() else picture,
        "tokens_negative": [[0, len(sentence.text)]],
        "tokens_positive_eval": [[each.span] for each in boxed],
        "phrase_types": [each.types for each in boxed],
        "phrases_without_box": len(sentence.phrases) - len(boxed),
    }  # fmt: skip


def _answers(
    sentence: Sentence, annotation: Annotation
) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Each box (x, y, width, height) of what the sentence speaks of, and where it does."""
    phrases: dict[str, list[EntityPhrase]] = {}
    for phrase in sentence.phrases:
        phrases.setdefault(phrase.entity, []).append(phrase)
    for entity, mine in phrases.items():
        for x1, y1, x2, y2 in annotation.boxes.get(entity, ()):
            yield [x1, y1, x2 - x1, y2 - y1], [phrase.span for phrase in mine]
