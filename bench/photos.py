"""The pictures of bench.train: JPEGs as large as photographs, in classes that even random weights can separate."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageOps

CLASSES, SIZE, QUALITY = 8, (480, 360), 85  # about 60 KB each


def make_photos(folder: Path, per_class: dict[str, int], seed: int = 0) -> Path:
    """Write SPLIT/CLASS/NUMBER.jpg, drawn by seed, unless `folder` exists; return it."""
    if folder.is_dir():
        return folder
    part = folder.with_name(folder.name + ".part")
    draw = random.Random(seed)
    for split, count in per_class.items():
        for label in range(CLASSES):
            place = part / split / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                draw_photo(label, draw).save(place / f"{number:03d}.jpg", quality=QUALITY)
    part.rename(folder)
    return folder


def draw_photo(label: int, draw: random.Random) -> Image.Image:
    """Draw tinted stripes over noise. The class is the hue, randomly varied; spacing and direction mean nothing."""
    spacing, angle = draw.uniform(12, 60), draw.uniform(0, 180)
    wide = Image.linear_gradient("L").rotate(90).resize((round(spacing), 1))
    long = Image.new("L", (900, 1))
    for left in range(-draw.randrange(round(spacing)), 900, wide.width):
        long.paste(wide, (left, 0))
    stripes = long.resize((900, 900)).rotate(angle).crop((210, 270, 210 + SIZE[0], 270 + SIZE[1]))
    grey = Image.blend(stripes, Image.effect_noise(SIZE, 45), draw.uniform(0.3, 0.5))
    hue, light = (label + draw.uniform(-0.4, 0.4)) * 360 / CLASSES, draw.uniform(60, 100)
    return ImageOps.colorize(grey, "black", "white", mid=f"hsv({hue % 360:.0f},70%,{light:.0f}%)")
