"""The sandbox's training jobs: checkpoints, spot, time limits, and what can be made to happen to them. Real processes."""

import json
import time
from urllib.error import HTTPError

import pytest

from ops.core.errors import AwsError
from sandbox import processes, state
from sandbox.client import send_control_request
from sandbox.sagemaker import hosts
from tests.conftest import HOME

GROUP = "/aws/sagemaker/TrainingJobs"
ENTRY = ["sh", "-c", 'exec python -u "${OPT_ML:-/opt/ml}/input/data/code/main.py"']
COUNTS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["OPT_ML"]) / "checkpoints"
steps = folder / "step.txt"
done = int(steps.read_text()) if steps.exists() else 0
print(f"from step {done}")
(folder / ".half-written").write_text("x")
def asked_to_end(*_):
    print("signalled to end"); sys.exit(0)
signal.signal(signal.SIGTERM, asked_to_end)
(folder / "deeper").mkdir(exist_ok=True)
(folder / "deeper" / "note").write_text("n")
while done < int(os.environ.get("STEPS", "1000000")):
    time.sleep(0.1); done += 1
    part = folder / ".step.part"; part.write_text(str(done)); part.rename(steps)
print(f"valid loss {1 / done:.4f}")
(pathlib.Path(os.environ["OPT_ML"]) / "model" / "m").write_text(str(done))
"""


class Jobs:
    """Training jobs of one stack, each with a program of its own."""

    def __init__(self, cli, running=None):
        self.account, self.settings = cli.account, cli.settings
        self.s3 = self.account.client("s3")
        self.running = running or state.read(HOME / "sandbox")

    def create(self, name, program, **more):
        key = f"code/{name}/main.py"
        self.s3.put_object(Bucket=self.settings.bucket, Key=key, Body=program.encode())
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{self.settings.bucket}/code/{name}/"}
        asked = {
            "TrainingJobName": name,
            "AlgorithmSpecification": {
                "TrainingImage": self.settings.training_image, "TrainingInputMode": "File", "ContainerEntrypoint": ENTRY,
            },
            "RoleArn": self.settings.role_arn("sagemaker-execution"),
            "InputDataConfig": [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.settings.bucket}/jobs"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **more,
        }  # fmt: skip
        self.account.call("sagemaker", "create_training_job", **asked)
        return name

    def describe(self, name):
        return self.account.call("sagemaker", "describe_training_job", TrainingJobName=name)

    def until(self, name, *wanted, seconds=60):
        """The description once its secondary status is one of these."""
        deadline = time.monotonic() + seconds
        while (found := self.describe(name))["SecondaryStatus"] not in wanted:
            assert time.monotonic() < deadline, found
            assert found["TrainingJobStatus"] in ("InProgress", "Stopping") or found["SecondaryStatus"] in wanted, found
            time.sleep(0.1)
        return found

    def log(self, name):
        streams = self.account.list_all(
            "logs", "describe_log_streams", "logStreams", logGroupName=GROUP, logStreamNamePrefix=f"{name}/"
        )
        return [
            [e["message"] for e in self.account.call("logs", "get_log_events", logGroupName=GROUP, logStreamName=s["logStreamName"], startFromHead=True)["events"]]
            for s in sorted(streams, key=lambda s: s["logStreamName"])
        ]  # fmt: skip

    def says(self, name, words, seconds=30):
        deadline = time.monotonic() + seconds
        while not any(words in line for stream in self.log(name) for line in stream):
            assert time.monotonic() < deadline, self.log(name)
            time.sleep(0.1)

    def keys(self, prefix):
        return sorted(
            o["Key"].removeprefix(prefix)
            for o in self.account.list_all(
                "s3", "list_objects_v2", "Contents", Bucket=self.settings.bucket, Prefix=prefix
            )
        )

    def read(self, key):
        return self.s3.get_object(Bucket=self.settings.bucket, Key=key)["Body"].read().decode()

    def checkpoints(self, name):
        return {"CheckpointConfig": {"S3Uri": f"s3://{self.settings.bucket}/jobs/{name}/checkpoints"}}

    def switch(self, what, **body):
        return send_control_request(self.running, "POST", what, body)


@pytest.fixture(scope="module")
def jobs(make_stack):
    cli = make_stack("jobs")
    cli("iam.apply", "data.up")
    return Jobs(cli)


@pytest.fixture
def fast(jobs):
    """Minutes of the sandbox in seconds."""
    jobs.switch("clock", speed=100)
    yield
    jobs.switch("clock", speed=1)


def spot(longest=600, most=600):
    return {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": most, "MaxWaitTimeInSeconds": longest},
    }


def count_of(jobs, name):
    """How far the program's checkpoint in S3 is."""
    found = [key for key in jobs.keys(f"jobs/{name}/checkpoints/") if key == "step.txt"]
    return int(jobs.read(f"jobs/{name}/checkpoints/step.txt")) if found else 0


