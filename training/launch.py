"""The entry point of a job: unpack the wheels, then start train.py, by torchrun when there is more than one process.

Reads SageMaker's own files below OPT_ML (/opt/ml), which host.py writes on the box: resourceconfig.json and hyperparameters.json.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import wheels

HERE = Path(__file__).resolve().parent
PORT = 7777


def configuration(opt: Path, name: str) -> dict[str, Any]:
    path = opt / "input" / "config" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def command(resource: dict[str, Any], parameters: dict[str, str], devices: int) -> list[str]:
    """The program to run on this host: train.py, or torchrun of it. One process a GPU, one on a CPU."""
    script = [
        str(HERE / "train.py"),
        *(word for name, value in sorted(parameters.items()) for word in (f"--{name}", value)),
    ]
    hosts = sorted(resource.get("hosts", ["algo-1"]))
    here = resource.get("current_host", hosts[0])
    if len(hosts) * devices == 1:
        return [sys.executable, *script]
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", str(len(hosts)), "--nproc_per_node", str(devices), "--node_rank", str(hosts.index(here))),
        *(
            "--master_addr",
            os.environ.get("MASTER_ADDR", hosts[0]),
            "--master_port",
            os.environ.get("MASTER_PORT", str(PORT)),
        ),
        *script,
    ]


def gpus() -> int:
    """How many NVIDIA devices this host has, without importing torch for it."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def main() -> int:
    opt = Path(os.environ.get("OPT_ML", "/opt/ml"))
    resource = configuration(opt, "resourceconfig")
    parameters = configuration(opt, "hyperparameters")
    site = tempfile.mkdtemp(prefix="site-")  # of this job alone
    wheels.put(HERE / "wheels", Path(site))  # on the box wheels.py was run before, and nothing lies there
    path = ":".join(filter(None, [site, os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": parameters.get("threads", "1")}
    if interface := resource.get("network_interface_name"):
        # Without it gloo takes the address that the host's name resolves to, which may be nobody's.
        env |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    code = subprocess.run(command(resource, parameters, max(1, gpus())), env=env, check=False).returncode
    failure = opt / "output" / "failure"
    if code and failure.parent.is_dir() and not failure.exists():
        failure.write_text(f"train.py ended with code {code} and said nothing")
    return code


if __name__ == "__main__":
    sys.exit(main())
