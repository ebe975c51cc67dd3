"""Tuning: the plan by equality, AWS's own model of the request, and trials that really train in the sandbox."""

import json
import re
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import botocore.session
import pytest
from botocore.validate import ParamValidator

from ops.core import plan
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, Wait
from ops.datasets.manifest import Manifest
from ops.jobs import spec, tuning
from sandbox.sagemaker import tuning as sandbox_tuning
from tests.conftest import settings_of

SETTINGS = settings_of()
DATA = Manifest("pictures", (), (), {}, "d" * 64)
JOB = spec.build_spec(SETTINGS, DATA, "sm", chosen={"batch": "32"})
SEARCH = tuning.Search(JOB, SETTINGS, 2, 1)
READY = tuning.Facts(SEARCH.name(1), None, "", ("subnet-a", "subnet-b"), "sg-1", True)
WHY, RATE, MOST = tuning.estimate_search_cost(SEARCH)


def other(**tune):
    return SETTINGS.model_copy(update={"tune": SETTINGS.tune.model_copy(update=tune)})


def made_by(settings, more=""):
    return replace(SEARCH, settings=settings, job=spec.build_spec(settings, DATA, "sm", chosen={"batch": more or "32"}))


@pytest.mark.parametrize(
    ("have", "wanted"),
    [
        (READY, ["create_hyper_parameter_tuning_job"]),
        (replace(READY, log_group=False), ["create_log_group", "put_retention_policy", "create_hyper_parameter_tuning_job"]),
        (replace(READY, newest={"HyperParameterTuningJobName": "n", "HyperParameterTuningJobStatus": "InProgress"}), []),
        (replace(READY, newest={"HyperParameterTuningJobName": "n", "HyperParameterTuningJobStatus": "Failed"}), ["create_hyper_parameter_tuning_job"]),
    ],
    ids=["nothing", "no log group", "under way", "failed before"],
)  # fmt: skip
def test_tuning_plan_follows_the_facts(have, wanted):
    assert [step.call for step in plan.preview(tuning.steps(have, SEARCH, "code/c/"))] == wanted


def test_trials_are_waited_for_outside_the_plan():
    waits = []
    tuning.follow_trials(SimpleNamespace(wait=waits.append), "name", SEARCH)
    assert waits == [Wait("name", None, "until its trials have ended", 2 * (3600 + 900))]


def test_tuning_plan_has_its_price_and_deadline():
    asked = tuning.build_tuning_request(READY, SEARCH, "code/c/")
    assert plan.preview(tuning.steps(READY, SEARCH, "code/c/")) == [
        Change("sagemaker", "create_hyper_parameter_tuning_job", asked, WHY, RATE, dollars_at_most=MOST)
    ]
    assert WHY == "run 2 trials, 1 at a time, on 1 x ml.m5.xlarge, each at most 3600 s: $0.46 at most"
    assert RATE == 0.23


def test_request_has_the_original_ranges_and_objective():
    asked = tuning.build_tuning_request(READY, SEARCH, "code/c/")
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


def test_tuned_parameters_are_not_static():
    """What is tuned is not static, and the training toolkit is given the program to run."""
    asked = tuning.build_tuning_request(READY, SEARCH, "code/c/")["TrainingJobDefinition"]
    static = asked["StaticHyperParameters"]
    assert not {"lr", "batch"} & set(static)
    assert static["epochs"] == str(SETTINGS.train.epochs)
    assert json.loads(static["sagemaker_program"]) == "launch.py"
    assert json.loads(static["sagemaker_submit_directory"]) == "/opt/ml/input/data/code"
    assert "ContainerEntrypoint" not in asked["AlgorithmSpecification"]
    assert asked["Environment"]["KENNEL_TUNING"] == SEARCH.digest


@pytest.mark.parametrize("log_group", [True, False])
def test_every_tuning_change_fits_the_service_model(log_group):
    session = botocore.session.Session()
    for step in plan.preview(tuning.steps(replace(READY, log_group=log_group), SEARCH, "code/c/")):
        client = session.create_client(step.service, "us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
        model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[step.call])
        report = ParamValidator().validate(step.args, model.input_shape)
        assert not report.has_errors(), report.generate_report()
        longest = [model.input_shape.members["HyperParameterTuningJobName"].metadata["max"]] if log_group else []
        assert all(len(step.args["HyperParameterTuningJobName"]) <= limit for limit in longest)


def test_names_follow_from_the_search_and_fit_aws():
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


