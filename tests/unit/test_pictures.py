"""Odd pictures in data.push, training and the server: converted or refused, and the same in all three."""

import hashlib
import io
import random
import re
import struct
import time
import zipfile
import zlib

import numpy as np
import picture as serving
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

import imaging
from imaging import PictureError
from ops.core.paths import ROOT
from ops.datasets.image_check import inspect_bytes
from ops.jobs import spec
from ops.releases import image_build

pytestmark = pytest.mark.xdist_group("torch")  # one worker loads it for all these files


@pytest.fixture(scope="module", autouse=True)
def load_torch():
    """Load torch when the first test of this file runs: at the collection each of pytest's workers would load it."""
    global Preprocess, card, torch, train
    import card
    import torch
    import train
    from preprocess import Preprocess


CARD = {"pixels": 16, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def gradient(size=(40, 30)):
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([across, down, 255 - across], 2).astype(np.uint8))


# Pillow's buffer for what it writes in one piece: the default is too small for progressive noise at the highest quality.
ImageFile.MAXBLOCK = 1 << 22


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
    "rotated by EXIF": saved(
        gradient(),
        "JPEG",
        exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00",
    ),
}
BAD = {
    # Until imaging.py, training and the server took its first picture, and data.push refused it.
    "animated": saved(gradient(), "PNG", save_all=True, append_images=[gradient().rotate(90)]),
    "empty": b"",
    "truncated": saved(gradient((200, 200)))[:300],
    "truncated jpeg": saved(gradient((200, 200)), "JPEG")[:400],
    "a text": b"this is not a picture, it is only called .jpg",
    "a gif": saved(gradient().convert("P"), "GIF"),
    "enormous": saved(Image.new("1", (6000, 5000))),
}


@pytest.mark.parametrize("name", ODD)
def test_training_and_server_read_pictures_alike(name):
    """What can be read is the same in training and in the server."""
    trained = Preprocess(16).normalise(Preprocess(16).decode(ODD[name])[None])
    served = serving.prepare_picture(ODD[name], CARD)
    assert trained.shape == (1, 3, 16, 16)
    assert np.abs(trained.numpy() - served).max() < 1e-5


def test_16_bit_pictures_are_scaled_and_not_clipped():
    decoded = Preprocess(16).decode(ODD["16 bit"])
    grey = Preprocess(16).decode(ODD["grey"])
    assert (decoded.int() - grey.int()).abs().max() <= 1
    assert decoded.max() < 255


def test_exif_orientation_is_applied():
    plain = Preprocess(16).decode(ODD["jpeg"]).float()
    rotated = Preprocess(16).decode(ODD["rotated by EXIF"]).float()
    assert (rotated - torch.rot90(plain, -1, (1, 2))).abs().mean() < 8


@pytest.mark.parametrize("name", BAD)
def test_unreadable_pictures_are_rejected_by_both(name):
    with pytest.raises(PictureError):
        Preprocess(16).decode(BAD[name])
    with pytest.raises(PictureError):
        Preprocess(16).decode_cropped(BAD[name], 0.3, random.Random(0))
    with pytest.raises(PictureError):
        serving.prepare_picture(BAD[name], CARD)


def test_unreadable_training_picture_is_named(tmp_path):
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
    assert re.match(
        r"(dataset\.)?DataError: train/cat/1.jpg: not a readable PNG or JPEG", train.describe_error(raised.value)
    )


MODES = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "L", "1", "P", "RGBA", "LA", "I;16")}


def noise(mode, size, seed):
    """A picture of this mode whose pixels follow from the seed."""
    draw = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(draw.integers(0, 65536, (size[1], size[0])).astype(np.uint16))
    picture = Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(draw.integers(0, 256, (size[1], size[0])).astype(np.uint8)))
    return picture.convert(mode)


def exif(orientation, broken):
    """An Exif block that names an orientation; `broken` cuts it, points outside of it, or makes its number a text."""
    entry = struct.pack("<HHII", 0x0112, 3, 1, orientation)
    if broken == "text":
        entry = struct.pack("<HHI4s", 0x0112, 2, 2, b"6\0\0\0")
    if broken == "outside":
        entry = struct.pack("<HHII", 0x0112, 5, 9, 1 << 30)
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
    return {"cut": block[:17], "empty": b"Exif\0\0", "no tiff": b"Exif\0\0" + bytes(12)}.get(broken, block)


