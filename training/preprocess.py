"""Preprocessing and augmentation. A picture becomes a tensor in the same way for training, evaluation and serving."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from imaging import decode_picture, decode_square

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's: what torchvision's published weights expect
RATIOS = (3 / 4, 4 / 3)  # width to height of a random crop, as in torchvision's RandomResizedCrop


def convert_to_tensor(image: Image.Image) -> torch.Tensor:
    """Return uint8 [3, height, width]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing settings, which model.json stores and everything that serves the model reads from there."""

    pixels: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> "Preprocess":
        """Return the settings of a model.json."""
        settings = card["preprocess"]
        return cls(settings["pixels"], tuple(settings["mean"]), tuple(settings["std"]))

    def decode(self, data: bytes) -> torch.Tensor:
        """Return uint8 [3, pixels, pixels] from the bytes of a JPEG or PNG, resized without keeping its aspect ratio.

        Raises imaging.PictureError.
        """
        return convert_to_tensor(decode_square(data, self.pixels))

    def decode_cropped(self, data: bytes, least: float, draw: random.Random) -> torch.Tensor:
        """Do what `decode` does, but for a random crop of at least the fraction `least` of the area, in one resize."""
        image = decode_picture(data, 2 * self.pixels).image
        box = draw_crop_box(image.width, image.height, least, draw)
        return convert_to_tensor(image.resize((self.pixels, self.pixels), Image.Resampling.BILINEAR, box=box))

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """Return float32 [n, 3, pixels, pixels] of a uint8 batch, on the batch's device."""
        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1) * 255
        return batch.float().sub_(mean).div_(std)


def draw_crop_box(width: int, height: int, least: float, draw: random.Random) -> tuple[int, int, int, int]:
    """Return a box of `least` to all of the area, aspect ratio 3:4 to 4:3, or the whole if ten draws do not fit."""
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
    """The augmentation of training pictures. It depends on (seed, epoch, picture) alone, not on process or time."""

    crop: float = 1.0  # the least fraction of the area that a random crop keeps; 1 disables it
    shift: float = 0.0  # moved by up to this fraction of the side, in both directions
    flip: bool = False  # mirror each with probability one half
    seed: int = 0

    def draw(self, epoch: int, index: int) -> random.Random:
        return random.Random(f"{self.seed} {epoch} {index}")

    def shift_and_flip(self, picture: torch.Tensor, draw: random.Random) -> torch.Tensor:
        """Return uint8 [3, side, side], shifted (with wrap-around) and, if `flip` is set, mirrored half of the time."""
        most = round(self.shift * picture.shape[-1])
        if most:
            picture = torch.roll(picture, (draw.randint(-most, most), draw.randint(-most, most)), (1, 2))
        return picture.flip(2) if self.flip and draw.random() < 0.5 else picture
