"""The deployment of a release: the facts it needs, the gate, and the note that is kept until it is verified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ops.core.aws.account import Account
from ops.core.errors import STOPPED, OpsError
from ops.endpoint import plan, probe
from ops.jobs import training_jobs
from ops.releases import build, gate, history, image_build, preflight
from ops.releases.build import Release


def read_facts(account: Account, dry: bool) -> plan.Facts:
    """Return what is there, once nothing changes any more. Raises OpsError where nothing could be deployed."""
    if not dry:
        plan.await_stable_endpoint(account)
    have = plan.facts(account)
    training_jobs.check_network(have.subnets, have.group, "serve")
    account.guard()
    return have


def prepare_release(account: Account, job: str, dry: bool) -> tuple[Release, plan.Facts]:
    """Return the release of a job, packaged and preflighted unless it was before, and what is there.

    Raises OpsError without an image to run it, and in a dry run for a job that was never packaged.
    """
    have = read_facts(account, dry)
    release = build.find_job_release(account, job)
    if release is None and dry:
        raise OpsError(
            f"The model of {job} was never packaged, so its release has no name yet. invoke sm.preflight --job {job}"
        )
    if missing := image_build.find_missing_image_tag(account):
        raise OpsError(
            f"The image of serving/ ({missing}) was not built, so nothing could run a release. Build it: invoke sm.image"
        )
    if release is None:
        release = build.package_model(account, job)
        build.upload_release(account, release, preflight.run(release, account.settings))
        have = read_facts(account, dry)  # packaging took a while
    return release, have


def check_gate(account: Account, have: plan.Facts, release: Release, because: str) -> list[str]:
    """Return the gate's findings on a release. Raises OpsError for a release that needs a reason and has none."""
    new = build.read_summary(account, release.digest)
    if new is None:
        raise OpsError(
            f"The metadata of release {release.short} is missing. Run the preflight again: invoke sm.preflight --job {release.job}"
        )
    now = probe.find_release_summary(account, have.live) if have.live else None
    found = gate.findings(new, now, account.settings.endpoint.worse_at_most)
    if have.live and now is None:
        found = [f"nothing is known of what is live ({have.live}), so it cannot be compared"]
    if found and not because:
        raise OpsError(
            f"Release {release.short} is stopped here: {'; '.join(found)}.\n"
            'If that is wanted, say why: invoke sm.deploy ... --because "..."', STOPPED,
        )  # fmt: skip
    return found


def has_been_deployed(account: Account, have: plan.Facts, want: plan.EndpointSpec) -> bool:
    """Return whether this config was ever live, and the endpoint is in service now."""
    in_service = have.endpoint is not None and have.endpoint["EndpointStatus"] == "InService"
    return in_service and history.has_been_live(account, want.config)


def choose_rollback(account: Account, have: plan.Facts, to: str) -> plan.EndpointSpec:
    """Return what to go back to: the release whose digest begins with `to`, or without it the one that was live before.

    It is taken as it was deployed where its config is still there. Raises OpsError when there is nothing to go back to.
    """
    probe.require_endpoint(account)
    notes = history.read(account)
    if to:
        release = build.find_release(account, to)
        note = history.find_last_deployment(notes, release.digest)
    else:
        note = history.find_rollback_target(notes, have.live)
        if note is None:
            raise OpsError(
                "Nothing else was live before. See which releases are kept: invoke sm.releases; then sm.rollback --to DIGEST"
            )
        release = build.find_release(account, note.release)
    made = note.config if note and note.config in have.configs else ""
    kind = plan.read_instance_type(account, made) if made else ""
    return plan.EndpointSpec(release, account.settings, made=made, kind=kind)


@contextmanager
def record_and_verify(
    account: Account, have: plan.Facts, want: plan.EndpointSpec, why: history.DeploymentReason
) -> Iterator[None]:
    """Keep a note around the changes of a deployment, and verify after them that the release is what answers."""
    if have.live == want.config and have.endpoint and have.endpoint["EndpointStatus"] == "InService":
        yield  # alarms and logs may have been taken away
        probe.verify_release(account, want, have.live)
        history.record_verified(account, want.config)
        return
    with history.record_deployment(account, want.release, want.config, why, have.scaled or have.lost):
        yield
        probe.verify_release(account, want, have.live)
