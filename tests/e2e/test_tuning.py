"""Tuning: the plan by equality, AWS's own model of the request, and trials that really train in the sandbox."""

import json
import re
import time
from pathlib import Path

import pytest

from ops.core.errors import AwsError, OpsError
from ops.jobs import tuning
from sandbox import state
from sandbox.client import send_control_request
from tests.conftest import HOME


class Tuner:
    """Tuning jobs with a program of the test's own, below the client's level of sm.tune."""

    def __init__(self, cli):
        self.account, self.settings = cli.account, cli.settings

    def request(self, name, program, count=2, parallel=1, strategy="Random", **more):
        bucket = self.settings.bucket
        self.account.client("s3").put_object(Bucket=bucket, Key=f"code/{name}/main.py", Body=program.encode())
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/code/{name}/"}
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": strategy,
                "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
                "ResourceLimits": {"MaxNumberOfTrainingJobs": count, "MaxParallelTrainingJobs": parallel},
                "ParameterRanges": {"CategoricalParameterRanges": [{"Name": "size", "Values": ["1", "2", "3"]}]},
                **more,
            },
            "TrainingJobDefinition": {
                "StaticHyperParameters": {
                    "sagemaker_program": '"main.py"', "sagemaker_submit_directory": '"/opt/ml/input/data/code"', "who": name,
                },
                "AlgorithmSpecification": {
                    "TrainingImage": self.settings.training_image, "TrainingInputMode": "File",
                    "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
                },
                "RoleArn": self.settings.role_arn("sagemaker-execution"),
                "InputDataConfig": [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}],
                "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/jobs"},
                "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
                "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            },
            "Tags": [{"Key": "kennel:stack", "Value": "tuner"}],
        }  # fmt: skip

    def create(self, name, program, **more):
        self.account.call("sagemaker", "create_hyper_parameter_tuning_job", **self.request(name, program, **more))
        return name

    def describe(self, name):
        return self.account.call("sagemaker", "describe_hyper_parameter_tuning_job", HyperParameterTuningJobName=name)

    def ended(self, name, seconds=90):
        deadline = time.monotonic() + seconds
        while (found := self.describe(name))["HyperParameterTuningJobStatus"] in ("InProgress", "Stopping"):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found

    def trials(self, name, **more):
        return self.account.call(
            "sagemaker", "list_training_jobs_for_hyper_parameter_tuning_job", HyperParameterTuningJobName=name, **more
        )["TrainingJobSummaries"]


LOSS = "import sys\nx = sys.argv[sys.argv.index('--size') + 1]\nprint(f'loss=9'); print(f'loss=0.{x}')"


@pytest.fixture(scope="module")
def tuner(make_stack):
    cli = make_stack("tuner")
    cli("iam.apply", "data.up")
    return Tuner(cli)


