"""Asking the function, as its callers do."""

from __future__ import annotations

import json
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.function.plan import ALIAS, MISSING, log_group


def ask(account: Account, event: dict[str, Any]) -> dict[str, Any]:
    """The function's answer, unpacked; with `statusCode` where it is not 200. Raises OpsError when the function itself failed."""
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
                f"There is no function {account.settings.function_name}:{ALIAS}. Make it: invoke lambda.deploy"
            ) from error
        raise
    found = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise OpsError(
            f"The function failed: {found.get('errorType')}: {found.get('errorMessage')}. Its log group is {log_group(account.settings)}"
        )
    body = json.loads(found["body"])
    if isinstance(body, list):  # the original's shape
        return {"scores": body[0], "original": found}
    return body if found["statusCode"] == 200 else {"statusCode": found["statusCode"], **body}


def plain_text(answer: dict[str, Any]) -> str:
    if "best" not in answer:
        return json.dumps(answer.get("original", answer))
    return f"{answer['best']}  {max(answer['probabilities']):.3f}  release {answer['release'][:12]}"
