"""The outcome of an escalation path: which principal its holder reaches, and what the holder gains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from iampolicy.account.snapshot import Principal
from iampolicy.escalation.account_model import AccountModel, RankedPrincipals
from iampolicy.escalation.permission_set import PermissionSet
from iampolicy.policy.evaluate import Decision

BOUNDED, GAINS, ADMIN = 0, 1, 2


@dataclass(frozen=True)
class TargetQuestion:
    """A question about targets: which of them a statement may cover at all, and whether the path is allowed on one."""

    candidates: Callable[[Mapping[str, Principal]], Iterable[str]]
    may: Callable[[Principal], Decision | None]

    def hits(self, members: Mapping[str, Principal]) -> Iterator[tuple[Principal, Decision]]:
        for arn in self.candidates(members):
            if decision := self.may(members[arn]):
                yield members[arn], decision


@dataclass(frozen=True)
class Outcome:
    """The outcome of a path: `gains` is what its holder lacked, `target` the principal reached (None: none of the snapshot)."""

    level: int
    decision: Decision
    target: Principal | None = None
    gains: tuple[str, ...] = ()
    note: str = ""


def compute_outcome(
    model: AccountModel, permissions: PermissionSet, other: PermissionSet, decision: Decision, target: Principal, note: str = ""
) -> Outcome:  # fmt: skip
    """Return the outcome for a holder that obtains another permission set."""
    gains = model.list_missing_powers(permissions, other)
    return Outcome(ADMIN if other.is_admin else GAINS if gains else BOUNDED, decision, target, gains, note)


def find_strongest(
    model: AccountModel, permissions: PermissionSet, ranked: RankedPrincipals, question: TargetQuestion, skip: str = ""
) -> Outcome | None:
    """Return the outcome for the strongest target that the holder reaches; if no target is a gain, that of the first."""
    bounded: Outcome | None = None
    tried: set[int] = set()
    arns = question.candidates(ranked.members)
    for arn in arns if arns is ranked.members else sorted(arns, key=ranked.rank.__getitem__):
        rank = ranked.rank[arn]
        if arn == skip or rank in tried:
            continue
        if decision := question.may(ranked.members[arn]):
            found = compute_outcome(model, permissions, ranked.permissions[rank], decision, ranked.members[arn])
            if found.level:
                return found
            bounded = bounded or found
            tried.add(rank)
    return bounded


def choose_strongest(found: Iterable[Outcome | None]) -> Outcome | None:
    return max((one for one in found if one), key=lambda one: one.level, default=None)
