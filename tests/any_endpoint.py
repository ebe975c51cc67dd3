"""An endpoint that starts in a second: an image of a few lines, in place of the one that `sm.image` builds."""

import io
import json
import sys
import tarfile
import textwrap

from sandbox.codebuild import docker

MODEL_KEY = "releases/none/model.tar.gz"
SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import os

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message(self, *_): ...

ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


def upload_model(cli):
    """Upload the endpoint's model, an empty archive."""
    packed = io.BytesIO()
    tarfile.open(fileobj=packed, mode="w:gz").close()
    cli.account.call("s3", "put_object", Bucket=cli.settings.bucket, Key=MODEL_KEY, Body=packed.getvalue())


def serve_anything(cli, folder, name):
    """Create the endpoint kennel-NAME of two instances, in the sandbox of this folder; its image answers {} to everything."""
    image = folder / "images" / name
    (image / "environment" / "bin").mkdir(parents=True)
    (image / "server.py").write_text(textwrap.dedent(SERVER))
    (image / "image.json").write_text(json.dumps({"workdir": "/", "entrypoint": [sys.executable, "server.py"]}))
    account, role = cli.account, cli.settings.role_arn("sagemaker-execution")
    repository = account.call("ecr", "create_repository", repositoryName="kennel-serving")["repository"]
    layer = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": f"sha256:{name}"}
    manifest = {"schemaVersion": 2, "mediaType": docker.MANIFEST, "config": layer, "layers": [layer]}
    account.call("ecr", "put_image", repositoryName="kennel-serving", imageTag=name, imageManifest=json.dumps(manifest))
    upload_model(cli)
    container = {
        "Image": f"{repository['repositoryUri']}:{name}",
        "ModelDataUrl": f"s3://{cli.settings.bucket}/{MODEL_KEY}",
    }
    account.call("sagemaker", "create_model", ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "all", "ModelName": name, "InitialInstanceCount": 2, "InstanceType": "ml.m5.large"}
    account.call("sagemaker", "create_endpoint_config", EndpointConfigName=name, ProductionVariants=[variant])
    account.call("sagemaker", "create_endpoint", EndpointName=f"kennel-{name}", EndpointConfigName=name)
    account.client("sagemaker").get_waiter("endpoint_in_service").wait(
        EndpointName=f"kennel-{name}", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
