"""Tuning: the plan by equality, AWS's own model of the request, and trials that really train in the sandbox."""

import json
import re
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator

from ops.core import plan
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, Wait
from ops.datasets.manifest import Manifest
from ops.jobs import spec, tuning
from sandbox import state
from sandbox.client import ask
from sandbox.sagemaker import tuning as sandbox_tuning
from tests.conftest import HOME, settings_of

SETTINGS = settings_of()
DATA = Manifest("pictures", (), (), {}, "d" * 64)
JOB = spec.build_spec(SETTINGS, DATA, "sm", chosen={"batch": "32"})
SEARCH = tuning.Search(JOB, SETTINGS, 2, 1)
READY = tuning.Facts(SEARCH.name(1), None, "", ("subnet-a", "subnet-b"), "sg-1", True)
WHY, RATE = tuning.costs(SEARCH)


def other(**tune):
    return SETTINGS.model_copy(update={"tune": SETTINGS.tune.model_copy(update=tune)})


def made_by(settings, more=""):
    return replace(SEARCH, settings=settings, job=spec.build_spec(settings, DATA, "sm", chosen={"batch": more or "32"}))


@pytest.mark.parametrize(
    ("have", "wait", "wanted"),
    [
        (READY, True, ["create_hyper_parameter_tuning_job", "wait"]),
        (READY, False, ["create_hyper_parameter_tuning_job"]),
        (replace(READY, log_group=False), False, ["create_log_group", "put_retention_policy", "create_hyper_parameter_tuning_job"]),
        (replace(READY, newest={"HyperParameterTuningJobName": "n", "HyperParameterTuningJobStatus": "InProgress"}), True, ["wait"]),
        (replace(READY, newest={"HyperParameterTuningJobName": "n", "HyperParameterTuningJobStatus": "InProgress"}), False, []),
        (replace(READY, newest={"HyperParameterTuningJobName": "n", "HyperParameterTuningJobStatus": "Failed"}), False, ["create_hyper_parameter_tuning_job"]),
    ],
    ids=["nothing", "no wait", "no log group", "under way", "under way, no wait", "failed before"],
)  # fmt: skip
def test_what_tuning_does(have, wait, wanted):
    planned = plan.preview(tuning.steps(have, SEARCH, "code/c/", wait))
    assert [step.call if isinstance(step, Change) else "wait" for step in planned] == wanted


def test_the_plan():
    asked = tuning.request(READY, SEARCH, "code/c/")
    assert plan.preview(tuning.steps(READY, SEARCH, "code/c/", True)) == [
        Change("sagemaker", "create_hyper_parameter_tuning_job", asked, WHY, RATE),
        Wait(READY.free, None, "its trials", 2 * (3600 + 900)),
    ]
    assert WHY == "2 trials, 1 at a time, on 1 x ml.m5.xlarge, each at most 3600 s: $0.46 at most"
    assert RATE == 0.23


def test_the_originals_ranges_and_a_mean_objective():
    asked = tuning.request(READY, SEARCH, "code/c/")
    config, trial = asked["HyperParameterTuningJobConfig"], asked["TrainingJobDefinition"]
    assert config["ParameterRanges"] == {
        "ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}],
        "CategoricalParameterRanges": [{"Name": "batch", "Values": ["32", "64", "128", "256", "512"]}],
    }  # fmt: skip
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 1}
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Minimize", "MetricName": "valid:loss"}
    (metric,) = trial["AlgorithmSpecification"]["MetricDefinitions"]
    assert re.search(metric["Regex"], "best valid loss 0.123456 (epoch 3)")[1] == "0.123456"
    assert not re.search(metric["Regex"], "epoch 1/4  train loss 0.6935  valid loss 0.6931  valid accuracy 0.5000")


def test_what_is_tuned_is_not_static_and_the_toolkit_is_told_what_to_run():
    asked = tuning.request(READY, SEARCH, "code/c/")["TrainingJobDefinition"]
    static = asked["StaticHyperParameters"]
    assert not {"lr", "batch"} & set(static)
    assert static["epochs"] == str(SETTINGS.train.epochs)
    assert json.loads(static["sagemaker_program"]) == "launch.py"
    assert json.loads(static["sagemaker_submit_directory"]) == "/opt/ml/input/data/code"
    assert "ContainerEntrypoint" not in asked["AlgorithmSpecification"]
    assert asked["Environment"]["KENNEL_TUNING"] == SEARCH.digest


