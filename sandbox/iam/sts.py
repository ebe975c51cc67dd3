"""The STS calls that moto checks too little: a session's name and duration, and the tags and source identity it passes on."""

from __future__ import annotations

import re
from typing import Any

from moto.core.responses import ActionResult
from moto.sts.exceptions import STSClientError, STSValidationError
from moto.sts.responses import TokenResponse

from sandbox.iam.principals import find_role
from sandbox.world import get_world

SHORTEST_S, CHAINED_S = 900, 3600
NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
CODE = re.compile(r"(?!0{6})[0-9]{6}", re.ASCII)


WRONG_SERIAL = (
    "MultiFactorAuthentication failed, unable to validate MFA code.  "
    "Please verify your MFA serial number is valid and associated with this user."
)
WRONG_CODE = "MultiFactorAuthentication failed with invalid MFA one time pass code. "


class Sts(TokenResponse):
    def assume_role(self) -> ActionResult:
        caller_session = get_world().keys.get_session(self.get_access_key())
        self._validate_session(chained=caller_session is not None and not caller_session.user)
        inherited = {key: caller_session.tags[key] for key in caller_session.transitive} if caller_session else {}
        given = {tag["Key"]: tag.get("Value", "") for tag in self._get_param("Tags", [])}
        if again := sorted(inherited.keys() & given.keys()):
            raise STSValidationError(f"The session tags {', '.join(again)} are transitive and cannot be overridden")
        return self._record_session(
            super().assume_role(),
            tags=inherited | given,
            transitive=frozenset(inherited) | {key for key in self._get_param("TransitiveTagKeys", []) if key in given},
            source_identity=self._get_param("SourceIdentity", "")
            or (caller_session.source_identity if caller_session else ""),
        )

    def assume_role_with_web_identity(self) -> ActionResult:
        self._validate_session(chained=False)
        return self._record_session(super().assume_role_with_web_identity())

    def get_session_token(self) -> ActionResult:
        """Give a user a session for the code of its device: any six digits but 000000."""
        keys, key = get_world().keys, self.get_access_key()
        serial, code = self._get_param("SerialNumber", ""), self._get_param("TokenCode", "")
        if keys.get_session(key):
            raise STSClientError("AccessDenied", "Cannot call GetSessionToken with session credentials")
        users = get_world().get_global_backend("iam").users.values()
        user = next(one for one in users if any(own.access_key_id == key for own in one.access_keys))
        if serial not in user.mfa_devices:
            raise STSClientError("AccessDenied", WRONG_SERIAL)
        if not CODE.fullmatch(code):
            raise STSClientError("AccessDenied", WRONG_CODE)
        seconds = int(self._get_param("DurationSeconds", 43200))
        return ActionResult({"Credentials": keys.open_user_session(user.name, seconds)})

    def _validate_session(self, chained: bool) -> None:
        name, wanted = self._get_param("RoleSessionName"), int(self._get_param("DurationSeconds", 3600))
        if not NAME.fullmatch(name or ""):
            raise STSValidationError(
                f"1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy constraint: "
                r"Member must satisfy regular expression pattern: [\w+=,.@-]{2,64}"
            )
        if wanted < SHORTEST_S:
            raise STSValidationError(
                f"1 validation error detected: Value '{wanted}' at 'durationSeconds' failed to satisfy constraint: "
                f"Member must have value greater than or equal to {SHORTEST_S}"
            )
        if chained and wanted > CHAINED_S:
            raise STSValidationError(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
            )
        role = find_role(get_world(), self._get_param("RoleArn"))
        if role is not None and wanted > int(role.max_session_duration or CHAINED_S):
            raise STSValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")

    def _record_session(self, answer: ActionResult, **fields: Any) -> ActionResult:
        result: Any = answer.result
        get_world().keys.record_session(result["Credentials"], **fields)
        return answer
