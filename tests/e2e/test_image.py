"""The serving container's image: the plan by equality, Dockerfiles followed line by line, builds that really build and fail."""

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.core.errors import AwsError
from ops.core.paths import ROOT
from ops.releases import image_build
from sandbox.codebuild import layers
from sandbox.codebuild.layers import BuildError
from tests.conftest import Ran


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


def test_environment_holds_the_requirements_only(tmp_path):
    requirements = f"{wheel(tmp_path)}\n".encode()
    name = layers.compute_layer_key(requirements)
    left = tmp_path / "layers" / f"{name}.part-killed"
    left.mkdir(parents=True)
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: layers.ensure_environment(requirements, tmp_path / "layers"), range(3)))
    assert found == {tmp_path / "layers" / name}
    assert sorted(p.name for p in (tmp_path / "layers").iterdir()) == [name, f"{name}.lock"]
    python = tmp_path / "layers" / name / "bin" / "python"
    done = subprocess.run([python.with_name("tiny")], capture_output=True, text=True, check=True)
    assert done.stdout == "works\n"
    for absent in ("boto3", "pip", "numpy"):
        asked = subprocess.run([python, "-c", f"import {absent}"], capture_output=True, text=True, cwd="/", check=False)
        assert f"No module named '{absent}'" in asked.stderr


def test_incomplete_environment_is_deleted(tmp_path, capfd):
    with pytest.raises(BuildError, match="pip install returned a non-zero code: 1"):
        layers.ensure_environment(b"/nowhere/none-1-py3-none-any.whl\n", tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
    assert "/nowhere/none" in capfd.readouterr().err


SERVER = 'FROM python:3.12-slim\nWORKDIR /app\nCOPY *.py ./\nRUN python -c \'import server\'\nENTRYPOINT ["python", "server.py"]\n'


class Checkout:
    """Another checkout, whose serving/ a test may write: a tag can be given once in an account."""

    def __init__(self, folder, cli):
        self.folder, self.cli = folder, cli
        for name in ("ops", "iampolicy", "sandbox", "bench"):
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
def image_stack(make_stack):
    cli = make_stack("building")
    cli("iam.apply", "data.up")
    return cli


@pytest.fixture
def checkout(image_stack, tmp_path):
    return Checkout(tmp_path, image_stack)


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


def test_image_is_built_once_and_accepted_by_create_model(checkout, sandbox):
    checkout.write(server="# first\n")
    dry = checkout("--dry", "sm.image")
    assert "codebuild.start_build" in dry.err
    assert "nothing was touched" in dry.err
    assert "Uploading" not in dry.err
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
        ({"dockerfile": SERVER.replace("ENTRYPOINT", "CMD")}, "ENTRYPOINT is missing"),
    ],
    ids=["requirements.txt lacks a package", "an unknown instruction", "no entry point"],
)
def test_failed_build_reports_why_and_the_next_command(checkout, serving, words):
    checkout.write(**serving)
    failed = checkout("sm.image")
    assert failed.code == 1
    assert words in failed.err
    assert (
        "The image build FAILED in BUILD: Error while executing command: docker buildx build --provenance=false"
        in failed.err
    )
    assert "log group /aws/codebuild/kennel-building-image, stream " in failed.err
    assert "Fix serving/, then run: invoke sm.image" in failed.err


def test_interrupted_wait_resumes_with_the_same_build(checkout):
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


def test_stopped_build_is_reported(checkout):
    checkout.write(SERVER.replace("import server", "import time; time.sleep(30)"), "# slower\n")
    building = checkout.start("sm.image")
    for line in building.stderr:
        if "the build: BUILD" in line:
            break
    client, began = checkout.cli.account.client("codebuild"), time.monotonic()
    client.stop_build(id=client.list_builds_for_project(projectName="kennel-building-image")["ids"][0])
    _, err = building.communicate(timeout=30)
    assert building.returncode == 1
    assert "The image build STOPPED in BUILD: Build stopped" in err
    assert time.monotonic() - began < 20


def test_build_restores_the_project_settings(checkout):
    client = checkout.cli.account.client("codebuild")
    checkout.write(server="# third\n")
    client.update_project(name="kennel-building-image", timeoutInMinutes=99)
    ran = checkout("sm.image")
    assert "codebuild.update_project: update timeoutInMinutes of project kennel-building-image" in ran.err
    repaired = client.batch_get_projects(names=["kennel-building-image"])["projects"][0]
    assert repaired["timeoutInMinutes"] == image_build.BUILD_MINUTES


def test_missing_bucket_is_named_before_any_change(make_stack, tmp_path):
    bare = Checkout(tmp_path, make_stack("bareimage"))
    bare.write(server="# bare\n")
    ran = bare("sm.image")
    assert ran.code == 1
    assert "There is no bucket kennel-bareimage-123456789012-us-east-1. Create it: invoke data.up" in ran.err
    assert bare.cli.account.call("codebuild", "batch_get_projects", names=["kennel-bareimage-image"])["projects"] == []
