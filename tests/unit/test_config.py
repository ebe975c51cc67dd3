"""Settings: every typo and every wrong type is refused in one sentence, before any call."""

import copy

import invoke
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ops.core import settings
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from tests.conftest import settings_of

SHIPPED = {k: v for k, v in yaml.safe_load((ROOT / "invoke.yaml").read_text()).items() if k != "tasks"}
KEYS = [(section, key) for section, values in SHIPPED.items() for key in values]


def load(values):
    return settings.load(invoke.Config(overrides=values))


def test_shipped_settings_are_valid():
    assert load(SHIPPED).stack.name == "demo"


def test_aws_example_is_valid_on_top_of_them():
    settings = settings_of(ROOT / "aws.example.yaml")
    assert (settings.stack.name, settings.aws.config_file, settings.train.arch) == ("prod", "", "resnet50")


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("endpoint", "max_instance", 2, "endpoint: unknown setting max_instance; did you mean max_instances?"),
        ("endpoint", "max_instances", "two", "endpoint.max_instances: input should be a valid integer, got 'two'"),
        ("endpoint", "max_instances", 0, "endpoint.max_instances: input should be greater than or equal to 1, got 0"),
        ("aws", "account", "12", "aws.account: string should match"),
        ("stack", "name", "Prod_1", "stack.name: string should match"),
        ("stack", "name", "demo-b", "stack.name: string should match"),  # kennel-demo-* would be its names too
        ("train", "flip", "yes", "train.flip: input should be a valid boolean, got 'yes'"),
        *(
            ("fn", "urls", value, "fn.urls: must be off, public, or a list of hosts")
            for value in (
                True,
                "on",
                [],
                ["127.0.0.1"],
                ["A.example"],
                ["a.example:443"],
                ["https://a.example"],
                ["*.example"],
                [5],
                {},
            )
        ),
        ("fn", "urls", ["a.example", "a.example"], "fn.urls: must not name a.example twice"),
        ("fn", "urls", [f"a{number}.example" for number in range(300)], "fn.urls: must have at most 2048 letters"),
        ("fn", "response", "json", "fn.response: input should be 'plain' or 'original', got 'json'"),
    ],
)
def test_wrong_setting_is_named(section, key, value, words):
    values = copy.deepcopy(SHIPPED)
    values[section][key] = value
    with pytest.raises(OpsError) as error:
        load(values)
    assert words in str(error.value)
    assert "Nothing was touched" in str(error.value)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (False, "off"),
        ("off", "off"),
        ("public", "public"),
        (["a.example", "b-c.example"], "a.example,b-c.example"),
        ("a.example,b.example", "a.example,b.example"),
    ],
)
def test_fetched_hosts_are_kept_as_the_function_reads_them(value, kept):
    values = copy.deepcopy(SHIPPED)
    values["fn"]["urls"] = value
    assert load(values).fn.urls == kept


MORNING = {"name": "m", "when": "cron(0 8 ? * MON-FRI *)", "timezone": "UTC", "min_instances": 2, "max_instances": 4}


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ([MORNING | {"cron": 1}], "endpoint.schedule.0: unknown setting cron; known: name, when"),
        ([MORNING | {"when": "at(tomorrow)"}], "endpoint.schedule.0.when: string should match"),
        ([MORNING | {"when": "0 8 * * *"}], "endpoint.schedule.0.when: string should match"),
        ([MORNING | {"timezone": "Berlin"}], "endpoint.schedule.0.timezone: must be the name of a time zone"),
        ([MORNING | {"min_instances": 5}], "endpoint.schedule m: min_instances 5 is above max_instances 4"),
        ([MORNING, MORNING], "endpoint.schedule: two actions have the same name"),
    ],
)
def test_wrong_schedule_is_named(schedule, words):
    values = copy.deepcopy(SHIPPED)
    values["endpoint"]["schedule"] = schedule
    with pytest.raises(OpsError) as error:
        load(values)
    assert words in str(error.value)


def test_unknown_section_is_named():
    with pytest.raises(OpsError, match=r"settings: unknown section endpiont; did you mean endpoint\?"):
        load({**SHIPPED, "endpiont": {}})


def test_missing_setting_is_named():
    values = copy.deepcopy(SHIPPED)
    del values["data"]["name"]
    with pytest.raises(OpsError, match=r"data\.name: field required"):
        load(values)


@given(st.sampled_from(KEYS), st.integers(0, 20), st.sampled_from("abcxyz_0"))
def test_every_misspelt_setting_is_rejected(path, at, letter):
    section, key = path
    wrong = key[:at] + letter + key[at + 1 :]
    values = copy.deepcopy(SHIPPED)
    if wrong in values[section]:
        return
    values[section][wrong] = values[section].pop(key)
    with pytest.raises(OpsError, match=f"unknown setting {wrong}"):
        load(values)


@pytest.mark.parametrize(
    ("word", "taken"), [("false", False), ("No", False), ("0", False), ("true", True), ("1", True)]
)
def test_false_in_the_environment_is_false(monkeypatch, word, taken):
    """Invoke takes any word but 0 for true, and iam.apply as an administrator would go as bootstrap."""
    monkeypatch.setenv("INVOKE_AWS_TAKE_ROLES", word)
    assert settings_of().aws.take_roles is taken


def test_file_and_environment_override_the_defaults(tmp_path, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.write_text("endpoint: {max_instances: 7}\n")
    monkeypatch.setenv("INVOKE_STACK_NAME", "other")
    settings = settings_of(file)
    assert (settings.endpoint.max_instances, settings.stack.name, settings.endpoint.min_instances) == (7, "other", 1)
    assert settings.bucket == "kennel-other-123456789012-us-east-1"


@given(st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True))
def test_names_of_the_longest_stack_fit_aws(stack):
    values = copy.deepcopy(SHIPPED)
    values["stack"]["name"] = stack
    settings = load(values)
    assert len(f"{settings.prefix}-box1-12345678-99") <= 63  # a training job's name
    assert len(f"{settings.prefix}-123456789012-123456-1234") <= 63  # an endpoint config's
    assert len(settings.bucket) <= 63
    assert len(settings.build_role_name("sagemaker-execution")) <= 64
    assert len(settings.function_name) <= 64
