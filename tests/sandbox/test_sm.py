"""SageMaker: plans by equality, jobs that really run and really fail, releases that really answer."""

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from ops.core import plan
from ops.core.errors import AwsError
from ops.core.files import build_tar
from ops.datasets import bucket_setup, push
from ops.endpoint import evaluation
from sandbox.codebuild import docker


def test_missing_endpoint_is_reported_by_every_command(make_stack):
    cli = make_stack("noendpoint")
    for command in (
        ("sm.status",),
        ("sm.autoscale",),
        ("sm.logs",),
        ("sm.invoke", "README.md"),
    ):
        refused = cli(*command, ok=False)
        assert refused.code == 1, command
        assert "There is no endpoint kennel-noendpoint. Deploy one: invoke sm.deploy" in refused.err, command


def test_delete_without_an_endpoint_has_nothing_to_do(make_stack):
    """A run after one that was killed behind its last change: it succeeds, as net.down and ec2.down do."""
    ran = make_stack("nothingleft")("sm.delete", "--confirm", "kennel-nothingleft")
    assert "There is no endpoint kennel-nothingleft, and nothing of an earlier one." in ran.out


def test_model_of_an_oci_image_is_refused(make_stack, sandbox):
    """AWS refuses the manifests that Docker 29 writes by default; the sandbox accepted them."""
    cli, name = make_stack("oci"), "oci"
    (sandbox / "images" / name / "environment" / "bin").mkdir(parents=True)
    (sandbox / "images" / name / "image.json").write_text(json.dumps({"workdir": "/", "entrypoint": ["none"]}))
    repository = cli.account.call("ecr", "create_repository", repositoryName="kennel-oci")["repository"]
    layer = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 1, "digest": f"sha256:{name}"}
    manifest = {"schemaVersion": 2, "mediaType": docker.OCI_MANIFEST, "config": layer, "layers": [layer]}
    cli.account.call("ecr", "put_image", repositoryName="kennel-oci", imageTag="t", imageManifest=json.dumps(manifest))
    with pytest.raises(
        AwsError, match="Unsupported manifest media type application/vnd.oci.image.manifest.v1.json for image"
    ):
        cli.account.call(
            "sagemaker", "create_model", ModelName="oci", ExecutionRoleArn=cli.settings.role_arn("sagemaker-execution"),
            PrimaryContainer={"Image": f"{repository['repositoryUri']}:t", "ModelDataUrl": "s3://none/none"},
        )  # fmt: skip


def test_model_is_evaluated_on_its_own_dataset(make_stack, pictures, monkeypatch):
    """A job that was split for other data than the current ones is measured on its own, or refused with both digests."""
    cli = make_stack("owndata")
    plan.apply(partial(bucket_setup.steps, bucket_setup.Facts(), cli.settings), cli.account, print)
    own = push.push_dataset(cli.account, pictures).manifest.digest
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "dog" / "1.png")
    current = push.push_dataset(cli.account, pictures).manifest.digest
    seen = []

    def evaluate(argv, **_):
        seen.extend(path.parent.name for path in Path(argv[-1]).rglob("manifest.json"))
        return subprocess.CompletedProcess(argv, 0, '{"accuracy": 0.5, "pictures": 2, "answers": {}}', "")

    monkeypatch.setattr(evaluation.subprocess, "run", evaluate)
    put_model(cli, pictures.parent, "kennel-owndata-sm1-own", own)
    ran = cli("sm.evaluate", "--job", "kennel-owndata-sm1-own")
    assert "Accuracy 0.5000 on 2 test pictures, by kennel-owndata-sm1-own." in ran.out
    assert f"its own dataset {own[:12]}, and not on the current one, {current[:12]}." in ran.err
    assert seen == [own]
    put_model(cli, pictures.parent, "kennel-owndata-sm1-lost", "0" * 64)
    refused = cli("sm.evaluate", "--job", "kennel-owndata-sm1-lost", ok=False)
    assert (refused.code, len(seen)) == (1, 1)
    assert f"tested on dataset {'0' * 12}, which is missing; the current dataset is {current[:12]}" in refused.err


def put_model(cli, folder, job, data):
    card = folder / "model.json"
    card.write_text(json.dumps({"data": data}))
    cli.account.bucket.put(f"jobs/{job}/output/model.tar.gz", build_tar([("model.json", card)]))
