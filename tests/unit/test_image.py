"""The serving container's image: the plan by equality, Dockerfiles followed line by line, builds that really build and fail."""

import io
import re
import shlex
import zipfile
from types import SimpleNamespace

import pytest

from ops.core import plan
from ops.core.errors import AwsError, OpsError
from ops.core.paths import ROOT
from ops.core.plan import Change, Unknown
from ops.releases import image_build
from sandbox.codebuild import docker
from sandbox.codebuild.layers import BuildError
from tests.conftest import settings_of

SETTINGS = settings_of()
TAG = "a" * 12
READY = {"repository": True, "project": image_build.build_project_config(SETTINGS), "log_group": True}


def planned(**facts):
    steps = plan.preview(image_build.steps(image_build.Facts(TAG, **facts), SETTINGS))
    return [s.call if isinstance(s, Change) else "wait" for s in steps]


@pytest.mark.parametrize(
    ("facts", "calls"),
    [
        (
            {},
            ["create_repository", "create_log_group", "put_retention_policy", "create_project", "start_build", "wait"],
        ),
        (READY, ["start_build", "wait"]),
        ({**READY, "project": {**READY["project"], "timeoutInMinutes": 60}}, ["update_project", "start_build", "wait"]),
        ({**READY, "build": "kennel-demo-image:1"}, ["wait"]),
        ({"size": 1}, []),
    ],
    ids=["nothing", "ready", "project differs", "under way", "built"],
)
def test_image_plan_follows_the_facts(facts, calls):
    assert planned(**facts) == calls


def test_build_gets_its_tag_and_source():
    build, _ = plan.preview(image_build.steps(image_build.Facts(TAG, **READY), SETTINGS))
    where = "kennel-demo-123456789012-us-east-1/builds/aaaaaaaaaaaa/serving.zip"
    assert build == Change(
        "codebuild",
        "start_build",
        {
            "projectName": "kennel-demo-image",
            "sourceLocationOverride": where,
            "environmentVariablesOverride": [{"name": "TAG", "value": TAG}],
        },
        "build kennel-serving:aaaaaaaaaaaa, which ECR does not have; $0.005 per started minute",
    )


def test_codebuild_defaults_are_no_difference():
    have = image_build.build_project_config(SETTINGS)
    have["environment"] = {**have["environment"], "imagePullCredentialsType": "CODEBUILD"}
    have["environment"]["environmentVariables"] = [
        {**v, "type": "PLAINTEXT"} for v in have["environment"]["environmentVariables"]
    ]
    have["tags"] = have["tags"][::-1]
    have |= {"badge": {"badgeEnabled": False}, "encryptionKey": "arn"}
    assert planned(**{**READY, "project": have}) == ["start_build", "wait"]
    have["environment"]["environmentVariables"][0]["value"] = "another registry"
    assert planned(**{**READY, "project": have})[0] == "update_project"


def test_new_role_is_retried_and_a_missing_one_is_named():
    """A new role is tried again; one that does not exist is named."""
    project = image_build.build_project_config(SETTINGS)

    def walk(refusals):
        left = iter(refusals)

        def answer(step):
            if isinstance(step, Change) and (code := next(left, None)):
                raise AwsError("CreateProject", "InvalidInputException", code)
            return Unknown("answer")

        return [
            getattr(s, "call", "wait")
            for s in plan.walk_steps(image_build.retry_until_role_trusted(Change("c", "call", {}, ""), project), answer)
        ]

    assert walk([image_build.NOT_YET]) == ["call", "wait", "call"]
    with pytest.raises(
        OpsError, match=r"CodeBuild cannot assume role kennel-demo-image-build\. Create it: invoke iam\.apply"
    ):
        walk([image_build.NOT_YET] * 9)
    with pytest.raises(AwsError, match="something else"):
        walk(["something else"])


@pytest.mark.parametrize(
    ("kind", "ok"),
    [
        ("application/vnd.docker.distribution.manifest.v2+json", True),
        ("application/vnd.oci.image.manifest.v1+json", False),
        ("application/vnd.oci.image.index.v1+json", False),
        ("application/vnd.docker.distribution.manifest.list.v2+json", False),
    ],
)
def test_only_images_that_sagemaker_accepts_are_used(kind, ok):
    image = {"imageSizeInBytes": 5, "imageManifestMediaType": kind}
    account = SimpleNamespace(settings=SETTINGS, call_or_none=lambda *_, **__: {"imageDetails": [image]})
    if ok:
        assert image_build.read_image_size(account, TAG) == 5
        return
    delete = "aws ecr batch-delete-image --region us-east-1 --repository-name kennel-serving --image-ids imageTag=aaaaaaaaaaaa"
    with pytest.raises(OpsError, match=rf"manifest of type {re.escape(kind)}.*{delete}; then invoke sm\.image"):
        image_build.facts(account, TAG)


def test_account_that_may_build_nothing_is_explained():
    """AWS lets many new accounts build nothing, and its words do not say what to do."""

    def refuse(step):
        raise AwsError(
            "StartBuild", "AccountLimitExceededException", "Cannot have more than 0 builds in queue for the account"
        )

    with pytest.raises(
        OpsError, match=r"more than 0 builds .* a quota of 0\. Raise it as runbooks/build-the-image\.md"
    ):
        list(plan.walk_steps(image_build.steps(image_build.Facts(TAG, **READY), SETTINGS), refuse))


