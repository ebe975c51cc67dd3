"""Releases that go live, and those that do not: stopped here, or rolled back by the fleet; and callers who notice nothing."""

import io
import json
import shutil
import sys
import tarfile
import threading
import time
from functools import partial

import numpy as np
import pytest

from ops.core.errors import ROLLED_BACK, STOPPED, AwsError
from ops.core.paths import ROOT
from ops.core.plan import apply
from ops.endpoint import plan
from ops.releases import trained_model

sys.path.insert(0, str(ROOT / "training"))


@pytest.fixture(scope="module")
def live_endpoint(make_stack, digits):
    """A stack with an endpoint that two models were trained for: a cheap one, and a cheap one of another seed."""
    cli = make_stack("rollout", "train: {epochs: 1}\nendpoint: {worse_at_most: 0.5}\n")
    cli("iam.apply", "data.up", "net.up")
    cli("data.push", "--dir", str(digits))
    cli("sm.image")
    jobs = []
    for seed in (0, 1):
        file = cli.file.with_name(f"rollout{seed}.yaml")
        file.write_text(cli.file.read_text().replace("epochs: 1", f"epochs: 1, seed: {seed}"))
        jobs.append(json.loads(type(cli)(file)("sm.train", "--json").out)["job"])
    cli("sm.deploy", "--job", jobs[0])
    return cli, jobs


def model_of(live_endpoint, tmp_path):
    cli, jobs = live_endpoint
    shutil.copytree(trained_model.fetch_model(cli.account, jobs[0]), tmp_path / "model")
    return tmp_path / "model"


