"""The import of torchvision, made to work beside any torch.

PyPI's torchvision wheel for Linux is compiled for CUDA. Beside a CPU-only torch its compiled part does not load, and
the import fails with "operator torchvision::nms does not exist", because torchvision registers shape rules for two
undefined operators. Classification needs neither. Declaring them, only when they are missing, makes the import work.
"""

import importlib.util

import torch

_MISSING = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_library = None  # kept alive: its destructor would remove the declarations


def declare_missing_operators() -> list[str]:
    """Declare the missing operators; return their names."""
    global _library
    load_compiled_part()
    missing = [name for name in _MISSING if not hasattr(torch.ops.torchvision, name)]
    if missing:
        _library = torch.library.Library("torchvision", "DEF")
        for name in missing:
            _library.define(_MISSING[name])
    return missing


def load_compiled_part() -> bool:
    """Load torchvision's compiled part, so that its operators exist early enough; return whether it loaded."""
    spec = importlib.util.find_spec("torchvision")
    for folder in spec.submodule_search_locations or [] if spec else []:
        from pathlib import Path

        for path in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(str(path))
            except OSError:
                return False
            return True
    return False


declare_missing_operators()

from torchvision import __version__ as version  # noqa: E402
from torchvision import models  # noqa: E402
from torchvision.models.resnet import BasicBlock, ResNet  # noqa: E402

__all__ = ["BasicBlock", "ResNet", "models", "version"]
