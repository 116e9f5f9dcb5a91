"""A COCO dataset of drawn shapes: pictures whose answer is known, made anywhere, seeded."""

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": (206, 44, 49),
    "green": (48, 140, 66),
    "blue": (40, 84, 184),
    "yellow": (238, 204, 51),
}
SHAPES = ("circle", "square", "triangle")
NAMES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
BACKGROUNDS = ((235, 233, 228), (205, 214, 222), (88, 92, 99), (30, 34, 44))
SIZES = ((240, 320), (240, 320), (288, 288), (320, 240))  # (height, width), two alike on purpose


def write_dataset(folder: Path, *, num_images: int = 8, seed: int = 0) -> Path:
    """Write pictures and `annotations.json` into `folder`; returns the annotation file.

    Category ids start at 1; boxes are COCO (x, y, width, height) in pixels and enclose the shape.
    """
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        height, width = SIZES[image_id % len(SIZES)]
        picture = Image.new("RGB", (width, height), rng.choice(BACKGROUNDS))
        for _ in range(rng.randint(1, 4)):
            name = rng.choice(NAMES)
            box = _draw(ImageDraw.Draw(picture), name, (height, width), rng)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": NAMES.index(name) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        file_name = f"shapes_{image_id:03d}.png"
        picture.save(folder / file_name)
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def _draw(
    draw: ImageDraw.ImageDraw, name: str, size: tuple[int, int], rng: random.Random
) -> list[int]:
    colour, shape = name.split()
    height, width = size
    side = rng.randint(min(size) // 6, min(size) // 3)
    left, top = rng.randint(0, width - side - 1), rng.randint(0, height - side - 1)
    right, bottom = left + side, top + side
    fill = COLOURS[colour]
    if shape == "circle":
        draw.ellipse((left, top, right, bottom), fill=fill)
    elif shape == "square":
        draw.rectangle((left, top, right, bottom), fill=fill)
    else:
        draw.polygon(((left + right) // 2, top, right, bottom, left, bottom), fill=fill)
    return [left, top, side + 1, side + 1]
