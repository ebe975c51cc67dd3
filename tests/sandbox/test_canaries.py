"""No secret is written: canaries are planted wherever commands may meet one, and everything that they write is searched for them."""

import base64
import configparser
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from ops.core.paths import WORK
from tests.conftest import HOME, checked
from tests.in_process import run_invoke


def make_canary(name):
    """A secret of 40 characters that names where it was planted, as AWS's are: letters, digits, + and /."""
    return (f"{name}Canary+/" + "7aK/z+Qx9" * 4)[:40]


CANARIES = {name: make_canary(name) for name in ("env", "session", "url", "query", "argument", "answer", "token")}
KEY_IN_ANSWER = "AKIACANARYCANARY2345"
ENVIRONMENT = {
    "GITHUB_TOKEN": CANARIES["env"],
    "DATABASE_PASSWORD": CANARIES["env"],
    "AWS_SECRET_ACCESS_KEY": CANARIES["env"],
    "AWS_SESSION_TOKEN": CANARIES["session"],
    "INVOKE_SUDO_PASSWORD": CANARIES["env"],
}
ANSWER = (
    f"The key {KEY_IN_ANSWER} with aws_secret_access_key={CANARIES['answer']} is wrong; "
    f"<SessionToken>{CANARIES['token']}</SessionToken> https://b/k?X-Amz-Signature={CANARIES['token']}"
)


def spell(secret):
    """The forms in which a secret may be written: plain, in a URL, in JSON, and in base64 wherever it begins in a triple of bytes."""
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + secret.encode()).decode()
        inner = whole[4 * bool(shift) : -4]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def read_own_keys():
    """The secret keys and tokens of the sandbox's own profiles."""
    found = configparser.ConfigParser()
    found.read(HOME / "sandbox/aws/config")
    return {
        f"{name}.{key}": value
        for name, section in found.items()
        for key, value in section.items()
        if key in ("aws_secret_access_key", "aws_session_token")
    }


def find_canaries(written, secrets):
    """(where, canary) of each secret in the texts, by name, in any form."""
    return sorted(
        (where, name)
        for where, text in written.items()
        for name, secret in secrets.items()
        if any(form in text for form in spell(secret))
    )


def read_work_files(newer_than):
    return {
        str(path.relative_to(WORK)): path.read_bytes().decode("latin-1")
        for path in WORK.rglob("*")
        if path.is_file() and path.stat().st_mtime >= newer_than and path.stat().st_size < 20_000_000
    }


@pytest.mark.parametrize(
    "form", [str, quote, lambda s: base64.b64encode(b"ab" + s.encode()).decode()], ids=["plain", "url", "base64"]
)
def test_search_finds_a_canary_in_any_form(form):
    secret = CANARIES["env"]
    assert find_canaries({"log": f"before{form(secret)}after"}, {"env": secret}) == [("log", "env")]
    assert find_canaries({"log": "nothing"}, {"env": secret}) == []


@pytest.fixture
def refusing():
    """host:port of a server that answers 403 to every request."""
    handler = type(
        "Refusing",
        (BaseHTTPRequestHandler,),
        {"do_GET": lambda self: self.send_error(403), "log_message": lambda *_: None},
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_canaries_are_in_nothing_that_is_written(make_stack, inject_fault, tmp_path, refusing):
    """Environment, settings, arguments, AWS's answers, URLs and keys; stdout, stderr, --debug, tracebacks, audit log and reports."""
    query = f"X-Amz-Signature={quote(CANARIES['query'], safe='')}&token={CANARIES['query']}"
    service = f"http://me:{quote(CANARIES['url'], safe='')}@{refusing}/a.zip?{query}"
    more = {
        "data": {
            "archives": {
                "canary": {"url": f"http://{refusing}/a.zip?{query}", "sha256": "", "classes": 0, "pictures": {}}
            }
        },
        "net": {"address_service": service},
    }
    cli = make_stack("canaries", "\n".join(f"{section}: {json.dumps(values)}" for section, values in more.items()))
    began = max((path.stat().st_mtime for path in WORK.rglob("*")), default=0.0)
    written, codes = {}, {}

    def run(*words, fault="", flags=()):
        if fault:
            inject_fault(
                "fault",
                operation=fault,
                do="error",
                code="InternalFailureOfCanary",
                message=ANSWER,
                status=400,
                times=20,
            )
        ran = checked(run_invoke([*flags, "-f", str(cli.file), *words], ENVIRONMENT), False)
        inject_fault("faults/clear")
        written[" ".join((*flags, words[0], fault))], codes[" ".join((words[0], fault))] = ran.said, ran.code

    run("data.up")
    run("doctor")
    run("net.up", "--dry")
    run("iam.audit", "--json")
    run("data.fetch", "canary", "--dir", str(tmp_path / "one"))
    run("net.my-address")
    run("data.fetch", f"http://{refusing}/b.zip?token={CANARIES['argument']}", "--dir", str(tmp_path / "two"))
    run("net.up", fault="CreateVpc")
    run("ec2.status", fault="DescribeInstances")
    run("sm.status", fault="DescribeEndpoint")
    run("doctor", fault="GetCallerIdentity")
    run("net.up", "--dry", flags=["--debug"])
    run("data.fetch", "canary", "--dir", str(tmp_path / "three"), flags=["--debug"])
    run("stack.log")
    written |= {f".kennel/{name}": text for name, text in read_work_files(began).items()}
    written |= {str(path): path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()}
    failed = {"data.fetch ", "net.my-address ", *(name for name in codes if not name.endswith(" "))}
    assert {name for name, code in codes.items() if code} == failed
    assert any(name.endswith("audit.jsonl") for name in written), sorted(written)
    assert f"http://{refusing}/a.zip does not answer" in written["net.my-address "]
    assert all("InternalFailureOfCanary" in written[name] for name in failed if not name.endswith(" "))
    secrets = CANARIES | {"key": KEY_IN_ANSWER} | read_own_keys()
    assert len(secrets) > len(CANARIES) + 1
    assert find_canaries(written, secrets) == []
