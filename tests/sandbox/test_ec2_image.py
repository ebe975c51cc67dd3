"""Deep Learning AMIs: the newest that is still patched is found by its path, judged before a launch, and locked in the settings."""

import json
from datetime import date

import pytest

from ops.box import facts, images
from ops.box.images import Image
from ops.core.errors import OpsError

NEWEST, PYTORCH_29, ARM = "ami-0f0e0d0c0b0a09080", "ami-0a1b2c3d4e5f60718", "ami-0c0c0c0c0c0c0c0c0"


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


def choose(cli):
    return images.choose(cli.account, cli.settings.ec2.instance_types[0])


@pytest.mark.parametrize(
    ("kind", "processors", "words"),
    [
        ("g4dn.xlarge", ("x86_64",), ""),
        ("p4d.24xlarge", ("x86_64",), ""),  # AWS writes P4 for it
        ("p6-b200.48xlarge", ("x86_64",), ""),
        ("g6.xlarge", ("x86_64",), "runs on g4dn, g5, p4, p6-b200, not on g6"),
        ("g5g.xlarge", ("arm64",), "is for x86_64, g5g.xlarge is arm64"),
        ("p3.2xlarge", ("x86_64",), "not on p3"),
    ],
)
def test_what_an_image_runs_on_is_in_its_description(kind, processors, words):
    assert words in dlami().runs_on(kind, processors)
    assert bool(words) == bool(dlami().runs_on(kind, processors))


def test_an_image_that_names_no_types_is_not_judged_by_them():
    assert dlami(families=()).runs_on("t3.medium", ("x86_64",)) == ""


def test_support_ends_with_the_earlier_of_two_dates():
    assert dlami(pytorch=(2, 9), deprecated=date(2028, 6, 1)).supported_until() == date(2026, 10, 15)
    assert dlami(pytorch=(2, 9), deprecated=date(2026, 1, 1)).supported_until() == date(2026, 1, 1)
    assert dlami(pytorch=(9, 9)).supported_until() is None


def test_an_answer_of_aws_is_read_as_it_stands():
    found = images.from_response(
        {
            "ImageId": "ami-9", "Name": "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.10 (Ubuntu 24.04) 20260801", "Architecture": "x86_64",
            "Description": "Supported EC2 instances: G4dn, G5, P6-B200. Release notes: https://example",
            "RootDeviceName": "/dev/sda1", "CreationDate": "2026-08-01T01:02:03.000Z",
            "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "VirtualName": "x"}, {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 65}}],
        }
    )  # fmt: skip
    assert (found.families, found.least_gib, found.pytorch) == (("g4dn", "g5", "p6-b200"), 65, (2, 10))


def test_the_newest_that_is_patched_is_taken_and_the_rest_is_shown(stacks):
    cli = stacks("image")
    found = json.loads(cli("ec2.ami", "--json").out)
    assert [one["image"] for one in found] == [
        NEWEST,
        PYTORCH_29,
        "ami-0123456789abcdef0",
    ]  # by PyTorch, not by date; base images are none
    assert found[0]["problem"] == ""
    assert found[0]["supported_until"] == "2028-11-01"
    assert "not patched since 2026-10-15" in found[1]["problem"]
    assert choose(cli).image_id == NEWEST


def test_an_arm_type_gets_an_arm_image(stacks):
    cli = stacks("imagearm", "ec2: {instance_types: [g5g.xlarge], user: ec2-user}\n")
    assert choose(cli).image_id == ARM


def test_the_type_that_was_asked_for_chooses_the_architecture(stacks):
    """--instance-type is another processor's than the settings' types."""
    cli = stacks("imageasked", "ec2: {instance_types: [g4dn.xlarge], user: ec2-user}\n")
    have = facts.read_for_launch(cli.account, facts.Facts(), ["g5g.xlarge"], dry=True)
    assert have.image.image_id == ARM


def test_the_lock_line_holds_an_image_and_an_old_one_is_told(stacks):
    cli = stacks("imagelock", 'ec2:\n  ami: ""  # nothing yet\n  disk_gib: 90\n')
    assert "would write ami" in cli("--dry", "ec2.ami", "--lock").out
    assert "ec2.ami is ami-0f0e0d0c0b0a09080" in cli("ec2.ami", "--lock").out
    assert f"  ami: {NEWEST}  # locked 20" in cli.file.read_text()
    assert "  disk_gib: 90\n" in cli.file.read_text()
    assert cli.settings.ec2.ami == NEWEST
    cli.file.write_text(cli.file.read_text().replace(NEWEST, PYTORCH_29))
    old = cli("ec2.ami", ok=False)
    assert old.code == 7
    assert "not patched since 2026-10-15" in old.out
    assert choose(cli).image_id == PYTORCH_29  # locked is locked
    cli("ec2.ami", "--lock")
    assert cli.settings.ec2.ami == NEWEST


def test_a_settings_file_without_a_lock_line_is_left_alone(tmp_path):
    for text in ("stack: {name: x}\n", "ec2: {disk_gib: 90}\n", "other:\n  ami: x\nec2:\n  disk_gib: 9\n"):
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        with pytest.raises(OpsError, match="has no line"):
            images.pin(path, dlami())
        assert path.read_text() == text


def test_a_parameter_that_is_not_there_is_said(stacks):
    cli = stacks("imagenone", "ec2: {ami_parameter: /aws/service/deeplearning/ami/none}\n")
    assert "There is no image parameter /aws/service/deeplearning/ami/none in us-east-1" in cli("ec2.ami", ok=False).err
