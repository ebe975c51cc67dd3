"""bf16 by evidence: what is rounded, what is counted, and what that proves."""

import json

from ops.core.paths import ROOT


def test_release_digest_covers_the_precisions(forks, demo_stack, tmp_path):
    """A model packaged twice is one release; its precisions are part of the digest."""
    from ops.releases import trained_model

    model = next(p for p in trained_model.MODELS.iterdir() if p.name.startswith("kennel-whole-sm2-"))

    def packaged(folder, source):
        done = forks.run(str(ROOT / "training" / "export.py"), str(source), str(tmp_path / folder))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first, second = packaged("a", model), packaged("b", model)
    assert first == second
    assert first["precisions"] == ["fp32", "bf16"]
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()
    evidence = json.loads((model / "model.json").read_text())["metrics"]["test"]["precision"]
    assert evidence["pictures"] == 360
    assert evidence["agree"] >= 359
