"""The semantic differences between the repository and the account: which permissions iam.apply would add and remove."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.policy.semantics import Grant, merge_permissions, normalise_document, subtract_permissions
from iampolicy.policy.semantics import list_permissions as permissions_of
from ops.core.settings import ROLES, Settings
from ops.iam.revocation import drop_revocations

Effect = Literal["gives", "takes", "leaves"]
OURS = ("kennel:stack", "kennel:name")  # the tags that we set; a role's other tags stay


@dataclass(frozen=True)
class Difference:
    """A difference. `apply` is what iam.apply would do: give what only the repository has, and take or leave what only AWS has."""

    role: str
    kind: str
    apply: Effect
    text: str
    grant: Grant | None = None

    @property
    def line(self) -> str:
        return f"  {'+' if self.apply == 'gives' else '-'} {self.text}"

    @property
    def data(self) -> dict[str, Any]:
        """Return the difference as --json prints it."""
        grant = vars(self.grant) if self.grant else {}
        return {"role": self.role, "kind": self.kind, "apply": self.apply, "text": self.text, **grant}


def find_differences(have: Snapshot, want: Snapshot, settings: Settings, whole: bool = True) -> list[Difference]:
    """Return all differences, role by role. `want` is from build_applied_snapshot; with `whole` it has every role, and others are unmanaged."""
    found: list[Difference] = []
    have = drop_revocations(have)
    for name, wanted in sorted(want.roles.items()):
        if live := have.roles.get(name):
            for part in (compare_permissions, compare_trust, compare_boundary, compare_attachments, compare_tags):
                found += part(have, live, want, wanted, settings)
        else:
            found.append(Difference(name, "role", "gives", "apply would create the role"))
    return found + (list(list_unmanaged(have, want, settings)) if whole else [])


def compare_permissions(
    have: Snapshot, live: Principal, want: Snapshot, wanted: Principal, settings: Settings
) -> Iterator[Difference]:
    """Yield the differences over all policies of the role together: which policy contains a statement does not matter."""
    ours, theirs = (merge_permissions(side.list_policies(p)) for side, p in ((want, wanted), (have, live)))
    yield from list_grant_changes(
        live.name, "permissions", subtract_permissions(ours, theirs), subtract_permissions(theirs, ours)
    )


def list_grant_changes(
    role: str, kind: str, given: list[Grant], taken: list[Grant], what: str = ""
) -> Iterator[Difference]:
    for grant in taken:
        verb = "allows" if grant.effect == "Allow" else "denies"
        text = f"live{what} {verb} {grant.text}; the repository does not"
        yield Difference(role, kind, "takes", text, grant)
    for grant in given:
        verb = "allow" if grant.effect == "Allow" else "deny"
        yield Difference(role, kind, "gives", f"apply would {verb}{what} {grant.text}", grant)


def compare_trust(
    have: Snapshot, live: Principal, want: Snapshot, wanted: Principal, settings: Settings
) -> Iterator[Difference]:
    ours, theirs = permissions_of(wanted.trust_policy), permissions_of(live.trust_policy)
    for grant in subtract_permissions(theirs, ours):
        verb = "allows" if grant.effect == "Allow" else "denies"
        text = f"live trust policy {verb} {grant.who} {grant.text}"
        yield Difference(live.name, "trust", "takes", text, grant)
    for grant in subtract_permissions(ours, theirs):
        verb = "allow" if grant.effect == "Allow" else "deny"
        text = f"apply's trust policy would {verb} {grant.who} {grant.text}"
        yield Difference(live.name, "trust", "gives", text, grant)


def compare_boundary(
    have: Snapshot, live: Principal, want: Snapshot, wanted: Principal, settings: Settings
) -> Iterator[Difference]:
    if live.boundary != wanted.boundary:
        if live.boundary:
            yield Difference(
                live.name, "boundary", "takes", f"live has the permissions boundary {live.boundary.rsplit('/', 1)[1]}"
            )
        if wanted.boundary:
            text = f"apply would set the permissions boundary {wanted.boundary.rsplit('/', 1)[1]}"
            yield Difference(live.name, "boundary", "gives", text)
    if wanted.boundary and (found := have.policies.get(wanted.boundary)):
        ours, theirs = permissions_of(want.policies[wanted.boundary].policy), permissions_of(found.policy)
        yield from list_grant_changes(
            live.name,
            "boundary",
            subtract_permissions(ours, theirs),
            subtract_permissions(theirs, ours),
            " within its boundary",
        )


def compare_attachments(
    have: Snapshot, live: Principal, want: Snapshot, wanted: Principal, settings: Settings
) -> Iterator[Difference]:
    for arn in sorted(set(live.attached) ^ set(wanted.attached)):
        name = arn.rsplit("/", 1)[1]
        if arn in live.attached:
            yield Difference(live.name, "attachments", "takes", f"live has {name} attached")
        else:
            yield Difference(live.name, "attachments", "gives", f"apply would attach {name}")
    for name in sorted(live.inline):
        yield Difference(live.name, "inline", "takes", f"live has the inline policy {name}")
    for name in sorted(set(wanted.instance_profiles) - set(live.instance_profiles)):
        yield Difference(live.name, "profile", "gives", f"apply would add it to the instance profile {name}")


def compare_tags(
    have: Snapshot, live: Principal, want: Snapshot, wanted: Principal, settings: Settings
) -> Iterator[Difference]:
    for tag in list_tags_to_set(live, settings):
        key, value, old = tag["Key"], tag["Value"], live.tags.get(tag["Key"])
        if old is not None:
            yield Difference(live.name, "tags", "takes", f"live is tagged {key}={old}")
        yield Difference(live.name, "tags", "gives", f"apply would tag it {key}={value}")


def list_tags_to_set(live: Principal, settings: Settings) -> list[dict[str, str]]:
    return [tag for tag in settings.tags(live.name) if tag["Key"] in OURS and live.tags.get(tag["Key"]) != tag["Value"]]


def list_unmanaged(have: Snapshot, want: Snapshot, settings: Settings) -> Iterator[Difference]:
    """Yield the roles and policies under the stack's paths that no folder describes: iam.apply leaves them."""
    for name, role in sorted(have.roles.items()):
        if role.path == settings.role_path and name not in want.roles:
            text = f"live has the role, {ROLES}/ does not; apply keeps it, iam.prune removes it when it is obsolete"
            yield Difference(name, "role", "leaves", text)
    paths = (f":policy{settings.role_path}", f":policy/kennel-boundary/{settings.stack.name}/")
    for arn, policy in sorted(have.policies.items()):
        if any(path in arn for path in paths) and arn not in want.policies:
            yield Difference("", "policy", "leaves", f"live has the policy {policy.name}, {ROLES}/ does not")


def format_differences(found: list[Difference]) -> str:
    lines: list[str] = []
    for number, one in enumerate(found):
        if not number or found[number - 1].role != one.role:
            lines.append(one.role or "policies without a role")
        lines.append(one.line)
    return "\n".join(lines)


def is_equivalent(one: Any, other: Any) -> bool:
    """Return whether two documents mean the same, so that neither has to overwrite the other."""
    return bool(normalise_document(one) == normalise_document(other))
