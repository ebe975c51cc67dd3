"""What stands in the place of training, packaging, preflights and images: the calls to AWS are those of the real ones."""

import hashlib
import io
import json
import zipfile
from functools import partial

from ops.core.files import compute_folder_digest
from ops.core.settings import REPOSITORY
from ops.jobs import spec
from ops.releases.build import Release, derive_job_release_key
from sandbox.codebuild import docker
from tests.conftest import HOME
from tests.crash.trials import Place

HANDLER = """
import json
def lambda_handler(event, context):
    answer = {"class": "7", "probability": 1.0, "release": "a" * 64}
    return {"statusCode": 200 if "image" in event else 400, "headers": {}, "body": json.dumps(answer)}
"""
SERVER = """
import os, http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Answer).serve_forever()
"""
DOCKERFILE = 'FROM python:3.13\nWORKDIR /opt\nCOPY server.py .\nENTRYPOINT ["python", "server.py"]\n'
CARD = {"classes": ["cat", "dog"], "data": "d" * 64, "metrics": {"test": {"accuracy": 0.9, "pictures": 4}}}


def package_handler() -> None:
    """Deploy a function that answers at once, in the place of lambda/."""
    from ops.function import plan

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), HANDLER)
    plan.package_function = lambda: packed.getvalue()


def package_release() -> None:
    """Package a model of a few bytes, which passes its preflight and gives the right answers."""
    from ops.endpoint import probe
    from ops.releases import build, preflight
    from ops.releases.load_test import LoadTestResult

    def package_model(account: object, job: str) -> Release:
        release = Release(hashlib.sha256(job.encode()).hexdigest(), job)
        release.folder.mkdir(parents=True, exist_ok=True)
        (release.folder / "model.json").write_text(json.dumps(CARD))
        (release.folder / "release.json").write_text(json.dumps({"precisions": ["fp32"]}))
        return release

    def run_preflight(release: Release, settings: object) -> LoadTestResult:
        return LoadTestResult(release.digest, 2, "any", "fp32", 100.0, 10.0, 20.0, 2, "2026-12-01")

    build.package_model, preflight.run_preflight = package_model, run_preflight
    probe.smoke_test_endpoint = lambda account, release: []


def send_sleeping_code() -> None:
    """Train with a program that sleeps until it is stopped."""
    spec.download_wheels = lambda settings: []
    spec.list_code_files = lambda wheels: [(path.name, path) for path in sorted((HOME / "code").iterdir())]


def put_models(place: Place) -> None:
    """Store what two training jobs left."""
    for job in ("one", "two"):
        place.account.bucket.put(f"jobs/{place.account.settings.prefix}-sm1-{job}/output/model.tar.gz", job.encode())


def forget_releases(place: Place) -> None:
    bucket = place.account.bucket
    for key in [*bucket.keys("releases/"), *bucket.keys("deployments/")]:
        place.account.client("s3").delete_object(Bucket=bucket.name, Key=key)
    for job in ("one", "two"):
        key = derive_job_release_key(f"{place.account.settings.prefix}-sm1-{job}")
        place.account.client("s3").delete_object(Bucket=bucket.name, Key=key)


def push_image(place: Place) -> None:
    """Push an image with the tag of the current serving/ whose program answers pings."""
    from ops.releases import image_build

    name = "crash"
    folder = place.folder / "images" / name
    (folder / "environment" / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "image.json").write_text(json.dumps({"workdir": "/", "entrypoint": ["python3", "-c", SERVER]}))
    layer = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": f"sha256:{name}"}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": docker.MANIFEST, "config": layer, "layers": [layer]})
    ecr, tag = place.account.client("ecr"), compute_folder_digest(image_build.SERVING)
    ecr.create_repository(repositoryName=REPOSITORY)
    ecr.put_image(repositoryName=REPOSITORY, imageManifest=manifest, imageTag=tag)


def build_small_image() -> None:
    """Build an image of one file in the place of serving/."""
    from ops.releases import image_build

    image_build.SERVING = HOME / "serving"
    image_build.package_serving = partial(image_build.package_serving, HOME / "serving")


def write_files() -> None:
    """Write the small image and the code that sleeps."""
    files = {
        "serving/Dockerfile": DOCKERFILE,
        "serving/server.py": SERVER,
        "code/launch.py": "import time\ntime.sleep(600)\n",
        "code/train.py": "",
    }
    for name, text in files.items():
        (HOME / name).parent.mkdir(exist_ok=True)
        (HOME / name).write_text(text)


def remove_image(place: Place) -> None:
    """Remove what sm.image pushed."""
    ecr = place.account.client("ecr")
    for one in ecr.describe_repositories()["repositories"]:
        ecr.delete_repository(repositoryName=one["repositoryName"], force=True)
