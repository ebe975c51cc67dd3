"""An archive from the web: whole after any number of broken connections, and harmless whatever is in it."""

import io
import json
import stat
import struct
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from ops.core.errors import OpsError
from ops.core.settings import Archive
from ops.datasets import archive as zips
from ops.datasets import download, fetch

COUNTS = {"train": 2, "valid": 2, "test": 2}


def png(number):
    buffer = io.BytesIO()
    Image.effect_noise((40, 40), 50 + number).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def zipped(extra=(), top="dogImages/", plain=True):
    """A zip in the layout of the archive of dogs; `extra`: (name or ZipInfo, bytes)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if plain:
            for number, split in enumerate(COUNTS):
                archive.mkdir(f"{top}{split}")
                for label in ("001.Affenpinscher", "002.Afghan_hound"):
                    archive.writestr(f"{top}{split}/{label}/{label}_{number}.jpg", png(number))
        for name, data in extra:
            archive.writestr(name, data)
    return buffer.getvalue()


class Web:
    """One file behind HTTP: `cut`: bytes after which a connection breaks; ranges are honoured by default."""

    def __init__(self, data):
        self.data, self.tag, self.cut, self.ranges, self.length = data, '"v1"', 0, True, True
        self.status, self.location = 200, ""
        self.asked = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                web.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/dogImages.zip"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if self.location or self.status != 200:
            handler.send_response(302 if self.location else self.status)
            handler.send_header("Location", self.location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = (
            int(wanted[6:-1]) if wanted and self.ranges and handler.headers.get("If-Range") in (None, self.tag) else 0
        )
        part = self.data[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        if self.length:
            handler.send_header("Content-Length", str(len(part)))
        if self.tag:
            handler.send_header("ETag", self.tag)
        handler.end_headers()
        handler.wfile.write(part[: self.cut] if self.cut else part)


@pytest.fixture
def web(monkeypatch, tmp_path):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(fetch, "WORK", tmp_path / "work")
    served = Web(zipped())
    yield served
    served.server.shutdown()


def archive_at(url, **more):
    return Archive(**({"url": url, "sha256": "", "classes": 0, "pictures": {}} | more))


def test_dogs_archive_is_known_by_name(settings):
    dogs = fetch.find_archive(settings.data, "dogs")
    assert dogs.url == "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"
    assert (dogs.classes, dogs.pictures) == (133, {"train": 6680, "valid": 835, "test": 836})
    with pytest.raises(OpsError, match="no archive 'cats' .* Known: dogs"):
        fetch.find_archive(settings.data, "cats")


def test_broken_connections_are_resumed(web, tmp_path):
    """A connection that breaks again and again is resumed each time."""
    web.cut = len(web.data) // 7 + 1
    assert fetch.fetch_archive(archive_at(web.url), tmp_path / "p")["bytes"] == len(web.data)
    assert web.asked[:3] == [None, f"bytes={web.cut}-", f"bytes={2 * web.cut}-"]
    assert len(web.asked) == 7


def test_next_command_resumes_the_download(web, tmp_path):
    place = tmp_path / "a.zip"
    web.cut = 1000

    def stop(seconds):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download.time, "sleep", stop)
        download.download_file(web.url, place)
    assert place.stat().st_size == 1000
    web.cut = 0
    download.download_file(web.url, place)
    assert web.asked == [None, "bytes=1000-"]
    assert place.read_bytes() == web.data
    download.download_file(web.url, place)
    assert len(web.asked) == 2  # it is whole


@pytest.mark.parametrize("how", ["another version", "no ranges", "no version", "weak version"])
def test_download_restarts_if_it_cannot_resume(web, tmp_path, how):
    place = tmp_path / "a.zip"
    place.write_bytes(b"x" * 500)
    tag = {"no version": "", "weak version": 'W/"v1"'}.get(how, '"v1"')
    place.with_suffix(".version").write_text(
        json.dumps({"url": web.url, "tag": tag if tag == '"v1"' else "", "bytes": 1})
    )
    web.tag, web.ranges = '"v2"' if how == "another version" else tag, how != "no ranges"
    download.download_file(web.url, place)
    assert place.read_bytes() == web.data


def test_no_file_keeps_the_query_of_a_url(web, tmp_path):
    """The folder of a dataset is often shared. Another query may be another archive, so its digest is kept."""
    signed = f"{web.url}?X-Amz-Signature=canary"
    fetch.fetch_archive(archive_at(signed), tmp_path / "p")
    source = (tmp_path / "p" / "source.json").read_text()
    assert f'"{web.url}#' in source
    download.download_file(signed, tmp_path / "a.zip")
    assert "canary" not in source + (tmp_path / "a.version").read_text()
    fetch.fetch_archive(archive_at(signed), tmp_path / "p")
    with pytest.raises(OpsError, match="did not come from"):
        fetch.fetch_archive(archive_at(web.url + "?id=2"), tmp_path / "p")


def test_response_without_a_length_is_read_to_its_end(web, tmp_path):
    web.length = False
    download.download_file(web.url, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == web.data


def test_failing_server_is_given_up_after_some_tries(web, tmp_path):
    web.status = 503
    with pytest.raises(OpsError, match="Cannot download .*: HTTP Error 503.*Run the same command again"):
        download.download_file(web.url, tmp_path / "a.zip")
    assert len(web.asked) == download.TRIES


def test_missing_url_is_reported_at_once(web, tmp_path):
    web.status = 404
    with pytest.raises(OpsError, match="answers 404"):
        download.download_file(web.url, tmp_path / "a.zip")
    assert len(web.asked) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip", "data:,a", "/etc/passwd"])
def test_only_http_urls_are_fetched(tmp_path, url):
    with pytest.raises(OpsError):
        download.download_file(url, tmp_path / "a.zip")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip"])
def test_redirect_to_another_scheme_is_not_followed(web, tmp_path, location):
    web.location = location
    with pytest.raises(OpsError):
        download.download_file(web.url, tmp_path / "a.zip")


def test_redirect_from_https_to_http_is_not_followed():
    request = download.urllib.request.Request("https://host/a.zip")
    with pytest.raises(OpsError, match="not https"):
        download.SafeRedirectHandler().redirect_request(request, None, 302, "Found", {}, "http://host/a.zip")


def test_download_larger_than_the_disk_is_not_started(web, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Disk", (), {"free": 10}))
    with pytest.raises(OpsError, match="free on the disk"):
        download.download_file(web.url, tmp_path / "a.zip")


def test_existing_folder_is_left_alone(web, tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(OpsError, match="did not come from"):
        fetch.fetch_archive(archive_at(web.url), tmp_path / "p")
    assert web.asked == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"sha256": "0" * 64}, "has SHA-256"),
        ({"classes": 133}, "has 2 classes"),
        ({"pictures": {"train": 6680, "valid": 835, "test": 836}}, "Nothing was kept"),
    ],
)
def test_archive_that_differs_from_the_settings_is_rejected(web, tmp_path, more, words):
    with pytest.raises(OpsError, match=words):
        fetch.fetch_archive(archive_at(web.url, **more), tmp_path / "p")
    assert not (tmp_path / "p").exists()
    assert list((tmp_path / "work" / "fetched").iterdir()) == []  # the next fetch starts from the beginning


def test_archive_that_equals_the_settings_is_accepted(web, tmp_path):
    sha = fetch.hashlib.sha256(web.data).hexdigest()
    source = fetch.fetch_archive(archive_at(web.url, sha256=sha, classes=2, pictures=COUNTS), tmp_path / "p")
    assert source["sha256"] == sha


def test_full_disk_keeps_the_archive(web, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zips.shutil, "copyfileobj", full)
    with pytest.raises(OpsError, match="No space left on device.*run the same command again"):
        fetch.fetch_archive(archive_at(web.url), tmp_path / "p")
    monkeypatch.undo()
    monkeypatch.setattr(fetch, "WORK", tmp_path / "work")
    fetch.fetch_archive(archive_at(web.url), tmp_path / "p")
    assert len(web.asked) == 1


def info(name, mode=0o644, kind=stat.S_IFREG):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (kind | mode) << 16
    return entry


def odd(name):
    """ZipFile would repair the name; hostile tools do not."""
    entry = info("train/a/placeholder.jpg")
    entry.filename = name
    return entry


PICTURE = png(9)
HOSTILE = {
    "up": (info("../evil.jpg"), "leads out of the folder"),
    "up in the middle": (info("dogImages/train/../../../evil.jpg"), "leads out of the folder"),
    "absolute": (info("/tmp/evil.jpg"), "leads out of the folder"),
    "drive": (info("C:/evil.jpg"), "is not a portable name"),
    "backslashes up": (info("..\\evil.jpg"), "leads out of the folder"),
    "backslashes up in the middle": (info("dogImages\\train/..\\..\\../evil.jpg"), "leads out of the folder"),
    "share": (info("\\\\host\\share\\evil.jpg"), "leads out of the folder"),
    "drive with backslashes": (info("C:\\evil.jpg"), "is not a portable name"),
    "drive below the folder": (info("./C:/evil.jpg"), "is not a portable name"),
    "up below the folder": (info("./../evil.jpg"), "leads out of the folder"),
    "symlink": (info("dogImages/train/001.Affenpinscher/l.jpg", 0o777, stat.S_IFLNK), "is a link or a device"),
    "device": (info("dogImages/train/001.Affenpinscher/d.jpg", 0o644, stat.S_IFCHR), "is a link or a device"),
    "pipe": (info("dogImages/train/001.Affenpinscher/f.jpg", 0o644, stat.S_IFIFO), "is a link or a device"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_entry_stops_the_unpacking(tmp_path, name):
    entry, why = HOSTILE[name]
    (tmp_path / "a.zip").write_bytes(zipped([(entry, PICTURE)]))
    with pytest.raises(OpsError, match=f"The archive is not safe: .*{why}"):
        zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into" / "here")
    assert [path.name for path in tmp_path.rglob("*")] == ["a.zip"]


@pytest.mark.parametrize(
    "write", [lambda name: name.replace("/", "\\"), lambda name: f"./{name}"], ids=["backslashes", "./"]
)
def test_portable_slips_in_names_are_accepted(tmp_path, write):
    """Windows' own archiver wrote backslashes, and tar's habit is ./NAME; both mean the same files."""
    names = [f"dogs/{split}/{label}/0.jpg" for split in COUNTS for label in ("ant", "bee")]
    folder = info(write("dogs/train/"), 0o755, stat.S_IFDIR)
    (tmp_path / "a.zip").write_bytes(
        zipped([(folder, b""), *((info(write(name)), PICTURE) for name in names)], plain=False)
    )
    assert zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into") == 6
    found = [path.relative_to(tmp_path / "into").as_posix() for path in (tmp_path / "into").rglob("*.jpg")]
    assert sorted(found) == sorted(name.removeprefix("dogs/") for name in names)


def test_files_left_out_of_an_archive_are_counted(tmp_path, capsys):
    extra = [(f"dogImages/train/001.Affenpinscher/{number}.webp", PICTURE) for number in range(3)]
    (tmp_path / "a.zip").write_bytes(
        zipped([*extra, ("dogImages/train/001.Affenpinscher/a.jfif", PICTURE), ("readme", b"x")])
    )
    assert zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into") == 7
    assert "4 files left out: 3 .webp, 1 without a suffix." in capsys.readouterr().err


def test_name_with_a_nul_is_hostile(tmp_path):
    data = zipped([("dogImages/train/001.Affenpinscher/n_.jpg", PICTURE)])
    (tmp_path / "a.zip").write_bytes(data.replace(b"n_.jpg", b"n\0.jpg"))
    with pytest.raises(OpsError, match="is not a portable name"):
        zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into")


def test_encrypted_entry_is_rejected(tmp_path):
    data = bytearray(zipped())
    place = data.index(b"PK\x01\x02")
    struct.pack_into("<H", data, place + 8, struct.unpack_from("<H", data, place + 8)[0] | 1)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(OpsError, match="is encrypted"):
        zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into")


def test_zip_bomb_is_not_unpacked(tmp_path):
    zeros = [(f"dogImages/train/001.Affenpinscher/{number}.jpg", bytes(50 << 20)) for number in range(2)]
    (tmp_path / "a.zip").write_bytes(zipped(zeros))
    with pytest.raises(OpsError, match=r"not safe: \d+ bytes would become \d+"):
        zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into")
    (tmp_path / "b.zip").write_bytes(zipped([("dogImages/train/001.Affenpinscher/b.jpg", bytes(101 << 20))]))
    with pytest.raises(OpsError, match="larger than 100 MB"):
        zips.unpack_archive(tmp_path / "b.zip", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_entry_writes_no_more_than_its_declared_size(tmp_path):
    data = bytearray(zipped([("dogImages/train/001.Affenpinscher/big.jpg", bytes(5 << 20))]))
    place = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, place + 24, 1000)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(OpsError, match="The archive is corrupt"):
        zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into")
    assert sum(path.stat().st_size for path in (tmp_path / "into").rglob("*.jpg")) < 1 << 20


def test_overlapping_entries_are_a_zip_bomb(tmp_path):
    data = bytearray(zipped())
    records, place = [], 0
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        records.append(place)
    struct.pack_into("<I", data, records[-1] + 42, struct.unpack_from("<I", data, records[-2] + 42)[0])
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(OpsError, match="shares bytes with another"):
        zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>not a zip</html>", "The archive is corrupt: File is not a zip file"),
        (zipped()[:-100], "The archive is corrupt"),
        (zipped([("readme/train/a.jpg", PICTURE)]), "is not in SPLIT/CLASS"),
        (zipped([("other/train/a/b.jpg", PICTURE)]), "below two folders"),
        (zipped([("dogImages/train/a/.hidden.jpg", PICTURE)], plain=False), ""),
        (zipped([("dogImages/val/a/b.jpg", PICTURE)]), "is not in SPLIT/CLASS"),
    ],
)
def test_corrupt_or_unknown_archive_is_reported(tmp_path, data, words):
    (tmp_path / "a.zip").write_bytes(data)
    if not words:
        assert zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into") == 0
        return
    with pytest.raises(OpsError, match=words):
        zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into")


def test_flipped_bit_is_found_by_its_crc(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("train/a/b.jpg", PICTURE)
    data = bytearray(buffer.getvalue())
    data[200] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(OpsError, match="corrupt: Bad CRC-32 for file 'train/a/b.jpg'"):
        zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into")


def test_macos_files_and_other_files_are_skipped(tmp_path):
    extra = [
        ("__MACOSX/dogImages/train/001.Affenpinscher/._a.jpg", b"fork"),
        ("dogImages/.DS_Store", b"x"),
        ("dogImages/train/001.Affenpinscher/notes.txt", b"x"),
    ]
    (tmp_path / "a.zip").write_bytes(zipped(extra))
    assert zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into") == 6
    assert len([path for path in (tmp_path / "into").rglob("*") if path.is_file()]) == 6


def test_archive_without_a_top_folder_is_unpacked(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(top=""))
    assert zips.unpack_archive(tmp_path / "a.zip", tmp_path / "into") == 6
