"""Send every case to a sandbox and compare its answers with AWS's."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from ops.core.errors import OpsError
from ops.core.output import format_table
from sandbox import processes, state
from sandbox.client import start_sandbox
from sandbox.fidelity import (
    delivery,
    function,
    identity,
    instances,
    machine_learning,
    network,
    storage,
    telemetry,
)
from sandbox.fidelity.case import Case
from sandbox.state import REGION

TABLES = (function, storage, identity, telemetry, network, instances, machine_learning, delivery)
# Why an answer differs from AWS's, by "CALL: ABOUT"; a difference without a reason is a fault of the sandbox.
REASONS: dict[str, str] = {}
TITLES = {
    "iam": "IAM, STS", "sts": "IAM, STS", "logs": "CloudWatch, Logs", "cloudwatch": "CloudWatch, Logs", "lambda": "Lambda",
    "s3": "S3", "ec2": "EC2, SSM", "ssm": "EC2, SSM", "sagemaker": "SageMaker", "sagemaker-runtime": "SageMaker",
    "application-autoscaling": "Application Auto Scaling", "codebuild": "CodeBuild, ECR", "ecr": "CodeBuild, ECR",
}  # fmt: skip
UNTIL_S = 60.0
KEYS = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key")
CONFIG = Config(retries={"total_max_attempts": 1}, inject_host_prefix=False, parameter_validation=False)


@dataclass(frozen=True)
class Check:
    """One comparison: what AWS answers, and what the sandbox did. `is_accepted`: AWS refuses, and the sandbox did not."""

    service: str
    name: str
    wanted: str
    got: str
    alike: bool
    is_refusal: bool = False
    is_accepted: bool = False
    source: str = ""

    @property
    def reason(self) -> str:
        return REASONS.get(self.name, "")


def run_in_own_sandbox() -> list[Check]:
    """Start a sandbox in a folder of its own, send it every case, and remove it; no other sandbox is touched."""
    with tempfile.TemporaryDirectory(prefix="kennel-fidelity-") as made:
        folder = Path(made)
        try:
            start_sandbox(folder, REGION)
            return list(run(folder / "aws" / "config"))
        finally:
            processes.end_sandbox_processes(folder)


def run(profile_file: Path) -> Iterator[Check]:
    """Send every case to the sandbox of this AWS config file, and yield what is compared."""
    profile = ConfigParser(interpolation=None)
    profile.read(profile_file)
    for table in TABLES:
        yield from run_table(profile[f"profile {state.PROFILE}"], table.CASES, table.SOURCE)


def run_table(profile: Mapping[str, str], cases: Sequence[Case], source: str) -> Iterator[Check]:
    """Send the cases of one module in their order; what one keeps, later ones may use."""
    kept: dict[str, Any] = {}
    clients: dict[str, Any] = {}
    for case in cases:
        service, _, method = case.call.partition(".")
        clients[service] = clients.get(service) or create_client(profile, service)
        call = getattr(clients[service], method)
        answer, error = send(call, fill_in(case.args, kept))
        if case.until:
            answer, error = repeat_until(call, fill_in(case.args, kept), case)
        if not case.about and error is not None:
            raise OpsError(f"The score cannot be taken: {case.call} was refused, and only prepares: {error}")
        if answer is not None:
            kept |= {name: find(answer, path) for name, path in case.keep.items()}
        yield from compare(case, answer, error, kept, case.source or source)


def create_client(profile: Mapping[str, str], service: str) -> Any:
    """Return a client with the profile's keys, which sends a request once and as it is."""
    keys = {name: profile[name] for name in KEYS}
    return boto3.client(service, region_name=profile["region"], config=CONFIG, **keys)


def send(call: Any, args: dict[str, Any]) -> tuple[dict[str, Any] | None, Any]:
    """Return (answer, None), or (None, the ClientError)."""
    try:
        return call(**args), None
    except ClientError as error:
        return None, error


def repeat_until(call: Any, args: dict[str, Any], case: Case) -> tuple[dict[str, Any] | None, Any]:
    """Repeat a call until its answer has the wanted values. Raises OpsError after a minute."""
    deadline = time.monotonic() + UNTIL_S
    while time.monotonic() < deadline:
        answer, error = send(call, args)
        if error is None and all(find(answer, path) == value for path, value in case.until.items()):
            return answer, None
        time.sleep(0.1)
    raise OpsError(f"The score cannot be taken: {case.call} never answered {dict(case.until)}.")


