"""The page for people in a real browser: a picture is dropped on it, and the function's answer becomes bars."""

import hashlib
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from websockets.sync.client import connect

from ops.core.aws.account import Account
from ops.function import plan
from tests.sandbox.test_function import zip_handler

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Answers with a digest of the bytes that reached it, in the form of lambda/handler.py.
HANDLER = """
import base64, hashlib, json
def lambda_handler(event, context):
    if "requestContext" not in event:
        return {"statusCode": 400, "headers": {}, "body": "{}"}
    data = base64.b64decode(event["body"])
    if event["headers"]["content-type"] != "image/png" or not event["isBase64Encoded"]:
        return {"statusCode": 400, "headers": {}, "body": json.dumps({"message": "not a PNG"})}
    top = [{"class": hashlib.sha256(data).hexdigest()[:8], "probability": 0.75}, {"class": "<b>other</b>", "probability": 0.25}]
    return {"statusCode": 200, "headers": {}, "body": json.dumps({**top[0], "top": top})}
"""


class Browser:
    """A page in headless Chromium, driven by the DevTools protocol."""

    def __init__(self, socket):
        self.socket, self.number = socket, 0

    def send(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=30))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, script):
        return self.send("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def open(self, path):
        self.send("Page.navigate", url=path.as_uri())
        self.wait_for("document.readyState === 'complete' && !!document.getElementById('bars')")

    def drop(self, file):
        """Drop a file on the page, as a mouse does."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        where = json.loads(self.evaluate("JSON.stringify(document.getElementById('drop').getBoundingClientRect())"))
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=where["x"] + 20, y=where["y"] + 20, data=data)

    def wait_for(self, script):
        deadline = time.monotonic() + 30
        while not self.evaluate(script):
            assert time.monotonic() < deadline, self.read_answer()
            time.sleep(0.05)

    def read_answer(self):
        return self.evaluate("document.getElementById('answer')?.textContent")

    def answer_after(self, file):
        self.evaluate("document.getElementById('answer').textContent = ''")
        self.drop(file)
        self.wait_for("!['', '…'].includes(document.getElementById('answer').textContent)")
        return self.read_answer()


@pytest.fixture
def browser(tmp_path):
    argv = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--window-size=700,760", "--remote-debugging-port=0", f"--user-data-dir={tmp_path / 'profile'}", "about:blank"]  # fmt: skip
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stderr if "DevTools listening on" in line)
        port = line.split(":")[-1].split("/")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as found:
            targets = json.load(found)
        with connect(next(one["webSocketDebuggerUrl"] for one in targets if one["type"] == "page")) as socket:
            yield Browser(socket)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, for example: apt-get install chromium")
def test_page_shows_a_dropped_picture_as_bars(make_stack, monkeypatch, browser, tmp_path):
    cli = make_stack("forpeople", "fn: {provisioned: 0, reserved: 5}")
    monkeypatch.setattr(plan, "package_function", lambda: zip_handler(HANDLER))
    cli("lambda.deploy")
    assert "Create it: invoke lambda.url" in cli("lambda.page", ok=False).err
    cli("lambda.url")
    picture, notes = tmp_path / "seven.png", tmp_path / "notes.txt"
    Image.new("RGB", (40, 40), (200, 30, 30)).save(picture)
    notes.write_text("no picture")
    path = Path(cli("lambda.page").out.strip())
    keys = Account(cli.settings, role="operator").credentials().get_frozen_credentials()
    assert keys.secret_key not in path.read_text()

    browser.open(path)
    assert browser.answer_after(picture) == "Paste credentials first."
    for secret, expected in (
        ("x" * 40, "Error 403: The request signature we calculated does not match"),
        (keys.secret_key, f"{hashlib.sha256(picture.read_bytes()).hexdigest()[:8]}, 75.0 %"),
    ):
        lines = f"[default]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = {secret}\naws_session_token={keys.token}\n"
        browser.evaluate(f"document.getElementById('keys').value = {json.dumps(lines)}")
        assert browser.answer_after(picture).startswith(expected)
    bars = "[...document.querySelectorAll('#bars .bar')].map(row => [row.innerText.replace(/\\s+/g, ' '), row.children[1].style.width])"
    assert browser.evaluate(bars) == [
        [f"{hashlib.sha256(picture.read_bytes()).hexdigest()[:8]} 75.0 %", "75%"],
        ["<b>other</b> 25.0 %", "25%"],
    ]
    assert browser.answer_after(notes) == "notes.txt is not a JPEG or PNG."
    cli("lambda.concurrency", "--stop")
    assert browser.answer_after(picture) == "Error 429: Rate Exceeded."
    cli("lambda.down", "--yes")
