"""AWS's errors as sentences that end in the next command, and the redaction of call arguments for the log."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as sdk

from ops.core.errors import AwsError, OpsError, Unreachable
from ops.core.masking import mask_keys

SKEWED = ("RequestTimeTooSkewed", "RequestExpired")  # EC2 also returns the second for an expired session
OFF_MIN = 4.0  # minutes; AWS rejects a signature that is 5 minutes off
HIDDEN = ("Environment", "UserData", "AccessKeyId")  # arguments that are never logged
LOCAL_HOSTS = ("127.0.0.1", "localhost")
NO_KEYS = (  # session.py loads the keys first, so these are of keys that a long command has to fetch again
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.TokenRetrievalError,
    sdk.CredentialRetrievalError,
    sdk.SSOError,
    sdk.LoginError,
)
SHORT = 8  # characters: shorter values are not redacted, since they occur in messages by chance


def build_aws_error(error: Any) -> AwsError:
    details = error.response.get("Error", {})
    code, reason = details.get("Code", "?"), mask_keys(details.get("Message", ""))
    off = compute_clock_skew_minutes(error.response)
    if code.startswith("ExpiredToken") or (code == "RequestExpired" and off is not None and abs(off) < OFF_MIN):
        reason += " The session has expired: log in again, then run the same command"
    elif code in SKEWED or "Signature expired" in reason or "Signature not yet current" in reason:
        by = "" if off is None else f" by {off:+.0f} minutes"
        reason += f" This machine's clock is wrong{by}, and AWS rejects signatures that are 5 minutes off."
        reason += " Set it: sudo timedatectl set-ntp true"
    elif code == "NoSuchBucket":
        reason = f"{reason.rstrip('.')}. Create it: invoke data.up"
    if error.operation_name == "AssumeRole":
        reason = f"{reason.rstrip('.')}. Each command assumes its own role of the stack. What is missing: invoke doctor"
    return AwsError(error.operation_name, code, reason, find_request_id(error.response))


def find_request_id(answer: Any) -> str:
    """Return AWS's id of the request, by which its support and CloudTrail find it; "" for an answer without one."""
    metadata = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
    return str(metadata.get("RequestId", ""))


def compute_clock_skew_minutes(response: dict[str, Any]) -> float | None:
    """Return the minutes by which this machine's clock is ahead of AWS's, from the answer's Date header; None without one."""
    try:
        theirs = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, TypeError, ValueError):
        return None
    return (datetime.now(UTC) - theirs).total_seconds() / 60


def shorten_for_log(value: Any) -> Any:
    """Return the arguments fit for a log: no bytes, no long texts (a policy, a package), no environment, no key."""
    if isinstance(value, dict):
        return {key: "..." if key in HIDDEN else shorten_for_log(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shorten_for_log(item) for item in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        value = mask_keys(value)
        return value[:200] + "..." if len(value) > 200 else value
    return value


def redact(text: str, args: Any, hidden: bool = False) -> str:
    """Return AWS's message without the values of HIDDEN arguments: an error can repeat an access key id."""
    if isinstance(args, dict):
        for key, item in args.items():
            text = redact(text, item, hidden or key in HIDDEN)
    elif isinstance(args, list | tuple):
        for item in args:
            text = redact(text, item, hidden)
    elif hidden and isinstance(args, str) and len(args) >= SHORT:
        text = text.replace(args, "...")
    return text


def explain_sdk_error(error: Exception) -> Exception:
    """Return an SDK error that an operator can act on as a sentence, any other unchanged: ParamValidationError is our bug."""
    if isinstance(error, sdk.ClientError):
        return build_aws_error(error)
    if isinstance(error, sdk.ProxyConnectionError):
        return Unreachable(f"{error}. Correct or unset HTTPS_PROXY, then run: invoke doctor")
    if isinstance(error, sdk.ConnectionError | sdk.HTTPClientError):
        host = urlsplit(str(error.kwargs.get("endpoint_url", ""))).hostname
        hint = (
            "Is the sandbox running? Start it: invoke sandbox.up"
            if host in LOCAL_HOSTS
            else "Check the network, the proxy and aws.region: invoke doctor"
        )
        return Unreachable(f"Cannot reach AWS: {str(error).rstrip('.')}. {hint}")
    if isinstance(error, NO_KEYS):
        return OpsError(f"There are no usable AWS credentials: {error}. Log in, then run: invoke doctor")
    return error
