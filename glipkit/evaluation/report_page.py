"""The page of a report: one file that loads nothing, for light and dark screens."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --soft: #f3f4f6; --ink: #1a1d21; --faint: #5c6670;
  --rule: #d5d9de; --a: #0072b2; --b: #d55e00; --c: #009e73; --d: #a0518a; --warn: #fff3cd;
  --shade: #0003; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --soft: #20252b; --ink: #e6e9ec;
  --faint: #9aa4ae; --rule: #3a424b; --a: #56b4e9; --b: #f0a030; --c: #35c79a; --d: #dd94c4;
  --warn: #4a3d10; --shade: #000a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.2rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .3rem 0 .7rem; max-width: 52rem; } .faint { color: var(--faint); }
.warn { background: var(--warn); padding: .5rem .8rem; border-radius: 6px; }
.tiles, .pictures { display: flex; flex-wrap: wrap; gap: .7rem; }
.charts { display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
.charts.small { grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
.tile { background: var(--soft); border-radius: 8px; padding: .5rem .9rem; min-width: 6.5rem; }
.tiles { margin-bottom: .8rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.scroll { overflow: auto; max-height: 36rem; max-width: 100%; width: fit-content;
  border-radius: 6px; border: 1px solid var(--rule);
  /* shadows where the table goes on: */
  background: linear-gradient(var(--paper) 40%, transparent) top / 100% 2rem local,
    linear-gradient(transparent, var(--paper) 60%) bottom / 100% 2rem local,
    linear-gradient(to right, var(--paper) 40%, transparent) left / 2rem 100% local,
    linear-gradient(to left, var(--paper) 40%, transparent) right / 2rem 100% local,
    linear-gradient(var(--shade), transparent) top / 100% .8rem,
    linear-gradient(transparent, var(--shade)) bottom / 100% .8rem,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100%,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100%;
  background-repeat: no-repeat; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td:first-child:not(.n) { min-width: 7rem; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--rule); }
th { background: var(--soft); position: sticky; top: 0; font-weight: 600; }
td.n, th.n { text-align: right; white-space: nowrap; }
td + td:not(.n):not(.bar) { min-width: 12rem; }
td.bar { min-width: 9rem; } td.bar div { height: .8rem; border-radius: 2px; background: var(--b); }
figure { margin: 0; background: var(--soft); border-radius: 8px; padding: .6rem; }
figcaption { font-size: .85rem; } .pictures figure { max-width: 100%; }
img { max-width: 100%; height: auto; display: block; border-radius: 4px; margin-bottom: .3rem; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; fill: var(--faint); }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg polyline { fill: none; } svg .s0, svg .s1, svg .s2, svg .s3 { stroke-width: 2; }
svg .s0 { stroke: var(--a); } svg .s1 { stroke: var(--b); stroke-dasharray: 6 3; }
svg .s2 { stroke: var(--c); stroke-dasharray: 2 2; } svg .s3 { stroke: var(--d); }
svg .mark { stroke: var(--ink); stroke-dasharray: 3 3; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .1rem 1rem; }
dt { color: var(--faint); } summary { cursor: pointer; }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
"""


def page(title: str, sections: Iterable[str]) -> str:
    """A whole HTML document.

    Args:
        title: plain text.
        sections: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str, about: str = "") -> str:
    """A heading, a sentence in plain text, and HTML below it."""
    words = f'<p class="faint">{escape(about)}</p>' if about else ""
    return f"<section><h2>{escape(title)}</h2>{words}{''.join(parts)}</section>"


def paragraph(text: str, *, is_warning: bool = False) -> str:
    """Plain text as a paragraph."""
    return f'<p class="{"warn" if is_warning else "faint"}">{escape(text)}</p>'


def tiles(values: Mapping[str, str]) -> str:
    """Large figures with their names."""
    each = (f'<div class="tile">{escape(k)}<b>{escape(v)}</b></div>' for k, v in values.items())
    return f'<div class="tiles">{"".join(each)}</div>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1, bar: int | None = None
) -> str:
    """A table of plain text.

    Args:
        head: names of the columns.
        rows: cells.
        words: so many columns from the left hold words, the others numbers.
        bar: a column whose cells, numbers from 0 to 1, become bars.
    """

    def cell(index: int, text: str, tag: str) -> str:
        if index == bar and tag == "td":
            width = 100 * min(max(float(text), 0), 1)
            return f'<td class="bar"><div style="width:{width:.1f}%"></div></td>'
        style = "" if index < words or index == bar else ' class="n"'
        return f"<{tag}{style}>{escape(text)}</{tag}>"

    def row(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(cell(i, text, tag) for i, text in enumerate(cells))}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return (
        f'<div class="scroll"><table><thead>{row(head, "th")}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def heat_table(corner: str, names: Sequence[str], rows: Sequence[str], counts: Any) -> str:
    """A table of counts, the darker the larger their part of the row.

    Args:
        corner: what stands above the names of the rows.
        names: of the columns.
        rows: names of the rows.
        counts: (rows, columns) integers.
    """
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in names)
    body = []
    for name, values in zip(rows, counts):
        total = max(int(sum(values)), 1)
        cells = (
            f'<td class="n" style="background:rgba(0,114,178,{0.75 * value / total:.2f})">'
            f"{int(value) or ''}</td>"
            for value in values
        )
        body.append(f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr><th>{escape(corner)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(content: str, caption: str) -> str:
    """HTML with a line of plain text below it."""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def facts(values: Mapping[str, Any]) -> str:
    """Names and values, those of nested mappings behind a name of their own."""
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            shown = facts(value)
        elif isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
            shown = escape(_listed(value))
        else:
            shown = escape(str(value))
        rows.append(f"<dt>{escape(str(name))}</dt><dd>{shown}</dd>")
    return f"<dl>{''.join(rows)}</dl>"


def folded(title: str, content: str) -> str:
    """HTML that opens with a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _listed(values: Sequence[Any], limit: int = 40) -> str:
    words = ", ".join(map(str, values[:limit]))
    return words if len(values) <= limit else f"{words} and {len(values) - limit} more"
