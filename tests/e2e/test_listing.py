"""What `invoke --list` loads, seen from a process of its own."""

import subprocess
import sys

from ops.core.paths import ROOT

OURS = ("ops", "iampolicy", "sandbox", "bench", "tasks")


def loaded_by(code: str) -> set[str]:
    argv = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_listing_tasks_loads_no_sdk():
    sdks = {"boto3", "botocore", "fabric", "paramiko", "websockets", "rich", "pydantic", "sagemaker"}
    heavy = sdks | {"moto", "asyncssh", "psutil", "torch", "PIL", "sklearn"}
    assert not heavy & loaded_by("import tasks")


def test_listing_tasks_loads_commands_and_little_else():
    """What bench.cli measures in time, held here by count: every module is a file to find and read."""
    more = loaded_by("import invoke.main, tasks") - loaded_by("import invoke.main")
    files = more - set(sys.builtin_module_names)
    assert not {m for m in files if m.split(".")[0] not in OURS}
    ours = {m for m in more if m.startswith("ops.") and not m.startswith("ops.commands")}
    assert ours <= {
        "ops.core",
        "ops.core.entry",
        "ops.core.errors",
        "ops.core.interrupts",
        "ops.core.output",
        "ops.core.paths",
        "ops.core.running",
        "ops.core.streams",
        "ops.core.task",
        "ops.core.text",
    }