def wait_for(truth, seconds=30):
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_checkpoints_upload_during_the_job_and_at_its_end(jobs):
    """Checkpoints are uploaded while the job runs, and once more at its end."""
    name = jobs.create("ckpt", COUNTS, Environment={"STEPS": "40"}, **jobs.checkpoints("ckpt"))
    wait_for(lambda: 0 < count_of(jobs, name) < 40)
    assert jobs.describe(name)["SecondaryStatus"] == "Training"
    jobs.until(name, "Completed")
    assert count_of(jobs, name) == 40
    assert jobs.keys(f"jobs/{name}/checkpoints/") == ["deeper/note", "step.txt"]


def test_job_finds_earlier_checkpoints(jobs):
    jobs.s3.put_object(Bucket=jobs.settings.bucket, Key="jobs/older/checkpoints/step.txt", Body=b"1000")
    name = jobs.create("older", COUNTS, Environment={"STEPS": "1002"}, **jobs.checkpoints("older"))
    jobs.until(name, "Completed")
    assert "from step 1000" in jobs.log(name)[0]


def test_failed_job_keeps_its_checkpoints(jobs):
    dies = COUNTS.replace("while done", "\nwhile done").replace("part.rename(steps)", "part.rename(steps); os._exit(3)")
    failed = jobs.until(jobs.create("dies", dies, **jobs.checkpoints("dies")), "Failed")
    assert failed["FailureReason"] == "AlgorithmError: the program wrote no failure file, exit code: 3"
    assert count_of(jobs, "dies") == 1


