"""The preflight of the function's package: its size, what it imports, and how long its import takes in a clean interpreter."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError
from ops.core.finding import Finding
from ops.core.settings import Settings
from ops.function.plan import build_function_config

PROBE = Path(__file__).with_name("import_probe.py")
PACKAGE_BYTES = 100_000
IMPORT_CPU_S = 0.35
TRIES = 3  # another program on the same core can make an import slow: the fastest counts
INIT_S = 10  # Lambda ends code outside the handler that takes longer
RUNTIME = {
    "boto3",
    "botocore",
    "dateutil",
    "jmespath",
    "s3transfer",
    "six",
    "urllib3",
}  # what Lambda's Python comes with


@dataclass(frozen=True)
class Report:
    """What the preflight measured; `import_cpu_s` is None when the import failed."""

    package_bytes: int
    import_cpu_s: float | None
    findings: tuple[Finding, ...]


def check_package(code: bytes, settings: Settings) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "package"
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            archive.extractall(package)
        found = import_in_clean_interpreter(package, settings)
        foreign = sorted(find_foreign_imports(package))
    return Report(len(code), found.get("cpu_s"), tuple(list_findings(len(code), found, foreign)))


def import_in_clean_interpreter(package: Path, settings: Settings) -> dict[str, Any]:
    """Return {"cpu_s"} of the fastest import, or {"error"}. The first one below the limit is enough."""
    fastest = import_once(package, settings)
    for _ in range(TRIES - 1):
        if "error" in fastest or fastest["cpu_s"] <= IMPORT_CPU_S:
            break
        fastest = min(fastest, import_once(package, settings), key=lambda one: one.get("cpu_s", INIT_S))
    return fastest


def import_once(package: Path, settings: Settings) -> dict[str, Any]:
    config = build_function_config(settings)
    region = settings.aws.region
    env = {
        "PATH": "/usr/bin:/bin", "HOME": str(package), "LANG": "C.UTF-8", "AWS_REGION": region, "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true", **config["Environment"]["Variables"],
    }  # fmt: skip
    argv = [sys.executable, "-I", "-B", str(PROBE), str(package), config["Handler"]]
    try:
        done = subprocess.run(argv, cwd=package, env=env, capture_output=True, text=True, timeout=INIT_S)
    except subprocess.TimeoutExpired:
        return {"error": f"it takes more than {INIT_S} seconds"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.rpartition("\n")[2])
    except ValueError:
        return {"error": (done.stderr.strip() or f"the interpreter ended with code {done.returncode}")[-300:]}
    return found


def find_foreign_imports(package: Path) -> set[str]:
    """Return the modules that the package imports, anywhere in its code, and that neither it nor Lambda's Python has."""
    own = {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")}
    known = own | RUNTIME | sys.stdlib_module_names
    return {name for path in package.rglob("*.py") for name in list_imports(path) if name not in known}


def list_imports(path: Path) -> Iterator[str]:
    """Yield the top-level names of what a file imports; nothing for a file with a syntax error, which its import reports."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def list_findings(size: int, found: dict[str, Any], foreign: list[str]) -> Iterator[Finding]:
    again = "Then run: invoke lambda.preflight"
    if "error" in found:
        yield Finding("error", f"The package cannot be imported: {found['error']}", f"Correct lambda/. {again}")
    if foreign:
        yield Finding(
            "error",
            f"lambda/ imports what Lambda's Python does not have: {', '.join(foreign)}.",
            f"Use the standard library or boto3. {again}",
        )
    if size >= PACKAGE_BYTES:
        yield Finding(
            "error",
            f"The package has {size:,} bytes; it should stay below {PACKAGE_BYTES:,}.",
            f"Remove from lambda/ what the handler does not use. {again}",
        )
    if found.get("cpu_s", 0.0) > IMPORT_CPU_S:
        yield Finding(
            "warning",
            f"The import takes {found['cpu_s']:.2f} s of CPU; it should take at most {IMPORT_CPU_S}, since each new environment waits for it.",
            f"Import less in lambda/, or inside of functions. {again}",
        )


def require_sound_package(code: bytes, settings: Settings) -> list[Finding]:
    """Return the preflight's warnings. Raises OpsError for an error, which would make calls fail in Lambda."""
    findings = check_package(code, settings).findings
    if errors := [f"{one.message} {one.fix}" for one in findings if one.severity == "error"]:
        raise OpsError("\n".join([*errors, "The function was not changed."]))
    return list(findings)


def describe_report(report: Report) -> str:
    took = "" if report.import_cpu_s is None else f" Its import takes {report.import_cpu_s:.2f} s of CPU."
    lines = [f"{one.severity}: {one.message} {one.fix}" for one in report.findings]
    return "\n".join([f"The package has {report.package_bytes:,} bytes.{took}", *lines])
