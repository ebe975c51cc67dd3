"""Bad input, one kind at a time: what data.check says of it, and whether data.push takes it; and that training then reads it."""

import io
import os
import shutil
import struct
import unicodedata
import zlib

import pytest
from PIL import Image

import imaging
from ops.core.errors import OpsError
from ops.datasets import folder_findings, manifest, scan_cache
from ops.datasets import image_folder as disk
from ops.datasets.image_check import inspect_image


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PHOTO = Image.effect_noise((60, 40), 50).convert("RGB")
JPEG, PNG = encoded(PHOTO, "JPEG"), encoded(PHOTO, "PNG")
TURNED = Image.Exif()
TURNED[0x0112] = 6


def png_of(width, height, bits, rows):
    """A PNG that says it is this large, in RGB."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RGB48 = png_of(8, 8, 16, (b"\0" + bytes(range(48))) * 8)
REFUSED = {
    "empty": (b"", "it is empty, 0 bytes"),
    "truncated JPEG": (JPEG[:-200], "it is damaged or cut short: image file is truncated"),
    "truncated by one byte": (JPEG[:-1], "it is damaged or cut short"),
    "truncated PNG": (PNG[: len(PNG) // 2], "it is damaged or cut short"),
    "header only": (JPEG[:12], "it is"),
    "text": (b"<html>404 Not Found</html>", "it is neither PNG nor JPEG but text"),
    "GIF": (encoded(PHOTO, "GIF"), "it is neither PNG nor JPEG but GIF"),
    "animated GIF": (encoded(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(9)]), "but GIF"),
    "WebP": (encoded(PHOTO, "WEBP"), "it is neither PNG nor JPEG but WebP"),
    "animated PNG": (
        encoded(PHOTO, "PNG", save_all=True, append_images=[PHOTO.rotate(9)]),
        "it is animated (2 frames)",
    ),
    "26 megapixels": (png_of(6500, 4000, 8, bytes(10)), "it has more than 25 megapixels: 6500 x 4000"),
    "a bomb": (png_of(60000, 60000, 8, bytes(10)), "it has more than 25 megapixels"),
    "a corrupt chunk": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "it is damaged or cut short"),
}
TAKEN = {
    "CMYK": (encoded(PHOTO.convert("CMYK"), "JPEG"), "CMYK"),
    "grey": (encoded(PHOTO.convert("L"), "PNG"), "L"),
    "two colours": (encoded(PHOTO.convert("1"), "PNG"), "1"),
    "palette": (encoded(PHOTO.convert("P"), "PNG"), "P"),
    "transparent": (encoded(PHOTO.convert("RGBA"), "PNG"), "RGBA"),
    "grey and transparent": (encoded(PHOTO.convert("LA"), "PNG"), "LA"),
    "16-bit grey": (encoded(Image.new("I;16", (9, 9), 4000), "PNG"), "I;16"),
    "16-bit colour": (RGB48, "RGB"),
    "EXIF-rotated": (encoded(PHOTO, "JPEG", exif=TURNED), "RGB"),
    "a telephone's, with a preview": (encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO]), "RGB"),
    "25 megapixels": (encoded(Image.new("L", (5000, 5000)), "PNG"), "L"),
    "one pixel": (encoded(Image.new("RGB", (1, 1)), "PNG"), "RGB"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_untrainable_picture_is_rejected_with_its_reason(name, tmp_path):
    """What cannot be trained on is rejected with its reason."""
    data, why = REFUSED[name]
    (tmp_path / "p.jpg").write_bytes(data)
    assert why in inspect_image(tmp_path / "p.jpg").fault


@pytest.mark.parametrize("name", TAKEN)
def test_accepted_picture_is_read_by_training(name, tmp_path):
    from preprocess import Preprocess

    data, mode = TAKEN[name]
    (tmp_path / "p.jpg").write_bytes(data)
    seen = inspect_image(tmp_path / "p.jpg")
    assert (seen.fault, seen.mode, seen.turned) == ("", mode, name == "EXIF-rotated")
    assert Preprocess(16).decode(data).shape == (3, 16, 16)


def test_comparison_uses_the_pixels_that_training_sees(tmp_path):
    grey = Image.new("L", (9, 9))
    grey.putdata(range(81))
    deep = Image.new("I;16", (9, 9))
    deep.putdata([value * 256 + 77 for value in range(81)])
    grey.save(tmp_path / "8.png")
    deep.save(tmp_path / "16.png")
    PHOTO.save(tmp_path / "lying.png", exif=TURNED)
    PHOTO.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    assert inspect_image(tmp_path / "8.png").pixels == inspect_image(tmp_path / "16.png").pixels != ""
    assert (
        inspect_image(tmp_path / "lying.png").pixels
        == inspect_image(tmp_path / "upright.png").pixels
        != inspect_image(tmp_path / "8.png").pixels
    )


def test_unportable_names_and_unreadable_files_are_rejected(tmp_path):
    """Names that do not work everywhere, and files that cannot be read, are rejected."""
    for name in ("a\nb.png", "a\\b.png", "x" * 220 + ".png", os.fsdecode(b"\xff.png")):
        (tmp_path / name).write_bytes(PNG)
        assert "its name is not portable" in inspect_image(tmp_path / name).fault
    assert inspect_image(tmp_path / "gone.png").fault == "it cannot be read: No such file or directory"


def test_oversized_file_is_not_read(tmp_path):
    with (tmp_path / "p.jpg").open("wb") as file:
        file.truncate((imaging.MEGABYTES << 20) + 1)  # sparse
    assert inspect_image(tmp_path / "p.jpg").fault == "it is larger than 100 MB"


def checked(folder):
    found = disk.scan_folder(folder)
    seen = [pair for group in scan_cache.read_cache(folder).inspect(found.pictures) for pair in group]
    return folder_findings.findings(found, seen)


def list_findings(folder, severity, kind):
    return [(one.where, one.message) for one in checked(folder) if (one.severity, one.kind) == (severity, kind)]


@pytest.fixture
def pictures(pictures):
    """Each another one: those of the suite's fixture are the same in train and valid."""
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        Image.new("RGB", (12, 9), (number, 0, 9)).save(path)
    return pictures


