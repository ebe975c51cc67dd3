"""The errors that stop a task: one sentence that says what is wrong, and the command to run next."""

from collections.abc import Iterator
from contextlib import contextmanager

from invoke.exceptions import Exit

from ops.core.text import escape_control_characters

FAILED, DECLINED, DENIED, LOCKED, FINDINGS, INTERRUPTED = 1, 3, 4, 5, 7, 130
STOPPED, ROLLED_BACK = 8, 9  # a release that stopped before AWS changed; one that AWS rolled back

DENIALS = ("AccessDenied", "UnauthorizedOperation", "AuthException", "403")  # 403: HEAD has no body with a code


class OpsError(Exit):
    """The error that stops a task, with a sentence that says what is wrong and what to run next."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        message = escape_control_characters(message)
        super().__init__(message, code=code)
        self.args = (message,)  # str(error) is the message alone


class Unreachable(OpsError):
    """The other end did not answer, or stopped answering; another try may succeed."""


class ProfileError(OpsError):
    """The settings' profile gives no keys. `problem` says why, `fix` is the command to run next."""

    def __init__(self, problem: str, fix: str, code: int = FAILED) -> None:
        super().__init__(f"{problem} To fix it: {fix}", code)
        self.problem, self.fix = escape_control_characters(problem), fix


class AwsError(OpsError):
    """AWS refused a request. `aws_code` is AWS's own error code, `reason` its message, `request_id` its id of the request."""

    def __init__(self, call: str, code: str, reason: str, request_id: str = "") -> None:
        super().__init__(
            f"AWS refused {call}: {code}: {reason}",
            DENIED if code.startswith(DENIALS) else FAILED,
        )
        self.call, self.aws_code, self.reason, self.request_id = call, code, reason, request_id

    def says(self, *words: str) -> bool:
        """Return whether `code: message` contains one of these words; SageMaker's codes alone are too general."""
        return any(word in f"{self.aws_code}: {self.reason}" for word in words)


@contextmanager
def end_on_interrupt(sentence: str) -> Iterator[None]:
    """End the command at Ctrl-C with this sentence, in place of the one that tells to run the command again."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise OpsError(sentence, INTERRUPTED) from error
