"""The deployment of a release: the facts it needs, the gate, the record of it, and its verification."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ops.core.aws.account import Account
from ops.core.errors import STOPPED, OpsError
from ops.endpoint import evaluation, plan, probe
from ops.jobs import training_jobs
from ops.releases import build, gate, history, image_build, preflight, release_samples
from ops.releases.build import Release
from ops.releases.records import ReleaseSummary


def read_facts(account: Account, dry: bool) -> plan.Facts:
    """Return the endpoint's facts, once it is stable. Raises OpsError when the network to deploy into is missing."""
    if not dry:
        plan.await_stable_endpoint(account)
    have = plan.facts(account)
    training_jobs.check_network(have.subnets, have.group, "serve")
    account.guard()
    return have


def prepare_release(account: Account, job: str, dry: bool) -> tuple[Release, plan.Facts]:
    """Return the release of a job, packaged and preflighted unless it was before, and the endpoint's facts.

    Raises OpsError without a serving image, and in a dry run for a job that was never packaged.
    """
    have = read_facts(account, dry)
    release = build.find_job_release(account, job)
    if release is None and dry:
        raise OpsError(
            f"The model of {job} was never packaged, so its release has no name yet. Package it: invoke sm.preflight --job {job}"
        )
    if missing := image_build.find_missing_image_tag(account):
        raise OpsError(
            f"ECR has no image of the current serving/ ({missing}) to run a release. Build it: invoke sm.image"
        )
    if release is None:
        release = build.package_model(account, job)
        build.upload_release(account, release, preflight.run_preflight(release, account.settings))
        have = read_facts(account, dry)  # packaging took a while
    return release, have


def check_gate(account: Account, have: plan.Facts, release: Release, because: str) -> list[str]:
    """Return the gate's findings on a release. Raises OpsError when there are findings but no reason (`because`)."""
    new = build.read_summary(account, release.digest)
    if new is None:
        raise OpsError(
            f"The metadata of release {release.short} is missing. Run the preflight again: invoke sm.preflight --job {release.job}"
        )
    now = release_samples.find_release_summary(account, have.live) if have.live else None
    best = gate.find_best(new, history.read_live_summaries(account))
    found = gate.findings(
        new,
        build_reference(account, new, now, "the live release") if now else None,
        account.settings.endpoint.worse_at_most,
        build_reference(account, new, best, f"the best release so far, {best.digest[:12]},") if best else None,
    )
    if have.live and now is None:
        found = [f"the release of the live config {have.live} has no metadata, so the gate cannot compare with it"]
    if found and not because:
        raise OpsError(
            f"The gate stopped release {release.short}: {'; '.join(found)}.\n"
            f'To deploy it anyway, give a reason: invoke sm.deploy --job {release.job} --because "REASON"', STOPPED,
        )  # fmt: skip
    return found


def build_reference(account: Account, new: ReleaseSummary, other: ReleaseSummary, name: str) -> gate.Reference:
    return gate.Reference(
        name,
        other,
        lambda: evaluation.pair_answers(account, new, other),
        lambda: release_samples.count_test_pictures(account, other),
    )


def compare_rollback(account: Account, have: plan.Facts, release: Release) -> list[str]:
    """Return what the gate would say of going back to a release from the live one: a rollback is never stopped by it."""
    target, now = (
        build.read_summary(account, release.digest),
        release_samples.find_release_summary(account, have.live),
    )
    live = gate.Reference("the live release", now) if now else None
    return gate.findings(target, live, account.settings.endpoint.worse_at_most) if target else []


def has_been_deployed(account: Account, have: plan.Facts, want: plan.EndpointSpec) -> bool:
    """Return whether this config was ever live, and the endpoint is in service now."""
    in_service = have.endpoint is not None and have.endpoint["EndpointStatus"] == "InService"
    return in_service and history.has_been_live(account, want.config)


def choose_rollback(account: Account, have: plan.Facts, to: str) -> plan.EndpointSpec:
    """Return what to roll back to: the release whose digest begins with `to`, or without it the one that was live before.

    Without `to`, a rollback that was killed is completed. The config of that deployment is reused if it still exists. Raises OpsError when
    there is nothing to roll back to.
    """
    probe.require_endpoint(account)
    notes = history.read_notes(account)
    if to:
        release = build.find_release(account, to)
        note = history.find_last_deployment(notes, release.digest)
    else:
        note = history.find_unfinished_rollback(notes) or history.find_rollback_target(notes, have.live)
        if note is None:
            raise OpsError(
                "There is no earlier deployment to roll back to. List the releases: invoke sm.releases; then: invoke sm.rollback --to DIGEST"
            )
        release = build.find_release(account, note.release)
    config = note.config if note and note.config in have.configs else ""
    instance_type = plan.read_instance_type(account, config) if config else ""
    return plan.EndpointSpec(release, account.settings, existing_config=config, config_instance_type=instance_type)


@contextmanager
def record_and_verify(
    account: Account, have: plan.Facts, want: plan.EndpointSpec, why: history.DeploymentReason
) -> Iterator[None]:
    """Record a deployment around its changes, and verify after them that the endpoint answers with the release."""
    if have.live == want.config and have.endpoint and have.endpoint["EndpointStatus"] == "InService":
        with history.complete_deployment(account, want.config):
            yield  # alarms and logs may have been deleted
            probe.verify_release(account, want, have.live)
        return
    with history.track_deployment(account, want.release, want.config, why, have.has_scaling or have.lost_scaling):
        yield
        probe.verify_release(account, want, have.live)