@pytest.mark.parametrize(
    ("output", "pushed"),
    [
        ("type=image,name=r/n:t,oci-mediatypes=false,push=true", docker.MANIFEST),
        ("type=image,name=r/n:t,push=true", docker.OCI_MANIFEST),
        ("type=image,name=r/n:t", None),
    ],
)
def test_manifest_has_the_media_type_that_was_asked_for(monkeypatch, tmp_path, output, pushed):
    """The stand-in is like Docker 29, which writes OCI's media types unless the build says otherwise."""
    done = []
    monkeypatch.setattr(docker, "build", lambda name, folder: done.append(name))
    monkeypatch.setattr(docker, "push_image", lambda name, media_type: done.append(media_type))
    words = ["docker", "buildx", "build", "--provenance=false", "--sbom=false", "--output", output, str(tmp_path)]
    assert docker.main(words) == 0
    assert done == ["r/n:t", *([pushed] if pushed else [])]


def test_builds_ask_for_a_manifest_that_sagemaker_accepts():
    (line,) = [line for line in image_build.BUILDSPEC.splitlines() if "docker buildx" in line]
    words = shlex.split(line.strip().removeprefix("- "))
    assert docker.parse_output(words[-2])["oci-mediatypes"] == "false"
    assert {"--provenance=false", "--sbom=false"} <= set(words)  # attestations make an index of the image


def test_package_is_reproducible_and_holds_the_folder():
    """The package is the same bytes every time, and holds the folder."""
    assert image_build.package_serving() == image_build.package_serving()
    names = zipfile.ZipFile(io.BytesIO(image_build.package_serving())).namelist()
    assert {"Dockerfile", "requirements.txt", "server.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_shipped_dockerfile_is_supported_by_the_sandbox():
    """The sandbox can follow the shipped Dockerfile to its end."""
    found = docker.parse_dockerfile((ROOT / "serving" / "Dockerfile").read_text())
    words = [word for _, word, _ in found]
    assert words[0] == "FROM"
    assert "ENTRYPOINT" in words
    assert "USER" not in words  # SageMaker expects containers to start as root
    assert ("COPY", "*.py ./") in [(word, rest) for _, word, rest in found]


def test_lines_are_joined_and_comments_dropped():
    text = "# a\nFROM python:3.12-slim\n\nrun pip install \\\n  # in between\n  -r x.txt\nUSER a\n"
    assert docker.parse_dockerfile(text) == [
        (2, "FROM", "python:3.12-slim"),
        (4, "RUN", "pip install  -r x.txt"),
        (7, "USER", "a"),
    ]


@pytest.fixture
def image(tmp_path):
    """An image in the making, of a folder with two programs; follow("COPY", "a.py .") does one instruction."""
    (tmp_path / "context").mkdir()
    (tmp_path / "root").mkdir()
    for name in ("a.py", "b.py", "requirements.txt"):
        (tmp_path / "context" / name).write_text("")
    made = docker.Image(tmp_path / "context", tmp_path / "root")
    made.apply_instruction("FROM", "registry.example/docker/library/python:3.12-slim")
    made.apply_instruction("WORKDIR", "/app")
    return made


@pytest.mark.parametrize(
    ("word", "rest", "reason"),
    [
        ("HEALTHCHECK", "CMD true", "the instruction HEALTHCHECK is not part of the sandbox"),
        ("FROM", "python:3.12", "a second FROM"),
        ("COPY", "none.py ./", "no source files were specified"),
        ("COPY", "a.py none.py ./", "no source files were specified"),
        ("COPY", "*.py one", "the destination must end with a /"),
        ("COPY", "../a.py ./", "outside the build context"),
        ("COPY", "a.py /../../x", "is outside the image"),
        ("COPY", "--chown=1 a.py ./", "options are not supported"),
        ("RUN", "apt-get update", "runs pip install, python and useradd only"),
        ("RUN", "useradd a && useradd b", "without shell operators"),
        ("RUN", "pip install openvino", "pip install -r FILE"),
        ("RUN", "pip install -r requirements.txt", "requirements.txt is missing from the image; COPY it first"),
        ("ENTRYPOINT", "python server.py", "only the exec form"),
        ("CMD", '["serve", 1]', "only the exec form"),
    ],
)
def test_unsupported_instructions_are_rejected(image, word, rest, reason):
    with pytest.raises(BuildError, match=reason):
        image.apply_instruction(word, rest)


def test_copy_places_files(image):
    image.apply_instruction("COPY", "*.py ./")
    image.apply_instruction("COPY", "requirements.txt /etc/needs.txt")
    image.apply_instruction("COPY", "a.py .")
    found = sorted(p.relative_to(image.root).as_posix() for p in image.root.rglob("*") if p.is_file())
    assert found == ["app/a.py", "app/b.py", "etc/needs.txt"]
    with pytest.raises(BuildError, match="only python:3.N as base image"):
        docker.Image(image.context, image.root).apply_instruction("FROM", "ubuntu:24.04")
    with pytest.raises(BuildError, match="RUN before FROM"):
        docker.Image(image.context, image.root).apply_instruction("RUN", "useradd a")
