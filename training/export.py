"""Package a trained model for serving: ONNX without traces of this host, the card, the golden answers, one digest.

    python export.py MODEL_DIR RELEASE_DIR      prints {"digest", "files", "precisions"} as JSON

The same model gives the same bytes: torch's exporter writes stack traces with absolute paths, which are removed here.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

import model
from precision import decide_precisions

FILES = ("model.onnx", "model.json", "golden.npz")


def export_onnx(folder: Path) -> bytes:
    """Return the network of a model folder as ONNX, with a variable batch size."""
    network, card = model.load(folder)
    side = card["preprocess"]["pixels"]
    example = torch.zeros(2, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["pictures"],
            output_names=["scores"],
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=256)},),
        )
    assert program is not None
    return strip_metadata(program.model_proto)


def strip_metadata(proto: Any) -> bytes:
    """Return the serialised model without paths, comments and versions: only the network."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    proto.producer_version = ""
    onnx.checker.check_model(proto)
    packed: bytes = proto.SerializeToString(deterministic=True)
    return packed


def package_for_serving(source: Path, target: Path) -> dict[str, Any]:
    """Write the release folder. release.json has the files' SHA-256, allowed precisions and the digest of both."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "model.onnx").write_bytes(export_onnx(source))
    for name in FILES[1:]:
        shutil.copyfile(source / name, target / name)
    files = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in FILES}
    whole = {"files": files, "precisions": decide_precisions(json.loads((target / "model.json").read_text()))}
    release = {"digest": hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest(), **whole}
    (target / "release.json").write_text(json.dumps(release, indent=1) + "\n")
    return release


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        release = package_for_serving(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(release))
    sys.stdout.flush()
    os._exit(0)  # the exporter's threads take seconds to end
