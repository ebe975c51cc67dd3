"""One instance behind an endpoint: it runs the serving image's own program on a model fetched with the model's role."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from sandbox import processes
from sandbox.cloudwatch import logs
from sandbox.codebuild import images
from sandbox.iam import service_calls
from sandbox.world import World

PING_S = 2.0  # SageMaker gives a ping two seconds
HEALTH_S = 60.0  # for the first good ping; an ended program fails at once, where SageMaker retries for half an hour
HUNG_S = 240.0  # on the sandbox's clock: SageMaker's time limit for a starting container


@dataclass
class Instance:
    id: str
    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    outstanding: int = 0
    healthy: bool = False
    cpu: threading.Lock = field(default_factory=threading.Lock)
    http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=32, retries=False))

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ping(self) -> bool:
        try:
            return self.http.request("GET", f"http://127.0.0.1:{self.port}/ping", timeout=PING_S).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            processes.stop_process_group(self.process, grace_s=30.0)
        shutil.rmtree(self.folder, ignore_errors=True)


def launch_endpoint_instance(world: World, endpoint: str, variant: str, model: Any) -> Instance:
    """Start an instance and wait for its first good ping; if that does not come, its `healthy` stays False."""
    ident = "i-" + secrets.token_hex(8)
    instance = Instance(ident, world.folder / "endpoints" / endpoint / ident)
    boot_endpoint_instance(world, instance, endpoint, variant, model)
    return instance


def boot_endpoint_instance(world: World, instance: Instance, endpoint: str, variant: str, model: Any) -> None:
    container = model.primary_container
    group, stream = f"/aws/sagemaker/Endpoints/{endpoint}", f"{variant}/{instance.id}"
    role, session = model.execution_role_arn, f"SageMaker-{instance.id}"
    logs.ensure_log_stream(world, group, stream, role)
    image = images.find_image(world, container["Image"])
    try:
        if image is None:
            raise OSError(f"the image {container['Image']} was deleted")
        service_calls.authorize_image_pull(world, role, session, container["Image"])
        service_calls.authorize_vpc_join(world, role, session, model.vpc_config)
        install_model(world, container["ModelDataUrl"], model.execution_role_arn, instance)
    except Exception as error:  # any fault of the artefact fails the endpoint, and its log says why
        logs.write(world, group, stream, f"the instance could not start: {type(error).__name__}: {error}")
        instance.healthy = False
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        instance.port = probe.getsockname()[1]
    env = processes.build_child_environment(
        world.folder,
        instance.folder,
        OPT_ML=str(instance.folder),
        SAGEMAKER_BIND_HOST="127.0.0.1",
        SAGEMAKER_BIND_TO_PORT=str(instance.port),
        SERVED_HOSTS=f"127.0.0.1,localhost,{endpoint}",  # a page of a rebound name reaches loopback too
        **container.get("Environment", {}),
    )
    instance.process = image.run(env)
    logs.follow_output(world, instance.process, group, stream)
    if endpoint in world.sagemaker.hanging:
        processes.signal_group(instance.process.pid, signal.SIGSTOP)
        wait_out_startup_limit(world)
        instance.process.kill()
        return
    deadline = time.monotonic() + HEALTH_S
    while instance.alive and time.monotonic() < deadline and not instance.healthy:
        instance.healthy = instance.ping()
        if not instance.healthy:
            time.sleep(0.05)


def wait_out_startup_limit(world: World) -> None:
    until = world.clock.now() + HUNG_S
    while world.clock.now() < until and not world.ending.wait(0.1):
        pass


def install_model(world: World, url: str, role: str, instance: Instance) -> None:
    """Download the model and unpack it into OPT_ML/model; members that lead out of that folder raise an error."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    folder = instance.folder / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    packed = instance.folder / "model.tar.gz"
    world.create_role_client(role, "s3", f"SageMaker-{instance.id}").download_file(bucket, key, str(packed))
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    packed.unlink()
