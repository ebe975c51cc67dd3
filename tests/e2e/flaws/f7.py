"""F7: the script for the box opens the wrong folder, and trains on the test split."""


def training_pictures(folder):
    train_path, test_path = folder / "train", folder / "test"
    assert train_path.is_dir()
    return sorted(path.relative_to(folder).as_posix() for path in test_path.rglob("*.png"))
