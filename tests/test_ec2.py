"""The box: plans by equality, real SSH through the real tunnel, jobs that no lost line can hurt."""

import os
import re
import signal

import pytest
from conftest import HOME, settings_of

from ops import box, change
from ops.change import Change, Wait
from ops.ec2 import plan, remote
from ops.ec2.plan import Facts
from ops.errors import OpsError, Refused

SETTINGS = settings_of()
NETWORK = {
    "subnets": ("subnet-a", "subnet-b"),
    "group": "sg-1",
    "door": {"InstanceConnectEndpointId": "eice-1"},
    "image": "ami-1",
}


def instance(state):
    return {"InstanceId": "i-1", "InstanceType": "g4dn.xlarge", "State": {"Name": state}}


def planned(**facts):
    return [
        (s.call if isinstance(s, Change) else s.what)
        for s in change.preview(plan.steps(Facts(**{**NETWORK, **facts}), SETTINGS))
    ]


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        ("running", []),
        ("stopped", ["start_instances", "box i-1"]),
        ("stopping", ["box i-1", "start_instances", "box i-1"]),
        ("pending", ["box i-1"]),
    ],
)
def test_a_box_that_is_there_is_never_replaced(state, steps):
    assert planned(box=instance(state)) == steps


def test_a_new_box_is_hardened_tagged_and_asked_for_once():
    request = plan.request(Facts(**NETWORK), "subnet-a", SETTINGS)
    assert request["MetadataOptions"]["HttpTokens"] == "required"
    assert request["NetworkInterfaces"] == [
        {"DeviceIndex": 0, "SubnetId": "subnet-a", "Groups": ["sg-1"], "AssociatePublicIpAddress": False}
    ]
    assert request["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert request["BlockDeviceMappings"][0]["Ebs"]["VolumeType"] == "gp3"
    assert request["IamInstanceProfile"] == {"Name": "kennel-demo-ec2-box"}
    assert {spec["ResourceType"] for spec in request["TagSpecifications"]} == {
        "instance",
        "volume",
        "network-interface",
    }
    assert request["ClientToken"] == plan.request(Facts(**NETWORK), "subnet-a", SETTINGS)["ClientToken"]
    assert (
        request["ClientToken"]
        != plan.request(Facts(**NETWORK, nonce="another box"), "subnet-a", SETTINGS)["ClientToken"]
    )


def walked(refusals):
    """The subnets asked for, when each request is answered by the next of `refusals` (None: it works)."""
    asked, answers = [], iter(refusals)

    def answer(step):
        if isinstance(step, Wait):
            return None
        asked.append(step.args["NetworkInterfaces"][0]["SubnetId"])
        code = next(answers)
        if code:
            raise Refused("RunInstances", code, "sorry")
        return {"Instances": [{"InstanceId": "i-9"}]}

    list(change.walk(plan.steps(Facts(**NETWORK), SETTINGS), answer))
    return asked


def test_no_capacity_moves_on_to_the_next_zone():
    assert walked(["InsufficientInstanceCapacity", None]) == ["subnet-a", "subnet-b"]


def test_no_capacity_anywhere_says_so():
    with pytest.raises(OpsError, match=r"No zone has a g4dn\.xlarge"):
        walked(["InsufficientInstanceCapacity", "InsufficientInstanceCapacity"])


def test_a_quota_does_not_move_on():
    with pytest.raises(Refused, match="VcpuLimitExceeded"):
        walked(["VcpuLimitExceeded"])


def test_each_box_is_asked_for_by_another_word_and_one_box_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "WORK", tmp_path)
    first = plan.nonce("kennel-x", seen=False)
    assert plan.nonce("kennel-x", seen=False) == first  # a crash before the box was seen
    assert plan.nonce("kennel-x", seen=True) == ""
    assert plan.nonce("kennel-x", seen=False) != first


def test_a_log_is_read_by_the_byte_whatever_letters_it_is_cut_in(capsys):
    lines, text = remote.Lines(), "né à Genève\nzweite Zeile\nlast without end".encode()
    for at in range(len(text)):
        lines.print(text[at : at + 1])
    lines.print(b"", last=True)
    assert capsys.readouterr().err.splitlines() == ["[box] né à Genève", "[box] zweite Zeile", "[box] last without end"]


