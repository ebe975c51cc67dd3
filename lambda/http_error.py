"""The error that a request ends with: an HTTP status, and a reason for the caller."""

NAMES = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    500: "failed",
    502: "bad_gateway",
    503: "busy",
    504: "timed_out",
}


class HttpError(Exception):
    """The request fails with an HTTP status and a reason for the caller."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def describe(self, request_id: str) -> dict[str, str]:
        """Return the body of the answer: a word for programs, a sentence for people, and what to look for in the log."""
        return {"error": NAMES[self.status], "message": str(self), "request_id": request_id}
