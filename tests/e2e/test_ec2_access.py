"""The ways in: the tunnel, a public address, a ProxyCommand; by Fabric and by OpenSSH's own client, with the host key pinned."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from ops.box import access, facts
from ops.core import ssh
from ops.core.paths import ROOT

NEEDS = {"ssh": "openssh-client", "rsync": "rsync"}


def needs(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed: apt-get install {NEEDS[program]}")


@pytest.fixture(scope="module")
def cli(make_stack):
    made = make_stack("ways")
    made("iam.apply", "net.up", "ec2.up")
    return made


def test_failed_key_push_falls_back_to_the_key_pair(cli, inject_fault):
    inject_fault(
        "fault",
        operation="SendSSHPublicKey",
        do="error",
        code="EC2InstanceUnavailableException",
        message="no agent",
        times=1,
    )
    ran = cli("ec2.run", "echo in")
    assert ran.out == "in\n"
    assert "could not be pushed (EC2InstanceUnavailableException); trying the key pair" in ran.err


def test_openssh_uses_the_same_tunnel(cli):
    needs("ssh")
    ran = cli("ec2.ssh", "--command", "echo through; exit 4", ok=False)
    assert (ran.code, ran.out.strip()) == (4, "through")


@pytest.fixture
def config(cli, tmp_path):
    """A file with the block that ec2.ssh-config prints, as people put it into ~/.ssh/config."""
    path = tmp_path / "ssh config"
    path.write_text(cli("ec2.ssh-config").out)
    return path


def elsewhere(argv, tmp_path):
    """Run from another folder, as people do."""
    return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)


def test_ssh_config_works_from_any_folder(cli, config, tmp_path):
    needs("ssh")
    ran = elsewhere(["ssh", "-F", str(config), "kennel-ways-box", "echo $KENNEL_BOX"], tmp_path)
    assert (ran.returncode, ran.stdout.strip()) == (0, facts.read(cli.account).instance_id), ran.stderr


def test_rsync_uses_the_tunnel(cli, config, tmp_path):
    needs("rsync")
    needs("ssh")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a file").write_text("mine")
    ran = elsewhere(["rsync", "-a", "-e", f"ssh -F '{config}'", "here/", "kennel-ways-box:there/"], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert cli("ec2.run", "cat 'there/a file'").out == "mine"


def test_openssh_rejects_a_changed_host_key(cli, config, tmp_path):
    needs("ssh")
    known = tmp_path / "known"
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    known.write_text(f"{facts.read(cli.account).instance_id} ssh-ed25519 {other}\n")
    ran = elsewhere(
        ["ssh", "-F", str(config), "-o", f"UserKnownHostsFile={known}", "kennel-ways-box", "echo in"], tmp_path
    )
    assert ran.returncode == 255
    assert "in" not in ran.stdout.split()


PUBLIC = "ec2: {way: public}\nnet: {own_address: 127.0.0.1}\n"


def test_public_method_admits_one_address(make_stack):
    cli = make_stack("public", PUBLIC)
    plan = cli("--dry", "net.up").err
    assert (
        "create an internet gateway; less safe: 127.0.0.1/32 can reach port 2222 of the box from the internet" in plan
    )
    cli("iam.apply", "net.up")
    assert "0 made" in cli("net.up").out
    assert "$0.542/h" in cli("--dry", "ec2.up").err  # the address has its price
    cli("ec2.up")
    address = facts.read(cli.account).box["PublicIpAddress"]
    assert address.startswith("127.")
    assert cli("ec2.run", "echo in").out == "in\n"
    hops = json.loads(cli("ec2.reach", "--json").out)
    assert [hop["name"] for hop in hops[2:4]] == ["public address", "security groups"]
    if shutil.which("ssh"):
        assert cli("ec2.ssh", "--command", "echo by ssh").out == "by ssh\n"
    # Another address in the settings: the rule moves with net.up, and ours is shut out.
    cli.file.write_text(cli.file.read_text().replace("own_address: 127.0.0.1", "own_address: 203.0.113.7"))
    cli("net.up")
    shut = cli("ec2.run", "echo in", ok=False)
    assert shut.code == 1
    assert "in" not in shut.out.split()
    cli.file.write_text(cli.file.read_text().replace("own_address: 203.0.113.7", "own_address: 127.0.0.1"))
    assert "does not allow port 2222 in from 127.0.0.1" in cli("ec2.reach", ok=False).out
    # Back to the private way: refused while the box has its address, done when it is gone.
    private = type(cli)(cli.file.with_name("publicback.yaml"))
    private.file.write_text(cli.file.read_text().replace(PUBLIC, ""))
    assert "not changed" not in private("ec2.down", "--yes").out
    private("net.up")
    gateways = private.account.list_tagged("describe_internet_gateways", "InternetGateways")
    assert gateways == []
    private("net.down", "--yes")


def session_manager():
    """The ProxyCommand of aws.example.yaml."""
    text = (ROOT / "aws.example.yaml").read_text()
    line = next(line for line in text.splitlines() if "proxy_command:" in line)
    return yaml.safe_load(line.lstrip("# "))["proxy_command"]


AWS = """#!{python}
# Stands in for the AWS CLI with its Session Manager plugin: takes its very arguments, and is the line to the box.
import json, os, subprocess, sys
expected = ["ssm", "start-session", "--target", {ident!r}, "--document-name", "AWS-StartSSHSession", "--parameters", "portNumber=22"]
if sys.argv[1:9] != expected:
    sys.exit("unexpected: " + json.dumps(sys.argv))
os.chdir({root!r})
os.execv({python!r}, [{python!r}, "-m", "ops.box.proxy", {settings!r}])
"""


def test_session_manager_works_as_proxy_command(cli, tmp_path):
    ident = facts.read(cli.account).instance_id
    program = tmp_path / "aws"
    program.write_text(AWS.format(python=sys.executable, ident=ident, root=str(ROOT), settings=str(cli.file)))
    program.chmod(0o755)
    ssm = type(cli)(tmp_path / "ssm.yaml")
    ssm.file.write_text(
        cli.file.read_text() + yaml.safe_dump({"ec2": {"way": "command", "proxy_command": session_manager()}})
    )
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert ssm("ec2.run", "echo in", env=path).out == "in\n"
    hops = [hop["name"] for hop in json.loads(ssm("ec2.reach", "--json", env=path).out)]
    assert hops == ["instance", "status checks", "TCP", "banner", "authentication"]
    gone = ssm("ec2.run", "echo in", env={"PATH": "/usr/bin:/bin"}, ok=False)
    assert gone.code == 1
    assert "ec2.proxy_command could not be started" in gone.err or "Cannot open SSH to" in gone.err


def test_missing_public_address_is_reported_at_once(cli):
    have = facts.read(cli.account)
    settings = cli.settings.model_copy(update={"ec2": cli.settings.ec2.model_copy(update={"way": "public"})})
    account = type(cli.account)(settings)
    with pytest.raises(ssh.OpsError, match="has no public address: it was launched with another ec2.way"):
        access.open_socket(account, have)
