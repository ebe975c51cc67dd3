"""The settings' values: each has a pattern, a range or a list, and what passes all the same is listed here with the reason."""

import copy
import json
import math
import re

import invoke
import pytest
import yaml

from ops.core import settings, settings_values
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.iam import roles
from tests.conftest import settings_of

AWSS = "763104351884.dkr.ecr"  # AWS's own images
SHIPPED = {k: v for k, v in yaml.safe_load((ROOT / "invoke.yaml").read_text()).items() if k != "tasks"}
ARCHIVE = SHIPPED["data"]["archives"]["dogs"]
ACTION = {"name": "m", "when": "rate(1 day)", "timezone": "UTC", "min_instances": 1, "max_instances": 2}
SHIPPED["endpoint"]["schedule"] = [ACTION]  # so that its values are mutated too
SHIPPED["net"]["interface_endpoints"] = ["logs"]

MUTATIONS = {
    "empty": "", "blank": " ", "control": "a\x1bb", "nul": "a\0b", "line": "a\nb", "long": "a" * 100_000, "garbage": "garbage",
    "huge": 10**18, "negative": -1, "inf": math.inf, "nan": math.nan, "null": None,
}  # fmt: skip

# Each value that is accepted, and why.
FREE_NAME = "the name is the operator's own"
EMPTY_IS_NONE = "the empty text means that there is none, as invoke.yaml says"
TEXT_OR_PATH = "any text may be right, and only the file system or the other machine knows"
ACCEPTED = {
    ("stack.name", "garbage"): FREE_NAME,
    ("data.name", "garbage"): FREE_NAME,
    ("endpoint.schedule.0.name", "garbage"): FREE_NAME,
    ("endpoint.variant", "garbage"): FREE_NAME,
    ("aws.profile", "garbage"): FREE_NAME,
    ("ec2.user", "garbage"): FREE_NAME,
    ("ec2.home", "garbage"): FREE_NAME,
    ("ec2.key", "garbage"): FREE_NAME,
    ("ec2.known_hosts", "garbage"): FREE_NAME,
    ("ec2.ami_parameter", "garbage"): FREE_NAME,
    ("net.interface_endpoints.0", "garbage"): "AWS adds services; only AWS knows all names",
    ("aws.config_file", "garbage"): TEXT_OR_PATH,
    ("data.dir", "garbage"): TEXT_OR_PATH,
    ("ec2.proxy_command", "garbage"): TEXT_OR_PATH,
    ("ec2.python", "garbage"): TEXT_OR_PATH,
    ("aws.config_file", "empty"): EMPTY_IS_NONE,
    ("data.archives.dogs.sha256", "empty"): EMPTY_IS_NONE,
    ("net.own_address", "empty"): EMPTY_IS_NONE,
    ("ec2.ami", "empty"): EMPTY_IS_NONE,
    ("ec2.ami_parameter", "empty"): EMPTY_IS_NONE,
    ("ec2.proxy_command", "empty"): EMPTY_IS_NONE,
    ("train.platform", "empty"): EMPTY_IS_NONE,
    ("fn.reserved", "null"): "null reserves nothing",
}


def load(values):
    return settings.load(invoke.Config(overrides=values))


