"""The server: SageMaker's contract, on nothing but requirements.txt; bad pictures are the caller's fault, bad releases ours."""

import asyncio
import io
import os
import pwd
import subprocess
import sys
import time
from types import SimpleNamespace

import engine
import numpy as np
import picture as picture_bytes
import pytest
import server
from PIL import Image

import imaging
from imaging import PictureError, decode_square
from ops.releases import golden as golden_answers


def picture(mode="RGB", form="PNG", size=(20, 10), **more):
    packed = io.BytesIO()
    Image.new(mode, size).save(packed, form, **more)
    return packed.getvalue()


def zip_arrays(**more):
    packed = io.BytesIO()
    np.savez_compressed(
        packed, pictures=np.zeros(4, np.uint8), ends=np.array([4]), scores=np.zeros((1, 2), np.float32), **more
    )
    return packed.getvalue()


@pytest.mark.parametrize("kind", ["empty", "rubbish", "cut", "bomb"])
def test_unreadable_golden_answers_are_reported(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(golden_answers, "MOST_BYTES", 1 << 20)
    whole, bomb = zip_arrays(), zip_arrays(more=np.zeros(2 << 20, np.uint8))
    data = {"empty": b"", "rubbish": b"PK\x03\x04rubbish", "cut": whole[:60] + bytes(20) + whole[80:], "bomb": bomb}[
        kind
    ]
    (tmp_path / "golden.npz").write_bytes(data)
    with pytest.raises(ValueError, match="golden.npz cannot be read"):
        golden_answers.read_golden_pictures(tmp_path / "golden.npz")


def test_wrong_golden_answers_are_listed():
    one = golden_answers.Golden(b"x", [1.0, 5.0, 2.0])
    good = {"release": "r" * 64, "scores": [1.0, 5.1, 2.0], "classes": ["a", "b", "c"], "best": "b"}

    def wrong(**other):
        return golden_answers.check_golden_answers([one], lambda _: {**good, **other}, "r" * 64)

    assert wrong() == []
    assert "answered by release ffff" in wrong(release="f" * 64)[0]
    assert (
        "answered by release None" in golden_answers.check_golden_answers([one], lambda _: {"error": "no"}, "r" * 64)[0]
    )
    assert "2 scores, not 3" in wrong(scores=[1.0, 5.0])[0]
    assert "scores differ by 0.5" in wrong(scores=[1.5, 5.0, 2.0])[0]
    assert "best is a" in wrong(best="a")[0]


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:99", 200), ("LOCALHOST", 200), ("kennel-dev", 200), ("rebound.example", 400), ("", 400), (None, 400)],
)
def test_server_answers_to_its_own_names_only(monkeypatch, host, status):
    """A page whose name leads to loopback sends that name: DNS rebinding."""
    monkeypatch.setenv("SERVED_HOSTS", "127.0.0.1,localhost,kennel-dev")
    application = server.build_application(SimpleNamespace(digest="d", precision="fp32"))
    headers = [] if host is None else [(b"host", host.encode())]
    scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": headers}
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(application(scope, None, send))
    assert sent[0]["status"] == status


def test_busy_response_has_a_retry_after_header():
    response = server.build_error_response(503, "busy", {"Retry-After": server.RETRY_S})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


