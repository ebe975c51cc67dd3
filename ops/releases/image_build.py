"""Build the serving container's image: read what ECR and CodeBuild have, and plan a build of the current serving/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.files import build_zip, compute_folder_digest, list_files
from ops.core.log_groups import has_retention, log_group_steps
from ops.core.output import say
from ops.core.paths import ROOT
from ops.core.plan import Change, Steps, Wait, retry_until_trusted
from ops.core.settings import REPOSITORY, Settings

SERVING = ROOT / "serving"
SOURCES = "builds/"  # in the bucket, and named in iam_policies/; images/ is for callers' pictures
BUILD_MINUTES, QUEUE_MINUTES = 15, 30
TAIL = 15  # lines of a failed build's log
NOT_YET = "sts:AssumeRole"  # CodeBuild's error for a role made seconds ago, and for a missing role
ROLE_WAITS_S = (2.0, 4.0, 6.0)

ACCEPTED_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
NO_BUILDS = "builds in queue for the account"

# The image is pushed in the build phase: post_build runs after a failed build too. SageMaker accepts neither an image index, which attestations
# would turn the image into, nor OCI's media types, which Docker 29 writes unless the build says otherwise.
BUILDSPEC = """\
version: 0.2
env:
  shell: bash
phases:
  pre_build:
    commands:
      - aws ecr get-login-password | docker login --username AWS --password-stdin "$REGISTRY"
  build:
    commands:
      - docker buildx build --provenance=false --sbom=false --output "type=image,name=$REGISTRY/$REPOSITORY:$TAG,oci-mediatypes=false,push=true" .
"""


class ImageRefused(OpsError):
    """SageMaker refuses the image that ECR has. `problem` says why, `fix` is what to do next."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem} To fix it: {fix}")
        self.problem, self.fix = problem, fix


@dataclass(frozen=True)
class Facts:
    """The facts about `tag`: the image's size in bytes (None without an image), CodeBuild's description of the project, a running build's id."""

    tag: str
    size: int | None = None
    repository: bool = False
    project: dict[str, Any] | None = None
    build: str = ""
    log_group: bool = False


def derive_project_name(settings: Settings) -> str:
    return f"{settings.prefix}-image"


def log_group(settings: Settings) -> str:
    return f"/aws/codebuild/{derive_project_name(settings)}"


def derive_source_key(tag: str) -> str:
    return f"{SOURCES}{tag}/serving.zip"


def derive_source_location(settings: Settings, tag: str) -> str:
    return f"{settings.bucket}/{derive_source_key(tag)}"


def find_missing_image_tag(account: Account) -> str | None:
    """Return the tag of the current serving/ when ECR has no image of it, else None."""
    tag = compute_folder_digest(SERVING)
    return tag if read_image_size(account, tag) is None else None


def read_image_size(account: Account, tag: str) -> int | None:
    """Return the bytes of the image with this tag, or None without it. Raises ImageRefused."""
    which = {"repositoryName": REPOSITORY, "imageIds": [{"imageTag": tag}]}
    found = account.call_or_none("ecr", "describe_images", "ImageNotFound|RepositoryNotFound", **which)
    if not found:
        return None
    (image,) = found["imageDetails"]
    check_manifest(image.get("imageManifestMediaType", ACCEPTED_MANIFEST), tag, account.settings.aws.region)
    return int(image.get("imageSizeInBytes", 0))


def check_manifest(kind: str, tag: str, region: str) -> None:
    """Raise ImageRefused for an image that CreateModel refuses. A tag is never overwritten, so the image has to be deleted first."""
    if kind != ACCEPTED_MANIFEST:
        raise ImageRefused(
            f"The image {REPOSITORY}:{tag} has a manifest of type {kind}, and SageMaker accepts only Docker's, {ACCEPTED_MANIFEST}.",
            f"as an administrator, aws ecr batch-delete-image --region {region} --repository-name {REPOSITORY} "
            f"--image-ids imageTag={tag}; then invoke sm.image",
        )


def check_built(account: Account, tag: str) -> tuple[str, int]:
    """Return the image's name with its tag, and its bytes. Raises OpsError when ECR has none after a build."""
    size = read_image_size(account, tag)
    if size is None:
        raise OpsError(f"The build succeeded, but ECR has no {REPOSITORY}:{tag}. Build it again: invoke sm.image")
    return f"{REPOSITORY}:{tag}", size


