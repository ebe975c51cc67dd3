"""The `docker` and `aws` commands on the PATH of the sandbox's builds: an image is a folder and a virtual environment.

    python -m sandbox.codebuild.docker docker buildx build ... --output OUTPUT FOLDER | docker login ... | aws ecr get-login-password

The instructions of a Dockerfile that can be run without Docker and root are supported; any other fails the build.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.core.files import compute_folder_digest, list_files
from sandbox.codebuild import layers
from sandbox.codebuild.layers import BuildError
from sandbox.state import MARK

STORE = "DOCKER_STORE"  # in the environment of privileged builds: the folder that stands in for the Docker daemon's
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OPERATORS = set("();<>|&")


def parse_dockerfile(text: str) -> list[tuple[int, str, str]]:
    """Return (line, INSTRUCTION, the rest) of each, without comments; lines that end in a backslash are joined."""
    found, joined, first = [], "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first = first if joined else number
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        word, _, rest = joined.partition(" ")
        found.append((first, word.upper(), rest.strip()))
        joined = ""
    return found


class Image:
    """An image that is being built. Its files are below `root` as they would be below /."""

    def __init__(self, context: Path, root: Path) -> None:
        self.context, self.root, self.workdir = context, root, root
        self.config: dict[str, Any] = {"base": "", "user": "", "port": "", "entrypoint": [], "cmd": []}
        self.environment: Path | None = None

    def apply_instruction(self, word: str, rest: str) -> None:
        """Apply one instruction. Raises BuildError."""
        if not self.config["base"] and word != "FROM":
            raise BuildError(f"{word} before FROM: the first instruction must be FROM")
        match word:
            case "FROM":
                self.begin(rest)
            case "WORKDIR":
                self.workdir = self.resolve_path(rest)
                self.workdir.mkdir(parents=True, exist_ok=True)
            case "COPY":
                self.copy(rest)
            case "RUN":
                self.run(rest)
            case "USER":
                self.config["user"] = rest
            case "EXPOSE":
                self.config["port"] = rest
            case "ENTRYPOINT" | "CMD":
                self.config[word.lower()] = parse_exec_form(rest)
            case _:
                raise BuildError(f"the instruction {word} is not part of the sandbox (sandbox/README.md)")

    def begin(self, base: str) -> None:
        if self.config["base"]:
            raise BuildError("a second FROM: multi-stage builds are not part of the sandbox (sandbox/README.md)")
        if not re.search(r"(^|/)python:3\.\d+[\w.-]*$", base):
            raise BuildError(f"FROM {base}: the sandbox supports only python:3.N as base image (sandbox/README.md)")
        self.config["base"] = base
        print(f"{base} is not pulled: the sandbox uses this host's Python {platform.python_version()} instead")

    def resolve_path(self, path: str) -> Path:
        """Return the path on this host of a path in the image. Raises BuildError for a path outside the image."""
        absolute = self.root / path.lstrip("/") if path.startswith("/") else self.workdir / path
        if not absolute.resolve().is_relative_to(self.root.resolve()):
            raise BuildError(f"{path} is outside the image")
        return absolute

    def copy(self, rest: str) -> None:
        *sources, last = shlex.split(rest)
        if not sources or sources[0].startswith("--"):
            raise BuildError(f"COPY {rest}: options are not supported, only sources and a destination")
        if any(".." in Path(source).parts or Path(source).is_absolute() for source in sources):
            raise BuildError(f"COPY {rest}: a source is outside the build context")
        destination, folder = self.resolve_path(last), last.endswith("/")
        found = [path for source in sources for path in sorted(self.context.glob(source))]
        if not found or any(not list(self.context.glob(source)) for source in sources):
            raise BuildError(f"COPY {rest}: no source files were specified, or they do not exist")
        if len(found) > 1 and not (folder or destination.is_dir()):
            raise BuildError(f"COPY {rest}: with more than one source, the destination must end with a /")
        for path in found:
            target = destination / path.name if folder or destination.is_dir() else destination
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, destination, dirs_exist_ok=True)
            else:
                shutil.copy(path, target)

    def run(self, rest: str) -> None:
        lexer = shlex.shlex(rest, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        match words := list(lexer):
            case _ if any(set(word) <= OPERATORS for word in words if word):
                raise BuildError(f"RUN {rest}: the sandbox runs a single command without shell operators")
            case ["useradd", *_]:
                print("skipped: the sandbox has only one user")
            case ["pip", "install", *options]:
                self.install(rest, [option for option in options if option != "--no-cache-dir"])
            case ["python", *more]:
                self.python(more)
            case _:
                raise BuildError(
                    f"RUN {rest}: the sandbox runs pip install, python and useradd only (sandbox/README.md)"
                )

    def install(self, rest: str, options: list[str]) -> None:
        if self.environment:
            raise BuildError(f"RUN {rest}: the sandbox supports one pip install per image, before python runs")
        if len(options) != 2 or options[0] not in ("-r", "--requirement"):
            raise BuildError(f"RUN {rest}: the sandbox supports only pip install -r FILE")
        file = self.resolve_path(options[1])
        if not file.is_file():
            raise BuildError(f"RUN {rest}: {options[1]} is missing from the image; COPY it first")
        self.environment = layers.ensure_environment(file.read_bytes())

    def python(self, more: list[str]) -> None:
        self.environment = self.environment or layers.ensure_environment(b"")
        env = layers.filter_environment() | {"PATH": f"{self.environment / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
        code = subprocess.run(["python", *more], cwd=self.workdir, env=env, check=False).returncode
        if code:
            raise BuildError(f"RUN {shlex.join(['python', *more])}: returned a non-zero code: {code}")


def parse_exec_form(rest: str) -> list[str]:
    """Parse the exec form. Raises BuildError for the shell form: the shell is PID 1, and SIGTERM never reaches the server."""
    try:
        words = json.loads(rest)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BuildError(
            f'{rest}: the sandbox supports only the exec form, which SageMaker needs: ["python", "server.py"]'
        )
    return words


def build(name: str, context: Path) -> None:
    """Build the Dockerfile's image and store it under this name. Raises BuildError with the line."""
    root = Path(tempfile.mkdtemp(prefix="image-", dir=locate_store()))
    image, file = Image(context, root), context / "Dockerfile"
    if not file.is_file():
        raise BuildError("failed to read dockerfile: open Dockerfile: no such file")
    found = parse_dockerfile(file.read_text())
    for number, (line, word, rest) in enumerate(found, 1):
        print(f"Step {number}/{len(found)} : {word} {rest}")
        try:
            image.apply_instruction(word, rest)
        except BuildError as error:
            raise BuildError(f"Dockerfile, line {line}: {error}") from None
    if not image.config["entrypoint"]:
        raise BuildError("Dockerfile: ENTRYPOINT is missing; SageMaker runs it with the argument serve")
    environment = image.environment or layers.ensure_environment(b"")
    (root / "environment").symlink_to(environment)
    size = sum(path.stat().st_size for folder in (root, environment) for path in list_files(folder))
    config_file = {**image.config, "workdir": "/" + image.workdir.relative_to(root).as_posix(), "size": size}
    text = json.dumps(
        {**config_file, "created": datetime.now(UTC).isoformat(), "files": compute_folder_digest(root)}, indent=1
    )
    (root / "image.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    root.rename(locate_store() / digest)
    (locate_store() / "names.json").write_text(json.dumps(read_store_file("names.json") | {name: digest}))
    print(f"Successfully built {digest[:12]}\nSuccessfully tagged {name}")


def push_image(name: str, media_type: str) -> None:
    """Record the image in ECR, with the build's own role, and move its folder to where endpoints find it. Raises BuildError."""
    registry, _, rest = name.partition("/")
    repository, _, tag = rest.partition(":")
    digest = read_store_file("names.json").get(name)
    if digest is None:
        raise BuildError(f"An image does not exist locally with the tag: {name}")
    if registry not in read_store_file("logins.json"):
        raise BuildError("no basic auth credentials")
    config = {
        "digest": f"sha256:{digest}",
        "size": json.loads((locate_store() / digest / "image.json").read_text())["size"],
    }
    manifest = json.dumps({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [config]})
    images = Path(os.environ[MARK]) / "images"
    images.mkdir(exist_ok=True)
    call_ecr("batch_check_layer_availability", repositoryName=repository, layerDigests=[config["digest"]])
    shutil.move(locate_store() / digest, images / digest)
    call_ecr("put_image", repositoryName=repository, imageManifest=manifest, imageTag=tag)
    print(f"{tag}: digest: sha256:{digest} size: {config['size']}")


def parse_output(text: str) -> dict[str, str]:
    """Return the parts of `type=image,name=NAME,push=true`. Raises BuildError for another exporter, and without a name."""
    found = dict(part.partition("=")[::2] for part in text.split(","))
    if found.get("type") != "image" or not found.get("name"):
        raise BuildError(f"--output {text}: the sandbox supports only type=image with a name (sandbox/README.md)")
    return found


def export(output: dict[str, str], context: Path) -> None:
    """Build the image and push it, with OCI's media types unless the output says otherwise, as Docker 29 does. Raises BuildError."""
    build(output["name"], context)
    if output.get("push") == "true":
        push_image(output["name"], MANIFEST if output.get("oci-mediatypes") == "false" else OCI_MANIFEST)


def call_ecr(call: str, **args: Any) -> Any:
    """Call ECR and return its response. Raises BuildError."""
    # Imported here, so that only the commands that talk to ECR wait for the SDK.
    import boto3
    from botocore.exceptions import ClientError

    try:
        return getattr(boto3.client("ecr"), call)(**args)
    except ClientError as error:
        raise BuildError(str(error)) from None


def record_login(registry: str) -> None:
    if not sys.stdin.read().strip():
        raise BuildError("Error: password is empty")
    (locate_store() / "logins.json").write_text(json.dumps(read_store_file("logins.json") | {registry: True}))
    print("Login Succeeded")


def print_login_password() -> None:
    token = call_ecr("get_authorization_token")["authorizationData"][0]["authorizationToken"]
    print(base64.b64decode(token).decode().partition(":")[2])


def locate_store() -> Path:
    if not os.environ.get(STORE):
        raise BuildError(
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
        )
    return Path(os.environ[STORE])


def read_store_file(name: str) -> dict[str, Any]:
    path = locate_store() / name
    return json.loads(path.read_text()) if path.exists() else {}


def main(words: list[str]) -> int:
    try:
        match words:
            case ["aws", "ecr", "get-login-password"]:
                print_login_password()
            case ["docker", "login", "--username", "AWS", "--password-stdin", registry]:
                record_login(registry)
            case ["docker", "buildx", "build", "--provenance=false", "--sbom=false", "--output", output, folder]:
                export(parse_output(output), Path(folder).resolve())
            case _:
                raise BuildError(f"`{shlex.join(words)}` is not part of the sandbox (sandbox/README.md)")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:]))
