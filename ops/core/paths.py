"""The paths of the checkout and of the work folder, where commands keep their files."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Caches, keys, reports, the audit log. Tests and second users set another folder.
WORK = Path(os.environ.get("KENNEL_WORK") or ROOT / ".kennel")