AS_ROOT = """
import os, pathlib, sys, server
def load(folder):
    (folder / "release.json").read_text()
    return type("Release", (), {"digest": "d", "classes": [], "precision": "fp32", "card": {}, "golden": None})()
def run(*_, **__):
    print(os.getresuid(), os.getresgid(), os.getgroups(), os.access(os.environ["OPT_ML"] + "/model", os.R_OK))
server.load_engine, server.serve, server.drop_privileges.__defaults__ = load, run, ("daemon",)
sys.exit(server.main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_release_is_read_as_root_and_served_as_a_user(tmp_path):
    """SageMaker starts the container as root; whether another user could read /opt/ml/model is not documented."""
    (tmp_path / "model").mkdir(mode=0o700)
    (tmp_path / "model" / "release.json").write_text("{}")
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OPT_ML": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", AS_ROOT], env=environment, capture_output=True, text=True, check=True)
    user = pwd.getpwnam("daemon")
    assert ran.stdout.splitlines()[-1] == f"{(user.pw_uid,) * 3} {(user.pw_gid,) * 3} [] False"


@pytest.mark.parametrize(
    ("started_as", "user", "called"),
    [(0, "found", ["setgroups []", "setgid 7", "setuid 8"]), (0, "missing", []), (1001, "found", [])],
)
def test_privileges_are_dropped_in_order(monkeypatch, started_as, user, called):
    """The groups go first: after setuid, no process may change them."""
    done = []
    users = {"found": SimpleNamespace(pw_gid=7, pw_uid=8)}
    monkeypatch.setattr(server.os, "geteuid", lambda: started_as)
    monkeypatch.setattr(server.pwd, "getpwnam", users.__getitem__)
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(server.os, name, lambda value, name=name: done.append(f"{name} {value}"))
    server.drop_privileges(user)
    assert done == called


def test_bf16_needs_evidence_and_cpu_support(monkeypatch, tmp_path):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(engine, "CPU", cpuinfo)
    both = ["fp32", "bf16"]
    assert engine.order_precisions(both, 224) == ["fp32"]  # nothing is known of the CPU
    cpuinfo.write_text("flags : avx512f avx512_bf16\n")
    assert engine.order_precisions(both, 224) == ["bf16", "fp32"]
    assert engine.order_precisions(["fp32"], 224) == ["fp32"]
    assert engine.order_precisions(both, 32) == ["fp32"]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert engine.order_precisions(both, 224) == ["fp32"]
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    cpuinfo.write_text("flags : avx2\n")
    assert engine.order_precisions(both, 224) == ["fp32"]


def jpeg_with(extra, size=(40, 30)):
    whole = picture(form="JPEG", size=size)
    return whole[:2] + extra + whole[2:]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (jpeg_with(20 * (b"\xff\xe1\x00\x12Exif\0\0" + b"x" * 10)), "16 Exif segments"),
        (jpeg_with(300_000 * (b"\xff\xe1\x00\x12Exif\0\0" + b"x" * 10)), "16 Exif segments"),
        (jpeg_with(100_000 * b"\xff\xfe\x00\x02"), "more than 2000 segments"),
        (picture()[:8] + 100_000 * b"\0\0\0\0teXt\0\0\0\0" + picture()[8:], "more than 2000 chunks"),
        (picture()[:33] + 17 * b"\0\0\0\0zTXt\0\0\0\0" + picture()[33:], "more than 16 compressed texts"),
        (picture("L", size=(1, 70_000)), "65500 for a side"),
    ],
    ids=["Exif", "much Exif", "segments", "chunks", "texts", "one column"],
)
def test_slow_pictures_are_rejected_at_once(body, words):
    began = time.process_time()
    with pytest.raises(PictureError, match=words):
        picture_bytes.prepare_picture(body, {"pixels": 8, "mean": [0.5] * 3, "std": [0.5] * 3})
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("form", "options", "large"),
    [("PNG", {}, True), ("JPEG", {}, False), ("JPEG", {"progressive": True}, True)],
    ids=["PNG", "JPEG", "progressive"],
)
def test_large_pictures_are_decoded_one_at_a_time(monkeypatch, form, options, large):
    """A JPEG is decoded at a fraction of its size, so it is not large, unless it is progressive."""
    monkeypatch.setattr(picture_bytes, "LARGE_BYTES", 1_000_000)
    held, convert = [], imaging.convert_to_rgb
    monkeypatch.setattr(
        imaging, "convert_to_rgb", lambda image: held.append(picture_bytes.one_large.locked()) or convert(image)
    )
    picture_bytes.prepare_picture(
        picture("RGB", form, (600, 600), **options), {"pixels": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    )
    assert held == [large]
    assert not picture_bytes.one_large.locked()


def test_data_after_the_picture_is_not_counted():
    """A video behind the JPEG has the bytes of a start of scan once in 64 KiB, by chance."""
    whole = picture(form="JPEG", size=(40, 30)) + b"\xff\xda" * 1000 + os.urandom(100_000)
    assert picture_bytes.prepare_picture(whole, {"pixels": 8, "mean": [0.5] * 3, "std": [0.5] * 3}).shape == (
        1,
        3,
        8,
        8,
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = Image.new("RGB", (32, 32), "white")
    upright.paste((255, 0, 0), (0, 0, 16, 16))
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what undoes each, of Pillow's own
    stored = upright.transpose(Image.Transpose(turned[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    packed = io.BytesIO()
    stored.save(packed, "PNG", exif=exif)
    assert np.array_equal(np.asarray(decode_square(packed.getvalue(), 32)), np.asarray(upright))


def test_commands_allow_the_tolerance_of_the_server():
    assert max(engine.TOLERANCE.values()) == golden_answers.TOLERANCE
