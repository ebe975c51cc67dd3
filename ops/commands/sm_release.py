"""The commands that turn a trained model into a live release, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.output import format_table
from ops.core.task import Result, run_plan, task

if TYPE_CHECKING:
    from ops.core.aws.account import Account
    from ops.endpoint import plan
    from ops.releases.history import DeploymentReason

JOB = {
    "job": "A training job's name, of SageMaker or of the box.",
    "instances": "Without --job: the job that `sm.train --instances N` runs.",
}


@task(help={"json": "Print it as JSON."})
def image(c: Context, json: bool = False) -> Result | None:
    """Build the serving container's image in CodeBuild and put it into ECR, unless it is there."""
    from ops.core import pricing
    from ops.core.aws.account import Account
    from ops.releases import image_build

    account = Account.from_context(c)
    have = image_build.facts(account)
    account.guard()
    if have.size is None and not have.build and not c.config.run.dry:
        image_build.upload_serving(account, have.tag)
    done = run_plan(c, account, image_build.steps(have, account.settings))
    if c.config.run.dry:
        return None
    name, size = image_build.check_built(account, have.tag)
    text = (
        f"{name} is in ECR: {size / 1e6:.0f} MB, ${pricing.price_stored_image(size):.3f} a month (list price). {done.text}. "
        "Next: invoke sm.deploy"
    )
    data = {"image": f"{account.settings.registry}/{name}", "bytes": size, **done.data}
    return Result(data, text, changes=done.changes)


@task(help={**JOB, "json": "Print it as JSON."})
def package(c: Context, job: str = "", instances: int = 1, json: bool = False) -> Result:
    """Make a release of a trained model on this machine: ONNX, golden answers, one digest."""
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
    proof = "no evidence for bf16" if not evidence else (
        f"bf16 answers {evidence['agree']} of {evidence['pictures']} as fp32 does, "
        f"{evidence['right_bf16']} right against {evidence['right_fp32']}"
    )  # fmt: skip
    text = f"Release {release.short} of {release.job}: may run in {' or '.join(precisions)} ({proof}). Next: invoke sm.preflight --job {release.job}"
    return Result(data, text)


@task(
    help={**JOB, "release": "A kept release, by the first digits of its digest.", "json": "Print it as JSON."},
)
def preflight(c: Context, job: str = "", instances: int = 1, release: str = "", json: bool = False) -> Result:
    """Start the server on a release here: ping, golden answers, a short load; then keep it in the bucket."""
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
        f"Release {found.short} answers as it should: {measured.requests_per_second:.0f} requests a second in {measured.precision} "
        f"on {measured.vcpus} vCPUs, p50 {measured.p50_ms:.0f} ms, p99 {measured.p99_ms:.0f} ms. Next: invoke sm.deploy --job {found.job}"
    )
    return Result({**asdict(measured), "job": found.job}, text)


@task(
    help={
        **JOB,
        "once": "Do nothing if this release has ever been deployed here.",
        "because": "Why a release is wanted that is worse, or of other classes or data, than what is live. Kept on record.",
    }
)
def deploy(c: Context, job: str = "", instances: int = 1, once: bool = False, because: str = "") -> Result | None:
    """Package a trained model, try it here, make it live, and prove that it is."""
    from ops.core.aws.account import Account
    from ops.endpoint import deployment, plan
    from ops.jobs.training_jobs import find_newest_completed
    from ops.releases.history import DeploymentReason

    account = Account.from_context(c)
    job = job or find_newest_completed(account, instances)
    release, have = deployment.prepare_release(account, job, dry=c.config.run.dry)
    want = plan.EndpointSpec(release, account.settings)
    if once and deployment.has_been_deployed(account, have, want):
        return Result({"release": release.digest}, f"Release {release.short} was deployed before; {have.live} is live.")
    findings = deployment.check_gate(account, have, release, because)
    return make_live(c, account, have, want, DeploymentReason(because, findings))


@task(
    help={
        "to": "The release, by the first digits of its digest; without it, the one that was live before.",
        "because": "Why. Kept on record.",
    }
)
def rollback(c: Context, to: str = "", because: str = "") -> Result | None:
    """Go back to a kept release, as it was deployed: neither packaged nor tried again."""
    from ops.core.aws.account import Account
    from ops.endpoint import deployment
    from ops.releases.history import DeploymentReason

    account = Account.from_context(c)
    have = deployment.read_facts(account, dry=c.config.run.dry)
    want = deployment.choose_rollback(account, have, to)
    if have.live == want.config:
        return Result({"release": want.release.digest}, f"Release {want.release.short} is live already.")
    return make_live(c, account, have, want, DeploymentReason(because, rollback=True))


@task(help={"json": "Print them as JSON."})
def releases(c: Context, json: bool = False) -> Result:
    """List the kept releases: what they are worth, when they were live, and why."""
    from ops.core.aws.account import Account
    from ops.endpoint import plan
    from ops.releases import history

    account = Account.from_context(c)
    found = plan.find_endpoint(account)
    rows = history.list_releases(account, found["EndpointConfigName"] if found else "")
    if not rows:
        return Result([], "No release is kept. Make one live: invoke sm.deploy")
    lines = [
        (r.release[:12], f"{r.accuracy:.4f}", "/".join(r.precisions), r.deployed[:16], r.outcome, r.job, r.because or "-")
        for r in rows
    ]  # fmt: skip
    columns = ("release", "accuracy", "precision", "last deployed", "outcome", "job", "because")
    text = format_table(columns, lines) + "\nGo to one: invoke sm.rollback --to RELEASE"
    return Result([asdict(row) for row in rows], text)


def make_live(
    c: Context, account: Account, have: plan.Facts, want: plan.EndpointSpec, why: DeploymentReason
) -> Result | None:
    """Deploy `want`, verify it, and record both; under --dry, print the plan."""
    from ops.endpoint import deployment, plan

    if c.config.run.dry:
        run_plan(c, account, plan.steps(have, want))
        return None
    with deployment.record_and_verify(account, have, want, why):
        done = run_plan(c, account, plan.steps(have, want))
    release = want.release
    text = f"{account.settings.endpoint_name} answers as release {release.short}. {done.text}. Next: invoke sm.status"
    return Result({"release": release.digest, "job": release.job, "config": want.config}, text, changes=done.changes)
