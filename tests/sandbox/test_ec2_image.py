"""Deep Learning AMIs: the newest that is still patched is found by its path, judged before a launch, and locked in the settings."""

import json

from ops.box import facts, images

NEWEST, PYTORCH_29, ARM = "ami-0f0e0d0c0b0a09080", "ami-0a1b2c3d4e5f60718", "ami-0c0c0c0c0c0c0c0c0"


def choose(cli):
    return images.choose_image(cli.account, cli.settings.ec2.instance_types[0])


def test_newest_supported_image_is_chosen(make_stack):
    """The newest image that is still patched is chosen; the others are listed."""
    cli = make_stack("image")
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


def test_arm_type_gets_an_arm_image(make_stack):
    cli = make_stack("imagearm", "ec2: {instance_types: [g5g.xlarge], user: ec2-user}\n")
    assert choose(cli).image_id == ARM


def test_requested_type_decides_the_architecture(make_stack):
    """--instance-type is another processor's than the settings' types."""
    cli = make_stack("imageasked", "ec2: {instance_types: [g4dn.xlarge], user: ec2-user}\n")
    have = facts.read_for_launch(cli.account, facts.Facts(), ["g5g.xlarge"], dry=True)
    assert have.image.image_id == ARM


def test_lock_pins_the_image_and_reports_an_old_one(make_stack):
    cli = make_stack("imagelock", 'ec2:\n  ami: ""  # nothing yet\n  disk_gib: 90\n')
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


def test_missing_image_parameter_is_reported(make_stack):
    cli = make_stack("imagenone", "ec2: {ami_parameter: /aws/service/deeplearning/ami/none}\n")
    assert "There is no image parameter /aws/service/deeplearning/ami/none in us-east-1" in cli("ec2.ami", ok=False).err