def find_leaves(value, path=()):
    """Yield the path of each value that is neither a mapping nor a list."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if children is None:
        yield path
    else:
        for key, child in children:
            yield from find_leaves(child, (*path, key))


def change(path, value):
    values = copy.deepcopy(SHIPPED)
    parent = values
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return values


def is_accepted(values):
    """Return whether the settings load; a refusal must be short and without control characters."""
    try:
        load(values)
    except OpsError as error:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", str(error))
        assert len(str(error)) < 2000
        return False
    return True


def test_no_wrong_value_passes_unless_listed():
    leaves = list(find_leaves(SHIPPED))
    passed = {
        (".".join(map(str, path)), name)
        for path in leaves
        for name, value in MUTATIONS.items()
        if is_accepted(change(path, value))
    }
    assert len(leaves) > 90
    assert passed == set(ACCEPTED)


def test_no_wrong_key_passes():
    for path in {leaf[:depth] for leaf in find_leaves(SHIPPED) for depth in range(1, len(leaf) + 1)}:
        if isinstance(path[-1], int) or path == ("data", "archives", "dogs"):
            continue
        for key in (value for name, value in MUTATIONS.items() if name not in ("inf", "nan", "null")):
            values = change(path, None)
            parent = values
            for name in path[:-1]:
                parent = parent[name]
            del parent[path[-1]]
            parent[str(key)] = 1
            assert not is_accepted(values), (path, str(key)[:20])


@pytest.mark.parametrize("key", ["", " ", "a\x1bb", "a\0b", "a" * 100_000])
def test_the_name_of_an_archive_is_a_name(key):
    assert not is_accepted(change(("data", "archives"), {key: ARCHIVE}))


@pytest.mark.parametrize(
    "path", [("net", "zones"), ("net", "interface_endpoints"), ("ec2", "instance_types"), ("tune", "batches")]
)
def test_a_list_names_nothing_twice(path):
    first = SHIPPED[path[0]][path[1]][0]
    with pytest.raises(OpsError, match=f"{path[0]}.{path[1]}: must not name {first} twice"):
        load(change(path, [first, first]))


def test_architectures_are_those_of_torchvision():
    from training.vision import models

    known = ["resnet_tiny", *models.list_models(module=models)]
    assert list(settings_values.ARCHITECTURES) == known


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("train.arch", "resnet5O", "train.arch: unknown architecture; did you mean resnet50? It must be resnet_tiny or one of torchvision"),
        ("train.lr", "1e-4", "train.lr: 1e-4 is text in YAML; write 1.0e-4"),
        ("train.lr", "2.5E3", "train.lr: 2.5E3 is text in YAML; write 2.5e+3"),
        ("train.weights", "weights.bin", "train.weights: must be none, imagenet, or the path of a .pth or .safetensors file"),
        ("data.dir", "a" * 300, "data.dir: must be a path; each of its names has at most 255 bytes"),
        ("stack.expires_hours", 10**18, "stack.expires_hours: input should be less than or equal to 87600"),
        ("ec2.disk_gib", 65_537, "ec2.disk_gib: input should be less than or equal to 65536"),
        ("train.max_runtime_s", 432_001, "train.max_runtime_s: input should be less than or equal to 432000"),
        ("endpoint.log_days", 2, "endpoint.log_days: input should be 1, 3, 5"),
        ("fn.runtime", "python2.7", "fn.runtime: input should be 'python3.10'"),
        ("iam.repository", "Org/*", "pattern '^([A-Za-z0-9-]+/"),
        ("net.cidr", "10.20.0.1/16", "net.cidr: must be an IPv4 network without host bits"),
        ("net.cidr", "0.20.0.0/16", "net.cidr: must be a network of private addresses"),
        ("net.cidr", "8.8.0.0/16", "net.cidr: must be a network of private addresses"),
        ("net.cidr", "10.0.0.0/8", "net.cidr: must be a network between /16"),
        ("net.cidr", "10.20.0.0/25", "net.cidr: must be a network between /16"),
        ("net.cidr", "10.20.0.0", "net.cidr: must be a network between /16"),
        ("net.zones", ["", ""], "net.zones.0: string should match pattern"),
        ("net.zones", [], "net.zones: list should have at least 2 items"),
        ("net.zones", ["eu-west-1a", "us-east-1b"], "aws.region is us-east-1, but net.zones names eu-west-1a; name zones such as us-east-1a, or"),
        ("aws.region", "eu-west-1", "aws.region is eu-west-1, but net.zones names us-east-1a, us-east-1b; name zones such as eu-west-1a, or"),
        ("train.image", f"{AWSS}.eu-west-1.amazonaws.com/pytorch:2.13", "aws.region is us-east-1, but train.image is of eu-west-1; write"),
        ("train.image", "public.ecr.aws/deep-learning-containers/pytorch:2.13", "train.image: string should match pattern"),
        ("fn.provisioned", 12, "fn.provisioned 12 is above fn.reserved 2; set"),
        ("tune.lr_min", 0.1, "tune.lr_min 0.1 must be below tune.lr_max 0.1"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_explained_in_a_sentence(path, value, words):
    with pytest.raises(OpsError) as error:
        load(change(tuple(path.split(".")), value))
    assert words in str(error.value)
    assert str(error.value).count("\n") in (1, 2)


def in_region(region, image="pytorch:2.13", zones=None):
    zones = zones or [f"{region}a", f"{region}b"]
    return settings_of(text=f"aws: {{region: {region}}}\nnet: {{zones: {zones}}}\ntrain: {{image: '{image}'}}\n")


def test_one_sentence_names_all_that_is_not_of_the_region():
    image = f"{AWSS}.us-west-2.amazonaws.com/pytorch:2.13"
    with pytest.raises(OpsError) as error:
        in_region("eu-central-1", image, ["us-east-1a", "us-east-1b"])
    assert str(error.value).splitlines()[0] == (
        "aws.region is eu-central-1, but net.zones names us-east-1a, us-east-1b and train.image is of us-west-2; "
        "name zones such as eu-central-1a and write train.image without a registry, as in invoke.yaml, or correct aws.region"
    )


@pytest.mark.parametrize(
    ("region", "account"),
    [("eu-central-1", "763104351884"), ("eu-south-1", "692866216735"), ("me-west-1", "124382933778")],
)
def test_training_image_is_of_the_regions_registry(region, account):
    """In Milan and Tel Aviv AWS has another account; a role that may pull from the usual one alone trains nothing there."""
    settings = in_region(region)
    assert settings.training_image == f"{account}.dkr.ecr.{region}.amazonaws.com/pytorch:2.13"
    role = roles.read_role(roles.FOLDER / "sagemaker-execution", settings)
    assert f"arn:aws:ecr:{region}:{account}:repository/pytorch" in json.dumps(role.permissions["permissions"].document)
    assert f"arn:aws:ecr:{region}:{account}:repository/*" in json.dumps(role.boundary.document)


def test_region_without_a_known_registry_wants_a_whole_name():
    with pytest.raises(
        OpsError, match=r"no registry of AWS's training images there; write the whole name of train.image"
    ):
        in_region("eu-west-9")
    image = "111122223333.dkr.ecr.eu-west-9.amazonaws.com/mine@sha256:" + "0" * 64
    assert in_region("eu-west-9", image).training_image == image


def test_an_account_without_quotes_gets_a_hint():
    """YAML 1.1 reads these digits as an octal number, and shows another one."""
    with pytest.raises(OpsError, match="aws.account: is a number, and must be text: put account numbers") as error:
        settings_of(text="aws: {account: 012345670123}\n")
    assert str(int("12345670123", 8)) not in str(error.value)


@pytest.mark.parametrize("repository", ["octo-org/dogs", "octo-org@123456/dogs@456789"])
def test_both_spellings_of_a_repository_are_accepted(repository):
    assert load(change(("iam", "repository"), repository)).iam.repository == repository


@pytest.mark.parametrize("repository", ["octo-org@123456/dogs", "octo-org/dogs@456789", "octo@*/dogs@1", "octo@/dogs@"])
def test_half_a_spelling_of_a_repository_is_refused(repository):
    with pytest.raises(OpsError, match=r"iam\.repository"):
        load(change(("iam", "repository"), repository))


@pytest.mark.parametrize("value", ["none", "imagenet", "models/café au lait.pth", "~/w.safetensors"])
def test_weights_of_each_kind_are_accepted(value):
    assert load(change(("train", "weights"), value)).train.weights == value


@pytest.mark.parametrize(
    "value", ["", "manylinux2014_x86_64", "manylinux_2_28_aarch64", "macosx_11_0_arm64", "win_amd64"]
)
def test_platform_tags_of_wheels_are_accepted(value):
    assert load(change(("train", "platform"), value)).train.platform == value
