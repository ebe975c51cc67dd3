"""Known flaws of the packages that are installed here, by pip-audit; or that no advisory source can be reached.

python -m tests.advisories .venv-audit/bin/pip-audit      exit code 1 where a package has a flaw that a later version fixes
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from typing import Any

SOURCES = ("pypi", "osv")
LIMIT_S = 300  # of one source


def ask_source(program: str, source: str) -> list[dict[str, Any]] | str:
    """Return the packages that the source knows, with their flaws, as pip-audit prints them; or why it gave no answer."""
    words = [
        "--vulnerability-service",
        source,
        "--path",
        sysconfig.get_path("purelib"),
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    try:
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no answer in {LIMIT_S} s"
    except (ValueError, KeyError):
        return (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]
    known = [package for package in found if "skip_reason" not in package]  # a mirror of PyPI answers 404 for each
    return known or "it knows none of the packages"


def describe_flaws(packages: list[dict[str, Any]]) -> list[str]:
    """Return a line for each flaw that a later version fixes."""
    return [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions'])}"
        for package in packages
        for flaw in package["vulns"]
        if flaw["fix_versions"]
    ]


def main(program: str) -> int:
    for source in SOURCES:
        answer = ask_source(program, source)
        if isinstance(answer, str):
            print(f"{source}: {answer}")
            continue
        flaws = describe_flaws(answer)
        print("\n".join(flaws) or f"No known flaw in {len(answer)} packages, says {source}.")
        return 1 if flaws else 0
    print("No advisory source can be reached: the dependencies were NOT audited.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