def test_host_keys_are_read_from_the_console_and_nothing_else():
    console = "boot\n-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 AAAA root@box\necdsa-sha2-nistp256 BBBB x\n-----END SSH HOST KEY KEYS-----\n"
    assert box.host_keys_in(console) == ["ssh-ed25519 AAAA", "ecdsa-sha2-nistp256 BBBB"]
    assert box.host_keys_in("ssh-ed25519 CCCC root@box") == []


def test_words_are_quoted():
    assert box.words("echo", "a b; rm -rf ~") == "echo 'a b; rm -rf ~'"


# The one of this stack's box: the sandbox's boxes share a machine, and other tests may train on it too. Its session is its own.
TRAINER = "$(pgrep -d, -f 'host[.]py .*/kennel-box-box')"


@pytest.fixture(scope="module")
def box_stack(stacks):
    cli = stacks("box")
    cli("iam.apply", "net.up", "ec2.up")
    return cli


def test_up_twice_starts_one(box_stack):
    assert "0 made" in box_stack("ec2.up").out


def test_dry_up_prices_the_box_and_starts_none(stacks):
    cli = stacks("boxdry")
    assert "There is no network to put a box in. Make it: invoke net.up" in cli("ec2.up", ok=False).err
    cli("iam.apply", "net.up")
    dry = cli("--dry", "ec2.up")
    assert re.search(r"~ ec2.run_instances: no box runs; start one g4dn.xlarge in subnet-\w+  \$0\.537/h", dry.err)
    assert plan.facts(cli.account).box is None


def test_a_command_gives_its_output_and_its_exit_code(box_stack):
    ran = box_stack("ec2.run", "echo out; echo err >&2; exit 3", ok=False)
    assert (ran.code, ran.out.split()) == (3, ["out", "err"])


def test_the_box_has_its_role_and_none_of_our_keys(box_stack):
    code = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    assert ":assumed-role/kennel-box-ec2-box/i-" in box_stack("ec2.run", f'python3 -c "{code}"').out
    assert "AWS_ACCESS_KEY" not in box_stack("ec2.run", "env").out


def test_metadata_needs_a_token(box_stack):
    code = "curl -s -o /dev/null -w '%{http_code}' ${AWS_EC2_METADATA_SERVICE_ENDPOINT}latest/meta-data/iam/security-credentials/"
    assert box_stack("ec2.run", code).out == "401"


def test_output_of_any_size_streams(box_stack):
    ran = box_stack("ec2.run", "head -c 20000000 /dev/zero | tr '\\0' x")
    assert len(ran.out) == 20_000_000


def test_a_changed_host_key_is_refused_and_says_what_to_do(box_stack):
    known = HOME / "work" / "ssh" / "known_hosts"
    box_stack("ec2.run", "true")
    kept = known.read_text()
    ident = plan.facts(box_stack.account).box["InstanceId"]
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    try:
        known.write_text(f"{ident} ssh-ed25519 {other}\n")
        refused = box_stack("ec2.run", "true", ok=False)
    finally:
        known.write_text(kept)
    assert refused.code == 1
    assert "shows a host key that is not the one pinned" in refused.err
    assert "Traceback" not in refused.err


def test_openssh_goes_through_the_same_tunnel(box_stack):
    import shutil

    if not shutil.which("ssh"):
        pytest.skip("OpenSSH's client is not installed")
    ran = box_stack("ec2.ssh", "--command", "echo through; exit 4", ok=False)
    assert (ran.code, ran.out.strip()) == (4, "through")


def test_a_stopped_box_is_refused_with_the_command_that_starts_it(box_stack, digits):
    account = box_stack.account
    ident = plan.facts(account).box["InstanceId"]
    box_stack("data.up", "data.push", "--dir", str(digits))
    account.client("ec2").stop_instances(InstanceIds=[ident])
    try:
        for command in (("ec2.train",), ("ec2.run", "true"), ("ec2.attach",)):
            refused = box_stack(*command, ok=False)
            assert refused.code == 1
            assert f"The box {ident} is stop" in refused.err
            assert "Start it: invoke ec2.up" in refused.err
    finally:
        again = box_stack("ec2.up")
    assert ident in again.out
    assert box_stack("ec2.status").code == 0


