"""The whole job, run once; and once more, changing nothing."""

import io
import json
import re
import tarfile
from pathlib import Path

import yaml

from ops.jobs import spec
from sandbox import request_log
from tests.browser import read_document, take_screenshot
from tests.conftest import HOME

STEPS = [
    "sandbox.up", "doctor", "iam.apply", "data.up", "data.push", "net.up", "ec2.up", "ec2.train", "sm.train", "sm.train", "sm.image",
    "sm.deploy", "sm.deploy", "sm.autoscale", "lambda.deploy", "lambda.invoke", "iam.audit", "sm.evaluate",
]  # fmt: skip

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)  # of ops/reports/plot_style.py


def report():
    return json.loads((HOME / "work" / "demo.json").read_text())


def test_demo_report_lists_steps_accuracy_and_predictions(demo_stack):
    found = report()
    assert [step["command"].split()[0] for step in found["steps"]] == STEPS
    assert all(
        set(step) == {"name", "command", "seconds", "outcome", "changes", "calls", "dollars_per_hour"}
        for step in found["steps"]
    )
    assert found["test_accuracy"]["pictures"] == 360
    assert found["test_accuracy"]["value"] >= 0.97
    assert len(found["answers"]) == 50
    assert all(answer["answer"] == answer["offline"] for answer in found["answers"])
    assert found["dollars_per_hour"] > 0.6
    assert found["seconds"] > 0


def test_box_and_sagemaker_train_identical_weights(demo_stack):
    """The same data, settings, seed and number of processes, on two ways to the same program."""
    account, bucket = demo_stack.account, demo_stack.settings.bucket
    models = {}
    for place in ("box", "sm"):
        job = spec.build_spec_from_settings(account, place)
        body = account.call("s3", "get_object", Bucket=bucket, Key=job.artefact(job.name))["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            models[place] = {
                name: tar.extractfile(name).read() for name in ("model.safetensors", "golden.npz", "ledger.json")
            }
    assert models["box"] == models["sm"]


def test_evidence_of_the_demo_opens_in_a_browser(demo_stack, tmp_path):
    """All parts have an answer; a second run differs in times only; Chromium draws the page from disk, without a network."""
    pages = []
    for _ in range(2):
        found = json.loads(demo_stack("evidence", "--redacted", "--json").out)
        assert found["missing"] == []
        page = Path(found["page"])
        pages.append(re.sub("<time>[^<]+</time>|<wbr>", "", page.read_text()))
    assert pages[0] == pages[1]
    assert demo_stack.settings.aws.account not in pages[0]
    kept = json.loads(Path(found["json"]).read_text())["parts"]
    assert {part["title"]: part["figure"] for part in kept}["Function: its answers"] == "3 of 3 right"

    document = read_document(page, tmp_path)
    assert document.count("<section") == found["parts"] == len(kept)
    assert all(part["digest"] in document for part in kept)
    pixels = take_screenshot(page, tmp_path, 1200, 12_000)
    plotted = sum(count for count, colour in pixels.getcolors(1 << 24) if colour in (BLUE, ORANGE))
    assert plotted > 1_000  # the bars of the capacity plot


def test_second_demo_makes_no_changing_call(demo_stack, sandbox):
    log = sandbox / "calls.jsonl"
    demo_stack("sm.deploy", "--instances", "2")  # whatever other tests have made live since
    demo_stack("ec2.up")  # a clock that ran fast for a test may have let it idle for hours
    before = len(request_log.read(log))
    again = demo_stack.typed("demo", timeout=120)
    made = [call["operation"] for call in request_log.read(log)[before:] if call["changes"]]
    assert made == []
    assert len(request_log.read(log)) > before + 50
    assert "Next: invoke sm.status" in again.out
    assert sum(step["changes"] for step in report()["steps"]) == 0


def test_call_log_names_the_role_of_each_call(demo_stack, sandbox):
    made = [call for call in request_log.read(sandbox / "calls.jsonl") if call["caller"].startswith("kennel-whole-")]
    callers = {call["caller"].split("/")[0] for call in made}
    assert {f"kennel-whole-{role}" for role in ("ec2-box", "sagemaker-execution", "lambda-invoke")} <= callers
    assert all(call["operation"] != "?" for call in made)


def test_failed_step_stops_demo_and_names_next_command(make_stack, tmp_path, pictures):
    """A failed step stops the demo and says where to look."""
    (pictures / "valid" / "cat" / "0.png").write_text("not a picture")
    failed = make_stack("failing")("demo", "--data", str(pictures), ok=False)
    assert failed.code == 1
    assert "Step 5, invoke data.push --dir" in failed.err
    assert "1 of 18 pictures cannot be trained on" in failed.err
    assert "Find the cause: invoke doctor. Then resume: invoke demo" in failed.err
    assert "== 6/18" not in failed.err


def test_doctor_names_the_problem_and_its_fix(demo_stack):
    found = json.loads(demo_stack("doctor", "--json").out)
    assert (found[0]["ok"], list(found[0])) == (True, ["name", "ok", "found", "fix", "later"])
    elsewhere = type(demo_stack)(demo_stack.file.with_name("wholeelsewhere.yaml"))
    settings = yaml.safe_load(demo_stack.file.read_text()) or {}
    settings["aws"] = settings.get("aws", {}) | {"region": "eu-west-1"}
    settings["net"] = settings.get("net", {}) | {"zones": ["eu-west-1a", "eu-west-1b"]}
    elsewhere.file.write_text(yaml.safe_dump(settings))
    wrong = elsewhere("doctor", ok=False)
    assert wrong.code == 1
    assert "FAILED   region" in wrong.out
    assert "1 of 4 checks failed" in wrong.out
