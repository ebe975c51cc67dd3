"""SageMaker: plans by equality, jobs that really run and really fail, releases that really answer."""

import json
import re

import pytest

from ops.core.errors import OpsError
from ops.endpoint import plan
from ops.jobs import follow, spec, training_jobs


def test_stack_with_our_name_as_prefix_is_left_alone(demo_stack, make_stack):
    """Every list call takes a part of a name; `whole` has models, configs and alarms, `wh` has none."""
    short = make_stack("wh")
    seen = plan.facts(short.account)
    assert (seen.configs, seen.models, seen.alarms, seen.endpoint) == ((), (), {}, None)
    assert len(plan.facts(demo_stack.account).models) == 2


def test_model_with_an_unbuilt_image_is_rejected(demo_stack):
    from ops.core.errors import AwsError

    settings = demo_stack.settings
    container = {"Image": f"{settings.registry}/kennel-serving:nope", "ModelDataUrl": "s3://b/k"}
    with pytest.raises(AwsError, match="not found"):
        demo_stack.account.call(
            "sagemaker",
            "create_model",
            ModelName="x",
            PrimaryContainer=container,
            ExecutionRoleArn=settings.role_arn("sagemaker-execution"),
        )


def test_failed_job_reports_why_and_the_next_gets_a_new_name(demo_stack):
    """A failed training job reports why, and the next attempt has another name."""
    cli = type(demo_stack)(demo_stack.file.with_name("wholebroken.yaml"))
    cli.file.write_text(demo_stack.file.read_text() + "train: {arch: alexnet, pixels: 32}\n")
    for attempt in ("", "-2"):
        failed = cli("sm.train", ok=False)
        assert failed.code == 1
        assert re.search(
            rf"kennel-whole-sm1-[0-9a-f]{{8}}{attempt} ended Failed: AlgorithmError: RuntimeError: Given input size",
            failed.err,
        )


def test_job_can_be_stopped_and_its_name_is_used_once(demo_stack):
    from ops.core.errors import AwsError
    from ops.datasets import manifest

    account, settings = demo_stack.account, demo_stack.settings
    job = spec.build_spec(settings, manifest.read_current(account), "sm")
    have = training_jobs.facts(account, job)
    described = have.described
    code = described["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"].split("/", 3)[3]
    request = training_jobs.build_training_request(have, training_jobs.Order(job, "stopme", code), settings)
    account.call("sagemaker", "create_training_job", **request)
    with pytest.raises(AwsError, match="ResourceInUse"):
        account.call("sagemaker", "create_training_job", **request)
    account.call("sagemaker", "stop_training_job", TrainingJobName="stopme")
    with pytest.raises(OpsError, match="stopme ended Stopped"):
        follow.follow_training_job(account, "stopme")
    assert (
        account.call("sagemaker", "describe_training_job", TrainingJobName="stopme")["TrainingJobStatus"] == "Stopped"
    )
    with pytest.raises(AwsError, match="terminal status"):
        account.call("sagemaker", "stop_training_job", TrainingJobName="stopme")


def test_status_shows_price_and_release(demo_stack):
    found = json.loads(
        demo_stack("sm.status", "--json", "--minutes", "1", ok=False).out
    )  # other tests scale it and break it
    assert (found["status"], found["instance_type"]) == ("InService", "ml.m5.large")
    assert found["dollars_per_hour"] == pytest.approx(0.115 * found["instances"])
    assert found["dollars_so_far"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", found["expires"])


def test_invoke_classifies_a_picture(demo_stack, digits):
    path = next((digits / "test" / "7").iterdir())
    answer = json.loads(demo_stack("sm.invoke", str(path), "--json").out)
    assert sorted(answer) == ["best", "certain", "classes", "probabilities", "release", "scores"]
    assert "The file nowhere.png does not exist" in demo_stack("sm.invoke", "nowhere.png", ok=False).err
