"""The images that builds pushed to the local ECR, found by name and tag, and run as SageMaker runs containers."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from moto.ecr.exceptions import ImageNotFoundException

from ops.core import registries
from sandbox import processes
from sandbox.state import REGION
from sandbox.world import World

TRAINING = registries.build_image_uri("pytorch", REGION)  # AWS's own registry of training images
# The tags of it that count as present: AWS's images of 2026 with the torch that training/ needs.
TRAINING_TAGS = {
    f"{version}-{device}-amzn2023-sagemaker"
    for version in ("2.13", "2.13.0", "2.14", "2.14.0")
    for device in ("cpu", "cu133")
}


@dataclass(frozen=True)
class Image:
    """An image that sandbox/codebuild/docker.py built: `folder` has its files as below /, and the environment it runs in."""

    folder: Path
    workdir: str
    entrypoint: tuple[str, ...]
    manifest_type: str

    def run(self, env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start the image as SageMaker does, by `docker run IMAGE serve`: the argument replaces CMD. PATH has only the image's Python."""
        path = f"{self.folder / 'environment' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        return processes.spawn_process(
            [*self.entrypoint, "serve"], self.folder / self.workdir.lstrip("/"), env | {"PATH": path}
        )


def find_image(world: World, uri: str) -> Image | None:
    """Return the image that ECR has under this name and tag, or None if none was built."""
    name, _, tag = uri.partition(":")
    repository = world.backend("ecr").repositories.get(name.partition("/")[2])
    if repository is None or not tag or repository.uri != name:
        return None
    try:
        record = repository._get_image(tag, None)
    except ImageNotFoundException:
        return None
    manifest = json.loads(record.image_manifest)
    folder = world.folder / "images" / manifest["config"]["digest"].removeprefix("sha256:")
    if not (folder / "environment" / "bin").is_dir():
        return None
    config = json.loads((folder / "image.json").read_text())
    return Image(folder, config["workdir"], tuple(config["entrypoint"]), manifest["mediaType"])
