"""The IAM calls that moto lacks or checks too little: boundaries, trust policies, service-linked roles, the policy simulator."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.serialize import never_return
from moto.iam.exceptions import IAMException, ValidationError
from moto.iam.responses import IamResponse

from iampolicy.policy.evaluate import Request, decide_request
from sandbox.iam import resource_lookup, validation
from sandbox.iam.principals import build_request_context, find_principal_rights
from sandbox.world import get_world


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
            validation.validate_boundary(boundary)
        answer = super().create_user()
        if boundary:
            set_user_boundary(self.backend.get_user(self._get_param("UserName")), boundary)
        return answer

    def put_user_permissions_boundary(self) -> ActionResult:
        boundary = self._get_param("PermissionsBoundary")
        validation.validate_boundary(boundary)
        set_user_boundary(self.backend.get_user(self._get_param("UserName")), boundary)
        return EmptyResult()

    def delete_user_permissions_boundary(self) -> ActionResult:
        set_user_boundary(self.backend.get_user(self._get_param("UserName")), None)
        return EmptyResult()

    def create_role(self) -> ActionResult:
        validation.validate_trust(self._get_param("AssumeRolePolicyDocument"))
        validation.validate_boundary(self._get_param("PermissionsBoundary"))
        return super().create_role()

    def update_assume_role_policy(self) -> ActionResult:
        validation.validate_trust(self._get_param("PolicyDocument"))
        return super().update_assume_role_policy()

    def put_role_permissions_boundary(self) -> ActionResult:
        validation.validate_boundary(self._get_param("PermissionsBoundary"))
        return super().put_role_permissions_boundary()

    def attach_role_policy(self) -> ActionResult:
        validation.validate_policy_arn(self._get_param("PolicyArn"))
        return super().attach_role_policy()

    def create_policy(self) -> ActionResult:
        validation.validate_policy_size(self._get_param("PolicyDocument"))
        return super().create_policy()

    def create_policy_version(self) -> ActionResult:
        validation.validate_policy_size(self._get_param("PolicyDocument"))
        return super().create_policy_version()

    def set_default_policy_version(self) -> ActionResult:
        policy = self.backend.get_policy(self._get_param("PolicyArn"))
        if policy.default_version_id == self._get_param("VersionId"):  # moto's policy would have no default version
            return EmptyResult()
        return super().set_default_policy_version()

    def remove_role_from_instance_profile(self) -> ActionResult:
        name = self._get_param("RoleName")
        profile = self.backend.get_instance_profile(self._get_param("InstanceProfileName"))
        if all(role.name != name for role in profile.roles):
            raise IAMException("NoSuchEntity", f"The role with name {name} cannot be found.")
        return super().remove_role_from_instance_profile()

    def delete_policy(self) -> ActionResult:
        validation.validate_policy_removal(self._get_param("PolicyArn"))
        return super().delete_policy()

    def create_service_linked_role(self) -> ActionResult:
        arn = resource_lookup.build_service_role_arn(self._get_param("AWSServiceName"))
        name = arn.rpartition("/")[2]
        if any(role.arn == arn for role in self.backend.roles.values()):
            message = f"Service role name {name} has been taken in this account, please try a different suffix."
            raise IAMException("InvalidInput", message)
        resource_lookup.create_service_linked_role(get_world(), arn)
        return ActionResult({"Role": self.backend.get_role(name)})

    def simulate_principal_policy(self) -> ActionResult:
        """Decide the requests on the principal's identity policies and boundary, as AWS's simulator does."""
        source = self._get_param("PolicySourceArn")
        try:
            caller, rights = find_principal_rights(get_world(), source)
        except KeyError:
            raise IAMException("NoSuchEntity", f"{source} cannot be found.") from None
        context = build_request_context() | {"aws:principalarn": source}
        for entry in self._get_param("ContextEntries", []):
            values = entry.get("ContextKeyValues", [])
            several = entry.get("ContextKeyType", "").endswith("List")
            context[entry["ContextKeyName"].lower()] = values if several else next(iter(values), "")
        results = [
            describe_simulation(action, resource, decide_request(Request(caller, action, resource, context), rights))
            for action in self._get_param("ActionNames", [])
            for resource in self._get_param("ResourceArns", ["*"])
        ]
        return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def describe_simulation(action: str, resource: str, decision: Any) -> dict[str, Any]:
    matched = [{"SourcePolicyId": one.policy, "SourcePolicyType": "IAM Policy"} for one in decision.deciding]
    return {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": decision.effect,
        "MatchedStatements": matched,
        "MissingContextValues": sorted(decision.missing),
    }


def set_user_boundary(user: Any, boundary: str | None) -> None:
    """Set a user's boundary, or remove it for None. moto's users lack these fields; they are named as a role's."""
    user.permissions_boundary_arn = boundary
    fields = {"PermissionsBoundaryType": "PermissionsBoundaryPolicy", "PermissionsBoundaryArn": boundary}
    user.permissions_boundary = fields if boundary else None