def test_good_pictures_have_no_findings(pictures):
    assert checked(pictures) == []


def test_picture_in_two_splits_is_found_under_any_name(pictures):
    shutil.copy(pictures / "train/cat/0.png", pictures / "test/cat/other.png")
    assert list_findings(pictures, "warning", "two splits") == [
        ("train/cat/0.png", "the same picture as test/cat/other.png")
    ]


def test_picture_is_found_under_other_bytes(pictures):
    with Image.open(pictures / "train/cat/0.png") as image:
        image.save(pictures / "valid/cat/again.png", compress_level=1, dpi=(72, 72))
    again, first = (pictures / "valid/cat/again.png").read_bytes(), (pictures / "train/cat/0.png").read_bytes()
    assert again != first
    assert list_findings(pictures, "warning", "two splits") == [
        ("train/cat/0.png", "the same picture as valid/cat/again.png")
    ]


def test_duplicates_and_pictures_of_two_classes_differ(pictures):
    """A duplicate and a picture of two classes are different findings."""
    shutil.copy(pictures / "train/cat/0.png", pictures / "train/cat/copy.png")
    shutil.copy(pictures / "valid/cat/0.png", pictures / "valid/dog/copy.png")
    assert list_findings(pictures, "warning", "duplicate") == [
        ("train/cat/0.png", "the same picture as train/cat/copy.png")
    ]
    assert list_findings(pictures, "warning", "two classes") == [
        ("valid/cat/0.png", "the same picture as valid/dog/copy.png")
    ]


def test_tiny_few_and_uneven_pictures_give_warnings(pictures):
    """Tiny pictures, few pictures and uneven classes give warnings."""
    Image.new("RGB", (7, 300), "red").save(pictures / "train/cat/thin.png")
    assert list_findings(pictures, "warning", "tiny") == [("train/cat/thin.png", "7 x 300 pixels")]
    for number in range(3, 23):
        Image.new("RGB", (9, 9), (number, 1, 1)).save(pictures / "train/dog" / f"{number}.png")
    for name in ("1.png", "2.png", "thin.png"):
        (pictures / "train/cat" / name).unlink()
    assert list_findings(pictures, "warning", "one picture") == [("train/cat", "the class has one picture")]
    assert list_findings(pictures, "warning", "imbalance") == [("train", "23 pictures of dog, but 1 of cat")]


def test_empty_and_missing_classes_are_errors(pictures):
    (pictures / "train" / "bird").mkdir()
    shutil.rmtree(pictures / "test" / "dog")
    assert list_findings(pictures, "error", "empty") == [("train/bird", "the class has no pictures")]
    assert [where for where, _ in list_findings(pictures, "error", "classes")] == [
        "valid/bird",
        "test/bird",
        "test/dog",
    ]


def test_converted_and_skipped_files_are_notes_only(pictures):
    """What is converted or left out is noted once, and does not count against the folder."""
    for number in range(2):
        PHOTO.rotate(number).convert("CMYK").save(pictures / "train/cat" / f"cmyk{number}.jpg")
    PHOTO.save(pictures / "valid/cat/side.jpg", exif=TURNED)
    (pictures / "valid/cat/notes.txt").write_text("mine")
    assert list_findings(pictures, "note", "mode") == [("train/cat/cmyk0.jpg, and 1 more", "CMYK, trained as RGB")]
    assert list_findings(pictures, "note", "turned")[0][0] == "valid/cat/side.jpg"
    assert list_findings(pictures, "note", "left out")[0][0] == "valid/cat/notes.txt"
    assert {one.severity for one in checked(pictures)} == {"note"}


