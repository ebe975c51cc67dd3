"""Training jobs from the command line: submitted, followed, left and come back to, interrupted, explained, tuned."""

import io
import json
import signal
import tarfile
import time

import pytest

from bench.resume import write_noise_pictures
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.jobs import spec, training_jobs
from sandbox import state
from sandbox.client import send_control_request


def test_again_starts_without_the_checkpoint(stack):
    cli = longer(stack, "follow-again", 30)
    job = json.loads(cli("sm.train", "--no-wait", "--json").out)["job"]
    deadline = time.monotonic() + 60
    while "epoch 2/30" not in cli("sm.logs", "--job", job).out:
        assert time.monotonic() < deadline
    cli("sm.stop", job)
    second = cli("sm.train", "--again")
    assert f"{job}-2: Completed" in second.out
    assert "resuming at" not in second.err


@pytest.fixture(scope="module")
def stack(make_stack, tmp_path_factory):
    """Pictures of nothing, and a job on them that takes some seconds."""
    cli = make_stack("follow", "train: {epochs: 3, batch: 8, pixels: 16}")
    cli("iam.apply", "data.up", "net.up")
    folder = write_noise_pictures(tmp_path_factory.mktemp("follow") / "noise")
    cli("data.push", "--dir", str(folder))
    return cli


def with_settings(cli, name, more):
    """The same stack with other settings."""
    file = cli.file.with_name(f"{name}.yaml")
    file.write_text(cli.file.read_text() + "\n" + more)
    return type(cli)(file)


def longer(cli, name, epochs):
    file = cli.file.with_name(f"{name}.yaml")
    file.write_text(cli.file.read_text().replace("epochs: 3", f"epochs: {epochs}"))
    return type(cli)(file)


def model_of(cli, job):
    body = cli.account.call("s3", "get_object", Bucket=cli.settings.bucket, Key=f"jobs/{job}/output/model.tar.gz")[
        "Body"
    ].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def test_two_hosts_train_on_a_folder_and_report_json(stack, tmp_path):
    folder = write_noise_pictures(tmp_path / "other", seed=4)
    ran = stack("sm.train", "--data", str(folder), "--instances", "2", "--wait", "--json")
    found = json.loads(ran.out)
    assert found["job"].startswith("kennel-follow-sm2-")
    assert found["test"]["pictures"] == 6
    assert {"accuracy", "top5", "macro_f1", "calibration_error", "recall", "loss"} <= set(found["test"])
    ledger = found["ledger"]
    assert (ledger["complete"], ledger["pictures"], ledger["beyond_padding"], ledger["padding"]) == (True, 39, 0, 3)
    assert "[algo-1] epoch 3/3" in ran.err
    assert "so far" in ran.err
    again = json.loads(stack("sm.train", "--instances", "2", "--json").out)
    assert again["job"] == found["job"]
    card = json.loads(model_of(stack, found["job"])["model.json"])
    assert (card["processes"], card["device"], card["seed"]) == (2, "cpu", 0)
    assert {"torch", "torchvision", "Pillow", "safetensors"} <= set(card["versions"])


def test_three_hosts_round_the_batch_and_use_every_picture(stack):
    """The original's number of hosts, which does not divide the batch of 8."""
    ran = stack("sm.train", "--instances", "3", "--again", "--json")
    assert "train on 3 x ml.m5.xlarge, at most 3600 s, batch 8 rounded to a multiple of 3" in ran.err
    assert "[algo-1] batch 9 instead of 8: 3 processes take 3 pictures each per step" in ran.err
    ledger = json.loads(ran.out)["ledger"]
    assert (ledger["complete"], ledger["processes"], ledger["beyond_padding"]) == (True, 3, 0)