def upload(cli, job, folder):
    """As if a training job had left it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    key = f"jobs/{job}/output/model.tar.gz"
    cli.account.call("s3", "put_object", Bucket=cli.settings.bucket, Key=key, Body=packed.getvalue())


def no_model(folder):
    (folder / "model.safetensors").unlink()


def crash_at_load(folder):
    (folder / "golden.npz").write_bytes(b"rubbish")


def wrong_order(folder):
    card = json.loads((folder / "model.json").read_text())
    card["classes"] = card["classes"][::-1]
    (folder / "model.json").write_text(json.dumps(card))


def slow(folder):
    """The same network on pictures of 1,024 pixels, with golden answers of its own."""
    import model
    import torch
    from preprocess import Preprocess

    card = json.loads((folder / "model.json").read_text())
    card["preprocess"]["pixels"] = 1024
    (folder / "model.json").write_text(json.dumps(card))
    network, card = model.load(folder)
    with np.load(folder / "golden.npz") as golden:
        whole, ends = golden["pictures"].tobytes(), golden["ends"]
    preprocess = Preprocess.from_card(card)
    pictures = torch.stack([preprocess.decode(whole[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)])
    scores = model.compute_scores(network, preprocess.normalise(pictures)).numpy()
    np.savez(folder / "golden.npz", pictures=np.frombuffer(whole, np.uint8), ends=ends, scores=scores)


def wrong_answers(folder):
    with np.load(folder / "golden.npz") as golden:
        np.savez(folder / "golden.npz", pictures=golden["pictures"], ends=golden["ends"], scores=golden["scores"][::-1])


BAD = {
    no_model: "could not be packaged",
    crash_at_load: "golden.npz cannot be read",
    wrong_order: "its classes have another order: score 0 belongs to 9, in the live release to 0",
    slow: "it is too slow: p99",
    wrong_answers: "the model does not reproduce its golden answers",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_bad_release_is_stopped_before_the_endpoint(live_endpoint, tmp_path, spoil):
    """A bad release is stopped before it gets to the endpoint."""
    cli, _ = live_endpoint
    folder = model_of(live_endpoint, tmp_path)
    spoil(folder)
    name = f"bad-{spoil.__name__.replace('_', '-')}"
    upload(cli, name, folder)
    before = plan.find_endpoint(cli.account)["EndpointConfigName"]
    strict = type(cli)(cli.file.with_name("rolloutstrict.yaml"))
    strict.file.write_text(cli.file.read_text().replace("worse_at_most", "p99_ms: 150, worse_at_most"))
    refused = strict("sm.deploy", "--job", name, ok=False)
    assert (refused.code, "Traceback" in refused.err) == (STOPPED, False)
    assert BAD[spoil] in refused.err
    assert plan.find_endpoint(cli.account)["EndpointConfigName"] == before
    assert cli("sm.smoke").code == 0


def test_class_order_changes_with_a_recorded_reason(live_endpoint, tmp_path):
    """The class order may change for a reason, which the release record keeps."""
    cli, jobs = live_endpoint
    folder = model_of(live_endpoint, tmp_path)
    wrong_order(folder)
    upload(cli, "reordered", folder)
    assert cli("sm.deploy", "--job", "reordered", ok=False).code == STOPPED
    cli("sm.deploy", "--job", "reordered", "--because", "callers read names")
    found = json.loads(cli("sm.releases", "--json").out)[0]
    assert (found["job"], found["outcome"], found["because"]) == ("reordered", "LIVE", "callers read names")
    cli("sm.rollback")
    assert json.loads(cli("sm.smoke", "--json").out)["job"] == jobs[0]


def config_of_a_corrupt_release(cli, jobs):
    """A model and a config whose artefact the fleet cannot load, made around the commands."""
    account, settings = cli.account, cli.settings
    corrupt_model = f"{settings.prefix}-{'0' * 12}-{'0' * 6}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("model.onnx")
        tar.addfile(entry, io.BytesIO(b""))
    account.call("s3", "put_object", Bucket=settings.bucket, Key="releases/corrupt.tar.gz", Body=packed.getvalue())
    live_model = f"{plan.find_endpoint(account)['EndpointConfigName'].rsplit('-', 1)[0]}"
    model = account.call("sagemaker", "describe_model", ModelName=live_model)
    container = {**model["PrimaryContainer"], "ModelDataUrl": f"s3://{settings.bucket}/releases/corrupt.tar.gz"}
    account.call(
        "sagemaker",
        "create_model",
        ModelName=corrupt_model,
        PrimaryContainer=container,
        ExecutionRoleArn=model["ExecutionRoleArn"],
    )
    variant = {
        "VariantName": settings.endpoint.variant,
        "ModelName": corrupt_model,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    account.call(
        "sagemaker", "create_endpoint_config", EndpointConfigName=f"{corrupt_model}-0000", ProductionVariants=[variant]
    )
    return f"{corrupt_model}-0000"


def test_silent_rollback_is_an_error_with_the_reason(live_endpoint):
    """The fleet refuses what this machine took: AWS says InService, and the old release answers."""
    from ops.core.errors import OpsError
    from ops.endpoint import probe as asking
    from ops.releases.build import Release

    cli, jobs = live_endpoint
    config = config_of_a_corrupt_release(cli, jobs)
    want = plan.EndpointSpec(
        Release("0" * 64, "corrupt"), cli.settings, existing_config=config, config_instance_type="ml.m5.large"
    )
    apply(partial(plan.steps, plan.facts(cli.account), want), cli.account, lambda _: None)
    with pytest.raises(OpsError, match="is not live: AWS rolled back to .*did not pass the ping health check") as error:
        asking.verify_release(cli.account, want, plan.find_endpoint(cli.account)["EndpointConfigName"])
    assert error.value.code == ROLLED_BACK
    assert cli("sm.smoke").code == 0
    assert not plan.facts(cli.account).guards


class Callers:
    """Some who call all the time, without a second try; `wrong` is what they got instead of an answer."""

    def __init__(self, cli, picture, count=4):
        self.cli, self.picture, self.ended, self.wrong, self.releases = cli, picture, threading.Event(), [], []
        self.threads = [threading.Thread(target=self.call) for _ in range(count)]

    def call(self):
        client = self.cli.account.client("sagemaker-runtime", "lambda")
        while not self.ended.is_set():
            try:
                answer = client.invoke_endpoint(
                    EndpointName=self.cli.settings.endpoint_name, Body=self.picture, ContentType="image/png"
                )
                self.releases.append(json.loads(answer["Body"].read())["release"])
            except Exception as error:
                self.wrong.append(repr(error))
            time.sleep(0.03)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def picture(digits):
    return next((digits / "test" / "7").iterdir()).read_bytes()


def test_deploy_and_rollback_lose_no_request(live_endpoint, picture):
    cli, jobs = live_endpoint
    with Callers(cli, picture) as callers:
        cli("sm.deploy", "--job", jobs[1])
        cli("sm.rollback")
    assert callers.wrong == []
    assert len(set(callers.releases)) == 2  # both answered while they were live
    assert len(callers.releases) > 100


def test_canary_loses_no_request_while_both_releases_answer(live_endpoint, picture):
    """A canary of two instances loses no request, and both releases answer."""
    cli, jobs = live_endpoint
    account, settings = cli.account, cli.settings
    wanted = {"VariantName": settings.endpoint.variant, "DesiredInstanceCount": 2}
    args = {"EndpointName": settings.endpoint_name, "DesiredWeightsAndCapacities": [wanted]}
    account.call("sagemaker", "update_endpoint_weights_and_capacities", **args)
    plan.await_stable_endpoint(account)
    baking = type(cli)(cli.file.with_name("rolloutbake.yaml"))
    baking.file.write_text(cli.file.read_text().replace("worse_at_most", "bake_s: 4, worse_at_most"))
    with Callers(cli, picture) as callers:
        process = baking.background("sm.deploy", "--job", jobs[1])
        seen = []
        while process.poll() is None:
            seen.append((plan.find_endpoint(account)["EndpointStatus"], len(callers.releases)))
            time.sleep(0.1)
        assert process.returncode == 0, process.stdout.read()
        after = plan.find_endpoint(account)
    assert callers.wrong == []
    assert after["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    first, last = callers.releases[0], callers.releases[-1]
    assert first != last
    began, ended = callers.releases.index(last), len(callers.releases) - 1 - callers.releases[::-1].index(first)
    mixed = callers.releases[began:ended]
    assert 0.3 < mixed.count(last) / len(mixed) < 0.7  # one instance of two
    cli("sm.rollback")


def test_alarm_of_the_new_fleet_rolls_back_during_bake(live_endpoint, picture, inject_fault):
    cli, jobs = live_endpoint
    watched = type(cli)(cli.file.with_name("rolloutwatched.yaml"))
    watched.file.write_text(cli.file.read_text().replace("worse_at_most", "bake_s: 600, p99_ms: 300, worse_at_most"))
    before = plan.find_endpoint(cli.account)["EndpointConfigName"]
    with Callers(cli, picture, count=2) as callers:
        process = watched.background("sm.deploy", "--job", jobs[1])
        for line in process.stdout:
            if "Updating" in line:
                break
        inject_fault("slow", endpoint=cli.settings.endpoint_name, seconds=0.4)
        inject_fault("clock", speed=40)
        said = process.stdout.read()
        assert process.wait() == ROLLED_BACK, said
        inject_fault("clock", speed=1)
        inject_fault("slow", endpoint=cli.settings.endpoint_name, seconds=0)
    assert "One or more alarms fired" in said
    assert "-p99" in said
    assert plan.find_endpoint(cli.account)["EndpointConfigName"] == before
    assert callers.wrong == []
    assert "One or more alarms fired" in json.loads(cli("sm.releases", "--json").out)[0]["outcome"]


def test_smoke_retries_a_busy_endpoint(live_endpoint, inject_fault):
    """A busy endpoint is asked again; a 503 says nothing about its release."""
    cli, _ = live_endpoint
    busy = {"code": "ModelError", "message": "Received server error (503) from primary", "status": 424}
    inject_fault("fault", operation="InvokeEndpoint", do="error", times=2, **busy)
    assert cli("sm.smoke").code == 0
    inject_fault(
        "fault",
        operation="InvokeEndpoint",
        do="error",
        **(busy | {"message": "Received server error (500) from primary"}),
    )
    assert "server error (500)" in cli("sm.smoke", ok=False).err


def test_interrupted_deployment_is_recorded_once_verified(live_endpoint):
    """A deployment whose process died is recorded as live when its release is verified."""
    from ops.releases import history
    from ops.releases.records import LIVE, UNFINISHED

    cli, _ = live_endpoint
    now = plan.find_endpoint(cli.account)["EndpointConfigName"]
    note = [one for one in history.read_notes(cli.account) if one.config == now][-1]
    history.write_note(cli.account, note.model_copy(update={"outcome": UNFINISHED}))
    assert "update_endpoint" not in cli("sm.deploy", "--job", note.job).err
    again = [one for one in history.read_notes(cli.account) if one.config == now][-1]
    assert (again.at, again.outcome) == (note.at, LIVE)


def test_repeated_preflight_keeps_the_job_record(live_endpoint):
    """A second preflight of a release changes its summary and nothing of its job."""
    cli, jobs = live_endpoint
    key = {"Bucket": cli.settings.bucket, "Key": f"jobs/{jobs[0]}/release.json"}
    before = cli.account.call("s3", "get_object", **key)["Body"].read()
    short = json.loads(before)["digest"][:12]
    found = json.loads(cli("sm.preflight", "--release", short, "--json").out)
    assert (found["release"][:12], found["precision"]) == (short, "fp32")
    assert cli.account.call("s3", "get_object", **key)["Body"].read() == before
    assert "No release begins with" in cli("sm.preflight", "--release", "zz", ok=False).err


def test_unknown_live_release_cannot_be_compared(live_endpoint):
    cli, jobs = live_endpoint
    summary = {
        "Bucket": cli.settings.bucket,
        "Key": f"releases/{json.loads(cli('sm.smoke', '--json').out)['release']}/about.json",
    }
    kept = cli.account.call("s3", "get_object", **summary)["Body"].read()
    cli.account.call("s3", "delete_object", **summary)
    refused = cli("sm.deploy", "--job", jobs[1], ok=False)
    cli.account.call("s3", "put_object", **summary, Body=kept)
    assert refused.code == STOPPED
    assert "has no metadata, so the gate cannot compare with it" in refused.err


def test_update_that_aws_rejects_is_rejected_here(live_endpoint):
    cli, _ = live_endpoint
    name = plan.find_endpoint(cli.account)["EndpointName"]
    config = plan.find_endpoint(cli.account)["EndpointConfigName"]
    half = {"Type": "CANARY", "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 90}, "WaitIntervalInSeconds": 0}
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": half}}
    with pytest.raises(AwsError, match="CanarySize must be at most 50%"):
        cli.account.call(
            "sagemaker", "update_endpoint", EndpointName=name, EndpointConfigName=config, DeploymentConfig=policy
        )


def test_new_instance_type_suspends_scaling_meanwhile(live_endpoint):
    """With scaling on, another instance type needs scaling removed before and restored after."""
    cli, jobs = live_endpoint
    cli("sm.autoscale")
    other = type(cli)(cli.file.with_name("rollouttype.yaml"))
    other.file.write_text(cli.file.read_text().replace("worse_at_most", "instance_type: ml.c5.xlarge, worse_at_most"))
    with pytest.raises(AwsError, match="registered with Application Auto Scaling"):
        have = plan.facts(cli.account)
        have = type(have)(**{**vars(have), "has_scaling": False})
        from ops.releases.build import find_job_release

        want = plan.EndpointSpec(find_job_release(cli.account, jobs[0]), other.settings)
        apply(partial(plan.steps, have, want), cli.account, lambda _: None)
    done = other("sm.deploy", "--job", jobs[0])
    assert "deregister_scalable_target" in done.err
    assert plan.read_instance_type(cli.account, plan.find_endpoint(cli.account)["EndpointConfigName"]) == "ml.c5.xlarge"
    assert plan.facts(cli.account).has_scaling


def test_expired_endpoint_is_deleted_after_asking(live_endpoint):
    cli, _ = live_endpoint
    stays = cli("sm.reap")
    assert "stays" in stays.out
    arn = plan.find_endpoint(cli.account)["EndpointArn"]
    cli.account.call(
        "sagemaker", "add_tags", ResourceArn=arn, Tags=[{"Key": "kennel:expires", "Value": "2026-01-01T00:00Z"}]
    )
    asked = cli("sm.reap", ok=False)
    assert asked.code == 1
    assert "It expired at 2026-01-01T00:00Z" in asked.err
    gone = cli("sm.reap", "--confirm", cli.settings.endpoint_name)
    assert "is deleted" in gone.out
    assert plan.find_endpoint(cli.account) is None
    assert not plan.facts(cli.account).guards
