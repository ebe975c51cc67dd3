"""Pictures as tensors: read from shards or from a folder, checked against the manifest, prepared as model.json says."""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

SPLITS = ("train", "valid", "test")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's: what torchvision's published weights expect
CACHE_BYTES = 512 << 20


class DataError(Exception):
    """The pictures are not those that the manifest names."""


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes a tensor; in model.json, and read from there by everything that serves the model."""

    pixels: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @classmethod
    def of(cls, card: dict[str, Any]) -> "Preprocess":
        """The one that a model.json names."""
        named = card["preprocess"]
        return cls(named["pixels"], tuple(named["mean"]), tuple(named["std"]))

    def decoded(self, data: bytes) -> torch.Tensor:
        """uint8 [3, pixels, pixels] of a JPEG's or PNG's bytes: upright, RGB, resized without regard to its shape."""
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            square = upright.resize((self.pixels, self.pixels), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()

    def normalised(self, batch: torch.Tensor) -> torch.Tensor:
        """float32 [n, 3, pixels, pixels] of uint8, on the device where the batch is."""
        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1)
        return (batch.float() / 255 - mean) / std


@dataclass(frozen=True)
class Entry:
    """One picture: its bytes are `length` from `offset` of `file`."""

    name: str
    label: int
    file: Path
    offset: int
    length: int

    def read(self) -> bytes:
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(frozen=True)
class Pictures:
    classes: list[str]
    digest: str
    splits: dict[str, list[Entry]]


def load(folder: Path) -> Pictures:
    """All pictures below: shards with their manifest if there is one, else SPLIT/CLASS/PICTURE. Raises DataError."""
    manifests = sorted(folder.glob("datasets/*/*/manifest.json"))
    if len(manifests) > 1:
        raise DataError(f"{folder} holds {len(manifests)} manifests; one is wanted")
    return from_shards(folder, json.loads(manifests[0].read_text())) if manifests else from_folder(folder)


def from_shards(folder: Path, manifest: dict[str, Any]) -> Pictures:
    splits: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for shard in manifest["shards"]:
        path = folder / "shards" / f"{shard['sha256']}.tar"
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != shard["sha256"]:
            raise DataError(f"shard {shard['sha256'][:12]} ({shard['split']}/{shard['class']}) is missing or spoilt")
        with tarfile.open(path) as tar:
            members = {m.name: m for m in tar.getmembers()}
        names = [file["path"] for file in shard["files"]]
        if sorted(members) != sorted(names):
            raise DataError(f"shard {shard['sha256'][:12]} does not hold the pictures that the manifest names")
        label = manifest["classes"].index(shard["class"])
        splits[shard["split"]] += [Entry(n, label, path, members[n].offset_data, members[n].size) for n in names]
    return Pictures(manifest["classes"], manifest["digest"], splits)


def from_folder(folder: Path) -> Pictures:
    classes = sorted(p.name for p in (folder / "train").iterdir() if p.is_dir())
    splits: dict[str, list[Entry]] = {}
    whole = hashlib.sha256()
    for split in SPLITS:
        paths = [
            (label, path) for label, name in enumerate(classes) for path in sorted((folder / split / name).iterdir())
        ]
        splits[split] = [
            Entry(f"{split}/{classes[label]}/{path.name}", label, path, 0, path.stat().st_size) for label, path in paths
        ]
        for _, path in paths:
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return Pictures(classes, whole.hexdigest(), splits)


class Tensors:
    """Decoded pictures of one split; kept in memory as long as they fit."""

    def __init__(self, entries: list[Entry], preprocess: Preprocess) -> None:
        self.entries, self.preprocess = entries, preprocess
        self._kept: dict[int, torch.Tensor] = {}
        self._room = CACHE_BYTES // (3 * preprocess.pixels**2)

    def __len__(self) -> int:
        return len(self.entries)

    def batch(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(uint8 [n, 3, pixels, pixels], int64 [n])"""
        return torch.stack([self._one(i) for i in indices]), torch.tensor([self.entries[i].label for i in indices])

    def _one(self, index: int) -> torch.Tensor:
        if index not in self._kept:
            try:
                picture = self.preprocess.decoded(self.entries[index].read())
            except Exception as error:
                raise DataError(f"{self.entries[index].name}: {error}") from error
            if len(self._kept) >= self._room:
                return picture
            self._kept[index] = picture
        return self._kept[index]


def augmented(batch: torch.Tensor, indices: list[int], seed: int, epoch: int, shift: float, flip: bool) -> torch.Tensor:
    """Move each picture by up to `shift` of its side, and mirror half of them; it depends on (seed, epoch, index) alone."""
    side = batch.shape[-1]
    most = round(shift * side)
    moved = []
    for picture, index in zip(batch, indices, strict=True):
        draw = torch.Generator().manual_seed(hash((seed, epoch, index)) & 0x7FFFFFFFFFFFFFFF)
        down, right = (
            torch.randint(-most, most + 1, (2,), generator=draw) if most else torch.zeros(2, dtype=torch.long)
        ).tolist()
        picture = torch.roll(picture, (down, right), (1, 2))
        if flip and torch.rand(1, generator=draw).item() < 0.5:
            picture = picture.flip(2)
        moved.append(picture)
    return torch.stack(moved)
