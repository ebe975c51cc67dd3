"""What a command says of a thing that is not there: a job, a log group, a release's dataset, a price."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.endpoint import plan, status
from ops.endpoint.status import Status, describe_metrics, describe_status
from ops.jobs import follow, training_jobs
from ops.releases import build, history, trained_model
from ops.releases.records import ReleaseSummary
from ops.stack import checks
from tests.conftest import settings_of
from tests.in_process import run_invoke

JOBS = ["jobs/kennel-demo-sm1-1a2b3c4d/", "jobs/kennel-demo-sm2-99999999/"]


def account_of(found=None, calls=None, groups=()):
    """An account whose calls are answered by `calls`; `found` is what every call_or_none returns."""
    return SimpleNamespace(
        settings=settings_of(),
        bucket=SimpleNamespace(folders=lambda prefix: JOBS),
        call_or_none=lambda *args, **kwargs: found,
        list_all=calls or (lambda *args, **kwargs: list(groups)),
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("kennel-demo-sm1-1a2b3c4e", "Did you mean kennel-demo-sm1-1a2b3c4d?"),
        ("sm1-1a2b3c4d", "Did you mean kennel-demo-sm1-1a2b3c4d?"),
        ("payroll", "Its jobs begin with kennel-demo-."),
    ],
)
def test_unknown_job_gets_the_nearest_name(name, hint):
    with pytest.raises(OpsError) as error:
        training_jobs.describe_existing(account_of(), name)
    assert str(error.value) == f"No job of this stack is called {name}. {hint} Start one: invoke sm.train"


def test_job_of_another_stack_is_never_described():
    account = account_of()
    account.call_or_none = lambda *args, **kwargs: pytest.fail("AWS was called")
    with pytest.raises(OpsError, match="No job of this stack is called payroll"):
        training_jobs.describe_existing(account, "payroll")


@pytest.mark.parametrize(
    ("job", "command"),
    [
        ("kennel-demo-sm1-1a2b3c4d", "invoke sm.train --again"),
        ("kennel-demo-sm2-1a2b3c4d-2", "invoke sm.train --again --instances 2"),
        ("kennel-demo-box1-1a2b3c4d", "invoke ec2.train --again"),
    ],
)
def test_lost_model_is_trained_again_not_found_again(job, command):
    account = account_of()
    account.bucket = SimpleNamespace(name="b", head=lambda key: None, keys=lambda prefix: [f"{prefix}output/log"])
    with pytest.raises(OpsError) as error:
        trained_model.fetch_model(account, job)
    assert f"is missing. Train it again: {command}. See: invoke runbook.show artefact-missing" in str(error.value)


@pytest.mark.parametrize("job", ["nosuch", "kennel-demo-sm1-1a2b3c4e"])
def test_model_of_an_unknown_job_names_the_job(job):
    account = account_of()
    account.bucket.head, account.bucket.keys = lambda key: None, lambda prefix: []
    with pytest.raises(OpsError, match=f"No job of this stack is called {job}"):
        trained_model.fetch_model(account, job)


def test_endpoint_log_group_that_is_gone_is_named():
    def refuse(*args, **kwargs):
        raise AwsError("FilterLogEvents", "ResourceNotFoundException", "The specified log group does not exist.")

    with pytest.raises(OpsError, match=r"/aws/sagemaker/Endpoints/kennel-demo is missing.*invoke sm\.deploy"):
        list(status.read_log(account_of({"EndpointName": "kennel-demo"}, refuse), 15, False))


def test_training_log_group_that_is_gone_is_named():
    account = account_of()
    account.call_or_none = lambda service, call, *args, **kwargs: (
        {"TrainingJobStatus": "Completed"} if call == "describe_training_job" else None
    )
    with pytest.raises(OpsError, match=r"/aws/sagemaker/TrainingJobs is missing.*invoke sm\.train"):
        list(follow.read_log(account, "kennel-demo-sm1-1a2b3c4d"))


def test_status_shows_all_but_an_unknown_price():
    seen = Status(
        "kennel-demo", "InService", "config", 1, 1, "ml.nope.large", 5, 0, 15, None, None, "", "2026-12-01T00:00Z", 3
    )
    row = describe_status(seen, "").splitlines()[-1].split()
    assert row[:2] == ["kennel-demo", "InService"]
    assert row.count("?") == 2


def test_unhealthy_status_names_the_next_command():
    seen = Status(
        "kennel-demo", "InService", "config", 1, 1, "ml.m5.large", 5, 2, 15, 0.1, 0.2, "", "2026-12-01T00:00Z", 3
    )
    assert describe_status(seen, "").splitlines()[-1] == "Find the cause: invoke sm.logs --errors"
    assert describe_status(replace(seen, errors_5xx=0), "no capacity").splitlines()[-2:] == [
        "last failure: no capacity",
        "Find the cause: invoke sm.logs --errors",
    ]


def test_missing_release_file_names_its_job(monkeypatch):
    digest = "a" * 64
    summary = SimpleNamespace(job="kennel-demo-sm1-1a2b3c4d", tar="sum")
    monkeypatch.setattr(build, "list_release_digests", lambda account: [digest])
    monkeypatch.setattr(build, "read_summary", lambda account, found: summary)
    monkeypatch.setattr(build, "is_whole", lambda account, release, tar: False)
    with pytest.raises(OpsError, match=r"--job kennel-demo-sm1-1a2b3c4d\. See: invoke runbook.show artefact-missing"):
        build.find_release(account_of(), digest[:12])


JOB = "kennel-demo-sm1-1a2b3c4d"


def plant_releases(monkeypatch, whole, digests=("a" * 64,)):
    """Releases of JOB; `whole` are the digests whose file is in the bucket, unchanged."""
    summary = {
        "tar": "sum",
        "classes": [],
        "accuracy": 0.9,
        "pictures": 1,
        "data": "d",
        "commit": "c",
        "precisions": ["fp32"],
    }
    monkeypatch.setattr(build, "list_release_digests", lambda account: list(digests))
    monkeypatch.setattr(
        build, "read_summary", lambda account, digest: ReleaseSummary(digest=digest, job=JOB, **summary)
    )
    monkeypatch.setattr(build, "is_whole", lambda account, release, tar: release.digest in whole)
    monkeypatch.setattr(history, "read_notes", lambda account: [])


def test_releases_mark_a_missing_file(monkeypatch):
    there, gone = "a" * 64, "b" * 64
    plant_releases(monkeypatch, {there}, (there, gone))
    monkeypatch.setattr(plan, "find_endpoint", lambda account: None)
    monkeypatch.setattr(Account, "from_context", classmethod(lambda cls, c: account_of()))
    ran = run_invoke(["sm.releases"], {})
    lines = ran.out.splitlines()
    assert ran.code == 7
    assert [line.split()[0] for line in lines if "never deployed, FILE MISSING OR CHANGED" in line] == ["b" * 12]
    assert (
        lines[-2] == f"The file of release {'b' * 12} is missing or changed. Rebuild it: invoke sm.deploy --job {JOB}"
    )
    plant_releases(monkeypatch, {there})
    assert run_invoke(["sm.releases"], {}).code == 0


def test_release_without_any_file_names_its_job(monkeypatch):
    """The job's own note still says which release was built from it."""
    plant_releases(monkeypatch, set(), ())
    account = account_of()
    note = json.dumps({"digest": "c" * 64}).encode()
    account.bucket.get_object_or_none = {f"jobs/{JOB}/release.json": note}.get
    with pytest.raises(OpsError) as error:
        build.find_release(account, "c" * 64)
    assert (
        str(error.value) == f"No release begins with 'cccccccccccc'. {JOB} can rebuild it: invoke sm.deploy --job {JOB}"
    )
    with pytest.raises(OpsError, match="No release begins with 'dd'. List the releases"):
        build.find_release(account, "dd")


