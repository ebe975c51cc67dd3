"""The server: SageMaker's contract, on nothing but requirements.txt; bad pictures are the caller's fault, bad releases ours."""

import asyncio
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
import server
from starlette.requests import Request

from imaging import PictureError
from ops.core.paths import ROOT
from ops.releases import build, load_test, preflight, trained_model
from ops.releases import golden as golden_answers
from ops.releases.build import Release
from tests.unit.test_serving import picture


@pytest.fixture(scope="module")
def release(demo_stack):
    """The release that the demo deployed last."""
    account = demo_stack.account
    jobs = [p for p in trained_model.MODELS.iterdir() if p.name.startswith("kennel-whole-sm2-")]
    found = build.find_job_release(account, jobs[0].name.rsplit("-", 1)[0])
    return build.fetch_release(account, found).folder


def opt(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "opt" / "model")
    return tmp_path / "opt"


@contextmanager
def serving(root, python=sys.executable, **more):
    port, said = preflight.find_free_port(), root / "log"
    env = {
        "PATH": os.environ["PATH"],
        "OPT_ML": str(root),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_BIND_HOST": "127.0.0.1",
        **more,
    }
    with said.open("w") as log:
        argv = [str(python), "server.py", "serve"]
        server = subprocess.Popen(argv, cwd=ROOT / "serving", env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        preflight.wait_until_ready(server, port, said, Release("0" * 64, "job"))
        yield port, server
    finally:
        server.kill()
        server.wait()


def ask(port, body, kind="image/png"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": kind})
    try:
        with preflight.build_direct_opener().open(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_golden_pictures_give_golden_answers(release, tmp_path):
    certain_from = json.loads((release / "model.json").read_text())["metrics"]["valid"]["certain_from"]
    with serving(opt(release, tmp_path)) as (port, _), np.load(release / "golden.npz") as golden:
        start = 0
        for end, scores in zip(golden["ends"].tolist(), golden["scores"], strict=True):
            status, answer = ask(port, golden["pictures"].tobytes()[start:end])
            start = end
            assert status == 200
            assert np.abs(np.array(answer["scores"]) - scores).max() < 1e-3
            assert answer["best"] == answer["classes"][int(scores.argmax())]
            assert sum(answer["probabilities"]) == pytest.approx(1)
            assert answer["certain"] is (max(answer["probabilities"]) >= certain_from)
        assert answer["release"] == json.loads((release / "release.json").read_text())["digest"]


@pytest.mark.parametrize(
    ("mode", "form"),
    [("L", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "JPEG")],
)
def test_pictures_of_every_mode_are_classified(release, mode, form):
    assert len(engine.Engine(release).classify(picture(mode, form)).scores) == 10


def test_invalid_pictures_are_client_errors(release, tmp_path):
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


def test_oversized_picture_is_rejected_before_decoding(release):
    """A picture of too many pixels is rejected before it is decoded."""
    with pytest.raises(PictureError, match="the limit is 25000000"):
        engine.Engine(release).classify(picture("1", size=(6000, 5000)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m: (m / "model.onnx").unlink(), "incomplete or unreadable"),
        (lambda m: (m / "model.onnx").write_bytes(b"rubbish"), "model.onnx is corrupt"),
        (lambda m: (m / "release.json").write_text("{}"), "incomplete or unreadable"),
        (lambda m: resigned(m, "model.onnx", b"rubbish"), "does not load"),
        (lambda m: resigned(m, "golden.npz", other_golden(m)), "does not reproduce its golden answers"),
        (lambda m: resigned(m, "golden.npz", b"rubbish"), "golden.npz cannot be read"),
    ],
    ids=["no model", "corrupt model", "no release", "no network", "wrong answers", "no golden answers"],
)
def test_bad_release_never_answers_a_ping(release, tmp_path, spoil, words):
    root = opt(release, tmp_path)
    spoil(root / "model")
    with pytest.raises(Exception, match=words), serving(root):
        pass


def resigned(folder, name, data):
    """Replace a file and make release.json agree: what a careless release process could do."""
    (folder / name).write_bytes(data)
    release = json.loads((folder / "release.json").read_text())
    release["files"][name] = hashlib.sha256(data).hexdigest()
    whole = json.dumps({name: release[name] for name in ("files", "precisions")}, sort_keys=True)
    (folder / "release.json").write_text(json.dumps({**release, "digest": hashlib.sha256(whole.encode()).hexdigest()}))


def other_golden(folder):
    with np.load(folder / "golden.npz") as golden:
        packed = io.BytesIO()
        np.savez(packed, pictures=golden["pictures"], ends=golden["ends"], scores=golden["scores"][::-1])
    return packed.getvalue()


def test_sigterm_lets_running_requests_finish(release, tmp_path):
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


def test_golden_answers_are_read_without_numpy(release):
    found = golden_answers.read_golden_pictures(release / "golden.npz")
    with np.load(release / "golden.npz") as golden:
        assert b"".join(one.picture for one in found) == golden["pictures"].tobytes()
        assert np.allclose([one.scores for one in found], golden["scores"])


def metric(port, name):
    with preflight.build_direct_opener().open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith(name)}


def test_full_queue_gives_503_and_serves_the_others(release, tmp_path):
    """A request to a full queue gets 503 at once, and the others are answered."""
    with serving(opt(release, tmp_path)) as (port, _):
        limit = int(metric(port, "serving_requests_limit")["serving_requests_limit"])
        assert limit == engine.count_vcpus() * 9
        big = picture(size=(3000, 3000), form="JPEG")
        seen = load_test.run_load(port, [big], 3 * limit, 2.0)
        assert seen.failed == 0
        assert seen.latencies(200)
        assert seen.latencies(503)
        refused = metric(port, "serving_requests_total")['serving_requests_total{status="503"}']
        assert refused == len(seen.latencies(503))
        assert metric(port, "serving_requests_inside")["serving_requests_inside"] == 0
        assert ask(port, picture())[0] == 200  # when the line is empty again


def test_debug_log_has_a_line_per_request_and_no_content(release, tmp_path):
    """The log has a line per request at debug level, and never what was sent."""
    root = opt(release, tmp_path)
    with serving(root, LOG_LEVEL="debug") as (port, _):
        assert ask(port, picture())[0] == 200
        assert ask(port, b"secret")[0] == 400
        assert ask(port, picture(), "text/secret")[0] == 415
        lines = [json.loads(line) for line in (root / "log").read_text().splitlines()]
    assert [line["status"] for line in lines if line["message"] == "answered"] == [200, 400, 415]
    assert "secret" not in (root / "log").read_text()
    (tmp_path / "again").mkdir()
    root = opt(release, tmp_path / "again")
    with serving(root) as (port, _):
        ask(port, picture())
        lines = (root / "log").read_text().splitlines()
        assert [line for line in lines if "goes on as root" not in line] == lines[-1:]  # that it serves


def test_metrics_name_the_release_and_its_precision(release, tmp_path):
    with serving(opt(release, tmp_path)) as (port, _):
        assert ask(port, picture())[0] == 200
        found = metric(port, "serving_")
        assert found['serving_requests_total{status="200"}'] == 1
        assert any(f'digest="{release.name}"' in name and 'precision="fp32"' in name for name in found)
        assert metric(port, "process_resident_memory_bytes")["process_resident_memory_bytes"] > 1e7


def test_jpeg_with_thousands_of_scans_is_rejected_at_once(release):
    """A few bytes a scan, each a pass over 25 megapixels: minutes of work in a body that is allowed."""
    progressive = picture(form="JPEG", size=(5000, 5000), progressive=True)
    start = progressive.index(b"\xff\xda")
    bomb = progressive[:start] + progressive[start:-2] * 60 + progressive[-2:]
    began = time.monotonic()
    with pytest.raises(PictureError, match="more than 40 scans"):
        engine.Engine(release).classify(bomb)
    assert time.monotonic() - began < 5


def test_server_failure_is_a_counted_500(release):
    loaded = engine.Engine(release)
    loaded.classify = lambda body: 1 // 0
    serving = server.Server(loaded)
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}

    async def receive():
        return {"type": "http.request", "body": picture(), "more_body": False}

    answer = asyncio.run(serving.invocations(Request(scope, receive)))
    assert (answer.status_code, json.loads(answer.body)) == (500, {"error": "the server failed"})
    assert b'serving_requests_total{status="500"} 1.0' in serving.telemetry.render()