def facts(account: Account, tag: str = "") -> Facts:
    """Read the facts about a tag, by default the current one; when the image exists, make no other request."""
    settings, tag = account.settings, tag or compute_folder_digest(SERVING)
    if (size := read_image_size(account, tag)) is not None:
        return Facts(tag, size)
    repository = account.call_or_none(
        "ecr", "describe_repositories", "RepositoryNotFound", repositoryNames=[REPOSITORY]
    )
    name = derive_project_name(settings)
    projects = account.call("codebuild", "batch_get_projects", names=[name])["projects"]
    return Facts(
        tag,
        None,
        repository is not None,
        projects[0] if projects else None,
        find_running_build(account, tag) if projects else "",
        has_retention(account, log_group(settings)),
    )


def find_running_build(account: Account, tag: str) -> str:
    """Return the id of a running build of this tag, whichever operator started it; "" without one."""
    name = derive_project_name(account.settings)
    ids = account.call("codebuild", "list_builds_for_project", projectName=name, sortOrder="DESCENDING")["ids"][:10]
    builds = account.call("codebuild", "batch_get_builds", ids=ids)["builds"] if ids else []
    ours = [b for b in builds if b["source"]["location"] == derive_source_location(account.settings, tag)]
    return next((b["id"] for b in ours if b["buildStatus"] == "IN_PROGRESS"), "")


def build_project_config(settings: Settings) -> dict[str, Any]:
    """Return the project, by CodeBuild's names. Its source is never read: each build names its own."""
    variables = {"REGISTRY": settings.registry, "REPOSITORY": REPOSITORY}
    logs = {"cloudWatchLogs": {"status": "ENABLED", "groupName": log_group(settings)}}
    return {
        "name": derive_project_name(settings),
        "source": {"type": "S3", "location": f"{settings.bucket}/{SOURCES}serving.zip", "buildspec": BUILDSPEC},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/amazonlinux-x86_64-standard:5.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "privilegedMode": True,  # else there is no Docker in the build
            "environmentVariables": [{"name": name, "value": value} for name, value in variables.items()],
        },
        "serviceRole": settings.role_arn("image-build"),
        "timeoutInMinutes": BUILD_MINUTES,
        "queuedTimeoutInMinutes": QUEUE_MINUTES,
        "logsConfig": logs,
        "tags": [{"key": t["Key"], "value": t["Value"]} for t in settings.tags(derive_project_name(settings))],
    }


def has_wanted_values(have: Any, want: Any) -> bool:
    """Report whether `have` contains all wanted values; CodeBuild adds defaults, and does not keep the order of tags."""
    if isinstance(want, dict):
        return isinstance(have, dict) and all(has_wanted_values(have.get(key), value) for key, value in want.items())
    if isinstance(want, list):
        same = isinstance(have, list) and len(have) == len(want)
        return same and all(any(has_wanted_values(one, item) for one in have) for item in want)
    return bool(have == want)


def steps(have: Facts, settings: Settings) -> Steps:
    if have.size is not None:
        return
    if not have.build:
        yield from build_place_steps(have, settings)
        args = {
            "projectName": derive_project_name(settings),
            "sourceLocationOverride": derive_source_location(settings, have.tag),
            "environmentVariablesOverride": [{"name": "TAG", "value": have.tag}],
        }
        why = f"build {REPOSITORY}:{have.tag}, which ECR does not have; ${pricing.price_build_minute()} per started minute"
        try:
            answer = yield Change("codebuild", "start_build", args, why)
        except AwsError as error:
            if not error.says(NO_BUILDS):
                raise
            raise OpsError(
                f"CodeBuild starts no more builds in this account: {error.reason} New accounts may have a quota of 0. "
                "Raise it as runbooks/build-the-image.md says, then run: invoke sm.image"
            ) from error
        yield wait_for_build(answer["build"]["id"], have.tag)
    else:
        yield wait_for_build(have.build, have.tag)