@pytest.mark.parametrize(
    ("groups", "ok", "found", "fix"),
    [
        (["Endpoints", "classify"], True, "2 log groups in use, none is missing", ""),
        (["Endpoints"], False, "missing: /aws/lambda/kennel-demo-classify", "invoke lambda.deploy"),
        ([], False, "missing: /aws/sagemaker/Endpoints/kennel-demo, /aws/lambda/kennel-demo-classify", "invoke sm.deploy lambda.deploy"),
    ],
    ids=["all", "one", "none"],
)  # fmt: skip
def test_doctor_looks_at_log_groups(monkeypatch, groups, ok, found, fix):
    def list_groups(*args, logGroupNamePrefix, **kwargs):
        return [{"logGroupName": logGroupNamePrefix}] if any(one in logGroupNamePrefix for one in groups) else []

    account = account_of({"EndpointName": "kennel-demo"}, list_groups)
    monkeypatch.setattr(checks, "Account", lambda settings, role: account)
    assert checks.check_log_groups(account) == checks.Check("logs", ok, found, fix)


@pytest.mark.parametrize(
    ("allowed", "unreserved", "reserved", "ok", "room"),
    [(1000, 1000, None, True, 900), (10, 10, None, False, 0), (105, 95, 10, True, 5), (106, 106, None, False, 6)],
    ids=["usual", "new account", "reserved before", "too little"],
)
def test_doctor_says_what_lambda_allows(monkeypatch, allowed, unreserved, reserved, ok, room):
    """A new account runs 10 calls at once, and lambda.deploy as shipped would stop."""
    limit = {"ConcurrentExecutions": allowed, "UnreservedConcurrentExecutions": unreserved}
    account = account_of({} if reserved is None else {"ReservedConcurrentExecutions": reserved})
    account.call = lambda *_: {"AccountLimit": limit}
    monkeypatch.setattr(checks, "Account", lambda settings, role: account)
    monkeypatch.setattr(account, "settings", settings_of(text="fn: {reserved: 10}\n"))
    found = checks.check_concurrency(account)
    assert found.ok is ok
    assert found.found.startswith(
        f"Lambda runs {allowed} calls at once in this account; fn.reserved may be {room} at most"
    )
    assert ("set fn.reserved to null" in found.fix) is not ok


