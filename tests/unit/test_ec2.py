"""The box as people use it: real SSH through the real tunnel, and what it refuses."""

import pytest

from ops.box import remote_jobs
from ops.core import ssh
from ops.core.aws.errors import explain_sdk_error
from ops.core.errors import OpsError
from tests.conftest import settings_of

SETTINGS = settings_of()


def test_log_is_decoded_at_any_cut(capsys):
    """A log is read by the byte, wherever its characters are cut."""
    lines, text = remote_jobs.LogPrinter(), "né à Genève\nzweite Zeile\nlast without end".encode()
    for at in range(len(text)):
        lines.print(text[at : at + 1])
    lines.print(b"", last=True)
    assert capsys.readouterr().err.splitlines() == ["[box] né à Genève", "[box] zweite Zeile", "[box] last without end"]


def test_host_keys_are_parsed_from_their_console_block():
    console = "boot\n-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 AAAA root@box\necdsa-sha2-nistp256 BBBB x\n-----END SSH HOST KEY KEYS-----\n"
    assert ssh.parse_host_keys(console) == ["ssh-ed25519 AAAA", "ecdsa-sha2-nistp256 BBBB"]
    assert ssh.parse_host_keys("ssh-ed25519 CCCC root@box") == []


def test_command_words_are_quoted():
    assert ssh.quote_command("echo", "a b; rm -rf ~") == "echo 'a b; rm -rf ~'"


def test_job_folders_are_below_the_home():
    there = remote_jobs.locate_folders(SETTINGS)
    assert there.job("j") == "kennel/jobs/j"


def test_readable_private_key_is_rejected(tmp_path):
    path = tmp_path / "ssh" / "id"
    ssh.ensure_key_pair(path)
    path.chmod(0o644)
    with pytest.raises(OpsError, match=f"chmod 600 {path}"):
        ssh.ensure_key_pair(path)


def test_unreachable_region_names_the_setting():
    from botocore.exceptions import EndpointConnectionError

    said = str(explain_sdk_error(EndpointConnectionError(endpoint_url="https://ec2.mars-north-1.amazonaws.com/")))
    assert "ec2.mars-north-1" in said
    assert "aws.region" in said