@pytest.mark.parametrize("log_group", [True, False])
def test_every_change_is_a_request_of_awss_own_model(log_group):
    session = botocore.session.Session()
    for step in plan.preview(tuning.steps(replace(READY, log_group=log_group), SEARCH, "code/c/", False)):
        client = session.create_client(step.service, "us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
        model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[step.call])
        report = ParamValidator().validate(step.args, model.input_shape)
        assert not report.has_errors(), report.generate_report()
        longest = [model.input_shape.members["HyperParameterTuningJobName"].metadata["max"]] if log_group else []
        assert all(len(step.args["HyperParameterTuningJobName"]) <= limit for limit in longest)


def test_names_follow_from_what_is_searched_and_fit():
    names = {
        SEARCH.name(1), SEARCH.name(2), replace(SEARCH, trials=3).name(1), made_by(other(lr_max=0.2)).name(1),
        made_by(SETTINGS.model_copy(update={"train": SETTINGS.train.model_copy(update={"epochs": 9})})).name(1),
        replace(SEARCH, job=spec.build_spec(SETTINGS, replace(DATA, digest="e"), "sm", chosen={"batch": "32"})).name(1),
    }  # fmt: skip
    assert len(names) == 6
    assert made_by(SETTINGS, "64").name(1) == SEARCH.name(1)  # the batch size is what is searched for
    assert re.fullmatch(r"kennel-demo-tune-[0-9a-f]{8}", SEARCH.name(1))
    for stack in ("a", "twelve-chars", "a-name-of-20-letters"):
        renamed = SETTINGS.model_copy(update={"stack": SETTINGS.stack.model_copy(update={"name": stack})})
        name = made_by(renamed).name(1)
        assert name.startswith(f"kennel-{stack}-t")
        assert len(name) <= 32
        assert name != made_by(renamed).name(2)


def test_a_name_that_another_search_took_is_passed_over():
    class Aws:
        """Two tuning jobs: the first has our first name and another search's digest, the second is ours."""

        def call(self, *_, HyperParameterTuningJobName):
            digest = {SEARCH.name(1): "another", SEARCH.name(2): SEARCH.digest}.get(HyperParameterTuningJobName)
            if digest is None:
                return None
            return {
                "HyperParameterTuningJobName": HyperParameterTuningJobName, "HyperParameterTuningJobStatus": "Completed",
                "TrainingJobDefinition": {"Environment": {"KENNEL_TUNING": digest}},
            }  # fmt: skip

        find = call
        pages = tagged = lambda *_, **__: []
        settings = SETTINGS

    have = tuning.facts(Aws(), SEARCH)
    assert (have.completed, have.free, have.number) == (SEARCH.name(2), SEARCH.name(3), 3)
    seed = tuning.request(replace(READY, number=3), SEARCH, "c")["HyperParameterTuningJobConfig"]["RandomSeed"]
    assert seed == SETTINGS.tune.seed + 2  # another attempt draws other trials


def test_a_lost_answer_is_followed_to_the_job_that_was_made():
    steps = tuning.steps(READY, SEARCH, "code/c/", True)
    next(steps)
    step = steps.throw(AwsError("CreateHyperParameterTuningJob", "ResourceInUse", "already exists"))
    assert isinstance(step, Wait)
    refused = tuning.steps(READY, SEARCH, "code/c/", True)
    next(refused)
    with pytest.raises(AwsError):
        refused.throw(AwsError("CreateHyperParameterTuningJob", "ResourceLimitExceeded", "quota"))


