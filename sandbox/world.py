"""The state that the parts of one sandbox share: folder, ports, clock, keys, faults, logs, and every service's tables.

sandbox.serve makes the only World of the process and passes it on. moto's response classes cannot receive it: moto
creates them for each request. They, and what they call without a World, use `get_world()` at the end of this module.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import moto.backends

from ops.core.output import say
from sandbox.autoscaling.tables import ScalingTables
from sandbox.cloudwatch.metric_index import MetricIndex
from sandbox.ec2.tables import Ec2Tables
from sandbox.faults import Faults
from sandbox.function.tables import FunctionTables
from sandbox.iam.credentials import ADMINISTRATOR, Keys
from sandbox.request_log import CallLog, RequestLog
from sandbox.sagemaker.tables import SageMakerTables
from sandbox.state import ACCOUNT, PROFILE, REGION

if TYPE_CHECKING:
    from sandbox.codebuild.responses import Build


class Clock:
    """The sandbox's clock, in seconds since its start; a higher `speed` shortens the wait for alarms and cool-downs."""

    def __init__(self) -> None:
        self._start = self._began = time.monotonic()
        self._base, self.speed = 0.0, 1.0

    def now(self) -> float:
        return self._base + (time.monotonic() - self._began) * self.speed

    def set_speed(self, speed: float) -> None:
        self._base, self._began, self.speed = self.now(), time.monotonic(), speed

    def get_offset(self) -> float:
        """Return the seconds by which this clock is ahead of wall time, because it ran faster."""
        return self.now() - (time.monotonic() - self._start)

    @classmethod
    def resume(cls, now: float, offset: float, speed: float) -> Clock:
        """Return a clock that goes on from another's `now`, as far ahead of wall time as that one was."""
        clock = cls()
        clock._base, clock._start, clock.speed = now, clock._began - (now - offset), speed
        return clock

    def utc(self) -> datetime:
        """Return the sandbox's own date and time, which stamps metrics and drives schedules."""
        return datetime.now(UTC) + timedelta(seconds=self.get_offset())


class RunningCalls:
    """The number of calls that are being answered."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.count -= 1


@dataclass
class World:
    folder: Path
    token: str
    port: int = 0
    tunnel_port: int = 0
    clock: Clock = field(default_factory=Clock)
    faults: Faults = field(default_factory=Faults)
    keys: Keys = field(default_factory=Keys)
    ending: threading.Event = field(default_factory=threading.Event)
    is_stopping: bool = False  # its state is being written: calls are refused, because they would be lost
    running_calls: RunningCalls = field(default_factory=RunningCalls)
    ec2: Ec2Tables = field(default_factory=Ec2Tables)
    sagemaker: SageMakerTables = field(default_factory=SageMakerTables)
    scaling: ScalingTables = field(default_factory=ScalingTables)
    functions: FunctionTables = field(default_factory=FunctionTables)
    builds: dict[str, Build] = field(default_factory=dict)  # CodeBuild's builds, by id
    metrics: MetricIndex = field(default_factory=MetricIndex)
    log_store_lock: threading.Lock = field(default_factory=threading.Lock)  # moto's store of logs is not thread-safe

    def __post_init__(self) -> None:
        self.log = CallLog(self.folder / "calls.jsonl")
        self.requests = RequestLog(self.folder / "requests.jsonl")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def backend(self, module: str) -> Any:
        """Return moto's store of a regional service, which lives in this process."""
        return moto.backends.get_backend(module)[ACCOUNT][REGION]  # type: ignore[call-overload]

    def get_global_backend(self, module: str) -> Any:
        """Return moto's store of a global service, such as IAM or S3."""
        return moto.backends.get_backend(module)[ACCOUNT]["aws"]  # type: ignore[call-overload]

    def format_profile(self) -> str:
        """Return the text of the AWS config file that makes every SDK and the AWS CLI use this sandbox."""
        key, secret = self.keys.administrator
        return (
            f"[profile {PROFILE}]\nregion = {REGION}\nendpoint_url = {self.url}\n"
            f"aws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        )

    def build_administrator_waiver(self) -> str:
        """Return the waivers file of this account, which waives the audit's finding on its administrator."""
        today = datetime.now(UTC).date()
        return (
            "# Written by the sandbox when it starts.\n[[waiver]]\n"
            f'rule = "IAM-ADMIN-001"\nprincipal = "arn:aws:iam::{ACCOUNT}:user/{ADMINISTRATOR}"\n'
            'reason = "every account starts with an administrator; commands run as the stack\'s own roles"\n'
            f'owner = "sandbox"\ncreated = {today}\nexpires = {today + timedelta(days=30)}\n'
        )

    def create_role_client(self, role_arn: str, service: str, session: str) -> Any:
        """Return a client with the role's own keys. It calls over HTTP, so that the log names the role."""
        key, secret, token, _ = self.keys.assume_role(role_arn, session)
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
        )

    def create_internal_client(self, service: str) -> Any:
        """Return an administrator's client for the sandbox's own calls, which the call log leaves out."""
        key, secret = self.keys.administrator
        client = boto3.client(
            service, region_name=REGION, endpoint_url=self.url, aws_access_key_id=key, aws_secret_access_key=secret
        )

        def add_token(request: Any, **_: Any) -> None:
            request.headers["X-Sandbox-Token"] = self.token

        client.meta.events.register("before-sign", add_token)
        return client

    def note(self, text: str) -> None:
        say(f"{self.clock.now():8.1f}  {text}")


_world: list[World] = []


def set_world(world: World) -> None:
    _world[:] = [world]


def get_world() -> World:
    """Return the World of this process, for moto's response classes (see above); all other code receives it."""
    return _world[0]
