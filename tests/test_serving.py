"""The server: SageMaker's contract, on nothing but requirements.txt; bad pictures are the caller's fault, bad releases ours."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import engine
import numpy as np
import pytest
from PIL import Image

from ops import ROOT
from ops.sm import releases
from ops.sm.releases import Release


@pytest.fixture(scope="module")
def release(whole):
    """The release that the demo deployed last."""
    account = whole.account
    jobs = [p for p in releases.MODELS.iterdir() if p.name.startswith("kennel-whole-sm2-")]
    found = releases.known(account, jobs[0].name.rsplit("-", 1)[0])
    return releases.local(account, found).folder


def opt(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "opt" / "model")
    return tmp_path / "opt"


@contextmanager
def serving(root, python=sys.executable):
    port = releases.free_port()
    env = {
        "PATH": os.environ["PATH"],
        "OPT_ML": str(root),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_BIND_HOST": "127.0.0.1",
    }
    server = subprocess.Popen(
        [str(python), "server.py", "serve"],
        cwd=ROOT / "serving",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        releases.ready(server, port)
        yield port, server
    finally:
        server.kill()
        server.wait()


def ask(port, body, kind="image/png"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": kind})
    try:
        with releases.opener().open(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def picture(mode="RGB", form="PNG", size=(20, 10), **more):
    packed = io.BytesIO()
    Image.new(mode, size).save(packed, form, **more)
    return packed.getvalue()


def test_golden_pictures_sent_as_bytes_give_golden_answers(release, tmp_path):
    with serving(opt(release, tmp_path)) as (port, _), np.load(release / "golden.npz") as golden:
        start = 0
        for end, scores in zip(golden["ends"].tolist(), golden["scores"], strict=True):
            status, answer = ask(port, golden["pictures"].tobytes()[start:end])
            start = end
            assert status == 200
            assert np.abs(np.array(answer["scores"]) - scores).max() < 1e-3
            assert answer["best"] == answer["classes"][int(scores.argmax())]
            assert sum(answer["probabilities"]) == pytest.approx(1)
        assert answer["release"] == json.loads((release / "release.json").read_text())["digest"]


@pytest.mark.parametrize(
    ("mode", "form"),
    [("L", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "JPEG")],
)
def test_pictures_of_every_mode_are_taken(release, mode, form):
    assert len(engine.Engine(release).classify(picture(mode, form)).scores) == 10


def test_what_is_no_picture_is_the_callers_fault(release, tmp_path):
    with serving(opt(release, tmp_path)) as (port, _):
        whole = picture(size=(200, 200))
        for body in (
            b"",
            b"text",
            whole[: len(whole) // 2],
            picture(form="GIF"),
            b"\x89PNG\r\n\x1a\n" + os.urandom(500),
        ):
            status, answer = ask(port, body)
            assert (status, "error" in answer) == (400, True)
        assert ask(port, picture(), "text/plain")[0] == 415
        assert ask(port, b"x" * 6_291_457)[0] == 413
        assert ask(port, picture())[0] == 200


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(release):
    with pytest.raises(engine.BadPicture, match="at most 25000000"):
        engine.Engine(release).classify(picture("1", size=(6000, 5000)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m: (m / "model.onnx").unlink(), "not whole"),
        (lambda m: (m / "model.onnx").write_bytes(b"rubbish"), "model.onnx is not the file that was released"),
        (lambda m: (m / "release.json").write_text("{}"), "not whole"),
        (lambda m: resigned(m, "model.onnx", b"rubbish"), "does not load"),
        (lambda m: resigned(m, "golden.npz", other_golden(m)), "does not give its golden answers"),
    ],
    ids=["no model", "spoilt model", "no release", "no network", "wrong answers"],
)
def test_a_bad_release_never_answers_a_ping(release, tmp_path, spoil, words):
    root = opt(release, tmp_path)
    spoil(root / "model")
    with pytest.raises(Exception, match=words), serving(root):
        pass


def resigned(folder, name, data):
    """Replace a file and make release.json agree: what a careless release process could do."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / "release.json").read_text())["files"]
    files[name] = hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    (folder / "release.json").write_text(json.dumps({"digest": digest, "files": files}))


def other_golden(folder):
    with np.load(folder / "golden.npz") as golden:
        packed = io.BytesIO()
        np.savez(packed, pictures=golden["pictures"], ends=golden["ends"], scores=golden["scores"][::-1])
    return packed.getvalue()


def test_sigterm_lets_running_requests_end(release, tmp_path):
    with serving(opt(release, tmp_path)) as (port, server):
        answers = []
        big = picture(size=(4500, 4500), form="JPEG")
        asking = [threading.Thread(target=lambda: answers.append(ask(port, big)[0])) for _ in range(4)]
        for thread in asking:
            thread.start()
        time.sleep(0.15)
        server.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join()
        assert answers == [200] * 4
        assert server.wait(10) is not None


@pytest.mark.timeout(400)
def test_a_machine_with_requirements_txt_alone_serves(release, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "-r",
            str(ROOT / "serving/requirements.txt"),
        ],
        check=True,
        capture_output=True,
    )
    with serving(opt(release, tmp_path), python) as (port, _):
        assert ask(port, picture())[0] == 200


def test_the_first_golden_picture_is_read_without_numpy(release):
    with np.load(release / "golden.npz") as golden:
        wanted = golden["pictures"].tobytes()[: golden["ends"][0]]
    assert releases.golden_picture(Release(release.name, "job")) == wanted
