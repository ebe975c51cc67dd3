"""The serving container's image: the plan by equality, Dockerfiles followed line by line, builds that really build and fail."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.core import plan
from ops.core.errors import AwsError, OpsError
from ops.core.paths import ROOT
from ops.core.plan import Change, Unknown
from ops.releases import image_build
from sandbox.codebuild import docker, layers
from sandbox.codebuild.layers import Refusal
from tests.conftest import Ran, settings_of

SETTINGS = settings_of()
TAG = "a" * 12
READY = {"repository": True, "project": image_build.wanted(SETTINGS), "log_group": True}


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
def test_what_an_image_takes(facts, calls):
    assert planned(**facts) == calls


def test_a_build_gets_its_tag_and_its_source():
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
        "ECR has no kennel-serving:aaaaaaaaaaaa; $0.005 for each begun minute",
    )


def test_what_codebuild_takes_for_granted_is_no_difference():
    have = image_build.wanted(SETTINGS)
    have["environment"] = {**have["environment"], "imagePullCredentialsType": "CODEBUILD"}
    have["environment"]["environmentVariables"] = [
        {**v, "type": "PLAINTEXT"} for v in have["environment"]["environmentVariables"]
    ]
    have["tags"] = have["tags"][::-1]
    have |= {"badge": {"badgeEnabled": False}, "encryptionKey": "arn"}
    assert planned(**{**READY, "project": have}) == ["start_build", "wait"]
    have["environment"]["environmentVariables"][0]["value"] = "another registry"
    assert planned(**{**READY, "project": have})[0] == "update_project"


def test_a_role_that_is_new_is_tried_again_and_one_that_is_not_there_is_named():
    project = image_build.wanted(SETTINGS)

    def walk(refusals):
        left = iter(refusals)

        def answer(step):
            if isinstance(step, Change) and (code := next(left, None)):
                raise AwsError("CreateProject", "InvalidInputException", code)
            return Unknown("answer")

        return [
            getattr(s, "call", "wait")
            for s in plan.walk(image_build.trusted(Change("c", "call", {}, ""), project), answer)
        ]

    assert walk([image_build.NOT_YET]) == ["call", "wait", "call"]
    with pytest.raises(
        OpsError, match=r"CodeBuild cannot take the role kennel-demo-image-build\. Make it: invoke iam\.apply"
    ):
        walk([image_build.NOT_YET] * 9)
    with pytest.raises(AwsError, match="something else"):
        walk(["something else"])


def test_the_package_is_the_same_bytes_every_time_and_holds_the_folder():
    assert image_build.package() == image_build.package()
    names = zipfile.ZipFile(io.BytesIO(image_build.package())).namelist()
    assert {"Dockerfile", "requirements.txt", "server.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_shipped_dockerfile_is_one_that_the_sandbox_follows_to_the_end():
    found = docker.instructions((ROOT / "serving" / "Dockerfile").read_text())
    words = [word for _, word, _ in found]
    assert words[0] == "FROM"
    assert {"USER", "ENTRYPOINT"} <= set(words)
    assert ("COPY", "*.py ./") in [(word, rest) for _, word, rest in found]


def test_lines_are_joined_and_comments_left_out():
    text = "# a\nFROM python:3.12-slim\n\nrun pip install \\\n  # in between\n  -r x.txt\nUSER a\n"
    assert docker.instructions(text) == [
        (2, "FROM", "python:3.12-slim"),
        (4, "RUN", "pip install  -r x.txt"),
        (7, "USER", "a"),
    ]


@pytest.fixture
def making(tmp_path):
    """An image in the making, of a folder with two programs; follow("COPY", "a.py .") does one instruction."""
    (tmp_path / "context").mkdir()
    (tmp_path / "root").mkdir()
    for name in ("a.py", "b.py", "requirements.txt"):
        (tmp_path / "context" / name).write_text("")
    made = docker.Image(tmp_path / "context", tmp_path / "root")
    made.follow("FROM", "registry.example/docker/library/python:3.12-slim")
    made.follow("WORKDIR", "/app")
    return made


@pytest.mark.parametrize(
    ("word", "rest", "reason"),
    [
        ("HEALTHCHECK", "CMD true", "the instruction HEALTHCHECK is not part of the sandbox"),
        ("FROM", "python:3.12", "a second FROM"),
        ("COPY", "none.py ./", "no source files were specified"),
        ("COPY", "a.py none.py ./", "no source files were specified"),
        ("COPY", "*.py one", "the destination must end with a /"),
        ("COPY", "../a.py ./", "lies outside of the folder"),
        ("COPY", "a.py /../../x", "leads out of the image"),
        ("COPY", "--chown=1 a.py ./", "no options"),
        ("RUN", "apt-get update", "runs pip install, python and useradd only"),
        ("RUN", "useradd a && useradd b", "without a shell's operators"),
        ("RUN", "pip install openvino", "pip install -r FILE"),
        ("RUN", "pip install -r requirements.txt", "there is no requirements.txt in the image; COPY it before"),
        ("ENTRYPOINT", "python server.py", "exec form only"),
        ("CMD", '["serve", 1]', "exec form only"),
    ],
)
def test_what_a_dockerfile_may_not_say(making, word, rest, reason):
    with pytest.raises(Refusal, match=reason):
        making.follow(word, rest)


def test_files_lie_where_copy_says(making):
    making.follow("COPY", "*.py ./")
    making.follow("COPY", "requirements.txt /etc/needs.txt")
    making.follow("COPY", "a.py .")
    found = sorted(p.relative_to(making.root).as_posix() for p in making.root.rglob("*") if p.is_file())
    assert found == ["app/a.py", "app/b.py", "etc/needs.txt"]
    with pytest.raises(Refusal, match="the sandbox has images python:3.N only"):
        docker.Image(making.context, making.root).follow("FROM", "ubuntu:24.04")
    with pytest.raises(Refusal, match="FROM comes before RUN"):
        docker.Image(making.context, making.root).follow("RUN", "useradd a")


def wheel(folder, name="tiny"):
    """A package of one module and one script, as pip takes it."""
    about, path = f"{name}-1.dist-info", folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{name}.py", "def main():\n    print('works')\n")
        packed.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        packed.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr(f"{about}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        packed.writestr(f"{about}/RECORD", "")
    return path


def test_an_environment_holds_what_was_required_and_nothing_else(tmp_path):
    requirements = f"{wheel(tmp_path)}\n".encode()
    name = layers.key(requirements)
    left = tmp_path / "layers" / f"{name}.part-killed"
    left.mkdir(parents=True)
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: layers.environment(requirements, tmp_path / "layers"), range(3)))
    assert found == {tmp_path / "layers" / name}
    assert sorted(p.name for p in (tmp_path / "layers").iterdir()) == [name, f"{name}.lock"]
    python = tmp_path / "layers" / name / "bin" / "python"
    done = subprocess.run([python.with_name("tiny")], capture_output=True, text=True, check=True)
    assert done.stdout == "works\n"
    for absent in ("boto3", "pip", "numpy"):
        asked = subprocess.run([python, "-c", f"import {absent}"], capture_output=True, text=True, cwd="/", check=False)
        assert f"No module named '{absent}'" in asked.stderr


def test_an_environment_that_could_not_be_filled_is_not_kept(tmp_path, capfd):
    with pytest.raises(Refusal, match="pip install returned a non-zero code: 1"):
        layers.environment(b"/nowhere/none-1-py3-none-any.whl\n", tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
    assert "/nowhere/none" in capfd.readouterr().err


SERVER = 'FROM python:3.12-slim\nWORKDIR /app\nCOPY *.py ./\nRUN python -c \'import server\'\nENTRYPOINT ["python", "server.py"]\n'


class Checkout:
    """Another checkout, whose serving/ a test may write: a tag can be given once in an account."""

    def __init__(self, folder, cli):
        self.folder, self.cli = folder, cli
        for name in ("ops", "sandbox", "bench"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tasks.py", "invoke.yaml", "imaging.py"):
            shutil.copy(ROOT / name, folder / name)

    def write(self, dockerfile=SERVER, server="", requirements=""):
        for name, text in {"Dockerfile": dockerfile, "server.py": server, "requirements.txt": requirements}.items():
            path = self.folder / "serving" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def start(self, *words):
        argv = [sys.executable, "-m", "invoke", "-f", str(self.cli.file), *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def __call__(self, *words):
        process = self.start(*words)
        out, err = process.communicate(timeout=100)
        return Ran(process.returncode, out, err)


@pytest.fixture(scope="module")
def placed(stacks):
    cli = stacks("building")
    cli("iam.apply", "data.up")
    return cli


@pytest.fixture
def checkout(placed, tmp_path):
    return Checkout(tmp_path, placed)


def create_model(cli, tag, name="m"):
    settings = cli.settings
    cli.account.client("s3").put_object(
        Bucket=settings.bucket, Key="releases/x/model.tar.gz", Body=b"looked at, not read"
    )
    model = f"s3://{settings.bucket}/releases/x/model.tar.gz"
    container = {"Image": f"{settings.registry}/kennel-serving:{tag}", "ModelDataUrl": model}
    role = settings.role_arn("sagemaker-execution")
    return cli.account.call(
        "sagemaker", "create_model", ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role
    )


def test_an_image_is_built_once_and_is_then_one_that_a_model_can_name(checkout, sandbox):
    checkout.write(server="# first\n")
    dry = checkout("--dry", "sm.image")
    assert "codebuild.start_build" in dry.err
    assert "nothing was touched" in dry.err
    assert "Sending" not in dry.err
    tag = json.loads(checkout("sm.image", "--json").out)["image"].rpartition(":")[2]
    assert checkout("sm.image").out.startswith(f"kennel-serving:{tag} is in ECR: ")
    assert ". 0 made." in checkout("sm.image").out
    with pytest.raises(AwsError, match="not found"):
        create_model(checkout.cli, "0" * 12)
    create_model(checkout.cli, tag)
    checkout.write(server="# another\n")
    assert ". 1 made." in checkout("sm.image").out  # the project stands: a build is all that is new
    callers = {json.loads(line)["caller"].split("/")[0] for line in (sandbox / "calls.jsonl").read_text().splitlines()}
    assert "kennel-building-image-build" in callers


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        ({"server": "import uvicorn\n"}, "ModuleNotFoundError: No module named 'uvicorn'"),
        (
            {"dockerfile": SERVER + "HEALTHCHECK CMD true\n"},
            "Dockerfile, line 6: the instruction HEALTHCHECK is not part",
        ),
        ({"dockerfile": SERVER.replace("ENTRYPOINT", "CMD")}, "there is no ENTRYPOINT"),
    ],
    ids=["requirements.txt lacks a package", "an unknown instruction", "no entry point"],
)
def test_a_build_that_fails_says_why_and_what_next(checkout, serving, words):
    checkout.write(**serving)
    failed = checkout("sm.image")
    assert failed.code == 1
    assert words in failed.err
    assert "The build of the image FAILED in BUILD: Error while executing command: docker build --tag" in failed.err
    assert "log group /aws/codebuild/kennel-building-image, stream " in failed.err
    assert "Mend serving/, then: invoke sm.image" in failed.err


def test_an_interrupted_wait_goes_on_with_the_same_build(checkout):
    checkout.write(SERVER.replace("import server", "import time; time.sleep(4)"), "# slow\n")
    first = checkout.start("sm.image")
    said = []
    for line in first.stderr:
        said.append(line)
        if "the build: BUILD" in line:
            break
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert first.returncode == 130, said
    again = checkout("sm.image")
    assert again.code == 0, again.said
    assert "0 made" in again.out


def test_a_build_that_is_stopped_says_so(checkout):
    checkout.write(SERVER.replace("import server", "import time; time.sleep(30)"), "# slower\n")
    building = checkout.start("sm.image")
    for line in building.stderr:
        if "the build: BUILD" in line:
            break
    client, began = checkout.cli.account.client("codebuild"), time.monotonic()
    client.stop_build(id=client.list_builds_for_project(projectName="kennel-building-image")["ids"][0])
    _, err = building.communicate(timeout=30)
    assert building.returncode == 1
    assert "The build of the image STOPPED in BUILD: Build stopped" in err
    assert time.monotonic() - began < 20


def test_the_project_is_mended_when_a_build_needs_it(checkout):
    client = checkout.cli.account.client("codebuild")
    checkout.write(server="# third\n")
    client.update_project(name="kennel-building-image", timeoutInMinutes=99)
    ran = checkout("sm.image")
    assert "codebuild.update_project: kennel-building-image: timeoutInMinutes differ" in ran.err
    mended = client.batch_get_projects(names=["kennel-building-image"])["projects"][0]
    assert mended["timeoutInMinutes"] == image_build.BUILD_MINUTES


def test_what_is_missing_is_named_before_anything_is_made(stacks, tmp_path):
    bare = Checkout(tmp_path, stacks("bareimage"))
    bare.write(server="# bare\n")
    ran = bare("sm.image")
    assert ran.code == 1
    assert "There is no bucket kennel-bareimage-123456789012-us-east-1. Make it: invoke data.up" in ran.err
    assert bare.cli.account.call("codebuild", "batch_get_projects", names=["kennel-bareimage-image"])["projects"] == []
