"""The box as people use it: real SSH through the real tunnel, and what it refuses."""

import subprocess
from types import SimpleNamespace

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


def test_errors_are_read_to_their_end_over_silences():
    """Silence on stderr ends nothing: the channel's time limit is that of stdout."""
    pieces, came = [b"first ", TimeoutError(), b"last", b""], bytearray()

    def receive(size):
        piece = pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    ssh.drain_errors(SimpleNamespace(recv_stderr=receive), came.extend)
    assert (bytes(came), pieces) == (b"first last", [])


def test_only_what_follows_the_mark_is_an_answer():
    """What a login prints may share a line with the mark, and come in any pieces."""
    came = bytearray()
    stream = ssh.AfterMark("0123", came.extend)
    for at in range(len(text := b"Welcome.\nDisk full: 0123\nthe answer\n0123\n")):
        stream.receive(text[at : at + 1])
    assert (bytes(stream.before), bytes(came)) == (b"Welcome.\nDisk full: ", b"the answer\n0123\n")


@pytest.mark.parametrize(("combine", "streams"), [(False, ("out\n", "err\n")), (True, ("out\nerr\n", ""))])
def test_marked_command_runs_quoted_in_sh(combine, streams):
    command = ssh.mark_command("echo 'o''ut'; echo \"err\" >&2; exit 4", "0123", combine)
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == tuple(f"0123\n{stream}" for stream in streams)
    assert ran.returncode == 4


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
