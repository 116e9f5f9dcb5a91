"""What the objects lie on, and what a camera does to the whole."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from glipkit.data.shapeworld.chance import pick, pick_weighted
from glipkit.data.shapeworld.colours import mixed, muted_colour

_COARSER = 4  # patches of colour are drawn so many times smaller, then blurred


def make_background(rng: np.random.Generator, size: int) -> Image.Image:
    """A picture of (size, size) pixels with nothing to find in it: RGB, of muted colours."""
    kind = pick_weighted(rng, _KINDS)
    picture = _patches(rng, size) if kind is _patches else _tinted(rng, kind(rng, size))
    if rng.random() < 0.25:
        _draw_lines(picture, rng)
    return picture


def as_photographed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Uneven light, a tint of the light, blur and the noise of a sensor, each slight."""
    size = picture.width
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.7)))
    light = _as_levels(1 - rng.uniform(0, 0.22) * _smooth(rng, size, (2, 2)))
    share = rng.uniform(0.9, 1.0) * rng.uniform(0.95, 1.0, 3)  # of red, green and blue
    bands = [light.point([round(each * level) for level in range(256)]) for each in share.tolist()]
    picture = ImageChops.multiply(picture, Image.merge("RGB", bands))
    if strength := int(rng.integers(0, 12)):
        noise = rng.integers(128 - strength, 129 + strength, (size, size, 3), dtype=np.uint8)
        picture = ImageChops.add(picture, Image.fromarray(noise), offset=-128)
    return picture


def _tinted(rng: np.random.Generator, field: np.ndarray) -> Image.Image:
    """A (size, size) field in [0, 1] as a run of two muted colours."""
    first = muted_colour(rng)
    second = mixed(first, muted_colour(rng), rng.uniform(0.25, 1.0))
    levels = _as_levels(field)
    bands = [
        levels.point([round(low + level / 255 * (high - low)) for level in range(256)])
        for low, high in zip(first, second)
    ]
    return Image.merge("RGB", bands)


def _as_levels(field: np.ndarray) -> Image.Image:
    """A field in [0, 1] as a picture of grey."""
    return Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))


def _smooth(rng: np.random.Generator, size: int, cells: tuple[int, int]) -> np.ndarray:
    """(size, size) float32 in [0, 1]: noise of so many rows and columns, blown up smoothly."""
    noise = Image.fromarray(rng.random(cells, dtype=np.float32))
    return np.clip(np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)


def _even(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.full((size, size), rng.random(), dtype=np.float32)


def _slope(rng: np.random.Generator, size: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    ramp = np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]
    return ramp / (np.abs(np.cos(angle)) + np.abs(np.sin(angle))) + 0.5


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    cells = int(rng.integers(2, 5))
    octaves = [_smooth(rng, size, (cells * 3**level,) * 2) / 2**level for level in range(4)]
    return sum(octaves) / 1.875


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Wood, brushed metal, grass: noise that is longer than wide."""
    short, long = int(rng.integers(24, 64)), int(rng.integers(2, 6))
    field = 0.65 * _smooth(rng, size, (long, short)) + 0.35 * _smooth(rng, size, (2, 3))
    return field.T if rng.random() < 0.5 else field


def _horizon(rng: np.random.Generator, size: int) -> np.ndarray:
    """Ground and sky, or table and wall."""
    edge = rng.uniform(0.3, 0.7)
    steps = np.linspace(0, 1, size, dtype=np.float32)
    field = np.where(steps < edge, 0.3 * steps / edge, 1 - 0.3 * (steps - edge) / (1 - edge))
    noise = _smooth(rng, size, (int(rng.integers(8, 40)), int(rng.integers(8, 40))))
    return field[:, None] * 0.8 + 0.2 * noise


def _tiles(rng: np.random.Generator, size: int) -> np.ndarray:
    """Tiles of slightly different brightness; their joints are a pixel or two wide."""
    count = int(rng.integers(3, 8))
    side = -(-size // count)
    tone = rng.uniform(0.3, 0.7, (count, count)).astype(np.float32)
    field = tone.repeat(side, axis=0).repeat(side, axis=1)[:size, :size].copy()
    joint = np.arange(size) % side < int(rng.integers(1, 3))
    field[joint], field[:, joint] = 1.0, 1.0
    return field


def _patches(rng: np.random.Generator, size: int) -> Image.Image:
    """Many blurred corners and edges of muted colours: a room out of focus."""
    small = size // _COARSER
    picture = Image.new("RGB", (small, small), muted_colour(rng))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(5, 22))):
        middle = rng.uniform(0, small, 2)
        corners = middle + rng.normal(0, small * rng.uniform(0.08, 0.3), (4, 2))
        draw.polygon(corners.ravel().tolist(), fill=muted_colour(rng))
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 4.0)))
    return blurred.resize((size, size), Image.Resampling.BICUBIC)


def _draw_lines(picture: Image.Image, rng: np.random.Generator) -> None:
    """A few faint lines from edge to edge."""
    draw = ImageDraw.Draw(picture)
    size = picture.width
    for _ in range(int(rng.integers(1, 7))):
        ends = rng.uniform(-0.2, 1.2, 2) * size
        start, end = (ends[0], -2, ends[1], size + 2), (-2, ends[0], size + 2, ends[1])
        under = picture.getpixel((size // 2, size // 2))
        colour = mixed(under, muted_colour(rng), rng.uniform(0.2, 0.6))
        draw.line(pick(rng, (start, end)), fill=colour, width=int(rng.integers(1, 4)))


_KINDS: dict[Callable, float] = {
    _even: 0.12,
    _slope: 0.14,
    _clouds: 0.22,
    _grain: 0.14,
    _horizon: 0.12,
    _tiles: 0.08,
    _patches: 0.18,
}
