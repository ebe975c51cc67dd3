"""Deep Learning AMIs: the newest that is still patched is found by its path, judged before a launch, and locked in the settings."""

from datetime import date

import pytest

from ops.box import images
from ops.box.images import Image
from ops.core.errors import OpsError


def dlami(**more):
    given = {
        "image_id": "ami-1",
        "name": "PyTorch 2.12",
        "architecture": "x86_64",
        "families": ("g4dn", "g5", "p4", "p6-b200"),
    }
    return Image(
        **({**given, "least_gib": 75, "root": "/dev/sda1", "made": date(2026, 11, 1), "deprecated": None} | more)
    )


@pytest.mark.parametrize(
    ("kind", "processors", "words"),
    [
        ("g4dn.xlarge", ("x86_64",), ""),
        ("p4d.24xlarge", ("x86_64",), ""),  # AWS writes P4 for it
        ("p6-b200.48xlarge", ("x86_64",), ""),
        ("g6.xlarge", ("x86_64",), "runs on g4dn, g5, p4, p6-b200, not on g6"),
        ("g5g.xlarge", ("arm64",), "is for x86_64, but g5g.xlarge is arm64"),
        ("p3.2xlarge", ("x86_64",), "not on p3"),
    ],
)
def test_image_description_decides_its_compatibility(kind, processors, words):
    assert words in dlami().explain_incompatibility(kind, processors)
    assert bool(words) == bool(dlami().explain_incompatibility(kind, processors))


def test_image_without_listed_types_fits_any_type():
    assert dlami(families=()).explain_incompatibility("t3.medium", ("x86_64",)) == ""


def test_support_ends_with_the_earlier_date():
    assert dlami(pytorch=(2, 9), deprecated=date(2028, 6, 1)).compute_support_end() == date(2026, 10, 15)
    assert dlami(pytorch=(2, 9), deprecated=date(2026, 1, 1)).compute_support_end() == date(2026, 1, 1)
    assert dlami(pytorch=(9, 9)).compute_support_end() is None


def test_image_is_parsed_from_the_response_of_aws():
    found = images.from_response(
        {
            "ImageId": "ami-9", "Name": "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.10 (Ubuntu 24.04) 20260801", "Architecture": "x86_64",
            "Description": "Supported EC2 instances: G4dn, G5, P6-B200. Release notes: https://example",
            "RootDeviceName": "/dev/sda1", "CreationDate": "2026-08-01T01:02:03.000Z",
            "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "VirtualName": "x"}, {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 65}}],
        }
    )  # fmt: skip
    assert (found.families, found.least_gib, found.pytorch) == (("g4dn", "g5", "p6-b200"), 65, (2, 10))


def test_settings_file_without_an_ami_line_is_unchanged(tmp_path):
    for text in ("stack: {name: x}\n", "ec2: {disk_gib: 90}\n", "other:\n  ami: x\nec2:\n  disk_gib: 9\n"):
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        with pytest.raises(OpsError, match="has no line"):
            images.pin_image(path, dlami())
        assert path.read_text() == text
