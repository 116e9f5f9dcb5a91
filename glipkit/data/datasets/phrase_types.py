"""Of which type each phrase of Flickr30K is, where only the original files say so."""

from collections.abc import Sequence
from pathlib import Path

from glipkit.data.datasets.entities import sentences_file
from glipkit.data.datasets.entities_files import Sentence, parse_sentences
from glipkit.data.datasets.grounding_file import GroundingRecord
from glipkit.structures.prompts import Phrase


class PhraseTypes:
    """Looks phrases of MDETR's json up in the sentences of Flickr30K Entities.

    Args:
        folder: with `Sentences/`.
        path: the json, for messages.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder = folder
        self._path = path
        # Of the last picture: its captions stand together.
        self._last: tuple[Path, list[Sentence]] | None = None

    def __call__(
        self, record: GroundingRecord, phrases: Sequence[Phrase]
    ) -> tuple[tuple[str, ...], ...]:
        """The types of each phrase.

        Args:
            record: with the `original_img_id` and `sentence_id` that MDETR's files have.
            phrases: of its caption.

        Raises:
            ValueError: the sentence is not there or is another one, or has not these phrases.
        """
        sentence = self._sentence(record)
        by_place = {each.span: each for each in sentence.phrases}
        found = []
        for phrase in phrases:
            known = next((by_place[span] for span in phrase.spans if span in by_place), None)
            if known is None:
                raise self._differs(record, f"it has no phrase {phrase.text!r} there")
            found.append(known.types)
        return tuple(found)

    def _sentence(self, record: GroundingRecord) -> Sentence:
        picture, number = (record.extras.get(key) for key in ("original_img_id", "sentence_id"))
        file = sentences_file(self._folder, str(picture))
        if self._last is None or self._last[0] != file:
            if not file.is_file():
                raise self._differs(record, f"there is no {file} (original_img_id: {picture!r})")
            self._last = file, parse_sentences(file.read_bytes(), file)
        sentences = self._last[1]
        place = int(number) if str(number).isdecimal() else -1
        if not 0 <= place < len(sentences):
            raise self._differs(record, f"{file} has no sentence_id {number!r}")
        if sentences[place].text != record.caption:
            raise self._differs(
                record, f"sentence {place} of {file} reads {sentences[place].text[:80]!r}"
            )
        return sentences[place]

    def _differs(self, record: GroundingRecord, why: str) -> ValueError:
        return ValueError(
            f"{self._path}: the types of the phrases of image record {record.image_id} "
            f"({record.caption[:60]!r}) are not in {self._folder}: {why}. Give the folder of "
            "Flickr30K Entities that the file was made from, or none: then figures are given for "
            "all phrases together"
        )
