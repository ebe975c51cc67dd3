"""Aliases with weights: a share of the calls goes to another version than the alias's own."""

from __future__ import annotations

import random
from typing import Any


def choose_function(backend: Any, name: str, qualifier: str) -> Any:
    """Return the function of a version or an alias; of an alias with weights, one of its two versions, drawn by lot."""
    alias = next((one for one in backend.list_aliases(name) if one.name == qualifier), None) if qualifier else None
    weights = (alias.routing_config or {}).get("AdditionalVersionWeights", {}) if alias else {}
    for version, share in weights.items():
        if random.random() < share:
            return backend.get_function(name, version)
    return backend.get_function(name, qualifier or None)