@pytest.mark.parametrize(
    ("marks", "verdict"),
    [
        ((True, False), "All 2 checks passed."),
        ((True, True), "No check failed; 1 of 2 are for later."),
        ((False, True), "1 of 2 checks failed."),
    ],
    ids=["ok", "later", "failed"],
)
def test_doctor_tells_later_from_ok_and_failed(marks, verdict):
    ok, later = marks
    found = [checks.Check("roles", ok, "x"), checks.Check("image", True, "not built", "invoke sm.image", later)]
    assert checks.summarise(found) == verdict
    assert [one.state for one in found] == ["ok" if ok else "FAILED", "later" if later else "ok"]


def test_doctor_names_an_image_that_sagemaker_refuses(monkeypatch):
    account = account_of({"imageDetails": [{"imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json"}]})
    monkeypatch.setattr(checks, "Account", lambda settings, role: account)
    found = checks.check_serving_image(account)
    assert (found.name, found.ok) == ("image", False)
    assert "has a manifest of type application/vnd.oci.image.manifest.v1+json" in found.found
    assert found.fix.endswith("; then invoke sm.image")


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (0, "refused (4xx): 0 of 12 requests"),
        (5, "refused (4xx): 5 of 12 requests. Why: invoke runbook.show endpoint-4xx"),
    ],
)
def test_metrics_count_refused_requests(refused, said):
    point = {"minute": "17:36", "requests": 6.0, "each": 6.0, "errors_5xx": 0.0, "p50_ms": 1.0, "p99_ms": 2.0}
    points = [point | {"errors_4xx": 0.0}, point | {"errors_4xx": float(refused)}]
    assert describe_metrics(account_of(), points, []).splitlines()[-1] == said


@pytest.mark.parametrize(
    ("errors", "p99", "page"), [(0, 9000, "endpoint-latency"), (99, 10, "endpoint-5xx"), (99, 9000, "endpoint-5xx")]
)
def test_metrics_above_a_limit_name_their_page(errors, p99, page):
    point = {
        "minute": "17:36",
        "requests": 9,
        "each": 9,
        "errors_4xx": 0,
        "errors_5xx": errors,
        "p50_ms": 5,
        "p99_ms": p99,
    }
    assert f"17:36. Why: invoke runbook.show {page}\n" in describe_metrics(account_of(), [point], ["17:36"])
