"""What is kept of an account on disk: no key's id and no secret, wherever it stands."""

import pytest

from iampolicy.account import snapshot_file

KEY = "AKIA" + "IOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    "text",
    [KEY, f"old_{KEY}", f"{KEY}_old", f"key{KEY.replace('AKIA', 'ASIA')}", f"{KEY}{'A' * 200}"],
)
def test_key_ids_are_redacted_anywhere(text):
    assert "IOSFODNN7EXAMPLE" not in snapshot_file.redact_secrets({"Key": "note", "Value": text})["Value"]


@pytest.mark.parametrize("text", [SECRET, f"AWS_SECRET_ACCESS_KEY={SECRET}", f"x:{SECRET},", f'"{SECRET}"'])
def test_secrets_are_redacted_anywhere(text):
    assert SECRET not in snapshot_file.redact_secrets(text)


@pytest.mark.parametrize(
    "text", ["arn:aws:iam::123456789012:role/AKIAS", "BAKIAIOSFODNN7EXAMPLE", "a" * 40, f"{SECRET}=", f"{SECRET}B"]
)
def test_harmless_text_is_kept(text):
    assert snapshot_file.redact_secrets(text) == text
