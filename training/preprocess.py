"""How a picture becomes a tensor: the same for training, evaluation and serving; and what augmentation does to it."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from imaging import decode_picture, decode_square

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's: what torchvision's published weights expect
RATIOS = (3 / 4, 4 / 3)  # of a random crop's sides: torchvision's RandomResizedCrop


def convert_to_tensor(image: Image.Image) -> torch.Tensor:
    """uint8 [3, height, width]"""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Preprocess:
    """What stands in model.json, and is read from there by everything that serves the model."""

    pixels: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @classmethod
    def of(cls, card: dict[str, Any]) -> "Preprocess":
        """The one that a model.json names."""
        named = card["preprocess"]
        return cls(named["pixels"], tuple(named["mean"]), tuple(named["std"]))

    def decoded(self, data: bytes) -> torch.Tensor:
        """uint8 [3, pixels, pixels] of a JPEG's or PNG's bytes, resized without regard to its shape.

        Raises imaging.PictureError.
        """
        return convert_to_tensor(decode_square(data, self.pixels))

    def cropped(self, data: bytes, least: float, draw: random.Random) -> torch.Tensor:
        """As `decoded`, of a random part that has at least `least` of the area: one resize, no picture in between."""
        image = decode_picture(data, 2 * self.pixels).image
        box = draw_crop_box(image.width, image.height, least, draw)
        return convert_to_tensor(image.resize((self.pixels, self.pixels), Image.Resampling.BILINEAR, box=box))

    def normalised(self, batch: torch.Tensor) -> torch.Tensor:
        """float32 [n, 3, pixels, pixels] of uint8, on the device where the batch is."""
        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1) * 255
        return batch.float().sub_(mean).div_(std)


def draw_crop_box(width: int, height: int, least: float, draw: random.Random) -> tuple[int, int, int, int]:
    """A box with `least` to all of the area, its sides in a ratio of 3:4 to 4:3; the whole where none fits in ten tries."""
    for _ in range(10):
        area = width * height * draw.uniform(least, 1.0)
        ratio = draw.uniform(*RATIOS)
        across, down = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < across <= width and 0 < down <= height:
            left, top = draw.randint(0, width - across), draw.randint(0, height - down)
            return left, top, left + across, top + down
    return 0, 0, width, height


@dataclass(frozen=True)
class Augment:
    """What is done to training pictures; it follows from (seed, epoch, picture) alone, whoever does it, and when."""

    crop: float = 1.0  # the least part of the area that a random crop keeps; 1 crops nothing
    shift: float = 0.0  # moved by up to this part of the side, both ways
    flip: bool = False  # half of them mirrored
    seed: int = 0

    def draw(self, epoch: int, index: int) -> random.Random:
        return random.Random(f"{self.seed} {epoch} {index}")

    def moved(self, picture: torch.Tensor, draw: random.Random) -> torch.Tensor:
        """uint8 [3, side, side], shifted (what leaves on one side comes in on the other) and perhaps mirrored."""
        most = round(self.shift * picture.shape[-1])
        if most:
            picture = torch.roll(picture, (draw.randint(-most, most), draw.randint(-most, most)), (1, 2))
        return picture.flip(2) if self.flip and draw.random() < 0.5 else picture
