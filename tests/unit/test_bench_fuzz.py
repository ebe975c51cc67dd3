"""What bench.fuzz sends can be made again, and answers and log are judged. 500 bodies: tests/e2e/test_benchmarks.py."""

import io
import re

import pytest
from PIL import Image

from bench import bodies, fuzz
from bench.anatomy import SIGNATURE
from bench.bodies import Body
from bench.fuzz import Response


def test_body_depends_on_its_seed_and_number_only():
    one = bodies.draw_body(3, 70)
    bodies.draw_body(3, 71)
    assert bodies.draw_body(3, 70) == one != bodies.draw_body(4, 70)
    made = bodies.iterate_bodies(3)
    assert [next(made).kind for _ in bodies.KINDS] == [make.__name__.removeprefix("draw_") for make in bodies.KINDS]


@pytest.mark.parametrize("kind", ["whole", "upright", "interlaced", "largest"])
def test_body_expected_to_classify_is_a_picture(kind):
    make = getattr(bodies, f"draw_{kind}")
    with Image.open(io.BytesIO(make(bodies.random.Random(1)))) as picture:
        picture.load()
        assert picture.width * picture.height <= bodies.PIXELS


def test_resized_picture_has_a_valid_checksum():
    file = bodies.draw_resized(bodies.random.Random(1))
    assert file.startswith(SIGNATURE)
    assert bodies.build_chunk(b"IHDR", file[16:29]) == file[8:33]


@pytest.mark.parametrize(
    ("body", "got", "words"),
    [
        (Body(0, "flipped", b"x"), Response(503, 0.1, b'{"error": "late"}'), "answered 503"),
        (Body(0, "flipped", b"x"), Response(0, 0.1, b""), "answered 0"),
        (Body(0, "flipped", b"x"), Response(400, 0.1, b"Internal"), "without a reason"),
        (Body(0, "flipped", b"x"), Response(200, 0.1, b"{}"), "200 without"),
        (Body(0, "flipped", b"x", "text/plain"), Response(400, 0.1, b'{"error": "x"}'), "not 415"),
        (Body(0, "whole", b"x"), Response(400, 0.1, b'{"error": "x"}'), "not 200"),
        (Body(0, "full", bytes(bodies.LIMIT + 1)), Response(400, 0.1, b'{"error": "x"}'), "not 413"),
        (Body(0, "flipped", b"x"), Response(400, 0.1, b'{"error": "x"}'), "^$"),
        (Body(0, "whole", b"x", delivery="short"), Response(0, 0.1, b""), "^$"),
    ],
)
def test_responses_are_judged(body, got, words):
    assert re.search(words, fuzz.judge_response(body, got))


def test_log_is_searched_for_sent_content(tmp_path):
    log = tmp_path / "log"
    lines = [
        '{"level": "debug", "message": "answered", "status": 400}',
        "Traceback",
        '{"level": "info", "message": "x", "body": 1}',
    ]
    log.write_bytes("\n".join(lines).encode() + b'\n{"level": "info", "message": "' + bodies.MARK + b'"}\n')
    odd, answered = fuzz.inspect_log(log)
    assert (len(odd), answered) == (3, 1)