def test_interrupted_spot_job_resumes_from_its_checkpoint(jobs):
    name = jobs.create("spot", COUNTS, Environment={"STEPS": "60"}, **spot(), **jobs.checkpoints("spot"))
    wait_for(lambda: count_of(jobs, name) >= 10)
    jobs.switch("interrupt", job=name)
    ended = jobs.until(name, "Completed")
    first, second = jobs.log(name)
    assert (first[0], first[-1]) == ("from step 0", "signalled to end")
    began_again = int(second[0].removeprefix("from step "))
    assert began_again >= 10
    assert [t["Status"] for t in ended["SecondaryStatusTransitions"]] == [
        "Starting", "Downloading", "Training", "Interrupted",
        "Starting", "Downloading", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    assert 0 < ended["BillableTimeInSeconds"] < ended["TrainingTimeInSeconds"]
    assert ended["TrainingTimeInSeconds"] >= 6  # 60 steps of a tenth, whichever instances did them


def test_interrupted_job_without_checkpoints_starts_over(jobs):
    name = jobs.create("restarted", COUNTS, Environment={"STEPS": "15"}, **spot())
    jobs.says(name, "from step 0")
    jobs.switch("interrupt", job=name)
    jobs.until(name, "Completed")
    assert [stream[0] for stream in jobs.log(name)] == ["from step 0", "from step 0"]


def test_stop_signals_the_leader_and_kills_what_ignores_it(jobs, fast):
    """A child that would answer SIGTERM never gets it; a leader that ignores it is killed after 120 s of the sandbox."""
    program = """
import signal, subprocess, sys, time
child = "import signal, sys, time\\nsignal.signal(signal.SIGTERM, lambda *_: print('child signalled', flush=True))\\nprint('ready', flush=True)\\nwhile True: time.sleep(0.05)"
signal.signal(signal.SIGTERM, lambda *_: print("leader signalled"))
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)  # as torchrun starts its workers
while True: time.sleep(0.05)
"""
    name = jobs.create("deaf", program)
    jobs.says(name, "ready")
    jobs.account.call("sagemaker", "stop_training_job", TrainingJobName=name)
    stopped = jobs.until(name, "Stopped")
    assert jobs.log(name)[0] == ["ready", "leader signalled"]
    assert [t["Status"] for t in stopped["SecondaryStatusTransitions"]][-3:] == ["Stopping", "Uploading", "Stopped"]
    wait_for(lambda: not of_host(jobs, name))


def of_host(jobs, name):
    """Processes that are left of a job, by the folder in their environment."""
    found = []
    for process in processes.list_sandbox_processes(HOME / "sandbox"):
        try:
            if f"/jobs/{name}/" in process.environ().get(hosts.HOST, ""):
                found.append(process)
        except Exception:  # it ended while we looked
            continue
    return found


def test_job_stopped_before_training_ends_stopped(jobs):
    name = jobs.create("early", COUNTS)
    jobs.account.call("sagemaker", "stop_training_job", TrainingJobName=name)
    assert jobs.until(name, "Stopped")["TrainingJobStatus"] == "Stopped"
    with pytest.raises(AwsError, match="terminal status"):
        jobs.account.call("sagemaker", "stop_training_job", TrainingJobName=name)


def test_job_over_its_runtime_is_stopped_with_its_model(jobs):
    program = COUNTS.replace(
        'print("signalled to end"); sys.exit(0)', '(folder.parent / "model" / "part").write_text("x"); sys.exit(0)'
    )
    name = jobs.create("long", program, StoppingCondition={"MaxRuntimeInSeconds": 2})
    ended = jobs.until(name, "MaxRuntimeExceeded")
    assert ended["TrainingJobStatus"] == "Stopped"
    assert "FailureReason" not in ended
    assert jobs.keys(f"jobs/{name}/output/") == ["model.tar.gz"]


def test_interrupted_time_counts_towards_the_limit(jobs):
    name = jobs.create("used", COUNTS, **spot(most=4), **jobs.checkpoints("used"))
    wait_for(lambda: count_of(jobs, name) >= 20)
    jobs.switch("interrupt", job=name)
    ended = jobs.until(name, "MaxRuntimeExceeded")
    assert 4 <= ended["TrainingTimeInSeconds"] <= 6


def test_spot_job_waits_for_capacity_up_to_its_limit(jobs):
    """A spot job waits for capacity, no longer than MaxWaitTimeInSeconds."""
    jobs.switch("capacity", instance_type="ml.c5.xlarge")
    kind = {"ResourceConfig": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}}
    impatient = jobs.create("impatient", COUNTS, **spot(longest=1, most=1), **kind)
    patient = jobs.create("patient", COUNTS, Environment={"STEPS": "1"}, **spot(), **kind)
    demanding = jobs.create("demanding", COUNTS, **kind)
    ended = jobs.until(impatient, "MaxWaitTimeExceeded")
    assert (ended["TrainingJobStatus"], "TrainingStartTime" in ended) == ("Stopped", False)
    assert jobs.until(demanding, "Failed")["FailureReason"] == (
        "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
    )
    assert jobs.describe(patient)["SecondaryStatus"] == "Starting"
    assert jobs.switch("capacity", instance_type="ml.c5.xlarge", short=False) == {"short": []}
    jobs.until(patient, "Completed")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"EnableManagedSpotTraining": True}, "It must be present and be greater than or equal to MaxRuntimeInSeconds"),
        (spot(longest=1), "It must be present and be greater than or equal to MaxRuntimeInSeconds"),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 2}},
            "It is only supported when EnableManagedSpotTraining is set to true",
        ),
        ({"CheckpointConfig": {"S3Uri": "s3://b/k", "LocalPath": "/home/me"}}, "below /opt/ml only"),
    ],
)
def test_invalid_request_is_rejected(jobs, more, words):
    with pytest.raises(AwsError, match=words) as error:
        jobs.create("refused", COUNTS, **more)
    assert error.value.aws_code == "ValidationException"


def test_quota_error_has_the_message_of_aws(jobs):
    words = "The account-level service limit 'ml.p3.2xlarge for training job usage' is 0 Instances"
    fault = {"operation": "CreateTrainingJob", "do": "error", "code": "ResourceLimitExceeded", "message": words}
    jobs.switch("fault", **fault)
    with pytest.raises(AwsError, match="is 0 Instances") as error:
        jobs.create("quota", COUNTS)
    assert error.value.aws_code == "ResourceLimitExceeded"