def build_place_steps(have: Facts, settings: Settings) -> Steps:
    """Yield what a build needs: the repository, the log group and the project."""
    if not have.repository:
        args = {
            "repositoryName": REPOSITORY,
            "imageTagMutability": "IMMUTABLE",  # a tag is the digest of what is in it
            "imageScanningConfiguration": {"scanOnPush": True},
            "tags": settings.tags(REPOSITORY),
        }
        try:
            yield Change("ecr", "create_repository", args, why=f"create repository {REPOSITORY}")
        except AwsError as error:  # all stacks of an account share it: another may just have made it
            if not error.says("RepositoryAlreadyExists"):
                raise
    if not have.log_group:
        yield from log_group_steps(
            log_group(settings), settings.endpoint.log_days, "create the log group of the builds"
        )
    want = build_project_config(settings)
    if have.project is None:
        yield from retry_until_role_trusted(
            Change("codebuild", "create_project", want, why=f"create project {want['name']}"), want
        )
    elif differing := [key for key in want if not has_wanted_values(have.project.get(key), want[key])]:
        why = f"update {', '.join(differing)} of project {want['name']}"
        yield from retry_until_role_trusted(Change("codebuild", "update_project", want, why), want)


def retry_until_role_trusted(change: Change, want: dict[str, Any]) -> Steps:
    """Retry a change until CodeBuild can assume its role. Raises OpsError when it still cannot: then the role is missing."""
    try:
        return (yield from retry_until_trusted(change, NOT_YET, ROLE_WAITS_S))
    except AwsError as error:
        if not error.says(NOT_YET):
            raise
        role = want["serviceRole"].rsplit("/", 1)[-1]
        raise OpsError(f"CodeBuild cannot assume role {role}. Create it: invoke iam.apply") from error


def wait_for_build(build_id: str, tag: str) -> Wait:
    """Return a wait for a build. A failed build counts as done when another one pushed the same tag first: tags never change."""

    def until(account: Account) -> str | None:
        build = account.call("codebuild", "batch_get_builds", ids=[build_id])["builds"][0]
        if build["buildStatus"] == "IN_PROGRESS":
            return str(build["currentPhase"])
        if build["buildStatus"] != "SUCCEEDED" and read_image_size(account, tag) is None:
            raise OpsError(describe_build_failure(account, build))
        return None

    limit = (BUILD_MINUTES + QUEUE_MINUTES + 1) * 60.0
    return Wait("the build", until, why="CodeBuild builds the image and pushes it", timeout_s=limit)


def describe_build_failure(account: Account, build: dict[str, Any]) -> str:
    """Return phase and reason as CodeBuild states them, and the end of the log, which has the underlying error."""
    bad = [p for p in build["phases"] if p.get("phaseStatus", "SUCCEEDED") not in ("SUCCEEDED", "IN_PROGRESS")]
    reasons = [c["message"] for phase in bad for c in phase.get("contexts", []) if c.get("message")]
    where = f" in {bad[0]['phaseType']}" if bad else ""
    logs = build.get("logs", {})
    group, stream = logs.get("groupName") or log_group(account.settings), logs.get("streamName", "")
    which = {"logGroupName": group, "logStreamName": stream, "limit": TAIL, "startFromHead": False}
    found = account.call_or_none("logs", "get_log_events", "ResourceNotFound", **which) if stream else None
    lines = [f"  | {event['message'].rstrip()}" for event in (found or {"events": []})["events"]]
    return "\n".join(
        (
            f"The image build {build['buildStatus']}{where}: {'; '.join(reasons) or 'CodeBuild gives no reason'}",
            *lines,
            f"Full log: CloudWatch log group {group}, stream {stream or 'none'}. "
            "Fix serving/, then run: invoke sm.image",
        )
    )


def package_serving(folder: Path = SERVING) -> bytes:
    """Return serving/ as a zip: the same sources give the same bytes."""
    return build_zip((path.relative_to(folder).as_posix(), path) for path in list_files(folder))


def upload_serving(account: Account, tag: str) -> None:
    """Upload serving/ to where the build reads it, unless it is there already. Raises OpsError."""
    bucket, key = account.bucket, derive_source_key(tag)
    if bucket.has(key):
        return
    say(f"Uploading serving/ to s3://{bucket.name}/{key} ...")
    code = package_serving()
    if compute_folder_digest(SERVING) != tag:  # tags are immutable: this one must not name other content
        raise OpsError("serving/ changed while it was packed. Run it again: invoke sm.image")
    try:
        bucket.put(key, code)
    except AwsError as error:
        if error.says("NoSuchBucket"):
            raise OpsError(f"There is no bucket {bucket.name}. Create it: invoke data.up") from error
        raise
