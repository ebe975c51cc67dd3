"""The keys of a role, of its kept session or of a new one, and the answers by which AWS refuses a session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from botocore.credentials import DeferredRefreshableCredentials

from ops.core.kept_sessions import MIN_LEFT_S, KeptSession

# AWS's words for a session that has ended, and for keys that it does not know, in each protocol. EC2 says AuthFailure of more than keys.
ENDED = ("ExpiredToken", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "InvalidToken")  # fmt: skip
UNKNOWN_KEY, REVOKED = "validate the provided access credentials", "with an explicit deny in an identity-based policy"
RETRIED = "kennel-retried"  # in a request's context


class RoleCredentials(DeferredRefreshableCredentials):  # type: ignore[misc]
    """A role's keys: of its kept session, else of a new one, which is kept in turn."""

    # botocore fetches new keys 15 minutes before the end, and would then use no session in its last quarter.
    _advisory_refresh_timeout = _mandatory_refresh_timeout = MIN_LEFT_S

    def __init__(self, kept: KeptSession, assume: Callable[[], dict[str, str]]) -> None:
        super().__init__(self._fetch, "assume-role")
        self._kept, self._assume = kept, assume
        self._from_file, self._renewed = False, False
        self._renewal = threading.Lock()

    def _fetch(self) -> dict[str, str]:
        keys = self._kept.read()
        self._from_file = keys is not None
        if keys is None:
            keys = self._assume()
            self._kept.write(keys)
        return keys

    def retry_with_new_session(self, response: Any, request_dict: Any, **_: Any) -> int | None:
        """Answer botocore's event needs-retry: when AWS refuses a kept session, drop it and send the request once more.

        A session that this process opened itself is not replaced: what AWS says of it is true of the next one too.
        """
        if response is None or RETRIED in request_dict["context"] or not is_session_refused(response[1]):
            return None
        with self._renewal:
            if self._from_file:
                self._kept.drop()
                self._from_file, self._renewed = False, True
                self._frozen_credentials = None  # the next signature fetches new keys
            elif not self._renewed:
                return None
        request_dict["context"][RETRIED] = True
        return 0


def is_session_refused(answer: Any) -> bool:
    """Return whether AWS's answer says that the session has expired, is unknown, or was revoked."""
    return has_session_ended(answer) or REVOKED in read_error(answer)[1]


def has_session_ended(answer: Any) -> bool:
    """Return whether AWS's answer says that the session has expired, or that its keys are unknown."""
    code, reason = read_error(answer)
    return code.startswith(ENDED) or UNKNOWN_KEY in reason


def read_error(answer: Any) -> tuple[str, str]:
    error = answer.get("Error", {}) if isinstance(answer, dict) else {}
    return str(error.get("Code", "")), str(error.get("Message", ""))
