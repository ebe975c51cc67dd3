"""SageMaker: train on one host or several, deploy, scale, ask, delete."""

from __future__ import annotations

import time
from pathlib import Path

from ops import cli
from ops.aws import Account
from ops.cli import Answer, carry_out, say, table, task
from ops.errors import FINDINGS, OpsError
from ops.sm import training
from ops.sm.drawing import report  # noqa: F401
from ops.sm.training import attach, evaluate, explain, stop, train, trained  # noqa: F401  tasks of this namespace too
from ops.sm.trials import tune  # noqa: F401


@task(
    help={
        "job": "A training job's name, of SageMaker or of the box.",
        "instances": "Without --job: the job that `sm.train --instances N` runs.",
        "once": "Do nothing if this release has ever been deployed here.",
    }
)
def deploy(c, job="", instances=1, once=False):
    """Package a trained model, try it here, make it live, and prove that it is."""
    from ops.sm import endpoint, releases

    account = Account.of(c)
    job = job or trained(account, instances)
    if not c.config.run.dry:
        endpoint.rest(account)
    have = endpoint.facts(account)
    if have.group is None or len(have.subnets) < 2:
        raise OpsError("There is no network to serve in. Make it: invoke net.up")
    account.guard()
    if c.config.run.dry:
        release = releases.known(account, job)
        if release is None:
            raise OpsError(
                f"The model of {job} was never packaged, so its release has no name yet. invoke sm.deploy --job {job}"
            )
    else:
        release = releases.make(account, job)
    want = endpoint.Wanted(release, account.settings)
    if once and want.config in have.configs and have.endpoint and have.endpoint["EndpointStatus"] == "InService":
        return Answer({"release": release.digest}, f"Release {release.short} was deployed before; {have.live} is live.")
    done = carry_out(c, account, endpoint.steps(have, want))
    if c.config.run.dry:
        return None
    releases.local(account, release)
    endpoint.prove(account, want)
    text = f"{account.settings.endpoint_name} answers as release {release.short}. {done.text}. Next: invoke sm.status"
    return Answer({"release": release.digest, "job": job, "config": want.config}, text, changes=done.changes)


@task(help={"minutes": "How far back errors count.", "json": "Print it as JSON."})
def status(c, minutes=15, json=False):
    """Show what is live, what it costs, and its errors; exit 7 when something is wrong."""
    from ops import price
    from ops.sm import watch

    account = Account.of(c)
    found = existing(account)
    variant = (found.get("ProductionVariants") or [{}])[0]  # one that never came up has none
    requests, failed = watch.errors(account, minutes)
    count = variant.get("CurrentInstanceCount", 0)
    config = account.call("sagemaker", "describe_endpoint_config", EndpointConfigName=found["EndpointConfigName"])
    kind = config["ProductionVariants"][0]["InstanceType"]
    data = {
        "endpoint": found["EndpointName"], "status": found["EndpointStatus"], "config": found["EndpointConfigName"],
        "instances": count, "desired": variant.get("DesiredInstanceCount", 0), "instance_type": kind,
        "requests": requests, "errors_5xx": failed, "minutes": minutes, "dollars_per_hour": price.hourly("sagemaker", kind, count),
    }  # fmt: skip
    row = (
        data["endpoint"],
        data["status"],
        f"{kind} x {count} of {data['desired']}",
        f"{failed} of {requests}",
        f"{data['dollars_per_hour']:.3f}",
        data["config"],
    )
    text = table(("endpoint", "status", "instances", f"5xx in {minutes} min", "$/h", "config"), [row])
    if found.get("FailureReason"):
        text += f"\nlast failure: {found['FailureReason']}"
    wrong = found["EndpointStatus"] != "InService" or failed > 0
    return Answer(data, text, code=FINDINGS if wrong else 0)


def existing(account):
    """The endpoint as described. Raises OpsError when there is none."""
    from ops.sm import endpoint

    found = endpoint.describe(account)
    if found is None:
        raise OpsError(f"There is no endpoint {account.settings.endpoint_name}. Deploy one: invoke sm.deploy")
    return found


@task(
    help={
        "job": "A training job's name; without it, the endpoint's log.",
        "minutes": "Of the endpoint's log: how far back.",
        "errors": "Only lines that speak of an error.",
    }
)
def logs(c, job="", minutes=15, errors=False):
    """Print a training job's log, or the endpoint's."""
    from ops.sm import follow, watch

    account = Account.of(c)
    if job:
        training.existing(account, job)
        for stream, lines in follow.Tail(account, f"{job}/").new().items():
            for line in lines:
                print(f"{follow.host_of(stream)}  {line}")
        return
    existing(account)
    since = int((time.time() - minutes * 60) * 1000)
    args = {"logGroupName": watch.log_group(account.settings), "startTime": since}
    for event in account.pages("logs", "filter_log_events", "events", **args):
        if not errors or "error" in event["message"].lower():
            print(f"{event['logStreamName'].rsplit('/', 1)[-1]}  {event['message']}")


@task(help={"picture": "A JPEG or PNG file.", "json": "Print the whole answer as JSON."})
def invoke(c, picture, json=False):
    """Send one picture to the endpoint."""
    from ops.sm import endpoint

    account = Account.of(c)
    path = Path(picture)
    if not path.is_file():
        raise OpsError(f"There is no file {picture}.")
    existing(account)
    answer = endpoint.invoke(account, path.read_bytes())
    best = max(answer["probabilities"])
    return Answer(answer, f"{answer['best']}  {best:.3f}  release {answer['release'][:12]}")


@task(help={"json": "Print it as JSON."})
def autoscale(c, json=False):
    """Let the number of instances follow the load."""
    from ops.sm import scaling

    account = Account.of(c)
    existing(account)
    account.guard()
    settings = account.settings
    done = carry_out(c, account, scaling.steps(scaling.facts(account), settings))
    endpoint = settings.endpoint
    say(
        f"AWS adds an instance after three minutes above {endpoint.invocations_per_instance} requests a minute each "
        f"({endpoint.invocations_per_instance / 60:.2f} a second), and takes one away after fifteen below; the cool-downs of "
        f"{endpoint.scale_out_cooldown_s} s are shorter than that and hardly matter."
    )
    return Answer(
        done.data, f"{endpoint.min_instances} to {endpoint.max_instances} instances. {done.text}", changes=done.changes
    )


@task(help={"confirm": "The endpoint's name, where nobody can be asked."})
def delete(c, confirm=""):
    """Delete the endpoint with its scaling, configs, models and alarms."""
    from ops.sm import endpoint, removal

    account = Account.of(c)
    name = account.settings.endpoint_name
    if not c.config.run.dry:
        endpoint.rest(account)
    have = removal.facts(account)
    if not removal.anything(have):
        raise OpsError(
            f"There is no endpoint {name}. Deploy one: invoke sm.deploy. Nothing is left of an older one either."
        )
    account.guard()
    cli.confirm(c, f"This deletes the endpoint {name}; callers will fail.", name=name, given=confirm)
    done = carry_out(c, account, removal.steps(have, account.settings))
    return None if c.config.run.dry else Answer(done.data, f"{name} is deleted. {done.text}", changes=done.changes)
