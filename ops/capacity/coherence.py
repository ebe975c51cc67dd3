"""Compare what the function admits with what the endpoint scales for, before either is changed."""

from __future__ import annotations

from ops.capacity import model
from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, AwsError, OpsError
from ops.core.finding import Finding
from ops.core.output import say
from ops.core.settings import Settings
from ops.endpoint import probe
from ops.endpoint.scaling import Bounds
from ops.releases import build
from ops.releases.load_test import LoadTestResult


def require_coherence(account: Account, because: str, bounds: Bounds | None = None) -> None:
    """Raise OpsError when the settings' function admits more than their scaling covers, unless a reason is given.

    `bounds` replace those of the settings. The reason is written into the audit log with each change that follows. Without
    a live release that was measured there is nothing to compare with, and a line says so.
    """
    settings = account.settings if bounds is None else replace_bounds(account.settings, bounds)
    if settings.fn.reserved == 0:
        return
    try:
        measured = build.read_load_test(account, probe.find_live_release(account))
    except AwsError:
        raise
    except OpsError as error:
        say(f"What the function admits was not compared with the endpoint's scaling: {error}")
        return
    if settings.fn.reserved is None:
        settings = replace_reserved(settings, read_unreserved_concurrency(account))
    found = find_incoherence(measured, settings)
    for finding in found:
        say(f"Warning: {finding.message}")
    if found and not because:
        raise OpsError(
            "fn.reserved and the endpoint's scaling do not fit each other, and nothing was changed. "
            f'{found[0].fix}. Or give a reason: --because "REASON". For all figures: invoke sm.capacity',
            FINDINGS,
        )
    account.because = because


def replace_bounds(settings: Settings, bounds: Bounds) -> Settings:
    least, most = bounds
    endpoint = settings.endpoint.model_copy(update={"min_instances": least, "max_instances": most})
    return settings.model_copy(update={"endpoint": endpoint})


def replace_reserved(settings: Settings, concurrency: int) -> Settings:
    """Return the settings as if so much were reserved: what a function without a reservation can use at most."""
    return settings.model_copy(update={"fn": settings.fn.model_copy(update={"reserved": concurrency})})


def read_unreserved_concurrency(account: Account) -> int:
    limit = account.call("lambda", "get_account_settings")["AccountLimit"]["UnreservedConcurrentExecutions"]
    return int(limit)


def find_incoherence(measured: LoadTestResult, settings: Settings) -> list[Finding]:
    return list(model.compare_limits(model.plan(measured, settings)))
