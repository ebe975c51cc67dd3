"""The local ECR: the serving image is serving/ itself, kept under the tag that is its digest."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from ops import ROOT
from ops.files import digest_of
from sandbox.world import World

REPOSITORY = "kennel-serving"
TRAINING = "763104351884.dkr.ecr."  # AWS's own registry of training images: any of its tags counts as there


def push(world: World) -> str:
    """Keep a copy of serving/ as an image, if its digest is new; return the tag."""
    source = ROOT / "serving"
    tag = digest_of(source)
    ecr = world.backend("ecr")
    if REPOSITORY not in ecr.repositories:
        ecr.create_repository(REPOSITORY, None, None, None, None, None, None)
    if not any(tag in image.image_tags for image in ecr.repositories[REPOSITORY].images):
        shutil.copytree(source, folder(world, tag), dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = {
            "schemaVersion": 2,
            "config": {"digest": "sha256:" + hashlib.sha256(tag.encode()).hexdigest(), "size": 1},
            "layers": [],
        }
        ecr.put_image(
            repository_name=REPOSITORY,
            image_manifest=json.dumps(manifest),
            image_tag=tag,
            image_manifest_mediatype="application/vnd.docker.distribution.manifest.v2+json",
        )
        world.note(f"image {REPOSITORY}:{tag}")
    return tag


def folder(world: World, tag: str) -> Path:
    return world.folder / "images" / tag


def find(world: World, uri: str) -> Path | None:
    """The folder of a serving image, or None when no such image was pushed."""
    name, _, tag = uri.partition(":")
    path = folder(world, tag)
    return path if name.endswith(f"/{REPOSITORY}") and tag and "/" not in tag and path.is_dir() else None