def test_grid_search_finds_the_best_trial_by_its_log(tuner):
    request = tuner.request("grid", LOSS, parallel=2, strategy="Grid")
    del request["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    tuner.account.call("sagemaker", "create_hyper_parameter_tuning_job", **request)
    done = tuner.ended("grid")
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    assert done["TrainingJobStatusCounters"]["Completed"] == 3
    assert done["ObjectiveStatusCounters"] == {"Succeeded": 3, "Pending": 0, "Failed": 0}
    best = done["BestTrainingJob"]
    assert best["TunedHyperParameters"] == {"size": "1"}
    assert best["FinalHyperParameterTuningJobObjectiveMetric"] == {"MetricName": "loss", "Value": pytest.approx(0.1)}
    found = tuner.trials("grid", SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    assert [trial["TunedHyperParameters"]["size"] for trial in found] == ["3", "2", "1"]
    assert re.fullmatch(r"grid-00[123]-[0-9a-f]{8}", found[0]["TrainingJobName"])
    job = tuner.account.call("sagemaker", "describe_training_job", TrainingJobName=best["TrainingJobName"])
    assert job["HyperParameters"] == {
        "size": "1", "who": "grid", "_tuning_objective_metric": "loss",
        "sagemaker_program": '"main.py"', "sagemaker_submit_directory": '"/opt/ml/input/data/code"',
    }  # fmt: skip
    assert job["TuningJobArn"] == done["HyperParameterTuningJobArn"]
    assert [metric["Value"] for metric in job["FinalMetricDataList"]] == [pytest.approx(0.1)]


def test_parallel_trials_are_limited_and_pages_followed(tuner):
    """No more trials run at once than allowed, and all pages of them are listed."""
    name = tuner.create("parallel", "import time\ntime.sleep(0.5)\n" + LOSS, count=12, parallel=3)
    most = 0
    while (found := tuner.describe(name))["HyperParameterTuningJobStatus"] == "InProgress":
        most = max(most, found["TrainingJobStatusCounters"]["InProgress"])
        time.sleep(0.05)
    assert most == 3
    assert len(tuner.trials(name)) == 10
    assert (
        len(
            tuner.account.list_all(
                "sagemaker",
                "list_training_jobs_for_hyper_parameter_tuning_job",
                "TrainingJobSummaries",
                HyperParameterTuningJobName=name,
            )
        )
        == 12
    )
    assert len(tuner.trials(name, StatusEquals="Failed")) == 0
    listed = tuner.account.list_all(
        "sagemaker", "list_hyper_parameter_tuning_jobs", "HyperParameterTuningJobSummaries", NameContains="parallel"
    )
    assert [(job["HyperParameterTuningJobName"], job["HyperParameterTuningJobStatus"]) for job in listed] == [
        (name, "Completed")
    ]


@pytest.mark.parametrize(
    ("name", "program", "words"),
    [
        ("allfail", "raise SystemExit(2)", "No training job succeeded after 2 attempts."),
        ("nometric", "print('nothing of interest')", "No objective metrics found after running 2 training jobs."),
    ],
)
def test_search_without_any_result_fails(tuner, name, program, words):
    failed = tuner.ended(tuner.create(name, program))
    assert failed["HyperParameterTuningJobStatus"] == "Failed"
    assert failed["FailureReason"].startswith(words)
    assert "BestTrainingJob" not in failed
    assert {trial["ObjectiveStatus"] for trial in tuner.trials(name)} == {"Failed"}
    with pytest.raises(OpsError, match=rf"{name} ended Failed without a best trial: {words}"):
        tuning.find_best_hyperparameters(tuner.account, name)


def test_one_failed_trial_does_not_fail_the_search(tuner):
    once = "import os\nif '-001-' in os.environ['TRAINING_JOB_NAME']: raise SystemExit(1)\n" + LOSS
    done = tuner.ended(tuner.create("onefails", once))
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    assert (done["TrainingJobStatusCounters"]["NonRetryableError"], done["ObjectiveStatusCounters"]["Failed"]) == (1, 1)
    assert "-002-" in done["BestTrainingJob"]["TrainingJobName"]


def test_stopping_the_search_stops_its_trials(tuner):
    name = tuner.create(
        "stopped", "import time\nprint('loss=0.5', flush=True)\nwhile True: time.sleep(0.1)", parallel=2
    )
    while len(tuner.trials(name)) < 2 or any(
        t["TrainingJobStatus"] != "InProgress" or "TrainingStartTime" not in t for t in tuner.trials(name)
    ):
        time.sleep(0.1)
    with pytest.raises(OpsError, match="stopped is still InProgress"):
        tuning.find_best_hyperparameters(tuner.account, name)
    tuner.account.call("sagemaker", "stop_hyper_parameter_tuning_job", HyperParameterTuningJobName=name)
    assert tuner.ended(name)["HyperParameterTuningJobStatus"] == "Stopped"
    assert {trial["TrainingJobStatus"] for trial in tuner.trials(name)} == {"Stopped"}
    with pytest.raises(AwsError, match="terminal status"):
        tuner.account.call("sagemaker", "stop_hyper_parameter_tuning_job", HyperParameterTuningJobName=name)


def test_unsupported_tuning_options_are_rejected(tuner):
    def refused(words, **more):
        with pytest.raises(AwsError, match=words) as error:
            request = tuner.request(more.pop("name", "refused"), LOSS, **more)
            tuner.account.call("sagemaker", "create_hyper_parameter_tuning_job", **request)
        assert error.value.aws_code == "ValidationException"

    refused("length less than or equal to 32", name="x" * 33)
    refused("Hyperband: not part of the sandbox", strategy="Hyperband")
    refused("EarlyStoppingType: not part of the sandbox", TrainingJobEarlyStoppingType="Auto")
    refused("A metric is required", HyperParameterTuningJobObjective={"Type": "Minimize", "MetricName": "other"})
    refused("is 10, but 11 were requested", parallel=11)
    low = [{"Name": "y", "MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"}]
    refused("Invalid range of y", ParameterRanges={"ContinuousParameterRanges": low})
    refused(
        "tuned and static, or tuned twice: who",
        ParameterRanges={"CategoricalParameterRanges": [{"Name": "who", "Values": ["1"]}]},
    )
    tuner.ended(tuner.create("twice", LOSS))
    with pytest.raises(AwsError, match="ResourceInUse"):
        tuner.create("twice", LOSS)
    with pytest.raises(AwsError, match="ResourceNotFound"):
        tuner.trials("absent")
    with pytest.raises(OpsError, match=r"There is no tuning job absent. Run one: invoke sm.tune"):
        tuning.find_best_hyperparameters(tuner.account, "absent")


@pytest.fixture(scope="module")
def tuning_stack(make_stack, tmp_path_factory):
    """A stack with a few pictures and a network."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("tuned") / "pictures"
    for split in ("train", "valid", "test"):
        for label, colour in (("cat", 40), ("dog", 200)):
            (folder / split / label).mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (16, 16), (colour, number * 20, len(split))).save(
                    folder / split / label / f"{number}.png"
                )
    cli = make_stack("tuned", "train: {epochs: 1, pixels: 16}\ntune: {batches: [4, 8]}\n")
    cli("iam.apply", "data.up", "net.up", "data.push", "--dir", str(folder))
    return cli


def test_second_tune_shows_the_finished_search(tuning_stack):
    """Tuning trains real trials; a second run only shows them."""
    dry = tuning_stack("--dry", "sm.tune")
    assert "+ sagemaker.create_hyper_parameter_tuning_job: run 2 trials, 1 at a time, on 1 x ml.m5.xlarge" in dry.err
    assert "nothing was touched" in dry.err
    first = tuning_stack("sm.tune")
    (name,) = set(re.findall(r"kennel-tuned-tune-[0-9a-f]{8}(?=\n)", first.out))
    assert re.search(rf"{name}-001-[0-9a-f]{{8}}: lr [0-9.e-]+, batch [48]: Completed, valid loss \d+\.\d+", first.err)
    assert f"Next: invoke sm.train --from-tuning {name}" in first.out
    again = json.loads(tuning_stack("sm.tune", "--json").out)
    assert (again["job"], again["status"], len(again["trials"])) == (name, "Completed", 2)
    assert again["best"] == min(again["trials"], key=lambda trial: trial["objective"])["name"]
    assert all(0.001 <= trial["lr"] <= 0.1 and trial["batch"] in (4, 8) for trial in again["trials"])
    if again["plot"]:  # matplotlib is there
        assert Path(again["plot"]).read_bytes().startswith(b"\x89PNG")
    values = tuning.find_best_hyperparameters(tuning_stack.account, name)
    (best,) = [trial for trial in again["trials"] if trial["name"] == again["best"]]
    assert (float(values["lr"]), int(values["batch"])) == (best["lr"], best["batch"])
    log = tuning_stack("sm.logs", "--job", again["best"]).said
    assert f"best valid loss {best['objective']:.6f}"[:20] in log


def test_search_survives_its_command_and_is_found_again(tuning_stack):
    """Another number of trials is another search; the answer to its creation is lost, and the SDK asks twice."""
    running = state.read(HOME / "sandbox")
    send_control_request(running, "POST", "fault", {"operation": "CreateHyperParameterTuningJob", "do": "lost"})
    begun = json.loads(tuning_stack("sm.tune", "--jobs", "1", "--no-wait", "--json").out)
    assert begun["status"] == "InProgress"
    followed = json.loads(tuning_stack("sm.tune", "--jobs", "1", "--json").out)
    assert (followed["job"], followed["status"]) == (begun["job"], "Completed")
    second = json.loads(tuning_stack("sm.tune", "--jobs", "1", "--again", "--no-wait", "--json").out)
    assert second["job"] != begun["job"]
    tuning_stack.account.call("sagemaker", "stop_hyper_parameter_tuning_job", HyperParameterTuningJobName=second["job"])


def test_failed_trials_are_reported_with_their_reason(tuning_stack):
    broken = type(tuning_stack)(tuning_stack.file.with_name("tunedbroken.yaml"))
    broken.file.write_text(tuning_stack.file.read_text().replace("epochs: 1", "epochs: 1, arch: alexnet"))
    failed = broken("sm.tune", "--jobs", "1", ok=False)
    assert failed.code == 1
    assert "ended Failed: No training job succeeded after 1 attempts." in failed.err
    assert "AlgorithmError" in failed.err
    assert re.search(r"invoke sm.logs --job kennel-tuned-tune-[0-9a-f]{8}-001-", failed.err)
