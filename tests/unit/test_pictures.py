"""Odd pictures in training and in the server: converted or refused, and the same in both."""

import io
import re

import numpy as np
import picture as serving
import pytest
import torch
import train
from PIL import Image
from preprocess import PictureError, Preprocess

CARD = {"pixels": 16, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def gradient(size=(40, 30)):
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([across, down, 255 - across], 2).astype(np.uint8))


def saved(image, kind="PNG", **more):
    data = io.BytesIO()
    image.save(data, kind, **more)
    return data.getvalue()


def sixteen_bit():
    return Image.fromarray(np.asarray(gradient().convert("L")).astype(np.uint16) * 257)


ODD = {
    "plain png": saved(gradient()),
    "jpeg": saved(gradient(), "JPEG", quality=95),
    "large jpeg": saved(gradient((400, 300)), "JPEG", quality=95),
    "grey": saved(gradient().convert("L")),
    "palette": saved(gradient().convert("P")),
    "one bit": saved(gradient().convert("1")),
    "alpha": saved(gradient().convert("RGBA")),
    "cmyk": saved(gradient().convert("CMYK"), "JPEG"),
    "16 bit": saved(sixteen_bit()),
    "animated": saved(gradient(), "PNG", save_all=True, append_images=[gradient().rotate(90)]),
    "rotated by EXIF": saved(
        gradient(),
        "JPEG",
        exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00",
    ),
}
BAD = {
    "empty": b"",
    "truncated": saved(gradient((200, 200)))[:300],
    "truncated jpeg": saved(gradient((200, 200)), "JPEG")[:400],
    "a text": b"this is not a picture, it is only called .jpg",
    "a gif": saved(gradient().convert("P"), "GIF"),
    "enormous": saved(Image.new("1", (6000, 5000))),
}


@pytest.mark.parametrize("name", ODD)
def test_what_can_be_read_is_the_same_in_training_and_in_the_server(name):
    trained = Preprocess(16).normalised(Preprocess(16).decoded(ODD[name])[None])
    served = serving.prepared(ODD[name], CARD)
    assert trained.shape == (1, 3, 16, 16)
    assert np.abs(trained.numpy() - served).max() < 1e-5


def test_sixteen_bits_are_scaled_and_not_cut_off():
    decoded = Preprocess(16).decoded(ODD["16 bit"])
    grey = Preprocess(16).decoded(ODD["grey"])
    assert (decoded.int() - grey.int()).abs().max() <= 1
    assert decoded.max() < 255


def test_a_picture_lies_as_its_exif_says():
    plain = Preprocess(16).decoded(ODD["jpeg"]).float()
    rotated = Preprocess(16).decoded(ODD["rotated by EXIF"]).float()
    assert (rotated - torch.rot90(plain, -1, (1, 2))).abs().mean() < 8


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused_by_both(name):
    with pytest.raises(PictureError):
        Preprocess(16).decoded(BAD[name])
    with pytest.raises(PictureError):
        Preprocess(16).cropped(BAD[name], 0.3, __import__("random").Random(0))
    with pytest.raises(serving.BadPicture):
        serving.prepared(BAD[name], CARD)


def test_the_picture_that_stops_a_training_is_named(tmp_path):
    import dataset
    import loader

    entries = []
    for number, data in enumerate((ODD["grey"], BAD["a text"])):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(data)
        entries.append(dataset.Entry(f"train/cat/{number}.jpg", 0, path, 0, len(data)))
    views = loader.Views(entries, Preprocess(16))
    assert views[0, [0]][0].shape == (1, 3, 16, 16)
    with pytest.raises(dataset.DataError, match=r"^train/cat/1.jpg: not a readable PNG or JPEG"):
        views[0, [0, 1]]
    # Beside a GPU worker processes decode, and what they raise comes with their whole traceback.
    with pytest.raises(dataset.DataError) as raised:
        list(loader.Feed(views, torch.device("cpu"), 1).batches(0, [[0, 1]]))
    assert re.match(r"(dataset\.)?DataError: train/cat/1.jpg: not a readable PNG or JPEG", train.reason(raised.value))