def test_one_and_two_hosts_agree_with_a_frozen_backbone(stack, tmp_path):
    """The same global batch, which the 40 pictures divide: gradients are means over it. The stated tolerance: 1e-5.

    The backbone is frozen, since BatchNorm would see half of the batch; SGD's step would show a sum where a mean is due, and
    AdamW's hides it, so the losses are compared too. Half of the pictures alone end elsewhere, a thousand times further off.
    """
    from safetensors.torch import load

    cli = with_settings(stack, "follow-frozen", "")
    cli.file.write_text(stack.file.read_text().replace("batch: 8", "batch: 10, layers: head"))
    cli("data.push", "--dir", str(write_noise_pictures(tmp_path / "even", train=40, seed=7)))
    found = []
    for hosts in ("1", "2"):
        job = json.loads(cli("sm.train", "--instances", hosts, "--json").out)["job"]
        files = model_of(cli, job)
        found.append(
            (load(files["model.safetensors"]), [json.loads(line) for line in files["metrics.jsonl"].splitlines()])
        )
    (one, lines), (two, others) = found
    assert max((one[name].float() - two[name].float()).abs().max().item() for name in one) < 1e-5
    for a, b in zip(lines[:-1], others[:-1], strict=True):
        assert a["train"]["loss"] == pytest.approx(b["train"]["loss"], abs=1e-5)
    half = cli("data.push", "--dir", str(write_noise_pictures(tmp_path / "half", train=20, seed=7)))
    assert "uploaded" in half.out
    alone = load(model_of(cli, json.loads(cli("sm.train", "--json").out)["job"])["model.safetensors"])
    assert max((one[name].float() - alone[name].float()).abs().max().item() for name in one) > 1e-3


def test_ctrl_c_keeps_the_job_and_attach_returns_to_it(stack):
    cli = longer(stack, "follow-long", 20)
    process = cli.background("sm.train")
    said = ""
    for line in process.stdout:
        said += line
        if "epoch 2/20" in line:
            process.send_signal(signal.SIGINT)
            break
    said += process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert "keeps running. Follow it: invoke sm.attach kennel-follow-sm1-" in said
    job = said.split("invoke sm.attach ")[1].split()[0]
    back = cli("sm.attach", job, "--json")
    assert json.loads(back.out)["job"] == job
    assert "epoch 1/20" in back.err  # from its first line
    assert "epoch 20/20" in back.err
    assert "nothing is wrong" in cli("sm.explain", job).out


def test_interrupted_spot_job_ends_with_equal_weights(stack, sandbox):
    """A spot job that is interrupted ends with the weights of one that is not."""
    cli = longer(stack, "follow-spot", 20)
    whole = json.loads(cli("sm.train", "--json").out)["job"]
    process = cli.background("sm.train", "--spot", "--again")
    said = ""
    for line in process.stdout:
        said += line
        if "epoch 5/20" in line:
            send_control_request(state.read(sandbox), "POST", "interrupt", {"job": f"{whole}-2"})
            break
    said += process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert "resuming at epoch" in said
    assert "% saved" in said
    one, two = model_of(cli, whole), model_of(cli, f"{whole}-2")
    assert one["model.safetensors"] == two["model.safetensors"]
    assert one["ledger.json"] == two["ledger.json"]


def test_next_job_resumes_a_stopped_one(stack):
    cli = longer(stack, "follow-stop", 40)
    job = json.loads(cli("sm.train", "--no-wait", "--json").out)["job"]
    deadline = time.monotonic() + 60
    while "epoch 3/40" not in cli("sm.logs", "--job", job).out:
        assert time.monotonic() < deadline
    assert "is stopped" in cli("sm.stop", job).out
    explained = cli("sm.explain", job, "--json", ok=False)
    found = json.loads(explained.out)
    assert (explained.code, found["cause"]) == (7, "it was stopped")
    assert found["fix"] == "invoke sm.train: it resumes from the checkpoint"
    again = cli("sm.train")
    assert f"{job}-2: Completed" in again.out
    assert "resuming at epoch" in again.err
    assert "has already ended: Stopped" in cli("sm.stop", job).out


def test_lost_host_fails_the_job_within_seconds(stack, sandbox):
    cli = longer(stack, "follow-die", 200)
    job = json.loads(cli("sm.train", "--instances", "2", "--no-wait", "--json").out)["job"]
    deadline = time.monotonic() + 60
    while "epoch 2/200" not in cli("sm.logs", "--job", job).out:
        assert time.monotonic() < deadline
    send_control_request(state.read(sandbox), "POST", "kill", {"job": job, "host": 2})
    began = time.monotonic()
    failed = cli("sm.attach", job, ok=False)
    assert time.monotonic() - began < 20
    assert "ended Failed: AlgorithmError" in failed.err
    explained = cli("sm.explain", job, ok=False)
    assert explained.code == 7
    assert "resumes from the checkpoint" in explained.out or "larger train.instance_type" in explained.out