@st.composite
def encoded_pictures(draw):
    """A file as an encoder would write it, of any mode, size and Exif."""
    form = draw(st.sampled_from(["JPEG", "PNG"]))
    mode = draw(st.sampled_from(MODES[form]))
    size = draw(st.tuples(*[st.one_of(st.integers(1, 90), st.sampled_from([1, 255, 600]))] * 2))
    more = {}
    if draw(st.booleans()):
        broken = draw(st.sampled_from(["", "", "cut", "text", "outside", "empty", "no tiff"]))
        more["exif"] = exif(draw(st.integers(0, 9)), broken)
    if draw(st.booleans()):
        more["icc_profile"] = draw(st.binary(max_size=200))
    if form == "JPEG":
        more |= {
            "progressive": draw(st.booleans()),
            "quality": draw(st.integers(1, 100)),
            "subsampling": draw(st.integers(0, 2)),
        }
        if draw(st.booleans()):
            more["restart_marker_blocks"] = draw(st.integers(1, 9))
    elif mode == "P" and draw(st.booleans()):
        more["transparency"] = draw(st.integers(0, 255))
    if form == "JPEG" and mode == "RGB" and draw(st.booleans()):
        return saved(noise(mode, size, 1), "MPO", save_all=True, append_images=[noise(mode, size, 2)], quality=90)
    if form == "PNG" and mode in ("RGB", "RGBA", "L") and draw(st.integers(0, 5)) == 0:
        return saved(noise(mode, size, 1), "PNG", save_all=True, append_images=[noise(mode, size, 2)])
    return saved(noise(mode, size, draw(st.integers(0, 99))), form, **more)


