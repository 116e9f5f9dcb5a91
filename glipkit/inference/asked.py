"""What a text asks of a picture: captions, and the phrases in them that boxes will answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glipkit.structures.prompts import TokenizedPrompt

Spans = tuple[tuple[int, int], ...]


class Texts(tuple[str | Sequence[str], ...]):
    """One text per picture: `detector(pictures, glipkit.Texts(["a cat", "two dogs"]))`.

    A plain list of words is a list of class names, asked of every picture; this type tells the
    difference. Each text is whatever `read_words` reads.

    Raises:
        TypeError: it was given one text instead of several.
    """

    __slots__ = ()

    def __new__(cls, texts: Iterable[str | Sequence[str]]) -> "Texts":
        """A tuple of the texts."""
        if isinstance(texts, str):
            raise TypeError(f"Texts holds one text per picture, got the text {texts!r}: Texts([…])")
        return super().__new__(cls, texts)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a text means to the model. P phrases over all captions, in order, unwanted ones last.

    Two of them are equal when they ask the same with the same words.
    """

    prompts: tuple[TokenizedPrompt, ...] = field(compare=False, repr=False)  # () if read from JSON
    captions: tuple[str, ...]  # of the prompts, in their order
    phrases: tuple[str, ...]  # P labels
    num_negatives: int = 0  # so many of the last phrases are unwanted: they compete, unreported
    spans: tuple[Spans, ...] = ()  # P times the characters [start, end) of the phrase's caption
    caption_ids: tuple[int, ...] = ()  # P times the number of the phrase's caption
    tokens: tuple[tuple[str, ...], ...] = field(default=(), compare=False, repr=False)  # by caption
    notes: tuple[str, ...] = field(
        default=(), compare=False
    )  # what the reading decided, for people

    def __post_init__(self) -> None:
        counts = {len(self.phrases), len(self.spans), len(self.caption_ids)}
        if len(counts) > 1 or not 0 <= self.num_negatives < len(self.phrases):
            raise ValueError(
                f"phrases, spans and caption_ids belong together and one phrase at least is "
                f"wanted, got {len(self.phrases)} phrases, {len(self.spans)} spans, "
                f"{len(self.caption_ids)} caption_ids and {self.num_negatives} negatives"
            )
        if not all(0 <= index < len(self.captions) for index in self.caption_ids):
            raise ValueError(
                f"caption_ids number {len(self.captions)} captions: {self.caption_ids}"
            )

    @property
    def wanted(self) -> tuple[str, ...]:
        """The phrases that boxes may answer; `Found.phrase_ids` index them."""
        return self.phrases[: len(self.phrases) - self.num_negatives]

    @property
    def unwanted(self) -> tuple[str, ...]:
        """The phrases of `negative_prompts`."""
        return self.phrases[len(self.phrases) - self.num_negatives :]

    def explain(self) -> str:
        """How the text was read, in lines for people: captions, phrases, their words and tokens."""
        lines = []
        for number, caption in enumerate(self.captions):
            head = f"prompt {number + 1} of {len(self.captions)}"
            if number < len(self.prompts):
                head += f", {int(self.prompts[number].token_mask.sum())} tokens"
            lines.append(f"{head}: {caption!r}")
            inside = [i for i, index in enumerate(self.caption_ids) if index == number]
            lines += [self._explained(i, row) for row, i in enumerate(inside)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _explained(self, phrase: int, row: int) -> str:
        """One line of `explain`; `row` is the phrase's place in its own prompt."""
        caption_id = self.caption_ids[phrase]
        caption = self.captions[caption_id]
        places = ", ".join(
            f"{caption[start:end]!r} [{start}, {end})" for start, end in self.spans[phrase]
        )
        mark = "-" if phrase >= len(self.wanted) else str(phrase)
        line = f"  {mark:>3} {self.phrases[phrase]!r}: {places}"
        if caption_id < min(len(self.prompts), len(self.tokens)):
            counts = self.prompts[caption_id].phrase_tokens[row].tolist()
            spelled = [t for t, count in zip(self.tokens[caption_id], counts) if count]
            line += f", tokens {' '.join(spelled) or 'none'}"
        return f"{line} (unwanted)" if mark == "-" else line

    def to_json(self) -> dict[str, Any]:
        """Plain data: {"captions": […], "phrases": [{"text", "caption", "spans", "wanted"}, …]}."""
        phrases = [
            {
                "text": text,
                "caption": caption,
                "spans": [list(span) for span in spans],
                "wanted": index < len(self.wanted),
            }
            for index, (text, caption, spans) in enumerate(
                zip(self.phrases, self.caption_ids, self.spans)
            )
        ]
        return {"captions": list(self.captions), "phrases": phrases}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Asked":
        """The words of `to_json`; what the text encoder reads is not kept, `prompts` is empty.

        Raises:
            ValueError: a part is missing or malformed.
        """
        try:
            phrases = data["phrases"]
            return cls(
                prompts=(),
                captions=tuple(map(str, data["captions"])),
                phrases=tuple(str(each["text"]) for each in phrases),
                num_negatives=sum(not each["wanted"] for each in phrases),
                spans=tuple(tuple((int(a), int(b)) for a, b in each["spans"]) for each in phrases),
                caption_ids=tuple(int(each["caption"]) for each in phrases),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f'expected {{"captions": […], "phrases": [{{"text", "caption", "spans", '
                f'"wanted"}}, …]}}, got something else ({type(error).__name__}: {error})'
            ) from error
