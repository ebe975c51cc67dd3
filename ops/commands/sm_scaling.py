"""The command sm.autoscale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result, run_plan, task

if TYPE_CHECKING:
    from ops.core.aws.account import Account


@task(
    help={
        "min-instances": "Minimum number of instances, for now (default: endpoint.min_instances); missing ones start at once.",
        "max-instances": "Maximum number of instances, for now (default: endpoint.max_instances).",
        "because": "Recorded reason; required if the function admits more than these bounds and the target cover.",
        "explain": "Change nothing; print whether scaling works, and why not. Exit code 7 if something prevents it.",
        "json": "Print the result as JSON.",
    }
)
def autoscale(
    c: Context,
    min_instances: int = 0,
    max_instances: int = 0,
    because: str = "",
    explain: bool = False,
    json: bool = False,
) -> Result | None:
    """Scale the endpoint's instances with its load.

    Registers target tracking with the bounds and target of the settings. They
    must cover what the function admits; otherwise exit code 7.

    Example: invoke sm.autoscale --max-instances 4
    """
    from ops.capacity import coherence
    from ops.core.aws.account import Account
    from ops.endpoint import plan, probe, scaling

    account = Account.from_context(c)
    settings = account.settings
    scaling.refuse_burstable(settings.endpoint.instance_type)
    bounds = scaling.resolve_bounds(settings, min_instances, max_instances)
    probe.require_endpoint(account)
    if explain:
        return diagnose_scaling(account)
    coherence.require_coherence(account, because, bounds)
    account.guard()
    if not c.config.run.dry:
        plan.await_stable_endpoint(account)  # AWS takes no change of scaling while the endpoint itself changes
    found = probe.require_endpoint(account)
    if found["EndpointStatus"] == "Failed":
        raise OpsError(
            f"The endpoint {settings.endpoint_name} has failed and cannot be scaled. Find the cause: invoke sm.logs --errors"
        )
    have = scaling.facts(account, found["ProductionVariants"][0]["DesiredInstanceCount"])
    given_bounds = bounds if min_instances or max_instances else None
    done = run_plan(c, account, scaling.steps, have, settings, given_bounds)
    if c.config.run.dry:
        return None
    say(scaling.describe_expectation(settings))
    return Result(
        done.data, f"Scaling between {bounds[0]} and {bounds[1]} instances. {done.text}", changes=done.changes
    )


def diagnose_scaling(account: Account) -> Result:
    from ops.endpoint import scaling_diagnosis as diagnosis

    seen = diagnosis.inspect_scaling(account)
    found = diagnosis.findings(seen, account.settings)
    text = diagnosis.describe_diagnosis(seen, found, account.settings)
    wrong = any(one.severity == "error" for one in found)
    return Result(diagnosis.as_data(seen, found), text, code=FINDINGS if wrong else 0)
