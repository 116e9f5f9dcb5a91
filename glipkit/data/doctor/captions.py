"""Captions and the words of their boxes (MDETR form)."""

from glipkit.data.datasets.grounding_file import SLACK
from glipkit.data.doctor.contents import Contents
from glipkit.data.doctor.findings import Ailment, Chart
from glipkit.grounding.captions import MAX_TOKENS
from glipkit.grounding.tokenizer import Tokenizer

_LEFT_OUT = "glipkit leaves the box out: its words are learnt as absent, or never asked for"

CAPTION_AILMENTS = {
    "caption-blank": Ailment(
        "error",
        "records have no caption, or a blank one",
        "blank ones are left out with their boxes; where the caption is missing the file is "
        "refused",
        "write a caption, or delete the record",
    ),
    "words-none": Ailment(
        "error",
        "boxes have no words (tokens_positive is missing or empty)",
        _LEFT_OUT,
        "say which characters of the caption name the box",
    ),
    "words-outside": Ailment(
        "error",
        "ranges of words lie outside their caption, or end before they begin",
        _LEFT_OUT,
        "count characters, not tokens or bytes, of this record's caption; the end is not included",
    ),
    "words-blank": Ailment(
        "error",
        "ranges of words hold spaces or punctuation only",
        "the phrase has no meaning, or that of a comma",
        "count characters, not tokens or bytes, of this record's caption; the end is not included",
    ),
    "words-cut": Ailment(
        "warning",
        "ranges of words begin or end inside a word",
        "the tokens are probably those of other words than meant: recall drops",
        "count characters, not tokens or bytes, of this record's caption; the end is not included",
    ),
    "caption-long": Ailment(
        "warning",
        "captions have more tokens than the text encoder reads",
        "what stands behind is cut off: its phrases are never found",
        "split the caption into several records",
    ),
}


def check_captions(
    contents: Contents,
    chart: Chart,
    *,
    tokenizer: Tokenizer | None = None,
    max_tokens: int = MAX_TOKENS,
) -> None:
    """Look at every caption and every range of words.

    Args:
        contents: of a file with captions.
        chart: findings go here.
        tokenizer: of the text encoder; None leaves out what depends on its vocabulary.
        max_tokens: that the text encoder reads, [CLS] and [SEP] included.
    """
    for row, caption in enumerate(contents.captions):
        if not caption.strip():
            chart.add(
                "caption-blank", f"record {contents.image_ids[row]} {contents.file_names[row]}"
            )
        elif tokenizer is not None and len(caption) > max_tokens - 2:  # a token is a character
            tokens = tokenizer.count(caption)
            if tokens > max_tokens:
                chart.add(
                    "caption-long",
                    f"record {contents.image_ids[row]}: {tokens} tokens, {max_tokens} fit: "
                    f"{caption[:40]!r}...",
                )
    _check_words(contents, chart)


def _check_words(contents: Contents, chart: Chart) -> None:
    last, caption = -1, ""
    for index, row in enumerate(contents.rows.tolist()):
        if row < 0:
            continue
        if row != last:
            last, caption = row, contents.captions[row]
        if not caption.strip():
            continue
        spans = contents.spans[index]
        codes = {_fault(caption, start, end) for start, end in spans} if spans else {"words-none"}
        for code in codes - {None}:
            said = [f"{contents.describe(index)} {list(spans)} of {caption[:60]!r}"]
            chart.add(code, *(said if chart.wants(code) else []), count=1)


def _fault(caption: str, start: int, end: int) -> str | None:
    length = len(caption)
    if not (0 <= start < end and start < length and end <= length + SLACK):
        return "words-outside"
    words = caption[start:end]
    if not any(letter.isalnum() for letter in words):
        return "words-blank"
    end = min(end, length)
    begins_inside = start > 0 and caption[start - 1].isalnum() and caption[start].isalnum()
    ends_inside = end < length and caption[end - 1].isalnum() and caption[end].isalnum()
    return "words-cut" if begins_inside or ends_inside else None
