"""Call the live endpoint: find its release, send it pictures, and verify that it answers with the deployed release."""

from __future__ import annotations

import json
import time
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import ROLLED_BACK, AwsError, OpsError
from ops.endpoint import plan
from ops.releases import build, golden, release_samples
from ops.releases.build import Release

BUSY_S = (0.5, 1.0, 2.0, 4.0)


def verify_release(account: Account, want: plan.EndpointSpec, before: str) -> None:
    """Check that the endpoint gives the release's own answers to all its golden pictures.

    `before` is the config that was live. Raises OpsError, with AWS's reason after a roll-back.
    """
    found = account.call("sagemaker", "describe_endpoint", EndpointName=want.settings.endpoint_name)
    if found["EndpointConfigName"] not in (want.config, before):
        raise OpsError(
            f"Another deployment ran at the same time: {found['EndpointConfigName']} is live. List the deployments: invoke sm.releases"
        )
    if found["EndpointConfigName"] != want.config:
        why = found.get("FailureReason", "no reason given")
        raise OpsError(
            f"Release {want.release.short} is not live: AWS rolled back to {found['EndpointConfigName']}: {why}\n"
            "Read the log: invoke sm.logs --errors",
            ROLLED_BACK,
        )
    if wrong := smoke_test_endpoint(account, want.release):
        raise OpsError(
            f"{want.settings.endpoint_name} gives wrong answers: {'; '.join(wrong[:3])}. Roll back: invoke sm.rollback"
        )


def smoke_test_endpoint(account: Account, release: Release) -> list[str]:
    """Return a sentence for each answer of the endpoint that differs from a release's golden answer."""
    try:
        pictures = golden.read_golden_pictures(build.fetch_release(account, release).folder / "golden.npz")
    except ValueError as error:
        raise OpsError(
            f"The golden answers of release {release.short} cannot be read: {error}. Build another: invoke sm.deploy --job {release.job or 'JOB'}"
        ) from error
    return golden.check_golden_answers(pictures, lambda picture: invoke_with_retry(account, picture), release.digest)


def invoke_with_retry(account: Account, picture: bytes) -> dict[str, Any]:
    """Invoke the endpoint, and retry for some seconds while it is busy, which says nothing about the release."""
    for seconds in BUSY_S:
        try:
            return invoke_once(account, picture)
        except AwsError as error:
            if not error.says("error (503)", "Throttling"):
                raise
            time.sleep(seconds)
    return invoke_once(account, picture)


def find_live_release(account: Account) -> Release:
    """Return the release that is live. Raises OpsError when there is no endpoint."""
    return build.find_release(
        account, release_samples.parse_short_digest(account, require_endpoint(account)["EndpointConfigName"])
    )


def require_endpoint(account: Account) -> dict[str, Any]:
    """Return AWS's description of the endpoint. Raises OpsError when there is none."""
    found = plan.find_endpoint(account)
    if found is None:
        raise OpsError(f"There is no endpoint {account.settings.endpoint_name}. Deploy one: invoke sm.deploy")
    return found


def invoke_once(account: Account, picture: bytes) -> dict[str, Any]:
    """Return the endpoint's answer to one picture: release, best, classes, scores, probabilities, certain. Raises AwsError."""
    name = account.settings.endpoint_name
    answer = account.call(
        "sagemaker-runtime",
        "invoke_endpoint",
        retries="inference",
        EndpointName=name,
        Body=picture,
        ContentType="application/x-image",
    )
    found: dict[str, Any] = json.loads(answer["Body"].read())
    return found