def test_picture_too_large_for_a_request_is_noted(pictures):
    with (pictures / "train/cat/0.png").open("ab") as file:
        file.write(bytes(imaging.REQUEST_BYTES))  # behind the picture's end
    assert [where for where, _ in list_findings(pictures, "note", "large")] == ["train/cat/0.png"]
    assert {one.severity for one in checked(pictures)} == {"note"}


NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def test_class_in_two_unicode_forms_is_one_class(pictures):
    for split, name in (("train", NFC), ("valid", NFD), ("test", NFC)):
        (pictures / split / "cat").rename(pictures / split / name)
    assert checked(pictures) == []
    names = [picture.name for picture in manifest.list_pictures(pictures)]
    assert f"valid/{NFC}/0.png" in names
    assert not any(NFD in name for name in names)


def test_two_unicode_forms_in_one_split_are_an_error(pictures):
    for split in disk.SPLITS:
        (pictures / split / "cat").rename(pictures / split / NFC)
    shutil.copytree(pictures / "train" / NFC, pictures / "train" / NFD)
    [(where, message)] = list_findings(pictures, "error", "classes")
    assert (where, "in two Unicode forms that look the same" in message) == (f"train/{NFC}", True)
    with pytest.raises(OpsError, match="two Unicode forms .* Nothing was sent"):
        manifest.list_pictures(pictures)


@pytest.mark.parametrize("splits", [("valid",), disk.SPLITS], ids=["one split", "all splits"])
def test_classes_that_differ_in_letter_case_are_an_error(pictures, splits):
    for split in splits:
        (pictures / split / "dog").rename(pictures / split / "Cat")
    found = dict(list_findings(pictures, "error", "classes"))
    assert "differ in letter case only" in found["Cat and cat"]
    with pytest.raises(OpsError, match="Cat and cat: these classes differ in letter case only"):
        manifest.list_pictures(pictures)


@pytest.mark.parametrize(("one", "other"), [(f"{NFC}.png", f"{NFD}.png"), ("A.png", "a.png")], ids=["form", "case"])
def test_pictures_that_a_disk_may_merge_give_a_warning(pictures, one, other):
    for number, name in enumerate((one, other)):
        Image.new("RGB", (12, 9), (200, number, 200)).save(pictures / "train/cat" / name)
    [(where, message)] = list_findings(pictures, "warning", "names")
    assert {where, message.split()[4]} == {f"train/cat/{one}", f"train/cat/{other}"}


def test_each_left_out_file_has_its_own_reason(pictures):
    place = pictures / "train/cat"
    (place / "gone.jpg").symlink_to("../../nowhere.jpg")
    (place / "loop.jpg").symlink_to("loop.jpg")
    (place / "folder.jpg").mkdir()
    (place / "empty").mkdir()
    (place / "more").mkdir()
    (place / "more/9.jpg").write_bytes(JPEG)
    (place / "a.webp").write_bytes(encoded(PHOTO, "WEBP"))
    (place / "b.webp").write_bytes(encoded(PHOTO, "WEBP"))
    (place / "notes.txt").write_text("mine")
    (place / "._0.jpg").write_bytes(b"mac")
    (pictures / "train/loose.jpg").write_bytes(JPEG)
    os.mkfifo(place / "pipe.png")
    assert dict(list_findings(pictures, "warning", "left out")) == {
        "train/cat/gone.jpg, and 1 more": "it is a link to a file that is not there",
        "train/cat/folder.jpg": "it is a folder that is named like a picture",
        "train/cat/more": "it is a folder inside a class; the pictures in it (1) are not read",
        "train/cat/a.webp, and 1 more": ".webp pictures are not read; convert them to PNG or JPEG",
        "train/cat/pipe.png": "it cannot be read as a file",
        "train/loose.jpg": "it is in no class's folder",
    }
    assert dict(list_findings(pictures, "note", "left out")) == {
        "train/cat/._0.jpg": "it is hidden: its name begins with a dot",
        "train/cat/empty": "it is a folder without pictures",
        "train/cat/notes.txt": "it is not named as a picture (.jfif, .jpe, .jpeg, .jpg, .png)",
    }
    counts = disk.count_left_out(disk.scan_folder(pictures).others)
    assert counts["broken link"] == counts[".webp"] == 2
    assert sum(counts.values()) == 10
    assert disk.describe_left_out({".webp": 2, "broken link": 1}) == "3 files left out: 2 .webp, 1 broken link"


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JFIF"])
def test_other_suffixes_of_jpeg_are_taken(pictures, suffix):
    (pictures / "train/cat" / f"photo.{suffix}").write_bytes(JPEG)
    assert f"train/cat/photo.{suffix}" in [picture.name for picture in manifest.list_pictures(pictures)]
    assert checked(pictures) == []
