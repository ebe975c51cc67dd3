"""Check the endpoint's answer, and write it in the function's two formats."""

import json
import math
from dataclasses import dataclass
from typing import Any

TOP = 5


@dataclass(frozen=True)
class Answer:
    """The endpoint's answer to one picture: the release that gave it, and scores and probabilities in the order of the classes.

    `certain` is None if the release has no threshold.
    """

    release: str
    classes: list[str]
    scores: list[float]
    probabilities: list[float]
    certain: bool | None
    timings: dict[str, int]


def parse_answer(data: bytes, timings: dict[str, int]) -> Answer:
    """Return the endpoint's answer. Raises ValueError for everything that is not one, NaN and deep nesting too."""
    try:
        found = json.loads(data)
        release, classes, scores = found["release"], found["classes"], found["scores"]
        answer = Answer(release, classes, scores, found["probabilities"], found.get("certain"), timings)
        lists = (answer.classes, answer.scores, answer.probabilities)
        is_whole = all(isinstance(one, list) for one in lists) and len({len(one) for one in lists}) == 1
    except (RecursionError, KeyError, TypeError) as error:
        raise ValueError("the answer is not an object with release, classes, scores and probabilities") from error
    if not is_whole or not answer.classes or not all(isinstance(one, str) for one in [answer.release, *answer.classes]):
        raise ValueError("release or classes of the answer have another form")
    if not isinstance(answer.certain, bool | None):
        raise ValueError("certain of the answer is neither true nor false")
    if not all(is_finite(number) for number in answer.scores + answer.probabilities):
        raise ValueError("scores or probabilities of the answer are not numbers")
    return answer


def is_finite(number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return math.isfinite(number) if isinstance(number, float) else abs(number) < 1 << 53


def build_body(answer: Answer, request_id: str) -> dict[str, Any]:
    """Return the plain answer: the class, the classes that follow it, the release, and where the time went."""
    ranked = sorted(zip(answer.probabilities, answer.classes, strict=True), key=lambda one: -one[0])
    top = [{"class": name, "probability": probability} for probability, name in ranked[:TOP]]
    certain = {} if answer.certain is None else {"certain": answer.certain}
    return {
        **top[0],
        **certain,
        "top": top,
        "release": answer.release,
        "request_id": request_id,
        "timings_ms": answer.timings,
    }


def format_original(answer: Answer, context: Any) -> dict[str, Any]:
    """Return the answer of the project that this one replaced, for its callers: a list of scores as text, and the context as text."""
    body = json.dumps([answer.scores])
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "text/plain", "Access-Control-Allow-Origin": "*"},
        "type-result": str(type(body)),
        "Content-Type-In": str(context),
        "body": body,
    }
