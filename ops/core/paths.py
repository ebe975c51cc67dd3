"""The checkout, and the folder in which commands keep what is theirs."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Caches, keys, reports, the audit log. Tests and second users name another folder.
WORK = Path(os.environ.get("KENNEL_WORK") or ROOT / ".kennel")