def test_name_of_another_search_is_skipped():
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

        call_or_none = call
        list_all = list_tagged = lambda *_, **__: []
        settings = SETTINGS

    have = tuning.facts(Aws(), SEARCH)
    assert (have.completed, have.free, have.number) == (SEARCH.name(2), SEARCH.name(3), 3)
    seed = tuning.build_tuning_request(replace(READY, number=3), SEARCH, "c")["HyperParameterTuningJobConfig"][
        "RandomSeed"
    ]
    assert seed == SETTINGS.tune.seed + 2  # another attempt draws other trials


def test_lost_response_is_followed_to_the_existing_job():
    steps = tuning.steps(READY, SEARCH, "code/c/")
    next(steps)
    with pytest.raises(StopIteration):
        steps.throw(AwsError("CreateHyperParameterTuningJob", "ResourceInUse", "already exists"))
    refused = tuning.steps(READY, SEARCH, "code/c/")
    next(refused)
    with pytest.raises(AwsError):
        refused.throw(AwsError("CreateHyperParameterTuningJob", "ResourceLimitExceeded", "quota"))


@pytest.mark.parametrize(
    ("tune", "count", "words"),
    [
        ({"lr_min": 0.1}, (2, 1), "must be below tune.lr_max"),
        ({}, (751, 1), "1 to 750 trials"),
        ({}, (2, -1), "1 to 10 at a time"),
    ],
)
def test_invalid_search_is_rejected_before_it_starts(tune, count, words):
    with pytest.raises(OpsError, match=words):
        tuning.check_search(other(**tune), *count)


@pytest.mark.parametrize(("hosts", "rounds"), [(1, False), (2, False), (3, True), (5, True)])
def test_search_runs_on_any_number_of_hosts(hosts, rounds):
    search = replace(SEARCH, settings=other(instances=hosts))
    tuning.check_search(search.settings, 2, 1)
    assert tuning.estimate_search_cost(search)[0].endswith(f", batches rounded to multiples of {hosts}") is rounds


@pytest.mark.parametrize(
    ("pictures", "usable", "dropped"),
    [(74, [32, 64], [128, 256, 512]), (128, [32, 64, 128], [256, 512]), (5000, [32, 64, 128, 256, 512], [])],
)
def test_no_batch_exceeds_the_training_pictures(pictures, usable, dropped):
    settings, left_out = tuning.bound_batches(SETTINGS, pictures)
    assert (settings.tune.batches, left_out) == (usable, dropped)


def test_search_without_a_usable_batch_is_rejected():
    with pytest.raises(OpsError, match="larger than the dataset, which has 31 training pictures"):
        tuning.bound_batches(SETTINGS, 31)


def config(strategy="Random", seed=1, **ranges):
    return {"Strategy": strategy, "RandomSeed": seed, "ParameterRanges": ranges}


def test_draws_follow_from_the_seed_within_their_ranges():
    ranges = {
        "ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.001", "MaxValue": "0.1", "ScalingType": "Logarithmic"},
                                      {"Name": "m", "MinValue": "0.5", "MaxValue": "0.99", "ScalingType": "ReverseLogarithmic"}],
        "IntegerParameterRanges": [{"Name": "n", "MinValue": "2", "MaxValue": "5"}],
        "CategoricalParameterRanges": [{"Name": "batch", "Values": ["32", "64"]}],
    }  # fmt: skip
    points = list(islice(sandbox_tuning.iterate_hyperparameters(config(**ranges), "x"), 300))
    assert points == list(islice(sandbox_tuning.iterate_hyperparameters(config(**ranges), "y"), 300))
    assert points != list(islice(sandbox_tuning.iterate_hyperparameters(config(seed=2, **ranges), "x"), 300))
    rates = [float(point["lr"]) for point in points]
    assert 0.001 <= min(rates) < max(rates) <= 0.1
    assert 0.4 < sum(rate < 0.01 for rate in rates) / 300 < 0.6  # half of a logarithmic range lies below its middle
    assert {point["n"] for point in points} == {"2", "3", "4", "5"}
    assert {point["batch"] for point in points} == {"32", "64"}
    assert all(0.5 <= float(point["m"]) <= 0.99 for point in points)


def test_grid_is_every_combination_once():
    ranges = [{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x", "y", "z"]}]
    points = list(sandbox_tuning.iterate_hyperparameters(config("Grid", CategoricalParameterRanges=ranges), "x"))
    assert [(point["a"], point["b"]) for point in points] == [(a, b) for a in "12" for b in "xyz"]
