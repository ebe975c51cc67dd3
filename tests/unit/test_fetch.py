"""The guarded fetch against hostile urls, names and servers: none of them leads to a listener on this machine, or holds the fetch up.

Names and connections are the test's: a public address leads to one of its servers, any other address to a canary that must stay silent.
"""

import gzip
import ipaddress
import itertools
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import fetch
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from deadline import Deadline
from http_error import HttpError

PNG = b"\x89PNG\r\n\x1a\n" + b"p" * 5000
JPEG = b"\xff\xd8\xff\xe0" + b"j" * 5000
MOST = 100_000
HURRY_S = 0.5  # the deadline of a hostile server


def write_certificate(path, *names):
    """Write a certificate for the names, which is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The path of the certificate that fetches trust, and a context for servers by the kind of their certificate."""
    folder = tmp_path_factory.mktemp("certificates")
    names = [f"{host}.example" for host in ("a", "b", "c", "d", "good", "hostile")]
    contexts = {
        "valid": write_certificate(folder / "valid.pem", *names),
        "of another name": write_certificate(folder / "other.pem", "other.example"),
        "of another authority": write_certificate(folder / "untrusted.pem", *names),
    }
    trusted = folder / "trusted.pem"
    trusted.write_text((folder / "valid.pem").read_text() + (folder / "other.pem").read_text())
    return trusted, contexts


class Listener:
    """A server on loopback. `serve` gets each connection and the event that ends the test; with a context, TLS comes first."""

    def __init__(self, serve, context=None):
        self.serve, self.context, self.count, self.received = serve, context, 0, b""
        self.ended = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.count += 1
                threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        with connection, suppress(OSError):
            connection.settimeout(10)
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                if self.context:
                    self.received = connection.recv(65536)
                self.serve(connection, self.ended)

    def close(self):
        self.ended.set()
        self.socket.close()


class Internet:
    """Names, and the listeners behind their addresses. What has no listener leads to the canary."""

    def __init__(self, trusted, contexts):
        self.trusted, self.contexts = trusted, contexts
        self.canary = Listener(lambda connection, ended: None)
        self.names, self.listeners, self.resolved, self.connected = {}, {}, [], []
        self.free = (str(ipaddress.IPv4Address("93.184.216.1") + number) for number in itertools.count())

    def add(self, host, serve, certificate="valid", address=""):
        """Put a server behind a host; `serve` is a function, or all that it sends."""
        address = address or next(self.free)
        context = self.contexts[certificate] if certificate else None
        self.listeners[address] = Listener(serve if callable(serve) else send(serve), context)
        self.names[host] = [address]

    def resolve(self, host):
        self.resolved.append(host)
        found = self.names.get(host, ["127.0.0.1"])
        return found() if callable(found) else found

    def connect(self, address, seconds):
        self.connected.append(address)
        listener = self.listeners.get(address, self.canary)
        return socket.create_connection(("127.0.0.1", listener.port), timeout=seconds)

    def fetch(self, url, allowed="public", seconds=5.0):
        network = fetch.Network(self.resolve, self.connect, lambda: ssl.create_default_context(cafile=self.trusted))
        return fetch.fetch_picture(url, allowed, MOST, Deadline(seconds), network)

    def close(self):
        for listener in (self.canary, *self.listeners.values()):
            listener.close()


@pytest.fixture
def internet(authority):
    found = Internet(*authority)
    yield found
    found.close()


def send(*parts, pause=0.0):
    """Return a server that sends the parts one after the other, each followed by a pause."""

    def serve(connection, ended):
        for part in parts:
            connection.sendall(part)
            if pause and ended.wait(pause):
                return

    return serve


def repeat(head, part, pause=0.0):
    """Return a server that sends a head, and then the same part for ever."""

    def serve(connection, ended):
        connection.sendall(head)
        while not ended.wait(pause):
            connection.sendall(part)

    return serve


def wait(connection, ended):
    ended.wait(10)


def answer(body=PNG, status="200 OK", *headers, length=True):
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(location, status="302 Found"):
    return answer(b"", status, f"Location: {location}")


def chunk(body, size=1000):
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    encoded = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\n\r\n"
    return answer(encoded, "200 OK", "Transfer-Encoding: chunked", length=False)


