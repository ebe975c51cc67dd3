"""AWS access: cached clients, account guard, audit log, polling. Credentials come from session.py."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from botocore.config import Config
from botocore.exceptions import ClientError

from ops.core import interrupts, running
from ops.core.audit_log import AuditLog, Entry
from ops.core.aws import lost_answers
from ops.core.aws.errors import build_aws_error, find_request_id, redact, shorten_for_log
from ops.core.aws.new_resources import PAUSES_S, NewResources, is_unknown_resource
from ops.core.aws.session import open_session
from ops.core.aws.sts import RETRIES
from ops.core.bucket import Bucket
from ops.core.errors import DENIED, AwsError, OpsError
from ops.core.kept_sessions import drop_sessions
from ops.core.lease import HOLDERS, Lease
from ops.core.masking import mask_keys
from ops.core.output import say, show_elapsed
from ops.core.paths import WORK
from ops.core.settings import Settings
from ops.core.settings import load as load_settings

if TYPE_CHECKING:
    import invoke

    from ops.core.plan import Change, Wait

LAUNCHES = ("run_instances", "start_instances")


class Account:
    """One AWS account and region, reached through one profile. Clients are created once, and threads may share them."""

    sent: ClassVar[int] = 0  # requests of this process, retries included
    created: ClassVar[NewResources] = NewResources()  # by this process

    def __init__(self, settings: Settings, role: str = "", audit: Path = WORK / "audit.jsonl") -> None:
        """Open the account as the stack's own `role`; as the profile when that is "" or aws.take_roles is false."""
        self.settings, self.role = settings, role
        self.audit = AuditLog(audit)
        self.because = ""  # the operator's reason, which the audit log gets with each change
        self._caller = ""  # the ARN, once `guard` has asked for it
        self._client = cache(self._create_client)
        self._session = open_session(settings, role if settings.aws.take_roles else "")
        self._session.register("needs-retry", lost_answers.watch)
        self.lease = Lease(self)

    @classmethod
    def from_context(cls, c: invoke.Context, role: str = "operator") -> Account:
        """Return the account that this command's settings name. Raises OpsError for a bad setting, before any call."""
        account = cls(load_settings(c.config), role)
        if role in HOLDERS and running.changes and not c.config.run.dry:
            account.lease.note()
        return account

    @classmethod
    def from_context_or_profile(cls, c: invoke.Context, role: str) -> Account:
        """Return the account as the role, or as the profile while the role cannot be assumed, or may not read IAM yet.

        The first iam.apply makes the role, and may have been interrupted between the role and its permissions.
        """
        account = cls.from_context(c, role)
        try:
            account.guard()
            account.call("iam", "get_account_authorization_details", MaxItems=1)
        except AwsError as error:
            assumed = error.call != "AssumeRole"
            if assumed and error.code != DENIED:
                raise
            problem = "has no permissions" if assumed else "cannot be assumed"
            name = account.settings.build_role_name(role)
            say(f"Role {name} {problem} yet; continuing with the profile's own credentials.")
            return cls.from_context(c, "")
        return account

    @property
    def endpoint_url(self) -> str | None:
        """Return the profile's endpoint_url; None for AWS itself. Each client gets it, because AWS_ENDPOINT_URL beats a profile."""
        url: str | None = self._session.get_scoped_config().get("endpoint_url")
        return url

    @property
    def region(self) -> str | None:
        """Return the profile's own region; clients use the settings' region."""
        region: str | None = self._session.get_config_variable("region")
        return region

    @property
    def bucket(self) -> Bucket:
        """Return the stack's bucket, which need not exist yet."""
        return Bucket(self, self.settings.bucket)

    def credentials(self) -> Any:
        """Return botocore's credentials object, for signing requests that no client method covers."""
        return self._session.get_credentials()

    def client(self, service: str, retries: str = "control") -> Any:
        return self._client(service, retries)

    def _create_client(self, service: str, retries: str) -> Any:
        signing = (
            {"signature_version": "s3v4"} if service == "s3" else {}
        )  # without it, S3 URLs are presigned with signature version 2
        config = Config(
            user_agent_extra=f"kennel/{running.command}", inject_host_prefix=False, **signing, **RETRIES[retries]
        )
        region = self.settings.aws.region
        client = self._session.create_client(service, region, endpoint_url=self.endpoint_url, config=config)
        client.meta.events.register("before-send", self._count_request)
        return client

    def _count_request(self, **_: Any) -> None:
        Account.sent += 1

    def call(self, service: str, call: str, retries: str = "control", **args: Any) -> Any:
        """Make one call and return AWS's answer. Raises AwsError.

        A call that AWS refuses because it does not know yet what was just created is repeated, for half a minute at most.
        """
        for pause in (*PAUSES_S, None):
            try:
                answer = getattr(self.client(service, retries), call)(**args)
            except ClientError as error:
                if pause and retries == "launch" and lost_answers.is_throttled(error.response):
                    time.sleep(pause)  # nothing was launched; the SDK tries launches twice only
                elif pause is None or not self._wait_for_new_resource(error, args, pause):
                    raise self._convert_error(error) from error
            else:
                self.created.note(service, call, args, answer)
                return answer
        return None

    def _wait_for_new_resource(self, error: Any, args: dict[str, Any], pause: float) -> bool:
        """Wait and return True when the error is about a resource that was created in the last minute."""
        found = build_aws_error(error)
        name = self.created.find_named(args, self.audit.path, found.reason) if is_unknown_resource(found) else ""
        if not name:
            return False
        if pause == PAUSES_S[0]:
            say(f"AWS does not know {name} everywhere yet, because it is new; trying again.")
        time.sleep(pause)
        return True

    def _convert_error(self, error: Any) -> AwsError:
        found = build_aws_error(error)
        if found.call == "AssumeRole":  # the wrong account is the likelier reason, and guard explains it
            Account(self.settings).guard()
        return found

    def call_or_none(self, service: str, call: str, missing: str, **args: Any) -> Any:
        """Make one call that reads, as `call` does; return None when AWS says that the resource does not exist.

        `missing` names parts of AWS's `code: message`, separated by |.
        """
        try:
            return self.call(service, call, **args)
        except AwsError as error:
            if error.says(*missing.split("|")):
                return None
            raise

    def list_all(self, service: str, call: str, key: str, **args: Any) -> list[Any]:
        """Return all items under `key`, over all pages. Raises AwsError."""
        if not self.client(service).can_paginate(call):  # AWS returns them at once, as for key pairs
            return list(self.call(service, call, **args).get(key, []))
        return [item for page in self.iterate_pages(service, call, **args) for item in page.get(key, [])]

    def iterate_pages(self, service: str, call: str, **args: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of one call. Raises AwsError."""
        for pause in (*PAUSES_S, None):
            is_first = True
            try:
                for page in self.client(service).get_paginator(call).paginate(**args):
                    is_first = False
                    yield page
                return
            except ClientError as error:
                if pause is None or not is_first or not self._wait_for_new_resource(error, args, pause):
                    raise self._convert_error(error) from error

    def list_tagged(self, call: str, key: str, **more: str) -> list[Any]:
        """Return what EC2 lists under `key` with this stack's tag; `more` are further filters, by their names with _ for -."""
        filters = [{"Name": "tag:kennel:stack", "Values": [self.settings.stack.name]}]
        filters += [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in more.items()]
        return self.list_all("ec2", call, key, Filters=filters)

    def guard(self) -> None:
        """Raise OpsError unless the caller's account is the settings' account. AWS is asked once."""
        if self._caller:
            return
        answer = self.call("sts", "get_caller_identity")
        if answer["Account"] != self.settings.aws.account:
            raise OpsError(
                f"The settings are for account {self.settings.aws.account}, but profile {self.settings.aws.profile!r} is in "
                f"account {answer['Account']}. Nothing was touched. Use the settings file of that account: invoke -f FILE ..."
            )
        self._caller = answer["Arn"]

    def make_change(self, change: Change) -> Any:
        """Make one change; the audit log records it before the call, and again with its outcome. Raises AwsError."""
        patience = "launch" if change.call in LAUNCHES else "control"
        try:
            with self.record(f"{change.service}.{change.call}", change.why, change.args) as entry:
                answer = lost_answers.settle(
                    self, change, lambda: self.call(change.service, change.call, patience, **change.args)
                )
                entry["request"] = find_request_id(answer)
        finally:
            if change.service == "iam":  # who may assume a role, and what was revoked, counts from now on
                drop_sessions(stack=self.settings.stack.name, account=self.settings.aws.account)
        return answer

    @contextmanager
    def record(self, call: str, why: str, args: Any) -> Iterator[Entry]:
        """Write a change to the audit log before it is made, and again with its outcome; yield the entry, which may be added to.

        Raises OSError before the change when the log cannot be written, and OpsError in another account than the settings'.
        """
        self.guard()
        entry = {"call": call, "why": mask_keys(why), "args": shorten_for_log(args)}
        entry |= {"because": mask_keys(self.because)} if self.because else {}
        self._write_audit_entry("begin", entry)
        try:
            yield entry
        except BaseException as error:
            outcome = f"failed: {type(error).__name__}: {mask_keys(redact(str(error), args))}"[:300]
            entry |= {"request": error.request_id} if isinstance(error, AwsError) and error.request_id else {}
            try:
                self._write_audit_entry(outcome, entry)
            except OSError as full:  # the error of the change counts more
                say(f"The audit log lacks the outcome of {call}: {full}")
            raise
        self._write_audit_entry("done", entry)

    def _write_audit_entry(self, outcome: str, entry: Entry) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        where = {"stack": self.settings.stack.name, "region": self.settings.aws.region}
        who = {"caller": self._caller, "pid": os.getpid(), "run": running.run, "command": running.command}
        self.audit.write({"time": now, **where, **who, "outcome": outcome, **entry})

    def wait(self, wait: Wait) -> Any:
        """Poll `wait.until` while it returns a string, showing its state; return its first other value.

        Ctrl-C changes nothing in AWS. Raises OpsError when `wait.timeout_s` have passed, and whatever `wait.until` raises.
        """
        started = time.monotonic()
        with show_elapsed(wait.what) as show_state:
            return self._poll(wait, started, show_state)

    def _poll(self, wait: Wait, started: float, show_state: Callable[[str], None]) -> Any:
        for pause in iterate_poll_intervals():
            interrupts.check()
            state = wait.until(self)
            if not isinstance(state, str):
                return state
            show_state(state)
            if time.monotonic() - started > wait.timeout_s:
                raise OpsError(
                    f"Timed out waiting for {wait.what} after {wait.timeout_s:.0f} s: still {state}. Run the same command again to wait on."
                )
            time.sleep(pause)
        return None


def iterate_poll_intervals() -> Iterator[float]:
    """Yield the seconds between two polls: 0.2 s at first, since a sandbox is quick, then up to 15 s, since AWS is not."""
    pause = 0.2
    while True:
        yield pause
        pause = min(pause * 1.25, 15.0)
