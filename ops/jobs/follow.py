"""Follow a training job: print the logs of all hosts and, after its progress lines, the time left and the cost so far."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account, iterate_poll_intervals
from ops.core.errors import OpsError, end_on_interrupt
from ops.core.log_groups import has_log_group
from ops.core.output import say, show_elapsed
from ops.jobs.training_jobs import GROUP, UNDER_WAY, describe_existing

# training/fit.py writes these two lines; tests/e2e/test_training.py checks that the two still match.
EPOCH = re.compile(r"^epoch (\d+)/(\d+)  train loss \S+  valid loss \S+ .*?\d+ images/s .*?([\d.]+) s$")
STEP = re.compile(r"^epoch (\d+)/(\d+)  step \d+/\d+  train loss \S+  \d+ images/s  ETA (\d+) s$")


@dataclass(frozen=True)
class Progress:
    """What a line of the log says of a job's progress: epoch of epochs, seconds left. The line itself is printed too."""

    epoch: int
    epochs: int
    left_s: float

    def __str__(self) -> str:
        return f"epoch {self.epoch}/{self.epochs}  ETA {self.left_s:.0f} s"


def parse_progress(line: str) -> Progress | None:
    """Return the progress that a line of the log states, or None."""
    if found := STEP.match(line):
        epoch, epochs, left = found.groups()
        return Progress(int(epoch), int(epochs), float(left))
    if found := EPOCH.match(line):
        epoch, epochs, seconds = found.groups()
        return Progress(int(epoch), int(epochs), (int(epochs) - int(epoch)) * float(seconds))
    return None


def follow_training_job(account: Account, name: str) -> dict[str, Any]:
    """Print the logs of all hosts as they come; return the job's last description. Raises OpsError when it did not complete.

    Ctrl-C does not stop the job; `invoke sm.attach NAME` follows it again.
    """
    sentence = f"{name} keeps running. Follow it: invoke sm.attach {name}   Stop it: invoke sm.stop {name}"
    with end_on_interrupt(sentence), show_elapsed(name) as show_state:
        described = watch_until_end(account, name, show_state)
    if described["TrainingJobStatus"] != "Completed":
        reason = described.get("FailureReason", described["SecondaryStatus"])
        raise OpsError(f"{name} ended {described['TrainingJobStatus']}: {reason}\nNext: invoke sm.explain {name}")
    return described


def watch_until_end(account: Account, name: str, show_state: Callable[[str], None]) -> dict[str, Any]:
    """Print the job's lines until it has ended; return its description."""
    tail = Tail(account, f"{name}/")
    for pause in iterate_poll_intervals():
        described: dict[str, Any] = account.call("sagemaker", "describe_training_job", TrainingJobName=name)
        progress = tail.print_new()  # after the description, so that an ended job's last lines are not missed
        if progress:
            cost = pricing.format_price(compute_job_cost(described), 4)
            say(f"{name}: {progress}  ${cost} so far")
        show_state(described["SecondaryStatus"])
        if described["TrainingJobStatus"] not in UNDER_WAY:
            return described
        time.sleep(min(pause, 5.0))
    raise AssertionError("pauses never end")


def compute_job_cost(described: dict[str, Any]) -> float:
    """Return the job's cost so far in dollars, at on-demand list prices; NaN when unknown; by its billed time once AWS reports that."""
    resource = described["ResourceConfig"]
    rate = pricing.price_instances("sagemaker", resource["InstanceType"], resource["InstanceCount"])
    if billed := described.get("BillableTimeInSeconds"):  # of each host
        return rate * float(billed) / 3600
    began = described.get("TrainingStartTime")
    seconds = (described["LastModifiedTime"] - began).total_seconds() if began else 0.0
    if began and described["TrainingJobStatus"] in UNDER_WAY:
        seconds = max(seconds, time.time() - began.timestamp())
    return rate * max(0.0, float(seconds)) / 3600


def describe_spot_saving(described: dict[str, Any]) -> str:
    """Return a sentence on what spot capacity saved, as AWS reports it; "" for a job on demand."""
    trained, billed = described.get("TrainingTimeInSeconds"), described.get("BillableTimeInSeconds")
    if not described.get("EnableManagedSpotTraining") or not trained or billed is None:
        return ""
    return f"Spot: {billed} of {trained} s are billed, {1 - billed / trained:.0%} saved."


def parse_host_name(stream: str) -> str:
    """Return algo-1 for JOB/algo-1-1700000000000: SageMaker adds the time."""
    return "-".join(stream.rsplit("/", 1)[-1].split("-")[:2])


def read_log(account: Account, job: str, follow: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (host, line) of a training job's log; with `follow`, until the job has ended. Raises OpsError without such a job."""
    tail = Tail(account, f"{job}/")
    for pause in iterate_poll_intervals():
        described = describe_existing(account, job)
        streams = tail.read_new()
        ended = described["TrainingJobStatus"] not in UNDER_WAY
        if not streams and (ended or not follow) and not has_log_group(account, GROUP):
            raise OpsError(
                f"The log group {GROUP} is missing, and the log of {job} with it. The next job creates it: "
                "invoke sm.train. See: invoke runbook.show logs-missing"
            )
        yield from ((parse_host_name(stream), line) for stream, lines in streams.items() for line in lines)
        if ended or not follow:
            return
        time.sleep(min(pause, 5.0))


class Tail:
    """The reader of a job's log streams, which returns only new lines each time."""

    def __init__(self, account: Account, prefix: str) -> None:
        self.account, self.prefix = account, prefix
        self.last_ms = 0  # when the last line came; a stream's own description lags by up to an hour
        self._next: dict[str, str] = {}

    def print_new(self) -> Progress | None:
        """Print the lines that came since the last call; return the last progress among them, or None."""
        progress = None
        for stream, lines in self.read_new().items():
            for line in lines:
                say(f"[{parse_host_name(stream)}] {line}")
                progress = parse_progress(line) or progress
        return progress

    def read_new(self) -> dict[str, list[str]]:
        """Return the lines that came since the last call, by stream."""
        found = self.account.call_or_none(
            "logs", "describe_log_streams", "ResourceNotFound", logGroupName=GROUP, logStreamNamePrefix=self.prefix
        )
        return {
            stream["logStreamName"]: self._read_stream(stream["logStreamName"])
            for stream in (found or {}).get("logStreams", [])
        }

    def _read_stream(self, stream: str) -> list[str]:
        lines: list[str] = []
        while True:
            token = {"nextToken": self._next[stream]} if stream in self._next else {}
            page = self.account.call(
                "logs", "get_log_events", logGroupName=GROUP, logStreamName=stream, startFromHead=True, **token
            )
            lines += [event["message"] for event in page["events"]]
            self.last_ms = max([self.last_ms, *(event["timestamp"] for event in page["events"])])
            if page["nextForwardToken"] == self._next.get(stream):
                return lines
            self._next[stream] = page["nextForwardToken"]
