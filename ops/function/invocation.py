"""Invoke the function as its callers do."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.settings import IMAGES
from ops.datasets.samples import Sample
from ops.function.plan import ALIAS, MISSING

IMAGE_BYTES = (6 << 20) * 3 // 4 - 1024  # as in lambda/events.py


def invoke_function(account: Account, event: dict[str, Any]) -> dict[str, Any]:
    """Return the function's unpacked response, with `statusCode` unless that is 200. Raises OpsError when the function failed."""
    try:
        answer = account.call(
            "lambda",
            "invoke",
            retries="lambda",
            FunctionName=account.settings.function_name,
            Qualifier=ALIAS,
            Payload=json.dumps(event).encode(),
        )
    except AwsError as error:
        if error.says(MISSING):
            raise OpsError(
                f"There is no function {account.settings.function_name}:{ALIAS}. Create it: invoke lambda.deploy"
            ) from error
        if error.says("TooManyRequestsException"):
            raise OpsError(
                f"{error}. See what the limits admit: invoke lambda.concurrency. See runbooks/lambda-throttled.md"
            ) from error
        raise
    found = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise OpsError(
            f"The function failed: {found.get('errorType')}: {found.get('errorMessage')}. "
            "Read its log: invoke lambda.logs --errors   Go back a version: invoke lambda.rollback"
        )
    body: Any = json.loads(found["body"])
    if isinstance(body, list):  # the original response format
        return {"scores": body[0], "original": found}
    return body if found["statusCode"] == 200 else {"statusCode": found["statusCode"], **body}


def ask_about_file(account: Account, picture: str) -> dict[str, Any]:
    """Send the file as an {"image"} event. Raises OpsError when there is no such file, or when it does not fit into an event."""
    path = Path(picture)
    if not path.is_file():
        raise OpsError(f"There is no file {picture}. Give a JPEG or PNG file: invoke lambda.invoke --picture FILE")
    if (size := path.stat().st_size) > IMAGE_BYTES:
        raise OpsError(
            f"{picture} has {size:,} bytes; at most {IMAGE_BYTES:,} fit into an event (Lambda's limit of 6 MB). "
            f"Upload it below s3://{account.settings.bucket}/{IMAGES}, and send its s3_uri."
        )
    return invoke_function(account, {"image": base64.b64encode(path.read_bytes()).decode()})


@dataclass(frozen=True)
class SampleAnswer:
    """The answer that the function gave for one test picture, and the release that gave it."""

    picture: str
    truth: str
    answer: str
    release: str


def ask_about_samples(account: Account, samples: list[Sample]) -> list[SampleAnswer]:
    """Send pictures of the bucket as {"s3_uri"} events. Raises OpsError for a response without an answer."""
    answers = []
    for one in samples:
        found = invoke_function(account, {"s3_uri": one.uri(account.settings)})
        if "class" not in found:
            raise OpsError(f"{one.name}: the function answers {found}. Check the endpoint: invoke sm.status")
        answers.append(SampleAnswer(one.name, one.label, found["class"], found["release"]))
    return answers


def has_failed(answer: dict[str, Any]) -> bool:
    """Return whether the function refused the picture or could not classify it."""
    return int(answer.get("statusCode", 200)) >= 400


def format_answer(answer: dict[str, Any]) -> str:
    if has_failed(answer):
        return f"The function answers {answer['statusCode']}: {answer.get('message', answer)}. {suggest_next_step(answer['statusCode'])}"
    if "class" not in answer:
        return json.dumps(answer.get("original", answer))
    doubt = "" if answer.get("certain", True) else "  not certain"
    return f"{answer['class']}  {answer['probability']:.3f}{doubt}  release {answer['release'][:12]}"


def suggest_next_step(status: int) -> str:
    if status < 500:
        return "Send another picture: invoke lambda.invoke --picture FILE. Do callers get this? invoke runbook.show endpoint-4xx"
    return "Check the endpoint: invoke sm.status"