@st.composite
def odd_files(draw):
    """An encoder's file that is complete, cut, corrupt in places, followed by something, or with a part repeated."""
    data = draw(encoded_pictures())
    match draw(st.sampled_from(["whole", "whole", "cut", "corrupt", "followed", "twice"])):
        case "cut":
            return data[: draw(st.integers(0, len(data) - 1))]
        case "corrupt":
            corrupt = bytearray(data)
            for _ in range(draw(st.integers(1, 4))):
                corrupt[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
            return bytes(corrupt)
        case "followed":
            return data + draw(st.binary(max_size=50))
        case "twice":
            start = draw(st.integers(0, len(data) - 1))
            end = draw(st.integers(start, min(len(data), start + 300)))
            return data[:end] + data[start:end] * draw(st.sampled_from([1, 50, 3000])) + data[end:]
    return data


def accepted_by_all(data, side):
    """Whether push, training and the server take a file: all or none, else this fails; and with equal pixels."""
    pushed = inspect_bytes(data)
    answers = []
    for work in (
        lambda: Preprocess(side).decode(data),
        lambda: Preprocess(side).decode_cropped(data, 0.3, random.Random(0)),
        lambda: serving.prepare_picture(data, CARD | {"pixels": side}),
    ):
        try:
            answers.append(work())
        except PictureError as error:
            answers.append(str(error))
    taken = [not isinstance(answer, str) for answer in answers]
    assert taken == [not pushed.fault] * 3, (pushed.fault, answers)
    if not pushed.fault:
        whole = imaging.decode_picture(data).image
        assert pushed.pixels == hashlib.sha256(f"{whole.size}".encode() + whole.tobytes()).hexdigest()
        assert np.abs(Preprocess(side).normalise(answers[0][None]).numpy() - answers[2]).max() < 1e-5
    return not pushed.fault


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(data=odd_files(), side=st.sampled_from([8, 16, 64]))
@settings(max_examples=400, deadline=None)
def test_push_training_and_server_accept_the_same(data, side):
    accepted_by_all(data, side)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(data=encoded_pictures(), side=st.sampled_from([8, 64]))
@settings(max_examples=200, deadline=None)
def test_encoder_output_is_accepted(data, side):
    assert accepted_by_all(data, side) != getattr(Image.open(io.BytesIO(data)), "is_animated", False) or b"MPF" in data


def png_chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def in_pieces(data, size):
    """A PNG whose data comes in pieces of this many bytes."""
    at = start = data.index(b"IDAT") - 4
    packed = b""
    while data[at + 4 : at + 8] == b"IDAT":
        length = int.from_bytes(data[at : at + 4], "big")
        packed, at = packed + data[at + 8 : at + 8 + length], at + 12 + length
    pieces = [png_chunk(b"IDAT", packed[n : n + size]) for n in range(0, len(packed), size)]
    return data[:start] + b"".join(pieces) + data[at:]


def hidden_exif(marker):
    """A JPEG with much Exif behind a marker that ends, or skips, where Pillow reads on."""
    return ODD["jpeg"][:2] + marker + 3000 * (b"\xff\xe1\0\x12Exif\0\0" + bytes(10)) + ODD["jpeg"][2:]


GREY = saved(gradient().convert("L"))
TURNED_6 = exif(6, "")
LIMITS = {
    "a side of 65,500": (saved(Image.new("L", (65_500, 1))), ""),
    "a longer side": (saved(Image.new("L", (70_000, 1))), "it has a side that is too long: 70000 x 1; the limit is"),
    "a longer column": (saved(Image.new("L", (1, 70_000))), "it has a side that is too long: 1 x 70000; the limit is"),
    "more pixels": (saved(Image.new("1", (5001, 5000))), "it has more than 25 megapixels: 5001 x 5000; the limit is"),
    "a bomb in PNG": (GREY[:16] + struct.pack(">II", 60_000, 60_000) + GREY[24:], "it has more than 25 megapixels"),
    "animated": (BAD["animated"], "it is animated (2 frames); save one frame as a picture of its own"),
    "many chunks": (GREY[:8] + 2001 * png_chunk(b"teXt") + GREY[8:], "it has more than 2000 chunks"),
    "many small pieces": (in_pieces(saved(noise("RGB", (120, 60), 1)), 10), "it has more than 2000 chunks"),
    "a large PNG in pieces of 4 KB": (in_pieces(saved(noise("RGB", (1900, 1600), 1), compress_level=0), 4096), ""),
    "a video behind it": (ODD["jpeg"] + b"\xff\xda" * 1000, ""),
    "many segments": (ODD["jpeg"][:2] + 2001 * b"\xff\xfe\0\x02" + ODD["jpeg"][2:], "it has more than 2000 segments"),
    "filled up between segments": (
        ODD["jpeg"][:2] + 2001 * b"\xff\xff\xff\xfe\0\x02" + ODD["jpeg"][2:],
        "it has more than 2000 segments",
    ),
    "Exif hidden behind a second start": (hidden_exif(b"\xff\xd8"), "it has more than 2000 segments, or more than 16"),
    "Exif hidden behind an extension": (hidden_exif(b"\xff\xf0"), "it has more than 2000 segments, or more than 16"),
    "Exif hidden behind an end": (hidden_exif(b"\xff\xd9"), "it has more than 2000 segments, or more than 16"),
    "much Exif": (
        ODD["jpeg"][:2] + 17 * (b"\xff\xe1" + struct.pack(">H", len(TURNED_6) + 2) + TURNED_6) + ODD["jpeg"][2:],
        "it has more than 2000 segments, or more than 16 Exif segments",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_equal_and_named_by_push(name):
    data, fault = LIMITS[name]
    assert inspect_bytes(data).fault.startswith(fault)
    assert accepted_by_all(data, 16) == (not fault)


def test_25_megapixels_are_within_the_limits():
    imaging.check_structure(saved(Image.new("1", (5000, 5000))))
    imaging.check_size(imaging.SIDE, imaging.PIXELS // imaging.SIDE)


def test_jpeg_scans_are_limited_in_push_and_training_too():
    """The scans of a JPEG are counted in push and training too."""
    progressive = saved(gradient((64, 64)), "JPEG", progressive=True)
    start = progressive.index(b"\xff\xda")
    bomb = progressive[:start] + progressive[start:-2] * 60 + progressive[-2:]
    hidden = progressive[:start] + progressive[start:-2] + b"\xff\x01" + progressive[start:-2] * 60 + progressive[-2:]
    for data in (bomb, hidden):  # a TEM has no length, behind which scans could hide
        assert inspect_bytes(data).fault == "it has more than 40 scans"
        assert not accepted_by_all(data, 16)


def test_scans_after_the_only_one_cost_nothing():
    """libjpeg decodes no scan after one of all components, so they need not be counted."""
    whole = saved(gradient((2500, 2500)), "JPEG")
    start = whole.index(b"\xff\xda")
    began = time.process_time()
    assert not accepted_by_all(whole[:-2] + whole[start : start + 500] * 2000 + whole[-2:], 16)
    assert time.process_time() - began < 5  # 2,000 passes over it would take minutes


@pytest.mark.parametrize("broken", ["cut", "text", "outside", "empty", "no tiff"])
def test_broken_exif_keeps_the_stored_orientation(broken):
    """The pixels are whole, and every viewer shows them so."""
    data = ODD["jpeg"]
    block = exif(6, broken)
    corrupt = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    assert inspect_bytes(corrupt).pixels == inspect_bytes(data).pixels != ""
    assert accepted_by_all(corrupt, 16)
    assert not inspect_bytes(corrupt).turned


def test_golden_pictures_fit_into_a_request():
    """Golden pictures are chosen among those that a request can hold."""
    assert card.choose_golden([9] * 15) == [0, 2, 4, 6, 8, 10, 12, 14]
    large = imaging.REQUEST_BYTES + 1
    assert set(card.choose_golden([large, 9, 9, large])) == {1, 2}
    assert len(card.choose_golden([large])) == card.GOLDEN


@pytest.mark.parametrize("folder", ["training", "serving"])
def test_both_payloads_carry_the_same_decoder(folder):
    assert (ROOT / folder / "imaging.py").resolve() == ROOT / "imaging.py"
    assert ("imaging.py", ROOT / "training" / "imaging.py") in spec.list_code_files([])
    assert b"def decode_picture(" in zipfile.ZipFile(io.BytesIO(image_build.package_serving())).read("imaging.py")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "it is empty"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "it is WebP"),
        (b"GIF89a\1\0\1\0", "it is GIF"),
        (b"BM\1\2\3", "it is BMP"),
        (b"data:image/png;base64,iVBORw0KGgo", "it is a data: URL"),
        (b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ", "it is base64 text"),
        (b'{"image": "x"}', "it is JSON"),
        (b"\0\1\2\3", "it has another format"),
    ],
)
def test_refusal_of_a_picture_names_what_came(data, named):
    with pytest.raises(imaging.UnidentifiedError, match=f"^not a readable PNG or JPEG: {named}"):
        imaging.decode_picture(data)
