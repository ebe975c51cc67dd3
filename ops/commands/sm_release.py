"""From a trained model to a live release, and back: the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.commands.sm_training import trained
from ops.core.aws.account import Account
from ops.core.errors import STOPPED, OpsError
from ops.core.output import table
from ops.core.task import Result, carry_out, task

if TYPE_CHECKING:
    from ops.endpoint import plan
    from ops.releases import history
    from ops.releases.build import Release

JOB = {
    "job": "A training job's name, of SageMaker or of the box.",
    "instances": "Without --job: the job that `sm.train --instances N` runs.",
}


@task(help={**JOB, "json": "Print it as JSON."})
def package(c, job="", instances=1, json=False):
    """Make a release of a trained model on this machine: ONNX, golden answers, one digest."""
    from ops.releases import build

    account = Account.from_context(c)
    release = build.package(account, job or trained(account, instances))
    card, proved = build.card(release), build.precisions(release)
    evidence = card["metrics"]["test"].get("precision")
    data = {
        "release": release.digest,
        "job": release.job,
        "folder": str(release.folder),
        "precisions": proved,
        "evidence": evidence,
    }
    told = "no evidence for bf16" if not evidence else (
        f"bf16 answers {evidence['agree']} of {evidence['pictures']} as fp32 does, "
        f"{evidence['right_bf16']} right against {evidence['right_fp32']}"
    )  # fmt: skip
    text = f"Release {release.short} of {release.job}: may run in {' or '.join(proved)} ({told}). Next: invoke sm.preflight --job {release.job}"
    return Result(data, text)


# Tasks that are called as a module is are named so here: as names of the package, they would hide it.
@task(
    help={**JOB, "release": "A kept release, by the first digits of its digest.", "json": "Print it as JSON."},
)
def preflight(c, job="", instances=1, release="", json=False):
    """Start the server on a release here: ping, golden answers, a short load; then keep it in the bucket."""
    from dataclasses import asdict

    from ops.releases import build, preflight

    account = Account.from_context(c)
    found = build.kept(account, release) if release else build.package(account, job or trained(account, instances))
    measured = preflight.run(build.local(account, found), account.settings)
    if not c.config.run.dry:
        account.guard()
        if about := build.about(account, found.digest) if release else None:
            build.tell(account, found, about["tar"], measured)  # what its job's release is now stays as it is
        else:
            build.put(account, found, measured)
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
def deploy(c, job="", instances=1, once=False, because=""):
    """Package a trained model, try it here, make it live, and prove that it is."""
    from ops.endpoint import plan
    from ops.releases import build, history, image_build, preflight

    account = Account.from_context(c)
    job = job or trained(account, instances)
    dry = c.config.run.dry
    have = ready(account, dry)
    release = build.known(account, job)
    if release is None and dry:
        raise OpsError(
            f"The model of {job} was never packaged, so its release has no name yet. invoke sm.preflight --job {job}"
        )
    if missing := image_build.missing(account):
        raise OpsError(
            f"The image of serving/ ({missing}) was not built, so nothing could run a release. Build it: invoke sm.image"
        )
    if release is None:
        release = build.package(account, job)
        build.put(account, release, preflight.run(release, account.settings))
        have = ready(account, dry)  # that took a while
    want = plan.Wanted(release, account.settings)
    if (
        once
        and have.endpoint
        and have.endpoint["EndpointStatus"] == "InService"
        and history.was_live(account, want.config)
    ):
        return Result({"release": release.digest}, f"Release {release.short} was deployed before; {have.live} is live.")
    return changed(c, account, have, want, history.Why(because, gated(account, have, release, because)))


@task(
    help={
        "to": "The release, by the first digits of its digest; without it, the one that was live before.",
        "because": "Why. Kept on record.",
    }
)
def rollback(c, to="", because=""):
    """Go back to a kept release, as it was deployed: neither packaged nor tried again."""
    from ops.endpoint import plan, probe
    from ops.releases import build, history

    account = Account.from_context(c)
    have = ready(account, c.config.run.dry)
    probe.existing(account)
    notes = history.read(account)
    if to:
        release = build.kept(account, to)
        note = history.latest(notes, release.digest)
    else:
        note = history.before(notes, have.live)
        if note is None:
            raise OpsError(
                "Nothing else was live before. See which releases are kept: invoke sm.releases; then sm.rollback --to DIGEST"
            )
        release = build.kept(account, note["release"])
    made = note["config"] if note and note["config"] in have.configs else ""
    kind = plan.kind_of(account, made) if made else ""
    want = plan.Wanted(release, account.settings, made=made, kind=kind)
    if have.live == want.config:
        return Result({"release": release.digest}, f"Release {release.short} is live already.")
    return changed(c, account, have, want, history.Why(because, rollback=True))


@task(help={"json": "Print them as JSON."})
def releases(c, json=False):
    """List the kept releases: what they are worth, when they were live, and why."""
    from ops.endpoint import plan
    from ops.releases import build, history

    account = Account.from_context(c)
    found, notes = plan.describe(account), history.read(account)
    live = found["EndpointConfigName"] if found else ""
    rows = [row(about, notes, live) for digest in build.digests(account) if (about := build.about(account, digest))]
    rows.sort(key=lambda one: one["deployed"], reverse=True)
    lines = [
        (r["release"][:12], f"{r['accuracy']:.4f}", "/".join(r["precisions"]), r["deployed"][:16], r["outcome"], r["job"], r["because"] or "-")
        for r in rows
    ]  # fmt: skip
    if not rows:
        return Result([], "No release is kept. Make one live: invoke sm.deploy")
    columns = ("release", "accuracy", "precision", "last deployed", "outcome", "job", "because")
    return Result(rows, table(columns, lines) + "\nGo to one: invoke sm.rollback --to RELEASE")


def row(about: dict[str, Any], notes: list[dict[str, Any]], live: str) -> dict[str, Any]:
    """One release as `sm.releases` prints it."""
    last: dict[str, Any] = next((note for note in reversed(notes) if note["release"] == about["digest"]), {})
    is_live = any(note["config"] == live for note in notes if note["release"] == about["digest"])
    outcome = (
        "LIVE" if is_live else "was live" if last.get("outcome") == "live" else last.get("outcome", "never deployed")
    )
    return {
        "release": about["digest"], "job": about["job"], "accuracy": about["accuracy"], "precisions": about["precisions"],
        "deployed": last.get("at", ""), "outcome": outcome, "because": last.get("because", ""), "rollback": last.get("rollback", False),
    }  # fmt: skip


def ready(account: Account, dry: bool) -> plan.Facts:
    """What is there, once nothing changes any more. Raises OpsError where nothing could be deployed."""
    from ops.endpoint import plan

    if not dry:
        plan.rest(account)
    have = plan.facts(account)
    if have.group is None or len(have.subnets) < 2:
        raise OpsError("There is no network to serve in. Make it: invoke net.up")
    account.guard()
    return have


def gated(account: Account, have: plan.Facts, release: Release, because: str) -> list[str]:
    """What a release is let through with. Raises OpsError for a release that needs a reason and has none."""
    from ops.endpoint import probe
    from ops.releases import build, gate

    new = build.about(account, release.digest)
    if new is None:
        raise OpsError(
            f"What is told about release {release.short} is gone. Try it anew: invoke sm.preflight --job {release.job}"
        )
    now = probe.about(account, have.live) if have.live else None
    found = gate.findings(new, now, account.settings.endpoint.worse_at_most)
    if have.live and now is None:
        found = [f"nothing is known of what is live ({have.live}), so it cannot be compared"]
    if found and not because:
        raise OpsError(
            f"Release {release.short} is stopped here: {'; '.join(found)}.\n"
            'If that is wanted, say why: invoke sm.deploy ... --because "..."', STOPPED,
        )  # fmt: skip
    return found


def changed(c: Any, account: Account, have: plan.Facts, want: plan.Wanted, why: history.Why) -> Result | None:
    """Make it live, prove it, and keep a note of both."""
    from ops.endpoint import plan, probe
    from ops.releases import history

    if c.config.run.dry:
        carry_out(c, account, plan.steps(have, want))
        return None
    if have.live == want.config and have.endpoint and have.endpoint["EndpointStatus"] == "InService":
        done = carry_out(c, account, plan.steps(have, want))  # alarms and logs may have been taken away
        probe.prove(account, want, have.live)
        history.proved(account, want)
    else:
        with history.noted(account, want, why, have.scaled or have.lost):
            done = carry_out(c, account, plan.steps(have, want))
            probe.prove(account, want, have.live)
    release = want.release
    text = f"{account.settings.endpoint_name} answers as release {release.short}. {done.text}. Next: invoke sm.status"
    return Result({"release": release.digest, "job": release.job, "config": want.config}, text, changes=done.changes)