METADATA = "169.254.169.254"
HOSTILE_URLS = [
    # other schemes, and none
    "http://a.example/", "file:///proc/self/environ", "file://a.example/etc/passwd", "data:image/png;base64,iVBORw0KGgo=", "ftp://a.example/x.png",
    "gopher://127.0.0.1:6379/_INFO", "dict://127.0.0.1:11211/", "jar:https://a.example!/", "netdoc:///etc/passwd", "ldap://127.0.0.1/", "//a.example/",
    "a.example/x.png", "https:a.example", "https:/a.example", "https:///a.example", "https//a.example", "httpss://a.example", "x-https://a.example", "",
    " ", "/", "javascript:alert(1)", "blob:https://a.example/x", "view-source:https://a.example/", "unix:///var/run/docker.sock",
    # the metadata address and loopback, in every spelling
    f"https://{METADATA}/", f"https://{METADATA}/latest/meta-data/", "https://2852039166/", "https://0xA9FEA9FE/", "https://0xa9.0xfe.0xa9.0xfe/",
    "https://0251.0376.0251.0376/", "https://025177524776/", "https://169.254.43518/", "https://169.16689662/", "https://169.254.0xa9fe/",
    f"https://{METADATA}./", "https://%31%36%39.254.169.254/", "https://169。254。169。254/", "https://①⑥⑨.254.169.254/", "https://[::ffff:169.254.169.254]/",
    "https://[::ffff:a9fe:a9fe]/", "https://[fd00:ec2::254]/", "https://[64:ff9b::a9fe:a9fe]/", "https://[2002:a9fe:a9fe::]/", "https://[::]/",
    "https://[::1]/", "https://[fe80::1%25lo]/", "https://[v1.x]/", "https://127.0.0.1/", "https://127.1/", "https://127.0.1/", "https://0/", "https://0.0.0.0/",
    "https://0x7f000001/", "https://2130706433/", "https://017700000001/", "https://0x7f.1/", "https://a.0x/", "https://a.0x7f/", "https://10.0.0.1/",
    "https://93.184.216.34/", "https://localhost/", "https://localhost./", "https://LOCALHOST/", "https://metadata/",
    # other ports and user names
    "https://a.example:80/", "https://a.example:8443/", "https://a.example:9001/", "https://a.example:0/", "https://a.example:/", "https://a.example:443443/",
    "https://a.example:-443/", "https://a.example:\uff14\uff14\uff13/", "https://a.example:443:443/", "https://user@a.example/", "https://user:password@a.example/",
    f"https://a.example@{METADATA}/", f"https://{METADATA}@a.example/", "https://a.example:443@127.0.0.1/", "https://@a.example/", "https://:@a.example/",
    f"https://a.example\\#@{METADATA}/", f"https://a.example\\@{METADATA}/", "https://a.example%40127.0.0.1/", "https://a.example&@127.0.0.1/",
    # what parsers disagree about
    "https://a.example\\.evil.example/", "https:\\\\a.example\\", "https://a.example\t/", "https://a.exam\nple/", "https://a.example/\r\nHost: b.example",
    "https://a.example/ HTTP/1.1\r\nX: y", "https://a.example/x y", "\thttps://a.example/", "https://a.example/\x00", "https://a.example/é", "https://ä.example/",
    "https://a.example/\ud800", "https://\u202ea.example/", "https://a.example\u2044x/", "https://a..example/", "https://.a.example/", "https://-a.example/",
    "https://a-.example/", "https://a.example../", "https://" + "a" * 64 + ".example/", "https://" + "a." * 130 + "example/", "https://a.example/" + "x" * 2048,
    "https://a.example,b.example/", "https://*.example/", "https://a.example;b/", "https://a example/", "https://$(id).example/", "https://{a}.example/",
    "https://a.example%00.b.example/", "https://a.example%2f@b.example/", "https://<a>.example/", "https://'a'.example/", "https://a|b.example/",
]  # fmt: skip

HOSTILE_ADDRESSES = [
    METADATA, "169.254.170.2", "169.254.0.1", "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1::5db8:d822", "2002:a9fe:a9fe::",
    "2002:7f00:1::", "2002:a00:1::1", "2002:e000:1::", "2001:0:5db8:d822:0:ffff:5601:5601", "2001:0:a9fe:a9fe::", "2001:0:7f00:1:0:0:f5ff:fffe",
    "fd00:ec2::254", "fc00::1", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "ff0e::1", "100::1", "2001:db8::1", "2001:2::1", "3fff::1", "5f00::1", "4000::1",
    "127.0.0.1 ", "not an address", "",
]  # fmt: skip


def test_hostile_table_is_long_enough():
    assert len({*HOSTILE_URLS, *HOSTILE_ADDRESSES, *HOSTILE_SERVERS}) >= 120
    assert len(GOOD) >= 30


