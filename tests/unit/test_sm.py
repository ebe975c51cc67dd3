"""SageMaker: plans by equality, jobs that really run and really fail, releases that really answer."""

import re
from dataclasses import replace

import pytest

from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.core.plan import Change, preview, walk_steps
from ops.datasets.manifest import Manifest
from ops.endpoint import alarms, plan, scaling, teardown
from ops.jobs import spec, training_jobs
from ops.releases.build import Release
from tests.conftest import settings_of

SETTINGS = settings_of()
WANT = plan.EndpointSpec(Release("a" * 64, "job"), SETTINGS, image_tag="b" * 12)
BAKING = replace(WANT, settings=settings_of(text="endpoint: {bake_s: 300}"))
NETWORK = {"subnets": ("subnet-a", "subnet-b"), "group": "sg-1"}
WATCHED = {
    "alarms": {alarm["AlarmName"]: alarm["Threshold"] for alarm in alarms.build_endpoint_alarms(SETTINGS)},
    "log_group": True,
}
DATA = Manifest("pictures", (), (), {}, "d" * 64)


def planned(**facts):
    steps = preview(plan.steps(plan.Facts(**{**NETWORK, **WATCHED, **facts}), WANT))
    return [s.call if isinstance(s, Change) else "wait" for s in steps]


def live(config, status="InService"):
    return {"EndpointName": "kennel-demo", "EndpointStatus": status, "EndpointConfigName": config}


@pytest.mark.parametrize(
    ("facts", "calls"),
    [
        ({}, ["create_model", "create_endpoint_config", "create_endpoint", "wait"]),
        ({"models": (WANT.model,), "configs": (WANT.config,), "endpoint": live(WANT.config)}, []),
        (
            {"models": (WANT.model,), "configs": (WANT.config,), "endpoint": live("other")},
            ["update_endpoint", "wait"],
        ),
        (
            {"models": (WANT.model,), "configs": (WANT.config,), "endpoint": live("other", "Failed")},
            ["delete_endpoint", "wait", "create_endpoint", "wait"],
        ),
    ],
    ids=["nothing", "live already", "another release", "failed"],
)
def test_endpoint_deploy_plan_follows_the_facts(facts, calls):
    assert planned(**facts) == calls


def test_endpoint_gets_alarms_and_a_log_group():
    assert planned(alarms={}, log_group=False)[2:6] == [
        "put_metric_alarm",
        "put_metric_alarm",
        "create_log_group",
        "put_retention_policy",
    ]
    five, p99 = alarms.build_endpoint_alarms(SETTINGS)
    assert (five["MetricName"], five["Statistic"], five["TreatMissingData"]) == (
        "Invocation5XXErrors",
        "Sum",
        "notBreaching",
    )
    assert (p99["ExtendedStatistic"], p99["Threshold"]) == ("p99", 2_000_000)  # microseconds


def update(count=1, want=WANT, **facts):
    have = {**live("other"), "ProductionVariants": [{"DesiredInstanceCount": count}]}
    known = {"models": (WANT.model,), "configs": (WANT.config,), "instance_type": "ml.m5.large", "endpoint": have}
    return preview(plan.steps(plan.Facts(**{**NETWORK, **WATCHED, **known, **facts}), want))


def asked(steps, call):
    return next(step.args for step in steps if isinstance(step, Change) and step.call == call)


