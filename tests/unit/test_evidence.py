"""The evidence page, from made-up answers: equal but for times, redacted, complete when commands fail, and closed to the outside."""

import hashlib
import json
import re

import invoke
import pytest

import tasks
from ops.core import running
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.core.redaction import redact_text
from ops.core.task import Result, read_result
from ops.reports import evidence

ACCOUNT = "123456789012"
JOB = "kennel-demo-sm2-1"
FINDING = {"rule": "IAM-X-001", "severity": "high", "principal": "<script>alert(1)</script>", "waived": False}
ANSWERS = {
    "sm.status": {"endpoint": "kennel-demo", "status": "InService", "instances": 1, "instance_type": "ml.m5.large", "dollars_per_hour": 0.115, "dollars_so_far": 3.2},
    "sm.smoke": {"release": "5ac1" * 16, "job": JOB, "wrong": [], "seconds": 0.1},
    "sm.releases": [{"release": "5ac1" * 16, "job": JOB, "accuracy": 0.98888888888}],
    "data.list": [{"name": "pictures", "pictures": {"train": 1257, "test": 360}}],
    "sm.attach": {"artefact": f"s3://kennel-demo-{ACCOUNT}-us-east-1/x", "test": {"accuracy": 0.9889, "pictures": 360, "loss": float("nan")}},
    "sm.report": {"job": JOB, "metrics": {"macro_f1": 0.9889}, "missing": []},
    "ec2.status": {"box": "i-1", "type": "g4dn.xlarge", "state": "running", "address": "10.20.0.4", "dollars_per_hour": 0.537},
    "ec2.ps": [{"job": "kennel-demo-box1-1", "state": "Completed", "pid": 17, "alive": False}],
    "net.status": {"parts": {"vpc": "vpc-1"}, "differs": []},
    "lambda.status": {"live": "1", "state": "Active", "memory_mb": 256, "provisioned": 1},
    "lambda.invoke": [{"picture": "test/5/1.png", "truth": "5", "answer": "5"}, {"picture": "test/6/2.png", "truth": "6", "answer": "5"}],
    "lambda.concurrency": {"reserved": 10, "provisioned": 1},
    "sm.autoscale": {"bounds": [1, 2], "findings": [], "alarms": [{"way": "out", "points": [1, 2]}]},
    "sm.capacity": {"function": {"admitted_per_minute": 472}, "covered_per_minute": {"as_set": 40}},
    "iam.check": {"roles": [{"role": "ci"}], "failures": []},
    "iam.diff": [],
    "iam.audit": {"findings": [FINDING, *[FINDING | {"severity": "info"}] * 14], "seconds": 1.0},
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    return tmp_path


def read_with(asked=None, **changed):
    """Return a reader of ANSWERS; an exception in `changed` is raised. It adds what it is asked to `asked`."""

    def read(command):
        name = command.split()[0]
        if asked is not None:
            asked.append(command)
        answer = changed.get(name.replace(".", "_"), ANSWERS[name])
        if isinstance(answer, Exception):
            raise answer
        return Result(answer, "", code=7 if name == "sm.capacity" else 0)

    return read


def write(settings, read, redacted=False):
    made = evidence.write(evidence.collect(read, settings, redacted), "demo", redacted)
    return made.page.read_text().replace("<wbr>", ""), json.loads(made.json.read_text()), made


def by_title(data):
    return {part["title"]: part for part in data["parts"]}


def test_evidence_of_one_state_differs_in_times_only(settings, monkeypatch):
    texts = []
    for hour in (1, 2):
        monkeypatch.setattr(evidence, "read_clock", lambda hour=hour: f"2026-12-01T0{hour}:00:00Z")
        changed = ANSWERS["sm.status"] | {"dollars_so_far": 3.2 + hour}
        page, data, _ = write(settings, read_with(sm_status=changed))
        texts.append((page, json.dumps(data)))
    first, second = texts
    assert first != second
    assert [text.replace("T01:", "T02:") for text in first] == list(second)
    other, _, _ = write(settings, read_with(sm_status=ANSWERS["sm.status"] | {"instances": 2}))
    assert other != second[0]


def test_parts_have_command_figure_time_and_digest(settings):
    asked = []
    page, data, made = write(settings, read_with(asked))
    assert [command.split()[0] for command in asked] == [part.name for part in evidence.PARTS]
    assert f"sm.attach {JOB} --json" in asked
    assert made.missing == []
    for part in data["parts"]:
        kept = json.dumps(part["data"], sort_keys=True, separators=(",", ":")).encode()
        assert part["digest"] == hashlib.sha256(kept).hexdigest()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", part["time"])
        for value in (part["figure"], part["digest"], part["time"], part["command"]):
            assert value.replace("'", "&#39;") in page
    parts = by_title(data)
    assert parts["Endpoint"]["figure"] == "InService: 1 x ml.m5.large"
    assert parts["Endpoint: its golden answers"]["figure"] == "0 wrong answers"
    assert parts["Training job of the live release"]["figure"] == "test accuracy 0.9889"
    assert parts["Box: its jobs"]["figure"] == "1 of 1 job completed"
    assert parts["Function: its answers"]["figure"] == "1 of 2 right"
    assert parts["Capacity"]["figure"] == "admits 472, plans for 40 a minute"
    assert parts["Audit"]["figure"] == "1 finding, 14 waived or informative"
    assert parts["Costs"]["data"]["total"] == pytest.approx(0.115 + 0.537 + 0.0038, abs=1e-4)
    assert "exit code 7" in page
    assert "dollars_so_far" not in parts["Endpoint"]["data"]
    assert parts["Training job of the live release"]["data"]["test"]["loss"] is None


def test_page_has_no_scripts_and_loads_nothing(settings):
    page, _, _ = write(settings, read_with())
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "href=" in page
    assert re.findall(r'(?:src|href)=(?!"data:image/png;base64,|"#part-)', page) == []
    assert "default-src 'none'" in page
    assert "and 5 more" in page  # of the findings, abridged


def test_failed_command_leaves_a_page_that_names_it(settings):
    problem = OpsError("There is no endpoint kennel-demo. Deploy one: invoke sm.deploy")
    page, data, made = write(settings, read_with(sm_status=problem, sm_smoke=problem))
    assert [record.title for record in made.missing] == [
        "Endpoint",
        "Endpoint: its golden answers",
        "Training job of the live release",
        "Training job: its plots",
    ]
    assert "Deploy one: invoke sm.deploy" in page
    assert by_title(data)["Endpoint"]["digest"] == ""
    assert by_title(data)["Costs"]["data"]["dollars_per_hour"]["endpoint"] == 0.0


def test_table_has_open_findings_first_and_no_empty_column():
    findings = [{"rule": "A", "waived": "for now", "path": []}, {"rule": "B", "waived": False, "path": []}]
    rest, table = evidence.tabulate({"exit": {"a": 1.23456789, "b": [True, None]}, "findings": findings})
    assert rest.rows == [("exit", "a 1.23457, b yes, none")]
    assert (table.name, table.head, table.rows) == ("findings", ("rule", "waived"), [("B", "no"), ("A", "for now")])
    assert evidence.tabulate([])[0].rows == [("none",)]


def test_model_without_figures_is_not_recorded(settings):
    _, data, made = write(
        settings, read_with(sm_attach={"test": {}}, sm_report=ANSWERS["sm.report"] | {"metrics": {"macro_f1": None}})
    )
    assert made.missing == []
    assert by_title(data)["Training job of the live release"]["figure"] == "accuracy not recorded"
    assert by_title(data)["Training job: its plots"]["figure"] == "macro F1 not recorded"


def test_unknown_price_is_named_in_the_costs(settings):
    _, data, _ = write(settings, read_with(ec2_status=ANSWERS["ec2.status"] | {"dollars_per_hour": None}))
    assert by_title(data)["Costs"]["figure"] == "$0.119 an hour, and box and its disk without a known price"


def test_plots_of_commands_are_inline(settings, folder):
    (folder / "demo-capacity.png").write_bytes(b"png-capacity")
    curves = folder / "curves.png"
    curves.write_bytes(b"png-curves")
    page, data, _ = write(settings, read_with(sm_report=ANSWERS["sm.report"] | {"curves": curves}))
    assert page.count('src="data:image/png;base64,') == 2
    assert by_title(data)["Training job: its plots"]["plots"] == [
        {"alt": evidence.PLOTS["curves"], "sha256": hashlib.sha256(b"png-curves").hexdigest()}
    ]
    assert str(folder) not in page + json.dumps(data)


def test_redacted_evidence_has_no_account_and_no_address(settings):
    account = settings.aws.account
    leaking = {
        "artefact": f"s3://kennel-demo-{account}-us-east-1/x",
        f"arn:aws:iam::{account}:role/x": "AKIAIOSFODNN7EXAMPLE from 203.0.113.7, fe80::1 and alice@example.com",
        "test": {"accuracy": 1.0, "pictures": 1},
    }
    denied = OpsError(f"arn:aws:iam::{account}:user/alice at 10.20.0.4 may not")
    page, data, made = write(settings, read_with(sm_attach=leaking, net_status=denied), redacted=True)
    text = page + json.dumps(data)
    for secret in (account, "AKIAIOSFODNN7EXAMPLE", "203.0.113.7", "10.20.0.4", "fe80::1", "alice@"):
        assert secret not in text
    assert "arn:aws:iam::ACCOUNT:role/x" in text
    assert made.page.name == "demo-redacted.html"
    plain, _, _ = write(settings, read_with(sm_attach=leaking))
    assert account in plain
    assert "AKIAIOSFODNN7EXAMPLE" not in plain


def test_result_is_read_whatever_its_exit_code(monkeypatch, capsys, tmp_path):
    """Nothing is printed; the command that requests carry in their user agent is back afterwards; an error is raised."""
    monkeypatch.setattr(running, "collection", tasks.ns)
    monkeypatch.setattr(running, "command", "evidence")
    loaded = invoke.Config(project_location=ROOT)
    loaded.load_project()
    loaded.aws.config_file = str(tmp_path / "missing")
    found = read_result(invoke.Context(loaded), "doctor --json")
    assert (found.code, [check["name"] for check in found.data]) == (1, ["credentials"])
    with pytest.raises(OpsError, match="must be given together"):
        read_result(invoke.Context(loaded), "sm.capacity --rps 11")
    assert (capsys.readouterr().out, running.command) == ("", "evidence")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("arn:aws:iam::999999999999:root", "arn:aws:iam::ACCOUNT:root"),
        ("arn:aws:s3:::kennel-a-123456789012-us-east-1", "arn:aws:s3:::kennel-a-ACCOUNT-us-east-1"),
        ("acct123456789012x", "acctACCOUNTx"),
        ("http://10.0.0.1:8080/x", "http://ADDRESS:8080/x"),
        ("10.20.0.0/16 and 0.0.0.0/0", "ADDRESS/16 and ADDRESS/0"),
        ("ip-10-20-0-4.ec2.internal", "ADDRESS.ec2.internal"),
        ("from 2001:db8::1.", "from ADDRESS."),
        ("::ffff:10.0.0.1", "ADDRESS"),
        ("a.b+c@mail.example.com", "ADDRESS"),
        ("AKIAIOSFODNN7EXAMPLE", "..."),
    ],
)
def test_redaction_removes(text, redacted):
    assert redact_text(text, ACCOUNT) == redacted


@pytest.mark.parametrize(
    "text",
    ["2026-12-01T04:34:56Z", "12:34:56", "0.0423356580902", "torch 2.13.0", "arn:aws:s3:::bucket/x", "5ac125d4316304e94e4b2ac4", "kennel-demo:live"],
)  # fmt: skip
def test_redaction_keeps(text):
    assert redact_text(text, ACCOUNT) == text