def test_hostile_url_is_refused_before_its_name_is_resolved(internet):
    for url in HOSTILE_URLS:
        with pytest.raises(HttpError) as refused:
            internet.fetch(url)
        assert (refused.value.status, internet.resolved, internet.connected) == (400, [], []), url


def test_name_with_a_hostile_address_is_refused(internet):
    """Alone, and beside a public one: the name's owner decides which of them comes first."""
    for address in HOSTILE_ADDRESSES:
        for found in ([address], ["93.184.216.34", address], [address, "93.184.216.34"]):
            internet.names["a.example"] = found
            with pytest.raises(HttpError) as refused:
                internet.fetch("https://a.example/x.png")
            assert (refused.value.status, internet.connected) == (403, []), found


HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(b"\x89PNG\r\n\x1a\n" + bytes(10_000_000))
HOSTILE_SERVERS = {
    # (server, status)
    "redirect to loopback": (redirect("https://127.0.0.1/"), 400),
    "redirect to metadata": (redirect(f"http://{METADATA}/latest/meta-data/"), 400),
    "redirect to metadata's name": (redirect("https://metadata.example/"), 403),
    "redirect to http": (redirect("http://good.example/"), 400),
    "redirect to file": (redirect("file:///proc/self/environ"), 400),
    "redirect to data": (redirect("data:image/png;base64,iVBORw0KGgo="), 400),
    "redirect to port": (redirect("https://good.example:9001/"), 400),
    "redirect to user": (redirect(f"https://good.example@{METADATA}/"), 400),
    "redirect to relative host": (redirect(f"//{METADATA}/"), 400),
    "redirect to brackets": (redirect("https://[::1]/"), 400),
    "redirect to broken brackets": (redirect("https://[::1/"), 502),
    "redirect without end": (redirect("https://hostile.example/"), 502),
    "redirect without location": (answer(b"", "302 Found"), 502),
    "redirect with two locations": (answer(b"", "302 Found", "Location: /a", "Location: /b"), 400),
    "multiple choices": (answer(PNG, "300 Multiple Choices"), 502),
    "not found": (answer(PNG, "404 Not Found"), 502),
    "partial content": (answer(PNG, "206 Partial Content"), 502),
    "not http": (b"SSH-2.0-OpenSSH\r\n", 502),
    "http 0.9": (PNG, 502),
    "nothing": (b"", 502),
    "too large, announced": (answer(b"\x89PNG\r\n\x1a\n", "200 OK", f"Content-Length: {MOST + 1}", length=False), 413),
    "too large, hidden": (answer(PNG + bytes(MOST), length=False), 413),
    "too large, chunked": (chunk(PNG + bytes(MOST)), 413),
    "endless body": (repeat(answer(PNG, length=False), bytes(50_000)), 413),
    "endless chunks": (repeat(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + PNG[:5000] + b"\r\n", b"3e8\r\n" + bytes(1000) + b"\r\n"), 413),
    "endless head": (repeat(HEAD, b"X: " + b"x" * 60_000 + b"\r\n"), 413),
    "endless line": (repeat(HEAD, b"x" * 10_000), 502),
    "many small headers": (HEAD + b"X: y\r\n" * 200 + b"\r\n", 502),
    "endless continue": (repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), 413),
    "gzip bomb": (answer(BOMB, "200 OK", "Content-Encoding: gzip"), 502),
    "gzip bomb without a header": (answer(BOMB), 400),
    "brotli": (answer(PNG, "200 OK", "Content-Encoding: br"), 502),
    "html": (answer(b"<html>" * 1000, "200 OK", "Content-Type: image/png"), 400),
    "svg": (answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), 400),
    "webp": (answer(b"RIFF\0\0\0\0WEBPVP8 "), 400),
    "empty picture": (answer(b""), 400),
    "one byte": (answer(b"\x89"), 400),
    "cut body": (answer(PNG)[:-100], 502),
    "cut chunk": (chunk(PNG)[:-400], 502),
    "bad chunk size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 502),
    "slow answer": (wait, 504),
    "slow head": (repeat(b"", b"H", pause=0.05), 504),
    "slow header lines": (repeat(HEAD, b"X", pause=0.05), 504),
    "slow body": (repeat(answer(PNG[:8], "200 OK", "Content-Length: 5000", length=False), b"x", pause=0.05), 504),
    "slow chunks": (repeat(HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\n" + PNG[:8] + b"\r\n", b"1\r\nx\r\n", pause=0.05), 504),
    "slow redirects": (lambda connection, ended: ended.wait(0.2) or connection.sendall(redirect("/again")), 504),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_SERVERS)
def test_hostile_server_is_refused_in_time(name, internet):
    server, status = HOSTILE_SERVERS[name]
    internet.add("hostile.example", server)
    internet.add("good.example", answer())
    internet.names["metadata.example"] = [METADATA]
    began = time.monotonic()
    with pytest.raises(HttpError) as refused:
        internet.fetch("https://hostile.example/x.png", seconds=HURRY_S if status == 504 else 5.0)
    assert refused.value.status == status, refused.value
    assert time.monotonic() - began < (HURRY_S + 0.5 if status == 504 else 4.0)
    assert (internet.canary.count, internet.listeners[internet.names["good.example"][0]].count) == (0, 0)


@pytest.mark.parametrize(
    ("certificate", "serve", "status"),
    [
        ("of another name", send(answer()), 502),
        ("of another authority", send(answer()), 502),
        ("", send(answer()), 502),
        ("", wait, 504),
        ("", repeat(b"", b"\x16\x03\x03\x40\x00", pause=0.05), 504),
    ],
    ids=["another name", "another authority", "no encryption", "no handshake", "slow handshake"],
)
def test_server_without_a_valid_handshake_is_refused(certificate, serve, status, internet):
    internet.add("hostile.example", serve, certificate)
    with pytest.raises(HttpError) as refused:
        internet.fetch("https://hostile.example/x.png", seconds=HURRY_S if status == 504 else 5.0)
    assert refused.value.status == status, refused.value


def test_name_is_resolved_once_and_the_checked_address_is_used(internet):
    """DNS rebinding: a second question would be answered with the metadata's address."""
    internet.add("a.example", answer())
    answers = iter([internet.names["a.example"], [METADATA]])
    internet.names["a.example"] = lambda: next(answers)
    assert internet.fetch("https://a.example/x.png") == PNG
    assert (internet.resolved, internet.connected) == (["a.example"], ["93.184.216.1"])


def test_rebinding_between_redirects_is_refused(internet):
    internet.add("a.example", redirect("https://a.example/again"))
    answers = iter([internet.names["a.example"], [METADATA]])
    internet.names["a.example"] = lambda: next(answers)
    with pytest.raises(HttpError, match="not public"):
        internet.fetch("https://a.example/x.png")
    assert internet.canary.count == 0


def test_slow_name_server_is_given_up(internet):
    ended = threading.Event()
    internet.names["a.example"] = lambda: ended.wait(5) and ["93.184.216.34"]
    began = time.monotonic()
    with pytest.raises(HttpError, match="in time"):
        internet.fetch("https://a.example/x.png", seconds=0.2)
    ended.set()
    assert time.monotonic() - began < 1


def test_silent_server_is_given_up_before_the_deadline(monkeypatch, internet):
    monkeypatch.setattr(fetch, "IDLE_S", 0.2)
    internet.add("a.example", wait)
    began = time.monotonic()
    with pytest.raises(HttpError, match="in time"):
        internet.fetch("https://a.example/x.png")
    assert time.monotonic() - began < 2


def test_unknown_name_and_closed_port_are_bad_gateways(internet):
    def fail(*_):
        raise socket.gaierror("Name or service not known")

    internet.names["b.example"] = ["93.184.216.34"]
    internet.connect = lambda address, seconds: fail()
    internet.names["a.example"] = lambda: fail()
    for host in ("a.example", "b.example"):
        with pytest.raises(HttpError) as refused:
            internet.fetch(f"https://{host}/x.png")
        assert refused.value.status == 502


def test_second_address_is_tried_when_the_first_refuses(internet):
    internet.add("a.example", answer())
    internet.names["a.example"] = ["93.184.216.200", *internet.names["a.example"]]
    connect = internet.connect

    def refuse_first(address, seconds):
        if address == "93.184.216.200":
            raise ConnectionRefusedError
        return connect(address, seconds)

    internet.connect = refuse_first
    assert internet.fetch("https://a.example/x.png") == PNG


@pytest.mark.parametrize("host", ["b.example", "a.example.b.example", "xa.example", "example"])
def test_only_listed_hosts_are_fetched(host, internet):
    internet.add(host, answer())
    with pytest.raises(HttpError):
        internet.fetch(f"https://{host}/x.png", allowed="a.example,c.example")
    assert internet.connected == []


def test_redirect_to_a_host_that_is_not_listed_is_refused(internet):
    internet.add("a.example", redirect("https://b.example/x.png"))
    internet.add("b.example", answer())
    with pytest.raises(HttpError) as refused:
        internet.fetch("https://a.example/x.png", allowed="a.example")
    assert (refused.value.status, len(internet.connected)) == (403, 1)


# (url, what a.example answers, the address of a.example)
GOOD = [
    *(
        (url, answer(), "")
        for url in (
            "https://a.example/x.png", "https://a.example", "https://a.example/", "https://A.EXAMPLE/x", "HTTPS://a.example/x", "https://a.example:443/x",
            "https://a.example./x", "https://a.example/x?y=z", "https://a.example?y=z", "https://a.example/x#fragment", "https://a.example/%20%C3%A9",
            "https://a.example/a/../b", "https://a.example/user@b.example", "https://a.example/?u=http://127.0.0.1/", "https://a.example/[x]",
            "https://a.example/" + "x" * 2000,
        )
    ),
    ("https://a.example/", answer(JPEG), ""),
    ("https://a.example/", answer(JPEG + bytes(MOST - len(JPEG))), ""),
    ("https://a.example/", answer(PNG, length=False), ""),
    ("https://a.example/", chunk(PNG), ""),
    ("https://a.example/", chunk(PNG, size=1), ""),
    ("https://a.example/", answer(PNG, "200 OK", "Content-Type: text/html"), ""),
    ("https://a.example/", answer(PNG, "200 OK", "Content-Encoding: identity"), ""),
    ("https://a.example/", b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), ""),
    ("https://a.example/", answer().replace(b"1.1", b"1.0"), ""),
    ("https://a.example/", answer(PNG, "200 OK", "Connection: keep-alive"), ""),
    ("https://a.example/", send(*[answer()[start : start + 500] for start in range(0, 6000, 500)], pause=0.005), ""),
    *(("https://a.example/", answer(), address) for address in (
        "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822", "::ffff:93.184.216.34", "2002:5db8:d822::1")),
    *(("https://a.example/", redirect("https://b.example/x", f"{status} Moved"), "") for status in (301, 302, 303, 307, 308)),
    ("https://a.example/", redirect("//b.example/x"), ""),
    ("https://a.example/", redirect("https://c.example/1"), ""),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_good_url_is_fetched(number, internet):
    url, served, address = GOOD[number]
    internet.add("a.example", served, address=address)
    internet.add("b.example", answer())
    internet.add("c.example", redirect("https://d.example/2"))
    internet.add("d.example", redirect("https://b.example/3"))
    found = internet.fetch(url, allowed="public" if number % 2 else "a.example,b.example,c.example,d.example")
    assert found.startswith((PNG, JPEG))
    assert internet.canary.count == 0


def test_request_asks_for_an_uncompressed_picture_by_name(internet):
    internet.add("a.example", answer())
    internet.fetch("https://a.example/x.png?y")
    lines = internet.listeners["93.184.216.1"].received.decode().split("\r\n")
    assert lines[0] == "GET /x.png?y HTTP/1.1"
    assert {"Host: a.example", "Accept-Encoding: identity", "Connection: close"} <= set(lines)


@pytest.mark.parametrize(
    ("addresses", "connected"),
    [
        (["93.184.216.34"], [("93.184.216.34", 443)]),
        (["127.0.0.1"], []),
        (["::1"], []),
        (["93.184.216.34", "10.0.0.1"], []),
    ],
    ids=["public", "loopback", "loopback in IPv6", "both"],
)
def test_function_itself_connects_to_checked_addresses(monkeypatch, addresses, connected):
    """Without a network of the test: the name server's answer is replaced, and the connection recorded and refused."""
    tried = []

    def refuse(address, timeout):
        tried.append(address)
        raise ConnectionRefusedError

    families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
    found = [(family, 1, 6, "", (address, 443)) for family, address in zip(families, addresses, strict=True)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, type: found)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(HttpError) as refused:
        fetch.fetch_picture("https://a.example/x.png", "public", MOST, Deadline(5))
    assert (tried, refused.value.status) == (connected, 502 if connected else 403)


def test_addresses_of_ipv4_are_tried_first(monkeypatch):
    found = [(socket.AF_INET6, 1, 6, "", ("2606::1", 443, 0, 0)), *[(socket.AF_INET, 1, 6, "", ("8.8.8.8", 443))] * 2]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, type: found)
    assert fetch.resolve("a.example") == ["8.8.8.8", "2606::1"]


def test_function_reaches_the_internet_only_by_itself():
    """The network that tests replace is a parameter, which the handler never gives."""
    assert fetch.Network(fetch.resolve, fetch.connect, ssl.create_default_context) == fetch.INTERNET
    assert fetch.fetch_picture.__defaults__ == (fetch.INTERNET,)
