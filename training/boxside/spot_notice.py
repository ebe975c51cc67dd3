"""The reader of spot interruption notices, which EC2 publishes in the instance metadata two minutes ahead."""

import json
import os
import urllib.error
import urllib.request

METADATA = "http://169.254.169.254/"
TIMEOUT_S = 2.0


def read_metadata(path: str, method: str = "GET", **headers: str) -> str:
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA)
    request = urllib.request.Request(f"{base.rstrip('/')}/latest/{path}", method=method, headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as response:
        body: bytes = response.read(4096)
        return body.decode()


def read_interruption_time() -> str:
    """Return when spot interrupts the instance, in UTC; "" without a notice or without instance metadata."""
    try:
        token = read_metadata("api/token", "PUT", **{"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        action = json.loads(read_metadata("meta-data/spot/instance-action", **{"X-aws-ec2-metadata-token": token}))
        return str(action["time"])
    except (OSError, ValueError, KeyError, urllib.error.URLError):
        return ""