def test_unknown_job_is_reported_by_every_command(stack):
    nope = f"{stack.settings.prefix}-nope"
    for command in (("sm.attach", nope), ("sm.stop", nope), ("sm.explain", nope), ("sm.logs", "--job", nope)):
        refused = stack(*command, ok=False)
        assert refused.code == 1
        assert f"No job of this stack is called {nope}" in refused.err
    other = stack("sm.attach", "another-stacks", ok=False)  # the operator may not even look at it
    assert (other.code, "No job of this stack is called another-stacks. Its jobs begin with" in other.err) == (1, True)
    assert "--via must be one of boto3, sdk" in stack("sm.train", "--via", "terraform", ok=False).err


def test_dry_run_shows_training_and_cost(stack):
    cli = longer(stack, "follow-dry", 7)
    dry = cli("--dry", "sm.train", "--instances", "2", "--spot")
    assert "sagemaker.create_training_job: train on 2 x ml.m5.xlarge" in dry.err
    assert "spot" in dry.err
    assert (
        training_jobs.find_training_job(cli.account, spec.build_spec_from_settings(cli.account, "sm", 2).name) is None
    )


def test_dry_run_plans_for_a_folder_without_pushing_it(stack, make_stack, tmp_path):
    before = spec.build_spec_from_settings(stack.account, "sm").name
    folder = write_noise_pictures(tmp_path / "new", seed=11)
    dry = stack("--dry", "sm.train", "--data", str(folder))
    assert "sagemaker.create_training_job" in dry.err
    assert spec.build_spec_from_settings(stack.account, "sm").name == before
    fresh = make_stack("drydata")
    fresh("iam.apply", "data.up", "net.up")
    assert (
        "sagemaker.create_training_job" in fresh("--dry", "sm.train", "--data", str(folder)).err
    )  # nothing was ever pushed


def test_imagenet_weights_are_staged_once_and_start_a_job(stack, forks, tmp_path):
    """torchvision's own file cannot be had here: one of the same form is served, under a name that carries its hash."""
    import functools
    import hashlib
    import http.server
    import threading

    make = f"import sys; sys.path.insert(0, {str(ROOT / 'training')!r}); import torch, vision; torch.manual_seed(1); torch.save(vision.models.get_model('squeezenet1_1').state_dict(), sys.argv[1])"
    assert forks.run("-c", make, str(tmp_path / "w.pth")).returncode == 0
    sha = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    name = f"squeezenet1_1-{sha[:8]}.pth"
    (tmp_path / "w.pth").rename(tmp_path / name)
    (tmp_path / "squeezenet1_1-00000000.pth").write_bytes((tmp_path / name).read_bytes())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        rejected = stack("data.weights", "squeezenet1_1", "--url", f"{base}/squeezenet1_1-00000000.pth", ok=False)
        assert "invalid hash value" in rejected.err
        odd = stack("data.weights", "squeezenet1_1", "--url", f"{base}/weights.pth", ok=False)
        assert "must end in the first digits of its SHA-256" in odd.err
        assert "is in the bucket" in stack("data.weights", "squeezenet1_1", "--url", f"{base}/{name}").out
        server.shutdown()
    cli = with_settings(stack, "follow-start", "")
    cli.file.write_text(
        stack.file.read_text().replace(
            "pixels: 16", "pixels: 32, arch: squeezenet1_1, weights: imagenet, layers: head, views: 2"
        )
    )
    found = json.loads(cli("sm.train", "--json").out)
    card = json.loads(model_of(cli, found["job"])["model.json"])
    assert card["settings"]["weights"] == sha
    missing = with_settings(stack, "follow-none", "")
    missing.file.write_text(
        stack.file.read_text().replace("pixels: 16", "pixels: 16, arch: resnet50, weights: imagenet")
    )
    assert "Stage them: invoke data.weights resnet50" in missing("sm.train", ok=False).err


def test_missing_weights_file_is_reported(stack):
    cli = with_settings(stack, "follow-file", "")
    cli.file.write_text(stack.file.read_text().replace("pixels: 16", "pixels: 16, weights: nowhere.pth"))
    with pytest.raises(OpsError, match="there is no such file"):
        spec.build_spec_from_settings(cli.account, "sm")
