"""Every change of every plan is a request that AWS's own service model takes."""

from datetime import date

import botocore.session
import pytest
from botocore.validate import ParamValidator

from iampolicy.account.snapshot import Snapshot
from ops.box import facts as ec2_facts
from ops.box import plan as ec2
from ops.box.images import Image, InstanceTypeInfo
from ops.box.launch import LaunchOptions
from ops.core.plan import Change, Unknown, preview
from ops.datasets import bucket_setup
from ops.datasets.manifest import Manifest
from ops.datasets.pretrained import Weights
from ops.endpoint import plan, scaling, teardown
from ops.function import plan as fn
from ops.iam import apply as iam
from ops.iam import roles
from ops.jobs import spec, training_jobs
from ops.network import facts as net_facts
from ops.network import plan as net
from ops.network import teardown as net_removal
from ops.releases import image_build
from ops.releases.build import Release
from tests.conftest import settings_of

SETTINGS = settings_of()
BUSY = SETTINGS.model_copy(update={"net": SETTINGS.net.model_copy(update={"interface_endpoints": ["logs", "sts"]})})
WANT = plan.EndpointSpec(Release("a" * 64, "job"), SETTINGS)
JOB = spec.build_spec(SETTINGS, Manifest("p", (), (), {}, "d" * 64), "sm", 2)
STARTED = spec.build_spec(SETTINGS, Manifest("p", (), (), {}, "d" * 64), "sm", 1, Weights("a" * 64, "resnet18-abc.pth"))
HAVE = training_jobs.Facts(JOB.name, None, ("subnet-a",), "sg-1", False)
NETWORK = {"subnets": ("subnet-a", "subnet-b"), "group": "sg-1"}
LIVE = {"EndpointName": "kennel-demo", "EndpointStatus": "InService", "EndpointConfigName": "other"}
FULL = net_facts.Facts(
    s3_list="pl-1", vpc="vpc-1", hostnames=True, subnets={"us-east-1a": "subnet-a"}, routes="rtb-1", stray_routes={"10.0.0.0/8": "eni-1"},
    gateway=("igw-1", "vpc-1"),
    groups={n: net_facts.Group(f"sg-{n}", frozenset(i), frozenset(e)) for n, (i, e) in net.define_security_groups(SETTINGS).items()},
    acl="acl-1", entries=frozenset({net_facts.Entry(9, False, "6", 1, 2, "0.0.0.0/0")}), s3_endpoint="vpce-1", connect_endpoint="eice-1",
    interfaces={"logs": "vpce-2"},
)  # fmt: skip
PUBLIC = settings_of(text="ec2: {way: public}\nnet: {own_address: 203.0.113.7}\n")
DLAMI = Image("ami-1", "PyTorch 2.12", "x86_64", ("g4dn", "g5"), 75, "/dev/sda1", date(2026, 11, 1), None)
KINDS = ("g4dn.xlarge", "g5.xlarge")
LAUNCH = ec2_facts.Facts(
    subnets=(("subnet-a", "us-east-1a"),), group="sg-1", image=DLAMI, public_key="ssh-ed25519 new",
    instance_types={kind: InstanceTypeInfo(("x86_64",), 4) for kind in KINDS}, spot_requests=("sir-9",), offered=frozenset((kind, "us-east-1a") for kind in KINDS),
)  # fmt: skip
STOPPED = {
    "InstanceId": "i-1",
    "InstanceType": "g4dn.xlarge",
    "State": {"Name": "stopped"},
}
GONE = ec2_facts.Facts(STOPPED, alarm={"AlarmName": "x"}, key_pair="key-1", spot_requests=("sir-1",))

SCHEDULED = settings_of(
    text="endpoint: {schedule: [{name: m, when: rate(1 day), timezone: UTC, min_instances: 2, max_instances: 4}]}\n"
)
SCALED = scaling.Facts((1, 2), {"kennel-demo-concurrency": {}}, schedule={"kennel-demo-old": {}})

PLANS = {
    "bucket": bucket_setup.steps(bucket_setup.Facts(), SETTINGS),
    "network": net.steps(net_facts.Facts("pl-1"), BUSY),
    "network, repaired": net.steps(FULL, SETTINGS),
    "network, down": net_removal.steps(FULL),
    "network, public": net.steps(net_facts.Facts("pl-1"), PUBLIC),
    "box": ec2.steps(LAUNCH, LaunchOptions(KINDS), SETTINGS),
    "box, on spot with a public address": ec2.steps(LAUNCH, LaunchOptions(KINDS, spot=True), PUBLIC),
    "box, started": ec2.steps(
        ec2_facts.Facts(STOPPED, instance_types=LAUNCH.instance_types), LaunchOptions(KINDS), SETTINGS
    ),
    "box, stopped": ec2.stop_box_steps(ec2_facts.Facts(STOPPED | {"State": {"Name": "running"}})),
    "box, down": ec2.remove_box_steps(GONE, SETTINGS),
    "roles": iam.steps(Snapshot(), roles.read_roles(SETTINGS), SETTINGS),
    "job": training_jobs.steps(HAVE, training_jobs.Order(JOB, JOB.name, "code/c/", 2), SETTINGS),
    "spot job from weights": training_jobs.steps(
        HAVE, training_jobs.Order(STARTED, STARTED.name, "code/c/", spot=True), SETTINGS
    ),
    "endpoint": plan.steps(plan.Facts(**NETWORK), WANT),
    "endpoint, updated": plan.steps(plan.Facts(endpoint=LIVE, **NETWORK), WANT),
    "endpoint, deleted": teardown.steps(
        (plan.Facts(LIVE, ("c",), ("m",), {"a": 1.0}), scaling.Facts((1, 2))), SETTINGS
    ),
    "image": image_build.steps(image_build.Facts("a" * 12), SETTINGS),
    "image, with another project": image_build.steps(image_build.Facts("a" * 12, None, True, {"name": "x"}), SETTINGS),
    "scaling": scaling.steps(scaling.Facts(), SCHEDULED),
    "scaling, by another metric": scaling.steps(SCALED, SETTINGS),
    "function": fn.steps(fn.Facts(unreserved=1000), fn.package_function(), SETTINGS),
    "function, down": fn.remove_function_steps(SETTINGS),
}


def plain(value):
    if isinstance(value, Unknown):
        return "unknown-" + str.__str__(value).strip("<>")
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", PLANS)
def test_every_change_fits_the_service_model(name):
    session = botocore.session.Session()
    steps = [step for step in preview(PLANS[name]) if isinstance(step, Change)]
    assert steps
    for step in steps:
        client = session.create_client(
            step.service, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
        )
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[step.call]).input_shape
        report = ParamValidator().validate(plain(step.args), shape)
        assert not report.has_errors(), f"{step.service}.{step.call}: {report.generate_report()}"
        assert step.why
