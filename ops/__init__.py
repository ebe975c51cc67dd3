"""The tools: a namespace of commands is a module here, or a package where one module would be too long."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What commands keep for themselves: caches, keys, reports, the audit log. Tests and second users take another folder.
WORK = Path(os.environ.get("KENNEL_WORK") or ROOT / ".kennel")
