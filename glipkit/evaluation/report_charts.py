"""Charts of a report as inline SVG: no script, no file, colours from the page's style sheet."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

_LEFT, _BOTTOM, _TOP, _RIGHT = 46, 34, 26, 12  # pixels around the plotting area; above: the key
_KEY = 84  # pixels from one entry of the key to the next


def curve_chart(
    curves: Sequence[tuple[str, np.ndarray]],
    *,
    title: str,
    size: tuple[int, int] = (440, 300),
) -> str:
    """Precision over recall.

    Args:
        curves: (what it is, precision at evenly spaced recalls from 0 to 1); at most four;
            one alone needs no key.
        title: what screen readers say.
        size: (width, height) in pixels.
    """
    is_small = size[0] < 250
    frame = _Frame(size, plain=is_small)
    ticks = (0, 0.5, 1) if is_small else (0, 0.2, 0.4, 0.6, 0.8, 1)
    parts = [frame.x_tick(tick, f"{tick:g}") for tick in ticks]
    parts += [frame.y_tick(tick, f"{tick:g}") for tick in ticks]
    if not is_small:
        parts += [frame.x_name("recall"), frame.y_name("precision")]
    for index, (name, precision) in enumerate(curves):
        recalls = np.linspace(0, 1, len(precision))
        parts.append(frame.line(recalls, precision, f"s{index}", name))
    if len(curves) > 1:
        parts += [frame.key(index, f"s{index}", name) for index, (name, _) in enumerate(curves)]
    return _svg(size, title, parts)


def score_chart(
    edges: np.ndarray,
    counts: Sequence[tuple[str, np.ndarray]],
    *,
    mark: float,
    title: str,
    size: tuple[int, int] = (440, 300),
) -> str:
    """How many boxes have which score, on a logarithmic scale.

    Args:
        edges: (B + 1,) of the bins.
        counts: (what they are, (B,) how many); at most four.
        mark: a score that is marked with a line.
        title: what screen readers say.
        size: (width, height) in pixels.
    """
    frame = _Frame(size)
    most = max(1, *(int(values.max(initial=0)) for _, values in counts))
    decades = max(1, math.ceil(math.log10(most + 1)))
    parts = [frame.x_tick(tick, f"{tick:g}") for tick in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    parts.append(frame.y_tick(0, "0"))
    parts += [
        frame.y_tick(math.log10(10**power + 1) / math.log10(10**decades + 1), f"{10**power:,}")
        for power in range(decades + 1)
    ]
    parts += [frame.x_name("score"), frame.y_name("boxes")]
    x = np.repeat(edges, 2)[1:-1]
    for index, (name, values) in enumerate(counts):
        heights = np.log10(values + 1) / math.log10(10**decades + 1)
        parts.append(frame.line(x, np.repeat(heights, 2), f"s{index}", name))
        parts.append(frame.key(index, f"s{index}", name))
    parts.append(frame.line(np.array([mark, mark]), np.array([0, 1]), "mark", f"{mark:.3f}"))
    return _svg(size, title, parts)


class _Frame:
    """The plotting area: both axes run from 0 to 1."""

    def __init__(self, size: tuple[int, int], *, plain: bool = False) -> None:
        width, height = size
        self.left, self.top = (26, 10) if plain else (_LEFT, _TOP)
        self.right, self.bottom = width - _RIGHT, height - (18 if plain else _BOTTOM)

    def x(self, value: float) -> float:
        return self.left + value * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - value * (self.bottom - self.top)

    def x_tick(self, value: float, text: str) -> str:
        x = self.x(value)
        return (
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{self.top}" y2="{self.bottom}"/>'
            f'<text x="{x:.1f}" y="{self.bottom + 14}" text-anchor="middle">{escape(text)}</text>'
        )

    def y_tick(self, value: float, text: str) -> str:
        y = self.y(value)
        return (
            f'<line class="grid" x1="{self.left}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{self.left - 5}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        )

    def x_name(self, text: str) -> str:
        x = (self.left + self.right) / 2
        return (
            f'<text x="{x:.1f}" y="{self.bottom + 29}" text-anchor="middle">{escape(text)}</text>'
        )

    def y_name(self, text: str) -> str:
        y = (self.top + self.bottom) / 2
        turn = f'transform="rotate(-90 11 {y:.1f})"'
        return f'<text x="11" y="{y:.1f}" text-anchor="middle" {turn}>{escape(text)}</text>'

    def line(self, x: np.ndarray, y: np.ndarray, style: str, name: str) -> str:
        points = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in zip(x, y))
        return (
            f'<polyline class="{style}" points="{points}"><title>{escape(name)}</title></polyline>'
        )

    def key(self, index: int, style: str, name: str) -> str:
        y, end = self.top - 14, self.left + (index + 1) * _KEY
        return (
            f'<line class="{style}" x1="{end - 22}" x2="{end}" y1="{y}" y2="{y}"/>'
            f'<text x="{end - 28}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
        )


def _svg(size: tuple[int, int], title: str, parts: Sequence[str]) -> str:
    width, height = size
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