def fill_in(value: Any, kept: Mapping[str, Any]) -> Any:
    """Return the value with `<NAME>` replaced by what an earlier case kept."""
    if isinstance(value, Mapping):
        return {key: fill_in(item, kept) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, kept) for item in value]
    if isinstance(value, str):
        return re.sub(r"<(\w+)>", lambda name: str(kept[name[1]]), value)
    return value


def find(answer: Any, path: str) -> Any:
    """Return the value at the path, or None. `[KEY=VALUE]` in a path is the member of a list that has this value."""
    for name in path.split(".") if path else ():
        if isinstance(answer, list):
            key, _, value = name.strip("[]").partition("=")
            members = answer[int(name) :] if name.isdecimal() else [one for one in answer if one.get(key) == value]
            answer = members[0] if members else None
        else:
            answer = answer.get(name) if isinstance(answer, dict) else None
    return answer


def compare(case: Case, answer: Any, error: Any, kept: Mapping[str, Any], source: str) -> Iterator[Check]:
    """Yield one check for the outcome, one for each value, and one for the fields."""
    if not case.about:
        return
    service = case.call.partition(".")[0]
    title, name = TITLES[service], f"{case.call}: {case.about}"
    got = describe(answer, error)
    wanted = " ".join(filter(None, (case.code or "no error", str(case.status or ""), case.words)))
    yield Check(
        title,
        name,
        wanted,
        got,
        is_alike(case, answer, error),
        bool(case.code),
        bool(case.code) and error is None,
        source,
    )
    for path, value in case.equals.items():
        value, found = fill_in(value, kept), find(answer, path)
        yield Check(title, f"{name}, {path}", str(value), str(found), value == found, source=source)
    if case.fields:
        missing, more = compare_fields(case, answer)
        text = f"missing {' '.join(missing) or 'none'}, more {' '.join(more) or 'none'}"
        yield Check(title, f"{name}, fields", case.fields, text, not missing, source=source)


def describe(answer: Any, error: Any) -> str:
    if error is None:
        return f"no error {answer['ResponseMetadata']['HTTPStatusCode']}"
    details, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return f"{details.get('Code')} {status} {details.get('Message')}"


def is_alike(case: Case, answer: Any, error: Any) -> bool:
    """Return whether the outcome has AWS's code, status and words."""
    metadata = (answer if error is None else error.response)["ResponseMetadata"]
    if case.status and case.status != metadata["HTTPStatusCode"]:
        return False
    if error is None or not case.code:
        return error is None and not case.code
    details = error.response["Error"]
    return bool(
        re.fullmatch(case.code, str(details.get("Code"))) and re.search(case.words, details.get("Message") or "")
    )


def compare_fields(case: Case, answer: Any) -> tuple[list[str], list[str]]:
    """Return the fields that AWS's answer has and the sandbox's lacks, and those that only the sandbox's has."""
    found = find(answer, case.fields_at) or {}
    have, wanted = set(found) - {"ResponseMetadata"}, set(case.fields.split())
    return sorted(wanted - have), sorted(have - wanted)


def summarise(checks: Sequence[Check]) -> dict[str, int]:
    return {
        "checks": len(checks),
        "alike": sum(one.alike for one in checks),
        "refusals": sum(one.is_refusal for one in checks),
        "accepted": sum(one.is_accepted for one in checks),
    }


def list_differences(checks: Sequence[Check]) -> list[dict[str, str]]:
    """Return what differs from AWS: the case, both answers, why, and where AWS's is known from."""
    return [
        {"case": one.name, "aws": one.wanted, "sandbox": one.got, "reason": one.reason, "source": one.source}
        for one in checks
        if not one.alike
    ]


def format_score(checks: Sequence[Check]) -> str:
    """Return the score by service, then the differences, then the sums in one sentence."""
    rows = [(name, *sums.values()) for name, sums in summarise_services(checks)]
    lines = [format_table(("service", "checks", "alike", "refused by AWS", "accepted here"), rows)]
    for one in list_differences(checks):
        lines.append(
            f"{one['case']}\n  AWS: {one['aws']}\n  here: {one['sandbox']}\n  {one['reason'] or 'No reason is known.'}"
        )
    total = summarise(checks)
    lines.append(
        f"{total['alike']} of {total['checks']} answers are like AWS's; "
        f"of {total['refusals']} requests that AWS refuses, {total['accepted']} are accepted."
    )
    return "\n".join(lines)


def summarise_services(checks: Sequence[Check]) -> list[tuple[str, dict[str, int]]]:
    """Return the sums of each service, by its name."""
    names = sorted({one.service for one in checks})
    return [(name, summarise([one for one in checks if one.service == name])) for name in names]
