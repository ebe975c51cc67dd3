"""The error replies of the front end, with AWS's codes, statuses and messages, in the call's protocol."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

from sandbox.state import REGION

Reply = tuple[int, dict[str, str], bytes]
SKEW_S, S3_SKEW_S = 300, 900
OLD_KEY = "The access key does not belong to the running sandbox; it may be from an earlier one. Run: invoke sandbox.up"


class RequestRefused(Exception):
    """The front end refuses the request itself and sends `reply`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply[2].decode())
        self.reply = reply


def reply_error(protocol: str, status: int, code: str, message: str) -> Reply:
    """Return the error in the form that SDKs expect: XML for `ec2`, `query` and `rest-xml` (S3), JSON for all others."""
    inner = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    match protocol:
        case "ec2":
            inner = f"<Response><Errors>{inner}</Errors><RequestID>0</RequestID></Response>"
        case "query":
            inner = f"<ErrorResponse>{inner}<RequestId>0</RequestId></ErrorResponse>"
        case "rest-xml":
            pass
        case _:
            body = json.dumps({"__type": code, "message": message, "Message": message}).encode()
            return status, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": code}, body
    return status, {"Content-Type": "text/xml"}, inner.encode()


def build_malformed_error(protocol: str, message: str, code: str = "", status: int = 400) -> RequestRefused:
    """Return the refusal of a request that cannot be read, or can be read in two ways."""
    usual = {"ec2": "InvalidQueryParameter", "query": "MalformedInput", "rest-xml": "InvalidRequest"}
    return RequestRefused(reply_error(protocol, status, code or usual.get(protocol, "SerializationException"), message))


def build_unsupported_error(protocol: str, what: str) -> RequestRefused:
    return RequestRefused(reply_not_implemented(protocol, what))


def reply_not_implemented(protocol: str, what: str) -> Reply:
    return reply_error(
        protocol, 501, "NotImplementedInSandbox", f"{what} is not part of the sandbox (sandbox/README.md)"
    )


def reply_missing_token(protocol: str) -> Reply:
    if protocol == "rest-xml":
        return reply_error(protocol, 403, "AccessDenied", "Access Denied")
    if protocol == "query":
        return reply_error(protocol, 403, "MissingAuthenticationToken", "Request is missing Authentication Token")
    return reply_error(protocol, 400, "MissingAuthenticationTokenException", "Missing Authentication Token")


def reply_unknown_key(protocol: str) -> Reply:
    status, code, message = {
        "rest-xml": (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
        "ec2": (401, "AuthFailure", "AWS was not able to validate the provided access credentials."),
        "query": (403, "InvalidClientTokenId", "The security token included in the request is invalid."),
        "rest-json": (403, "UnrecognizedClientException", "The security token included in the request is invalid."),
    }.get(protocol, (400, "UnrecognizedClientException", "The security token included in the request is invalid."))
    return reply_error(protocol, status, code, f"{message} {OLD_KEY}")


def reply_expired_token(protocol: str) -> Reply:
    message = "The security token included in the request is expired"
    status, code, message = {
        "rest-xml": (400, "ExpiredToken", "The provided token has expired."),
        "ec2": (400, "RequestExpired", "Request has expired."),
        "query": (403, "ExpiredToken", message),
        "rest-json": (403, "ExpiredTokenException", message),
    }.get(protocol, (400, "ExpiredTokenException", message))
    return reply_error(protocol, status, code, message)


def reply_wrong_region(protocol: str, region: str) -> Reply:
    """Return the refusal of a call for another region: the sandbox is one region, which such a call must not change."""
    if protocol == "rest-xml":
        message = f"The authorization header is malformed; the region '{region}' is wrong; expecting '{REGION}'"
        return reply_error(protocol, 400, "AuthorizationHeaderMalformed", message)
    message = f"Credential should be scoped to a valid region, not '{region}'."
    if protocol in ("query", "ec2"):
        return reply_error(protocol, 403, "SignatureDoesNotMatch", message)
    return reply_error(protocol, 400, "InvalidSignatureException", message)


def check_clock_skew(protocol: str, date: str) -> Reply | None:
    """Return the refusal, in the protocol's words, of a signing time over 5 minutes off (S3: 15), as on AWS; else None."""
    try:
        signed = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    now, allowed = datetime.now(UTC), timedelta(seconds=S3_SKEW_S if protocol == "rest-xml" else SKEW_S)
    if abs(now - signed) <= allowed:
        return None
    if protocol == "rest-xml":
        message = "The difference between the request time and the current time is too large."
        return reply_error(protocol, 403, "RequestTimeTooSkewed", message)
    if signed < now:
        message = f"Signature expired: {date} is now earlier than {format_amz_date(now - allowed)} ({format_amz_date(now)} - 5 min.)"
    else:
        message = f"Signature not yet current: {date} is still later than {format_amz_date(now + allowed)} ({format_amz_date(now)} + 5 min.)"
    if protocol == "ec2":
        return reply_error(protocol, 400, "RequestExpired", message)
    if protocol == "query":
        return reply_error(protocol, 403, "SignatureDoesNotMatch", message)
    return reply_error(protocol, 403 if protocol == "rest-json" else 400, "InvalidSignatureException", message)


def format_amz_date(when: datetime) -> str:
    return f"{when:%Y%m%dT%H%M%SZ}"


def reply_access_denied(service: str, protocol: str, message: str) -> Reply:
    if protocol == "ec2":
        message = f"You are not authorized to perform this operation. {message}"
        return reply_error(protocol, 403, "UnauthorizedOperation", message)
    if protocol in ("query", "rest-xml") or service == "monitoring":  # CloudWatch keeps its old codes in JSON
        return reply_error(protocol, 403, "AccessDenied", message)
    return reply_error(protocol, 403 if service == "lambda" else 400, "AccessDeniedException", message)