def test_killed_host_fails_the_job_with_exit_code_137(jobs):
    """A killed host fails the job as the kernel's OOM killer would."""
    name = jobs.create("killed", COUNTS)
    jobs.says(name, "from step 0")
    assert jobs.switch("kill", job=name, host=1)["processes"] >= 1
    assert jobs.until(name, "Failed")["FailureReason"].endswith("exit code: 137")


def test_frozen_host_is_silent_until_the_job_is_stopped(jobs, fast):
    two = {"ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1}}
    name = jobs.create("frozen", "import time\nwhile True: print('alive'); time.sleep(0.1)", **two)
    jobs.says(name, "alive")
    wait_for(lambda: len(jobs.log(name)) == 2)
    assert jobs.switch("freeze", job=name, host=2)["processes"] >= 1
    time.sleep(0.5)  # what was in the pipe
    first, second = map(len, jobs.log(name))
    wait_for(lambda: len(jobs.log(name)[0]) > first + 5)
    assert len(jobs.log(name)[1]) == second
    jobs.account.call("sagemaker", "stop_training_job", TrainingJobName=name)
    jobs.until(name, "Stopped")
    assert of_host(jobs, name) == []


def test_impossible_faults_are_rejected(jobs):
    name = jobs.create("plain", COUNTS)
    jobs.says(name, "from step 0")
    for what, body in (
        ("interrupt", {"job": name}),
        ("interrupt", {"job": "absent"}),
        ("freeze", {"job": name, "host": 2}),
        ("kill", {"job": name, "host": 0}),
        ("explode", {"job": name}),
    ):
        with pytest.raises(HTTPError, match="400"):
            jobs.switch(what, **body)
    jobs.account.call("sagemaker", "stop_training_job", TrainingJobName=name)
    jobs.until(name, "Stopped")
    with pytest.raises(HTTPError, match="400"):
        jobs.switch("kill", job=name, host=1)


def test_job_metrics_are_parsed_from_its_log(jobs):
    image = jobs.settings.training_image
    metrics = [{"Name": "valid:loss", "Regex": "valid loss ([0-9.]+)"}, {"Name": "never", "Regex": "never ([0-9.]+)"}]
    program = "print('valid loss 0.5'); print('valid loss 0.25'); print('valid loss .')"
    algorithm = {
        "TrainingImage": image,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ENTRY,
        "MetricDefinitions": metrics,
    }
    name = jobs.create("measured", program, AlgorithmSpecification=algorithm)
    found = jobs.until(name, "Completed")["FinalMetricDataList"]
    assert [(metric["MetricName"], metric["Value"]) for metric in found] == [("valid:loss", 0.25)]


def test_hyperparameters_can_name_the_program(jobs):
    """Hyperparameters name the program, as the SageMaker training toolkit takes them."""
    algorithm = {"TrainingImage": jobs.settings.training_image, "TrainingInputMode": "File"}
    parameters = {
        "sagemaker_program": json.dumps("main.py"),
        "lr": "0.1",
        "b": "2",
        "arch": json.dumps("tiny"),
        "_tuning_objective_metric": "x",
    }
    folder = {"sagemaker_submit_directory": json.dumps("/opt/ml/input/data/code")}
    program = "import os, sys; print(sys.argv[1:], os.path.dirname(__file__) == os.environ['OPT_ML'] + '/code')"
    name = jobs.create("toolkit", program, AlgorithmSpecification=algorithm, HyperParameters=parameters | folder)
    jobs.until(name, "Completed")
    assert jobs.log(name) == [["['--arch', 'tiny', '-b', '2', '--lr', '0.1'] True"]]
    for number, more in enumerate(({}, {"sagemaker_submit_directory": json.dumps("/opt/ml/../../etc")})):
        name = jobs.create(
            f"toolkit{number}", program, AlgorithmSpecification=algorithm, HyperParameters=parameters | more
        )
        assert jobs.until(name, "Failed")["FailureReason"].startswith("AlgorithmError: ")


def test_missing_data_is_a_client_error(jobs):
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{jobs.settings.bucket}/nothing/"}
    channels = [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}]
    failed = jobs.until(jobs.create("nodata", COUNTS, InputDataConfig=channels), "Failed")
    assert failed["FailureReason"].startswith("ClientError: Data download failed: No S3 objects found")