def test_update_keeps_instances_and_rolls_back_on_alarms():
    """An update keeps the instance count that scaling chose, and its own alarms roll it back."""
    found = asked(update(want=BAKING), "update_endpoint")
    assert found["RetainAllVariantProperties"] is True
    guards = [alarm["AlarmName"] for alarm in found["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]]
    assert guards == [f"{WANT.config}-5xx", f"{WANT.config}-p99"]


def test_update_alarms_watch_the_new_fleet_until_it_settles():
    """The alarms of an update watch only the new fleet, and go when it has settled."""
    steps = update(want=BAKING)
    calls = [step.call if isinstance(step, Change) else "wait" for step in steps]
    assert calls == ["put_metric_alarm", "put_metric_alarm", "update_endpoint", "wait", "delete_alarms"]
    assert steps[3].why.endswith("and are watched while they bake for 300 s")
    for guard in (step.args for step in steps[:2]):
        assert {"Name": "EndpointConfigName", "Value": WANT.config} in guard["Dimensions"]
    left = update(guards=("kennel-demo-old-5xx",))
    assert left[0].args == {"AlarmNames": ["kennel-demo-old-5xx"]}


def test_update_without_bake_time_promises_no_rollback():
    """AWS watches the alarms of an update while the new fleet bakes, and at no other time."""
    [change, wait] = update()
    assert change.why.endswith("endpoint.bake_s is 0: no alarm rolls it back")
    assert "AutoRollbackConfiguration" not in change.args["DeploymentConfig"]
    assert wait.why == "instances start, load the release and answer pings"


def test_canary_needs_two_instances():
    """Two instances get a canary; a single one is replaced all at once."""

    def routing(count):
        policy = asked(update(count), "update_endpoint")["DeploymentConfig"]["BlueGreenUpdatePolicy"]
        return policy["TrafficRoutingConfiguration"]

    assert routing(1) == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    assert routing(2) == {
        "Type": "CANARY",
        "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
        "WaitIntervalInSeconds": 0,
    }


def test_new_instance_type_removes_and_restores_scaling():
    """Another instance type removes scaling before, and restores it after."""
    calls = [s.call for s in update(instance_type="ml.c5.xlarge", has_scaling=True) if isinstance(s, Change)]
    assert calls[:2] == ["deregister_scalable_target", "update_endpoint"]
    assert calls[-2:] == ["register_scalable_target", "put_scaling_policy"]
    same = [s.call for s in update(has_scaling=True) if isinstance(s, Change)]
    assert "deregister_scalable_target" not in same
    lost = [s.call for s in update(lost_scaling=True) if isinstance(s, Change)]
    assert lost[-2:] == ["register_scalable_target", "put_scaling_policy"]


def test_scaling_lost_in_its_middle_is_restored():
    """A crash after RegisterScalableTarget leaves a target without a policy: the next deployment puts the policy."""
    target = scaling.Facts((SETTINGS.endpoint.min_instances, SETTINGS.endpoint.max_instances))
    assert not scaling.is_complete(target, SETTINGS)
    lost = update(has_scaling=True, lost_scaling=True, scaling=target)
    calls = [s.call for s in lost if isinstance(s, Change)]
    assert calls[-1] == "put_scaling_policy"
    assert "register_scalable_target" not in calls
    name = scaling.derive_policy_name(SETTINGS)
    assert scaling.is_complete(scaling.Facts((1, 2), {name: scaling.build_policy_config(SETTINGS)}), SETTINGS)
    moved = update(has_scaling=True, lost_scaling=True, scaling=target, instance_type="ml.c5.xlarge")
    assert [s.call for s in moved if isinstance(s, Change)].count("put_scaling_policy") == 1


def test_rejected_update_restores_scaling():
    from ops.core.errors import AwsError

    steps = plan.update_steps(
        plan.Facts(**NETWORK, **WATCHED, endpoint=live("other"), instance_type="ml.c5.xlarge", has_scaling=True), WANT
    )
    made = []

    def answer(step):
        made.append(getattr(step, "call", "wait"))
        if made[-1] == "update_endpoint":
            raise AwsError("UpdateEndpoint", "ResourceLimitExceeded", "no quota")
        return {}

    with pytest.raises(AwsError, match="no quota"):
        list(walk_steps(steps, answer))
    assert made[-3:] == ["update_endpoint", "register_scalable_target", "put_scaling_policy"]


def test_rollback_uses_the_earlier_config_unchanged():
    want = plan.EndpointSpec(
        WANT.release, SETTINGS, existing_config="kennel-demo-old", config_instance_type="ml.c5.xlarge"
    )
    have = plan.Facts(**NETWORK, **WATCHED, endpoint=live("other"), instance_type="ml.c5.xlarge")
    steps = preview(plan.steps(have, want))
    assert asked(steps, "update_endpoint")["EndpointConfigName"] == "kennel-demo-old"
    assert not [s for s in steps if isinstance(s, Change) and s.call.startswith("create")]


def test_names_contain_the_release():
    assert WANT.model == "kennel-demo-aaaaaaaaaaaa-bbbbbb"
    assert WANT.config.startswith("kennel-demo-aaaaaaaaaaaa-bbbbbb-")


def test_endpoint_is_tagged_with_its_expiry():
    (creation,) = [
        s
        for s in preview(plan.steps(plan.Facts(**NETWORK, **WATCHED), WANT))
        if getattr(s, "call", "") == "create_endpoint"
    ]
    tags = {tag["Key"]: tag["Value"] for tag in creation.args["Tags"]}
    assert tags["kennel:stack"] == "demo"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", tags["kennel:expires"])
    assert creation.dollars_per_hour == 0.115


def test_original_example_has_the_original_values():
    original = settings_of(ROOT / "original.example.yaml")
    endpoint, fn = original.endpoint, original.fn
    assert (endpoint.instance_type, endpoint.min_instances, endpoint.max_instances) == ("ml.m5.large", 1, 2)
    assert (fn.reserved, fn.provisioned, fn.memory_mb, fn.response) == (10, 1, 128, "original")
    config = scaling.build_policy_config(original)
    assert (config["TargetValue"], config["ScaleOutCooldown"], config["ScaleInCooldown"]) == (20.0, 20, 20)


def test_delete_removes_scaling_first_and_alarms_last():
    have = plan.Facts(live("c"), ("c",), ("m",), {"kennel-demo-5xx": 5.0})
    calls = [s.call for s in preview(teardown.steps((have, scaling.Facts((1, 2))), SETTINGS)) if isinstance(s, Change)]
    assert calls == [
        "deregister_scalable_target",
        "delete_endpoint",
        "delete_endpoint_config",
        "delete_model",
        "delete_alarms",
    ]


def test_interrupted_delete_continues_with_the_rest():
    """A delete that was interrupted goes on with what is left."""
    have = (plan.Facts(None, ("c",), ("m",), {"kennel-demo-5xx": 5.0}), scaling.Facts())
    assert teardown.has_resources(have)
    calls = [s.call for s in preview(teardown.steps(have, SETTINGS)) if isinstance(s, Change)]
    assert calls == ["delete_endpoint_config", "delete_model", "delete_alarms"]
    assert not teardown.has_resources((plan.Facts(), scaling.Facts()))


def test_training_request_has_code_and_manifest_channels():
    """A training request runs the code channel on the manifest's objects."""
    job = spec.build_spec(SETTINGS, DATA, "sm", 2)
    have = training_jobs.Facts(job.name, None, ("s-a", "s-b"), "sg", True, root=job.name)
    request = training_jobs.build_training_request(
        have, training_jobs.Order(job, job.attempt(3), "code/c/", 2), SETTINGS
    )
    assert request["TrainingJobName"] == f"{job.name}-3"
    assert request["CheckpointConfig"]["S3Uri"].endswith(
        f"/checkpoints/{job.name}"
    )  # the attempts before left theirs there
    assert request["EnableManagedSpotTraining"] is False
    assert "MaxWaitTimeInSeconds" not in request["StoppingCondition"]
    assert request["ResourceConfig"]["InstanceCount"] == 2
    assert request["VpcConfig"] == {"Subnets": ["s-a", "s-b"], "SecurityGroupIds": ["sg"]}
    sources = {c["ChannelName"]: c["DataSource"]["S3DataSource"] for c in request["InputDataConfig"]}
    assert sources["data"]["S3DataType"] == "ManifestFile"
    assert sources["data"]["S3Uri"].endswith(f"datasets/pictures/{'d' * 64}/channel.json")
    assert sources["code"]["S3Uri"].endswith("/code/c/")
    assert len(request["AlgorithmSpecification"]["ContainerEntrypoint"][2]) <= 256


def test_job_name_follows_from_data_code_settings_and_hosts():
    name = spec.build_spec(SETTINGS, DATA, "sm").name
    assert name == spec.build_spec(SETTINGS, DATA, "sm").name
    other = SETTINGS.model_copy(update={"train": SETTINGS.train.model_copy(update={"seed": 1})})
    names = {
        name,
        spec.build_spec(other, DATA, "sm").name,
        spec.build_spec(SETTINGS, replace(DATA, digest="e"), "sm").name,
        spec.build_spec(SETTINGS, DATA, "sm", 2).name,
    }
    assert len(names) == 4


def test_alarms_of_a_rollout_cost_nothing_in_the_end():
    names = ["kennel-demo-rollout-5xx", "kennel-demo-rollout-latency"]
    rollout = [*alarms.guard_steps(BAKING.settings, "config"), *alarms.remove_guard_steps(names)]
    assert [step.sign for step in rollout] == ["+", "+", "-"]
    assert sum(step.dollars_per_hour for step in rollout) == pytest.approx(0)


@pytest.mark.parametrize(
    ("hosts", "rounding"),
    [(1, ""), (2, ""), (3, ", batch 64 rounded to a multiple of 3"), (5, ", batch 64 rounded to a multiple of 5")],
)
def test_any_number_of_hosts_is_planned(hosts, rounding):
    """A plan for any number of hosts says when they do not divide the batch of the shipped settings."""
    order = training_jobs.Order(job := spec.build_spec(SETTINGS, DATA, "sm", hosts), job.name, "code/", hosts)
    have = training_jobs.Facts(job.name, None, ("subnet-1", "subnet-2"), "sg-1", True)
    (creation,) = [s for s in preview(training_jobs.steps(have, order, SETTINGS)) if isinstance(s, Change)]
    assert creation.why == f"train on {hosts} x ml.m5.xlarge, at most 3600 s{rounding}"
    assert creation.args["ResourceConfig"]["InstanceCount"] == hosts
    assert creation.args["HyperParameters"]["batch"] == "64"


def test_scaled_endpoint_is_not_moved_to_a_burstable_type():
    """AWS would refuse to register its scaling again, after the fleet had moved."""
    want = plan.EndpointSpec(WANT.release, settings_of(text="endpoint: {instance_type: ml.t2.medium}"), WANT.image_tag)
    have = plan.Facts(**NETWORK, **WATCHED, endpoint=live("other"), instance_type="ml.m5.large", has_scaling=True)
    with pytest.raises(OpsError, match=r"AWS does not scale burstable types. Nothing was changed."):
        preview(plan.steps(have, want))


def test_plan_to_a_type_without_a_price_is_whole():
    """Under scaling, such a deployment once took the scaling away, moved the fleet, and stopped at the price."""
    settings = settings_of(text="endpoint: {instance_type: ml.nope.large}")
    want = plan.EndpointSpec(WANT.release, settings, image_tag=WANT.image_tag)
    have = plan.Facts(**NETWORK, **WATCHED, endpoint=live("other"), instance_type="ml.m5.large", has_scaling=True)
    calls = [step.call for step in preview(plan.steps(have, want)) if isinstance(step, Change)]
    assert (
        calls.index("deregister_scalable_target") < calls.index("update_endpoint") < calls.index("put_scaling_policy")
    )