@pytest.mark.parametrize(
    ("tune", "count", "words"),
    [
        ({"lr_min": 0.1}, (2, 1), "must be below tune.lr_max"),
        ({"instances": 3, "batches": [32, 96]}, (2, 1), r"\[32\] cannot be divided by tune.instances 3"),
        ({}, (751, 1), "1 to 750 trials"),
        ({}, (2, -1), "1 to 10 at a time"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_starts(tune, count, words):
    with pytest.raises(OpsError, match=words):
        tuning.check_search(other(**tune), *count)


# The sandbox's side of it


def config(strategy="Random", seed=1, **ranges):
    return {"Strategy": strategy, "RandomSeed": seed, "ParameterRanges": ranges}


def test_draws_follow_from_the_seed_and_stay_in_their_ranges():
    ranges = {
        "ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.001", "MaxValue": "0.1", "ScalingType": "Logarithmic"},
                                      {"Name": "m", "MinValue": "0.5", "MaxValue": "0.99", "ScalingType": "ReverseLogarithmic"}],
        "IntegerParameterRanges": [{"Name": "n", "MinValue": "2", "MaxValue": "5"}],
        "CategoricalParameterRanges": [{"Name": "batch", "Values": ["32", "64"]}],
    }  # fmt: skip
    points = list(islice(sandbox_tuning.draws(config(**ranges), "x"), 300))
    assert points == list(islice(sandbox_tuning.draws(config(**ranges), "y"), 300))
    assert points != list(islice(sandbox_tuning.draws(config(seed=2, **ranges), "x"), 300))
    rates = [float(point["lr"]) for point in points]
    assert 0.001 <= min(rates) < max(rates) <= 0.1
    assert 0.4 < sum(rate < 0.01 for rate in rates) / 300 < 0.6  # half of a logarithmic range lies below its middle
    assert {point["n"] for point in points} == {"2", "3", "4", "5"}
    assert {point["batch"] for point in points} == {"32", "64"}
    assert all(0.5 <= float(point["m"]) <= 0.99 for point in points)


def test_a_grid_is_every_combination_once():
    ranges = [{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x", "y", "z"]}]
    points = list(sandbox_tuning.draws(config("Grid", CategoricalParameterRanges=ranges), "x"))
    assert [(point["a"], point["b"]) for point in points] == [(a, b) for a in "12" for b in "xyz"]


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
                    "TrainingImage": self.settings.train.image, "TrainingInputMode": "File",
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
def tuner(stacks):
    cli = stacks("tuner")
    cli("iam.apply", "data.up")
    return Tuner(cli)


def test_a_grid_of_trials_runs_and_the_best_is_told_by_its_log(tuner):
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


def test_no_more_trials_run_at_once_than_may_and_all_pages_are_listed(tuner):
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
def test_a_search_without_any_result_fails(tuner, name, program, words):
    failed = tuner.ended(tuner.create(name, program))
    assert failed["HyperParameterTuningJobStatus"] == "Failed"
    assert failed["FailureReason"].startswith(words)
    assert "BestTrainingJob" not in failed
    assert {trial["ObjectiveStatus"] for trial in tuner.trials(name)} == {"Failed"}
    with pytest.raises(OpsError, match=rf"{name} ended Failed without a best trial: {words}"):
        tuning.best_hyperparameters(tuner.account, name)


def test_one_trial_that_fails_does_not_fail_the_search(tuner):
    once = "import os\nif '-001-' in os.environ['TRAINING_JOB_NAME']: raise SystemExit(1)\n" + LOSS
    done = tuner.ended(tuner.create("onefails", once))
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    assert (done["TrainingJobStatusCounters"]["NonRetryableError"], done["ObjectiveStatusCounters"]["Failed"]) == (1, 1)
    assert "-002-" in done["BestTrainingJob"]["TrainingJobName"]


def test_stopping_stops_the_trials(tuner):
    name = tuner.create(
        "stopped", "import time\nprint('loss=0.5', flush=True)\nwhile True: time.sleep(0.1)", parallel=2
    )
    while len(tuner.trials(name)) < 2 or any(
        t["TrainingJobStatus"] != "InProgress" or "TrainingStartTime" not in t for t in tuner.trials(name)
    ):
        time.sleep(0.1)
    with pytest.raises(OpsError, match="stopped is still InProgress"):
        tuning.best_hyperparameters(tuner.account, name)
    tuner.account.call("sagemaker", "stop_hyper_parameter_tuning_job", HyperParameterTuningJobName=name)
    assert tuner.ended(name)["HyperParameterTuningJobStatus"] == "Stopped"
    assert {trial["TrainingJobStatus"] for trial in tuner.trials(name)} == {"Stopped"}
    with pytest.raises(AwsError, match="terminal status"):
        tuner.account.call("sagemaker", "stop_hyper_parameter_tuning_job", HyperParameterTuningJobName=name)


def test_what_the_sandbox_would_have_to_pretend_is_refused(tuner):
    def refused(words, **more):
        with pytest.raises(AwsError, match=words) as error:
            request = tuner.request(more.pop("name", "refused"), LOSS, **more)
            tuner.account.call("sagemaker", "create_hyper_parameter_tuning_job", **request)
        assert error.value.aws_code == "ValidationException"

    refused("length less than or equal to 32", name="x" * 33)
    refused("Hyperband: not part of the sandbox", strategy="Hyperband")
    refused("EarlyStoppingType: not part of the sandbox", TrainingJobEarlyStoppingType="Auto")
    refused("A metric is required", HyperParameterTuningJobObjective={"Type": "Minimize", "MetricName": "other"})
    refused("is 10, but 11 were asked for", parallel=11)
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
        tuner.trials("nobody")
    with pytest.raises(OpsError, match=r"There is no tuning job nobody. Run one: invoke sm.tune"):
        tuning.best_hyperparameters(tuner.account, "nobody")


# The command


@pytest.fixture(scope="module")
def tuned(stacks, tmp_path_factory):
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
    cli = stacks("tuned", "train: {epochs: 1, pixels: 16}\ntune: {batches: [4, 8]}\n")
    cli("iam.apply", "data.up", "net.up", "data.push", "--dir", str(folder))
    return cli


def test_tuning_trains_real_trials_and_a_second_run_only_shows_them(tuned):
    dry = tuned("--dry", "sm.tune")
    assert "~ sagemaker.create_hyper_parameter_tuning_job: 2 trials, 1 at a time, on 1 x ml.m5.xlarge" in dry.err
    assert "nothing was touched" in dry.err
    first = tuned("sm.tune")
    (name,) = set(re.findall(r"kennel-tuned-tune-[0-9a-f]{8}(?=\n)", first.out))
    assert re.search(rf"{name}-001-[0-9a-f]{{8}}: lr [0-9.e-]+, batch [48]: Completed, valid loss \d+\.\d+", first.err)
    assert f"Next: invoke sm.train --from-tuning {name}" in first.out
    again = json.loads(tuned("sm.tune", "--json").out)
    assert (again["job"], again["status"], len(again["trials"])) == (name, "Completed", 2)
    assert again["best"] == min(again["trials"], key=lambda trial: trial["objective"])["name"]
    assert all(0.001 <= trial["lr"] <= 0.1 and trial["batch"] in (4, 8) for trial in again["trials"])
    if again["plot"]:  # matplotlib is there
        assert Path(again["plot"]).read_bytes().startswith(b"\x89PNG")
    values = tuning.best_hyperparameters(tuned.account, name)
    (best,) = [trial for trial in again["trials"] if trial["name"] == again["best"]]
    assert (float(values["lr"]), int(values["batch"])) == (best["lr"], best["batch"])
    log = tuned("sm.logs", "--job", again["best"]).said
    assert f"best valid loss {best['objective']:.6f}"[:20] in log


def test_a_search_goes_on_without_its_command_and_is_found_again(tuned):
    """Another number of trials is another search; the answer to its creation is lost, and the SDK asks twice."""
    running = state.read(HOME / "sandbox")
    ask(running, "POST", "fault", {"operation": "CreateHyperParameterTuningJob", "do": "lost"})
    begun = json.loads(tuned("sm.tune", "--jobs", "1", "--no-wait", "--json").out)
    assert begun["status"] == "InProgress"
    followed = json.loads(tuned("sm.tune", "--jobs", "1", "--json").out)
    assert (followed["job"], followed["status"]) == (begun["job"], "Completed")
    anew = json.loads(tuned("sm.tune", "--jobs", "1", "--again", "--no-wait", "--json").out)
    assert anew["job"] != begun["job"]
    tuned.account.call("sagemaker", "stop_hyper_parameter_tuning_job", HyperParameterTuningJobName=anew["job"])


def test_trials_that_all_fail_are_told_with_their_reason(tuned):
    broken = type(tuned)(tuned.file.with_name("tunedbroken.yaml"))
    broken.file.write_text(tuned.file.read_text().replace("epochs: 1", "epochs: 1, arch: resnet_nonsense"))
    failed = broken("sm.tune", "--jobs", "1", ok=False)
    assert failed.code == 1
    assert "ended Failed: No training job succeeded after 1 attempts." in failed.err
    assert "AlgorithmError" in failed.err
    assert re.search(r"invoke sm.logs --job kennel-tuned-tune-[0-9a-f]{8}-001-", failed.err)