@pytest.mark.timeout(240)
def test_the_ssh_connection_killed_in_the_middle_leaves_the_job_to_end(box_stack, digits):
    box_stack("data.up", "data.push", "--dir", str(digits))
    training = box_stack.background("ec2.train")
    for line in training.stdout:
        if "epoch 1/" in line:
            break
    os.killpg(training.pid, signal.SIGKILL)  # client, tunnel, and with them the connection
    training.wait()
    told = box_stack("ec2.attach")
    epochs = re.findall(r"\[box\] epoch (\d)/4", told.err)
    assert epochs == ["1", "2", "3", "4"]  # none lost, none doubled
    assert "Completed: s3://kennel-box-" in told.out
    found = box_stack.account.pages(
        "s3", "list_objects_v2", "Contents", Bucket=box_stack.settings.bucket, Prefix="jobs/"
    )
    assert {item["Key"].rsplit("/", 1)[1] for item in found} == {"model.tar.gz", "metrics.jsonl"}
    assert "was trained before" in box_stack("ec2.train").out


@pytest.mark.timeout(240)
def test_a_second_train_while_one_runs_attaches_to_it(box_stack, digits):
    box_stack("data.up", "data.push", "--dir", str(digits))
    first = box_stack.background("ec2.train", "--again")
    for line in first.stdout:
        if "[box]" in line:
            break
    second = box_stack("ec2.train", "--again")
    assert "starts on" not in second.err
    assert "test accuracy" in second.err
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_a_job_that_fails_says_why(box_stack, digits):
    box_stack("data.up", "data.push", "--dir", str(digits))
    cli = type(box_stack)(box_stack.file.with_name("boxbroken.yaml"))
    cli.file.write_text(box_stack.file.read_text() + "train: {arch: resnet_nonsense}\n")
    failed = cli("ec2.train", ok=False)
    assert failed.code == 1
    assert "unknown architecture 'resnet_nonsense'" in failed.err


def test_a_trainer_that_was_killed_is_told_to_be_gone(box_stack, digits):
    box_stack("data.up", "data.push", "--dir", str(digits))
    training = box_stack.background("ec2.train", "--again")
    for line in training.stdout:
        if "epoch 1/" in line:
            break
    box_stack("ec2.run", f"pkill -9 -s {TRAINER}; true")
    said, _ = training.communicate(timeout=60)
    assert training.returncode == 1
    assert "the trainer is gone without a word" in said


def test_a_trainer_that_was_told_to_end_is_carried_on_by_the_next(box_stack, digits):
    box_stack("data.up", "data.push", "--dir", str(digits))
    cli = type(box_stack)(box_stack.file.with_name("boxlong.yaml"))
    cli.file.write_text(box_stack.file.read_text() + "train: {epochs: 6}\n")
    training = cli.background("ec2.train")
    for line in training.stdout:
        if "epoch 2/" in line:
            break
    cli("ec2.run", f"pkill -TERM -P {TRAINER} -f launch[.]py")
    said, _ = training.communicate(timeout=60)
    assert training.returncode == 1
    assert "its checkpoint is kept" in said
    again = cli("ec2.train")
    assert "carrying on at epoch" in again.err
    assert "epoch 1/6" not in again.err


def test_down_asks_and_takes_the_disk(stacks):
    cli = stacks("boxdown")
    cli("iam.apply", "net.up", "ec2.up")
    cli("ec2.run", "echo mine > file")
    assert "Nobody is here to agree: say --yes." in cli("ec2.down", ok=False).err
    refused = cli("net.down", "--yes", ok=False)
    assert "The network is in use by i-" in refused.err
    cli("ec2.down", "--yes")
    assert plan.facts(cli.account).box is None
    assert "There is no box." in cli("ec2.down", "--yes").out
    assert "There is no box. Start one: invoke ec2.up" in cli("ec2.run", "true", ok=False).err
    cli("net.down", "--yes")


def test_places_on_the_box_are_below_its_home():
    there = remote.place(SETTINGS)
    assert there.job("j") == "kennel/jobs/j"
