"""The box's disk: when it counts as full, what is shown of it, and which advice helps."""

from types import SimpleNamespace

import pytest

from ops.box import disk, full_disk


@pytest.mark.parametrize(
    ("total", "free", "full"),
    [(100, 50, False), (100, 9, True), (5, 0.9, True), (0.9, 0.9, False), (0.9, 0.18, True), (2.1, 0.57, True)],
)
def test_disk_is_full_by_share_or_size(total, free, full):
    assert disk.Disk("kennel", total, free, {}).is_full is full


def test_largest_paths_do_not_overlap():
    sizes = {
        "/h": 1000,
        "/h/results": 700,
        "/h/results/run": 690,
        "/h/results/run/core.bin": 650,
        "/h/conda": 200,
        "/h/conda/a": 80,
        "/h/conda/b": 70,
        "/h/c": 60,
        "/var": 50,
    }
    assert disk.choose_largest(sizes) == ["/h/results/run/core.bin", "/h/conda", "/h/c", "/var"]


ACCOUNT = SimpleNamespace(settings=None)


def advise(monkeypatch, have, freed):
    monkeypatch.setattr(disk, "list_current_shards", lambda account: [])
    monkeypatch.setattr(disk, "clean_disk", lambda *args, dry: [("jobs/old", int(freed * 1e9))] if freed else [])
    return disk.advise(ACCOUNT, None, have)


OWN = (("core.bin", 0.7),)


@pytest.mark.parametrize(
    ("freed", "largest", "advice"),
    [
        (5.0, OWN, "Next: invoke ec2.clean, which frees 5.00 GB"),
        (0.02, OWN, "invoke ec2.clean frees only 0.02 GB. Next: copy what you need of the paths below"),
        (0.0, OWN, "invoke ec2.clean has nothing to delete. Next: copy what you need of the paths below"),
        (0.0, (), "The disk is too small for this dataset: see runbooks/box-disk-full.md"),
    ],
    ids=["clean", "little", "own", "small"],
)
def test_advice_is_what_frees_enough(monkeypatch, freed, largest, advice):
    have = disk.Disk("kennel", 10.0, 0.1, {}, 0.7, largest)
    assert advice in advise(monkeypatch, have, freed)


def test_advice_while_a_job_trains_is_to_wait(monkeypatch):
    def refuse(*args, dry):
        raise disk.FilesInUse("A job is training on the box")

    monkeypatch.setattr(disk, "list_current_shards", lambda account: [])
    monkeypatch.setattr(disk, "clean_disk", refuse)
    said = disk.advise(ACCOUNT, None, disk.Disk("kennel", 10.0, 0.1, {}, 0.7, OWN))
    assert said.endswith("invoke ec2.clean has to wait for the job that trains: invoke ec2.attach")
    assert "Next: invoke ec2.run 'rm -r PATH'" in said


def test_reason_is_the_line_about_the_disk():
    said = "tar: x: Cannot write: No space left on device\ntar: Exiting with failure status due to previous errors\n"
    assert full_disk.take_reason(said) == "tar: x: Cannot write: No space left on device"
    assert full_disk.take_reason("Traceback:\n  File x\nValueError: no.\n\n") == "ValueError: no"
    assert full_disk.take_reason("") == "it gave no reason"
    assert "runbooks/box-disk-full.md" in full_disk.suggest_fix(said, "Read its log")
    assert full_disk.suggest_fix("ValueError", "Read its log") == "Read its log"
