"""The parts of the page that gradio has no component for, as HTML."""

import base64
import html
import io
from collections.abc import Sequence
from itertools import groupby

from PIL import Image

from glipkit.inference.found import Found
from glipkit.inference.words import Asked
from glipkit.page.heat import RAMP
from glipkit.visualize import phrase_color

_QUALITY = 92  # of the JPEG that is shown and downloaded
_SPOKEN = 12  # boxes that a screen reader names


def placeholder(text: str) -> str:
    """Where a picture will be."""
    return f'<div class="gk-empty"><p>{escape(text)}</p></div>'


def figure(picture: Image.Image, alt: str, *, file_name: str) -> str:
    """A picture with its description, and a link that downloads it.

    Args:
        picture: RGB.
        alt: the description, plain text.
        file_name: what it is called when it is downloaded.
    """
    source = data_uri(picture)
    # The link takes the address from the picture when it is followed, so that it is sent once.
    take = "this.href=this.closest('figure').querySelector('img').src"
    width, height = picture.size
    return (
        f'<figure class="gk-figure"><img src="{source}" alt="{escape(alt)}" width="{width}" '
        f'height="{height}"><figcaption><a class="gk-download" href="#" onclick="{take}" '
        f'download="{escape(file_name)}">Download this picture</a> '
        f"<span>{width} &times; {height}</span></figcaption></figure>"
    )


def data_uri(picture: Image.Image, *, quality: int = _QUALITY) -> str:
    """The picture itself in place of an address: nothing is written to the disk."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def spoken(found: Found) -> str:
    """What a screen reader says of a picture with boxes."""
    if not len(found):
        return "The picture, with no boxes."
    labels = found.labels
    named = [f"{labels[i]} {float(found.scores[i]):.2f}" for i in range(min(len(found), _SPOKEN))]
    rest = f", and {len(found) - _SPOKEN} more" if len(found) > _SPOKEN else ""
    return f"The picture with {plural(len(found), 'box', 'boxes')}: {', '.join(named)}{rest}."


def read_as(asked: Asked, phrases: Sequence[str]) -> str:
    """The captions as the model reads them, every phrase in its colour; then notes on that."""
    lines = []
    for index, caption in enumerate(asked.captions):
        owners = [-1] * len(caption)
        for phrase, (spans, caption_id) in enumerate(zip(asked.spans, asked.caption_ids)):
            if caption_id == index and phrase < len(phrases):
                for start, end in spans:
                    owners[start:end] = [phrase] * (end - start)
        pieces = []
        for owner, run in groupby(zip(owners, caption), key=lambda pair: pair[0]):
            words = escape("".join(character for _, character in run))
            if owner < 0:
                pieces.append(words)
            else:
                title = escape(phrases[owner])
                pieces.append(f'<mark style="{_color(owner)}" title="{title}">{words}</mark>')
        lines.append(f'<p class="gk-caption">{"".join(pieces)}</p>')
    lines += [f'<p class="gk-note">{escape(note)}</p>' for note in asked.notes]
    return f'<h2 class="gk-title">Read as</h2>{"".join(lines)}'


def tally(phrases: Sequence[str], counts: Sequence[int], best: Sequence[float]) -> str:
    """How many boxes each phrase has now, and how good its best one is.

    Args:
        phrases: P names, plain text.
        counts: P times the boxes that are shown.
        best: P times the highest score; 0 for no box at all.
    """
    rows = []
    for phrase, (name, count, score) in enumerate(zip(phrases, counts, best)):
        state = "" if count else ' class="gk-none"'
        seen = f"best {score:.2f}" if score > 0 else "nothing like it"
        rows.append(
            f'<li{state}><span class="gk-chip" style="{_color(phrase)}"></span>'
            f"<span>{escape(name)}</span><b>{count}</b><small>{seen}</small></li>"
        )
    return f'<ul class="gk-tally">{"".join(rows)}</ul>'


def status(*, count: int, model: str, device: str, seconds: float, forwards: int) -> str:
    """What was found, by what, and what it cost.

    Args:
        count: boxes that are shown.
        model: its name, plain text.
        device: where it is.
        seconds: that it took.
        forwards: passes through it for this answer so far, heat maps included.
    """
    hint = (
        "" if count else "<em>Nothing reaches its threshold; lower it to see what is nearest.</em>"
    )
    return (
        f'<p class="gk-status" role="status" data-boxes="{count}" data-forwards="{forwards}">'
        f"<b>{plural(count, 'box', 'boxes')}</b> <span>{escape(model)} on {escape(device)}</span> "
        f"<span>{seconds:.2f} s</span> "
        f"<span>{plural(forwards, 'forward pass', 'forward passes')} so far</span>{hint}</p>"
    )


def heat_legend(token: str, *, peak: float, brightest: float) -> str:
    """What the colours of a heat map mean.

    Args:
        token: plain text.
        peak: its highest score.
        brightest: the score that is shown brightest.
    """
    stops = ", ".join(f"rgb{color}" for color in RAMP)
    return (
        f'<div class="gk-scale"><span>0</span>'
        f'<i style="background:linear-gradient(90deg, {stops})"></i>'
        f"<span>{brightest:.2f}</span><p>How well each place answers “{escape(token)}”: "
        f"{peak:.2f} at best.</p></div>"
    )


def token_colors(phrase_ids: Sequence[int], *, element_id: str) -> str:
    """A style sheet that gives the tokens of a phrase its colour."""
    rules = [
        f"#{element_id} label:nth-of-type({place}) {{{_color(phrase)}}}"
        for place, phrase in enumerate(phrase_ids, 1)
        if phrase >= 0
    ]
    return f"<style>{' '.join(rules)}</style>"


def example_buttons(examples: Sequence[tuple[Image.Image, str]]) -> str:
    """Pictures with words to try, as buttons."""
    buttons = []
    for index, (picture, words) in enumerate(examples):
        small = picture.convert("RGB")
        small.thumbnail((240, 240))
        buttons.append(
            f'<button type="button" class="gk-example" data-example="{index}">'
            f'<img src="{data_uri(small)}" alt=""><span>{escape(words)}</span></button>'
        )
    label = 'role="group" aria-label="Drawings to try"'
    title = '<h2 class="gk-title">Or try a drawing</h2>'
    return f'{title}<div class="gk-examples" {label}>{"".join(buttons)}</div>'


def plural(count: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{count} {one if count == 1 else many}"


def escape(text: str) -> str:
    """Text as HTML, fit for an attribute too."""
    return html.escape(text, quote=True)


def _color(phrase: int) -> str:
    red, green, blue = phrase_color(phrase)
    return f"--gk: {red} {green} {blue};"
