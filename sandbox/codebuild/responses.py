"""The sandbox's CodeBuild: moto keeps the projects; builds run their buildspec's commands with the sandbox's `docker` and `aws`."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError
from moto.codebuild.exceptions import InvalidInputException, ResourceNotFoundException
from moto.codebuild.responses import CodeBuildResponse
from moto.core.responses import ActionResult

from ops.core.paths import ROOT
from sandbox import processes
from sandbox.cloudwatch import logs
from sandbox.codebuild import docker, layers
from sandbox.iam.principals import is_service_trusted
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World, get_world

PHASES = ("PROVISIONING", "DOWNLOAD_SOURCE", "INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS")
INHERITED = ("PIP_", "REQUESTS_CA_BUNDLE")  # the sandbox's own variables that builds inherit, for pip's index


class PhaseFailed(Exception):
    """The phase did not succeed; the arguments are (status, statusCode, message)."""


class Builds(CodeBuildResponse):
    @property
    def request_params(self) -> dict[str, Any]:
        params: dict[str, Any] = json.loads(self.body)
        return params

    def create_project(self) -> ActionResult:
        check_service_role(self.request_params["serviceRole"])
        return super().create_project()

    def update_project(self) -> ActionResult:
        project = self.require_project(self.request_params["name"])
        check_service_role(self.request_params.get("serviceRole", project.service_role))
        project.project_metadata.update(self.request_params)
        project.service_role = project.project_metadata["serviceRole"]
        return ActionResult({"project": project.project_metadata})

    def start_build(self) -> ActionResult:
        project = self.require_project(self.request_params["projectName"])
        build = Build(get_world(), project.project_metadata, self.request_params)
        get_world().builds[build.ident] = build
        threading.Thread(target=build.run_phases, daemon=True).start()
        return ActionResult({"build": build.describe()})

    def batch_get_builds(self) -> ActionResult:
        ids, known = self.request_params["ids"], get_world().builds
        builds = [known[ident].describe() for ident in ids if ident in known]
        return ActionResult({"builds": builds, "buildsNotFound": [ident for ident in ids if ident not in known]})

    def list_builds_for_project(self) -> ActionResult:
        name = self.require_project(self.request_params["projectName"]).project_metadata["name"]
        ids = [build.ident for build in get_world().builds.values() if build.record["projectName"] == name]
        return ActionResult({"ids": ids if self.request_params.get("sortOrder") == "ASCENDING" else ids[::-1]})

    def list_builds(self) -> ActionResult:
        return ActionResult({"ids": list(get_world().builds)[::-1]})

    def stop_build(self) -> ActionResult:
        build = get_world().builds.get(self.request_params["id"])
        if build is None:
            raise ResourceNotFoundException(f"Build {self.request_params['id']} does not exist")
        build.stopping.set()
        return ActionResult({"build": build.describe()})

    def require_project(self, name: str) -> Any:
        found = self.codebuild_backend.codebuild_projects.get(name)
        if found is None:
            raise ResourceNotFoundException(f"Project cannot be found: {name}")
        return found


def check_service_role(arn: str) -> None:
    """Raise InvalidInputException for a role that is missing or does not trust CodeBuild; AWS does too for a role just created."""
    if not is_service_trusted(
        get_world(), "codebuild.amazonaws.com", arn, f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/*"
    ):
        raise InvalidInputException(
            "CodeBuild is not authorized to perform: sts:AssumeRole on service role. Please verify that: 1) The provided "
            "service role exists, 2) The role name is case-sensitive and matches exactly, and 3) The role has the necessary "
            "trust policy configuration"
        )


class Build:
    """One build, which runs in a thread of its own; `record` is what BatchGetBuilds returns."""

    def __init__(self, world: World, project: dict[str, Any], request: dict[str, Any]) -> None:
        self.world, self.stopping, self.lock = world, threading.Event(), threading.Lock()
        stream = str(uuid.uuid4())
        self.ident, self.folder = f"{project['name']}:{stream}", world.folder / "builds" / stream
        source, environment = copy.deepcopy(project["source"]), copy.deepcopy(project["environment"])
        source["location"] = request.get("sourceLocationOverride", source["location"])
        source["buildspec"] = request.get("buildspecOverride", source.get("buildspec", ""))
        variables = {v["name"]: v for v in environment.get("environmentVariables", [])}
        variables |= {v["name"]: v for v in request.get("environmentVariablesOverride", [])}
        environment["environmentVariables"] = list(variables.values())
        group = project.get("logsConfig", {}).get("cloudWatchLogs", {}).get("groupName")
        self.group, self.stream = group or f"/aws/codebuild/{project['name']}", stream
        submitted = {"phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED", "startTime": now(), "endTime": now()}
        self.record: dict[str, Any] = {
            "id": self.ident, "arn": project["arn"].replace(f"project/{project['name']}", f"build/{self.ident}"),
            "projectName": project["name"], "startTime": now(), "currentPhase": "QUEUED", "buildStatus": "IN_PROGRESS",
            "phases": [submitted | {"durationInSeconds": 0}], "source": source, "artifacts": {"location": ""},
            "environment": environment, "serviceRole": project["serviceRole"], "buildComplete": False,
            "logs": {"groupName": self.group, "streamName": self.stream, "cloudWatchLogs": {"status": "ENABLED"}},
            "timeoutInMinutes": project["timeoutInMinutes"] or 60, "cache": {"type": "NO_CACHE"}, "initiator": "operator",
        }  # fmt: skip

    def describe(self) -> dict[str, Any]:
        with self.lock:
            return copy.deepcopy(self.record)

    def write_line(self, line: str) -> None:
        logs.write(self.world, self.group, self.stream, f"[Container] {now():%Y/%m/%d %H:%M:%S.%f} {line}")

    def run_phases(self) -> None:
        """Run the phases in order. After a failed phase the others are skipped, except POST_BUILD after BUILD, as on AWS."""
        logs.ensure_log_stream(self.world, self.group, self.stream, self.record["serviceRole"])
        self.deadline = time.monotonic() + self.record["timeoutInMinutes"] * 60
        status, broken = "SUCCEEDED", ""
        self.run_phase("QUEUED", lambda: None)
        for name in PHASES:
            if not broken or (broken, name) == ("BUILD", "POST_BUILD"):
                step = self.download_source if name == "DOWNLOAD_SOURCE" else partial(self.run_commands, name)
                ended = self.run_phase(name, step)
                if ended != "SUCCEEDED" and not broken:
                    status, broken = ended, name
        self.run_phase("FINALIZING", lambda: shutil.rmtree(self.folder, ignore_errors=True))
        with self.lock:
            self.record["phases"].append({"phaseType": "COMPLETED", "startTime": now()})
            self.record |= {"currentPhase": "COMPLETED", "endTime": now(), "buildStatus": status, "buildComplete": True}
        self.world.note(f"build {self.ident} {status}")

    def run_phase(self, name: str, step: Callable[[], None]) -> str:
        phase: dict[str, Any] = {"phaseType": name, "startTime": now()}
        with self.lock:
            self.record["phases"].append(phase)
            self.record["currentPhase"] = name
        status, context = "SUCCEEDED", {"statusCode": "", "message": ""}
        try:
            step()
        except PhaseFailed as failed:
            status, context["statusCode"], context["message"] = failed.args
        except Exception as error:  # after any error the build ends and reports it
            status, context = (
                "FAULT",
                {"statusCode": "INTERNAL_SERVICE_ERROR", "message": f"{type(error).__name__}: {error}"},
            )
        self.write_line(f"Phase complete: {name} State: {status}")
        if status != "SUCCEEDED":
            self.write_line(f"Phase context status code: {context['statusCode']} Message: {context['message']}")
        with self.lock:
            lasted = int((now() - phase["startTime"]).total_seconds())
            phase |= {"phaseStatus": status, "endTime": now(), "durationInSeconds": lasted, "contexts": [context]}
        return status

    def download_source(self) -> None:
        """Download the source with the project's role. Raises PhaseFailed."""
        bucket, _, key = self.record["source"]["location"].partition("/")
        s3 = self.world.create_role_client(self.record["serviceRole"], "s3", f"AWSCodeBuild-{self.stream}")
        try:
            packed = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                archive.extractall(self.folder / "src")
        except (ClientError, zipfile.BadZipFile) as error:
            raise PhaseFailed("FAILED", "CLIENT_ERROR", f"error while downloading key {key}, error: {error}") from None

    def run_commands(self, phase: str) -> None:
        """Run the buildspec's commands of this phase, each in its own shell; on AWS they share one. Raises PhaseFailed."""
        try:
            spec = yaml.safe_load(self.record["source"]["buildspec"]) or {}
            commands = spec.get("phases", {}).get(phase.lower(), {}).get("commands", [])
        except (yaml.YAMLError, AttributeError) as error:
            raise PhaseFailed(
                "FAILED", "YAML_FILE_ERROR", f"YAML file does not exist or is malformed: {error}"
            ) from None
        env, shell = self.build_environment(spec.get("env", {})), spec.get("env", {}).get("shell", "sh")
        for command in commands:
            self.write_line(f"Running command {command}")
            code = self.run_command([shell, "-c", command], env)
            if code:
                reason = f"Error while executing command: {command}. Reason: exit status {code}"
                raise PhaseFailed("FAILED", "COMMAND_EXECUTION_ERROR", reason)

    def run_command(self, argv: list[str], env: dict[str, str]) -> int:
        """Run a command and log its output; return its exit code. Raises PhaseFailed if the build is stopped or times out."""
        process = processes.spawn_process(argv, self.folder / "src", env)
        pump = logs.follow_output(self.world, process, self.group, self.stream)
        try:
            while process.poll() is None:
                if self.stopping.wait(0.02):
                    raise PhaseFailed("STOPPED", "", "Build stopped")
                if time.monotonic() > self.deadline:
                    raise PhaseFailed("TIMED_OUT", "BUILD_TIMED_OUT", "Build has timed out. ")
        finally:
            processes.stop_process_group(process, 0.5)
            pump.join(5)
        return process.returncode

    def build_environment(self, spec: dict[str, Any]) -> dict[str, str]:
        """Return a command's environment: the sandbox's AWS with the role's credentials, the variables, and pip's own settings."""
        tools, secret = (
            self.folder / "bin",
            self.world.keys.create_credential_path(self.record["serviceRole"], f"AWSCodeBuild-{self.stream}"),
        )
        install_tools(tools)
        env = processes.build_child_environment(
            self.world.folder, self.folder, AWS_ENDPOINT_URL=self.world.url, AWS_REGION=REGION,
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{self.world.url}/_credentials/{secret}",
            CODEBUILD_BUILD_ID=self.ident, CODEBUILD_SRC_DIR=str(self.folder / "src"), PYTHONPATH=str(ROOT),
        )  # fmt: skip
        env |= {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
        env |= {"PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin", layers.HOME: os.environ.get("HOME", "")}
        if self.record["environment"].get("privilegedMode"):
            env[docker.STORE] = str(self.folder / "docker")
        env |= {name: str(value) for name, value in spec.get("variables", {}).items()}
        return env | {v["name"]: v["value"] for v in self.record["environment"]["environmentVariables"]}


def install_tools(tools: Path) -> None:
    """Write `docker` and `aws` for a build's PATH."""
    for name in ("docker", "aws"):
        if not (path := tools / name).exists():
            (tools.parent / "docker").mkdir(parents=True, exist_ok=True)
            tools.mkdir(exist_ok=True)
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sandbox.codebuild.docker {name} "$@"\n')
            path.chmod(0o755)


def now() -> datetime:
    return datetime.now(UTC)
