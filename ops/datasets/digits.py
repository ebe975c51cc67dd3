"""The demo's pictures: scikit-learn's 1,797 scans of handwritten digits, as a folder of PNG files."""

from __future__ import annotations

from pathlib import Path

from ops.core.errors import OpsError

VALID, TEST = 180, 360


def write(folder: Path, seed: int = 0) -> Path:
    """Write train/valid/test once: stratified, the same for the same seed. An incomplete folder is never left."""
    if folder.is_dir():
        return folder
    try:
        from PIL import Image
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise OpsError(
            f"The demo's pictures need {error.name}: pip install -e '.[demo,train]', or use your own pictures: --data DIR"
        ) from error
    digits = load_digits()
    numbers = list(range(len(digits.target)))
    rest, test = train_test_split(numbers, test_size=TEST, stratify=digits.target, random_state=seed)
    train, valid = train_test_split(rest, test_size=VALID, stratify=digits.target[rest], random_state=seed)
    part = folder.with_name(folder.name + ".part")
    for split, chosen in (("train", train), ("valid", valid), ("test", test)):
        for number in chosen:
            place = part / split / str(digits.target[number])
            place.mkdir(parents=True, exist_ok=True)
            pixels = (digits.images[number] * (255 / 16)).round().astype("uint8")  # the scans have 17 grey levels
            Image.fromarray(pixels).save(place / f"{number:04d}.png")
    part.rename(folder)
    return folder
