"""Commands that package, test, deploy and roll back a release."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import FINDINGS
from ops.core.output import format_table, say
from ops.core.task import Result, run_plan, task

if TYPE_CHECKING:
    from ops.core.aws.account import Account
    from ops.endpoint import plan
    from ops.releases.history import DeploymentReason, StoredRelease

JOB = {
    "job": "Training job, of SageMaker or the box (default: the newest completed SageMaker job of the current settings).",
    "instances": "Which job: the newest trained on this many hosts (default: 1). It does not set the endpoint's instances.",
}


@task(help={"json": "Print the result as JSON."})
def image(c: Context, json: bool = False) -> Result | None:
    """Build the serving image in CodeBuild and push it to ECR.

    Nothing is built if ECR has the image of the current serving/.

    Example: invoke sm.image
    """
    from ops.core import pricing
    from ops.core.aws.account import Account
    from ops.releases import image_build

    account = Account.from_context(c)
    have = image_build.facts(account)
    account.guard()
    if have.size is None and not have.build and not c.config.run.dry:
        image_build.upload_serving(account, have.tag)
    done = run_plan(c, account, image_build.steps, have, account.settings)
    if c.config.run.dry:
        return None
    name, size = image_build.check_built(account, have.tag)
    text = (
        f"{name} is in ECR: {size / 1e6:.0f} MB, ${pricing.price_stored_image(size):.3f} a month (list price). {done.text}. "
        "Next: invoke sm.deploy"
    )
    data = {"image": f"{account.settings.registry}/{name}", "bytes": size, **done.data}
    return Result(data, text, changes=done.changes)


@task(help={**JOB, "json": "Print the result as JSON."})
def package(c: Context, job: str = "", instances: int = 1, json: bool = False) -> Result:
    """Package a trained model as a release, on this machine.

    A release has the ONNX model, its golden answers and one digest. Nothing is
    uploaded.

    Example: invoke sm.package --job JOB
    """
    from ops.core.aws.account import Account
    from ops.jobs.training_jobs import find_newest_completed
    from ops.releases import build

    account = Account.from_context(c)
    release = build.package_model(account, job or find_newest_completed(account, instances))
    precisions, evidence = build.read_precisions(release), build.read_card(release).metrics.test.precision
    data = {
        "release": release.digest,
        "job": release.job,
        "folder": str(release.folder),
        "precisions": precisions,
        "evidence": evidence,
    }
    comparison = "bf16 was not measured" if not evidence else (
        f"bf16 and fp32 agree on {evidence['agree']} of {evidence['pictures']} pictures; "
        f"{evidence['right_bf16']} right in bf16, {evidence['right_fp32']} in fp32"
    )  # fmt: skip
    text = (
        f"Release {release.short} of {release.job} is packaged. Precision: {' or '.join(precisions)} ({comparison}). "
        f"Next: invoke sm.preflight --job {release.job}"
    )
    return Result(data, text)


@task(
    help={
        **JOB,
        "release": "Stored release, by the first digits of its digest, in place of --job.",
        "json": "Print the result as JSON.",
    },
)
def preflight(c: Context, job: str = "", instances: int = 1, release: str = "", json: bool = False) -> Result:
    """Test a release with the real server on this machine, then upload it.

    The test checks the ping, the golden answers and latency under a short load.

    Example: invoke sm.preflight --job JOB
    """
    from ops.core.aws.account import Account
    from ops.jobs.training_jobs import find_newest_completed
    from ops.releases import build, preflight

    account = Account.from_context(c)
    job = job if job or release else find_newest_completed(account, instances)
    found = build.find_release(account, release) if release else build.package_model(account, job)
    measured = preflight.run_preflight(build.fetch_release(account, found), account.settings)
    if not c.config.run.dry:
        account.guard()
        build.store_preflight(account, found, measured, again=bool(release))
    text = (
        f"Release {found.short} passed the preflight: {measured.requests_per_second:.0f} requests/s in {measured.precision} "
        f"on {measured.vcpus} vCPUs, p50 {measured.p50_ms:.0f} ms, p99 {measured.p99_ms:.0f} ms. Next: invoke sm.deploy --job {found.job}"
    )
    return Result({**asdict(measured), "job": found.job}, text)


@task(
    help={
        **JOB,
        "once": "Do nothing if this release was deployed before.",
        "because": "Recorded reason; required if the gate finds the release worse than the live or the best one, or of other classes or data.",
    }
)
def deploy(c: Context, job: str = "", instances: int = 1, once: bool = False, because: str = "") -> Result | None:
    """Deploy a trained model as the live release, blue/green.

    The model is packaged and passes the preflight first; the endpoint must then
    answer with the digest of the release. Exit code 8 if the release is stopped
    before AWS, 9 if AWS rolls it back.

    Example: invoke sm.deploy --job JOB --because "REASON"
    """
    from ops.core.aws.account import Account
    from ops.endpoint import deployment, plan
    from ops.jobs.training_jobs import find_newest_completed
    from ops.releases.history import DeploymentReason

    account = Account.from_context(c)
    job = job or find_newest_completed(account, instances)
    release, have = deployment.prepare_release(account, job, dry=c.config.run.dry)
    want = plan.EndpointSpec(release, account.settings)
    if once and deployment.has_been_deployed(account, have, want):
        return Result(
            {"release": release.digest}, f"Release {release.short} was already deployed; {have.live} is live."
        )
    findings = deployment.check_gate(account, have, release, because)
    return make_live(c, account, have, want, DeploymentReason(because, findings))


@task(
    help={
        "to": "Release, by the first digits of its digest (default: the one that was live before).",
        "because": "Recorded reason.",
    }
)
def rollback(c: Context, to: str = "", because: str = "") -> Result | None:
    """Roll back to an earlier release, as it was deployed.

    It is neither packaged nor tested again.

    Example: invoke sm.rollback --to RELEASE --because "REASON"
    """
    from ops.core.aws.account import Account
    from ops.endpoint import deployment
    from ops.releases.history import DeploymentReason

    account = Account.from_context(c)
    have = deployment.read_facts(account, dry=c.config.run.dry)
    want = deployment.choose_rollback(account, have, to)
    is_live = have.live == want.config  # a rollback that was killed may have left alarms, and its note unfinished
    say(
        f"Release {want.release.short} is already live."
        if is_live
        else f"Rolling back to release {want.release.short} of {want.release.job}."
    )
    findings = deployment.compare_rollback(account, have, want.release)
    for finding in findings:
        say(f"Warning: the release to go back to differs from the live one: {finding}.")
    return make_live(c, account, have, want, DeploymentReason(because, findings, rollback=True))


@task(help={"json": "Print the result as JSON."})
def releases(c: Context, json: bool = False) -> Result:
    """List the stored releases with accuracy, last deployment and reason.

    Exit code 7 if the file of a release is missing or changed.

    Example: invoke sm.releases
    """
    from ops.core.aws.account import Account
    from ops.endpoint import plan
    from ops.releases import history

    account = Account.from_context(c)
    found = plan.find_endpoint(account)
    rows = history.list_releases(account, found["EndpointConfigName"] if found else "")
    if not rows:
        return Result([], "No release is stored. Deploy one: invoke sm.deploy")
    lines = [
        (r.release[:12], f"{r.accuracy:.4f}", "/".join(r.precisions), r.deployed[:16], mark_outcome(r), r.job, r.because or "-")
        for r in rows
    ]  # fmt: skip
    gone = [r for r in rows if r.file != "stored"]
    columns = ("release", "accuracy", "precision", "last deployed", "outcome", "job", "reason")
    fixes = [
        f"The file of release {r.release[:12]} is {r.file}. Rebuild it: invoke sm.deploy --job {r.job}" for r in gone
    ]
    text = "\n".join([format_table(columns, lines), *fixes, "Roll back to one: invoke sm.rollback --to RELEASE"])
    return Result([asdict(row) for row in rows], text, code=FINDINGS if gone else 0)


def mark_outcome(row: StoredRelease) -> str:
    return row.outcome if row.file == "stored" else f"{row.outcome}, FILE {row.file.upper()}"


def make_live(
    c: Context, account: Account, have: plan.Facts, want: plan.EndpointSpec, why: DeploymentReason
) -> Result | None:
    """Deploy `want`, verify it, and record both; under --dry, print the plan."""
    from ops.core.plan import preview
    from ops.endpoint import deployment, plan

    if c.config.run.dry:
        run_plan(c, account, plan.steps, have, want)
        return None
    preview(plan.steps(have, want))  # a plan that is refused is not a deployment to record
    with deployment.record_and_verify(account, have, want, why):
        done = run_plan(c, account, plan.steps, have, want)
    release = want.release
    text = f"{account.settings.endpoint_name} serves release {release.short}. {done.text}. Next: invoke sm.status"
    return Result({"release": release.digest, "job": release.job, "config": want.config}, text, changes=done.changes)
