"""The IAM calls that moto lacks: boundaries of users, and calls that mean the caller's own user."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.serialize import never_return
from moto.iam.exceptions import NoSuchEntity, ValidationError
from moto.iam.responses import IamResponse


class Iam(IamResponse):
    RESPONSE_KEY_PATH_TO_TRANSFORMER = {
        **IamResponse.RESPONSE_KEY_PATH_TO_TRANSFORMER,
        "ListUsersResponse.Users.User.PermissionsBoundary": never_return,  # as on AWS
    }

    def _get_param(self, param_name: str, if_none: Any = None) -> Any:
        """Return the parameter; a missing UserName means the caller's. moto takes the owner of the key that is acted on."""
        found = super()._get_param(param_name, if_none)
        if param_name != "UserName" or found:
            return found
        own = self.backend.get_user_from_access_key_id(self.get_access_key())
        if own is None:
            raise ValidationError("Must specify userName when calling with non-User credentials")
        return own.name

    def create_user(self) -> ActionResult:
        boundary = self._get_param("PermissionsBoundary")
        if boundary:
            self._check_attachable(boundary)
        answer = super().create_user()
        if boundary:
            set_user_boundary(self.backend.get_user(self._get_param("UserName")), boundary)
        return answer

    def put_user_permissions_boundary(self) -> ActionResult:
        boundary = self._get_param("PermissionsBoundary")
        self._check_attachable(boundary)
        set_user_boundary(self.backend.get_user(self._get_param("UserName")), boundary)
        return EmptyResult()

    def delete_user_permissions_boundary(self) -> ActionResult:
        set_user_boundary(self.backend.get_user(self._get_param("UserName")), None)
        return EmptyResult()

    def _check_attachable(self, boundary: str) -> None:
        if boundary not in self.backend.managed_policies:
            raise NoSuchEntity(f"Scope ARN: {boundary} does not exist or is not attachable.")


def set_user_boundary(user: Any, boundary: str | None) -> None:
    """Set a user's boundary, or remove it for None. moto's users lack these fields; they are named as a role's."""
    user.permissions_boundary_arn = boundary
    fields = {"PermissionsBoundaryType": "PermissionsBoundaryPolicy", "PermissionsBoundaryArn": boundary}
    user.permissions_boundary = fields if boundary else None
