"""The run of cloudsplaining on a snapshot. It imports nothing of ours, so that any Python with cloudsplaining will do.

python bench/cloudsplaining_run.py SNAPSHOT ANSWER      writes seconds, peak memory and findings by role
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def collect_escalations(results: dict[str, Any], pages: dict[str, str | None]) -> dict[str, list[dict[str, Any]]]:
    """Return escalation paths by role, each with its type, the catalog's id (or ""), and actions in lower case."""
    documents = results["inline_policies"] | results["customer_managed_policies"] | results["aws_managed_policies"]
    found: dict[str, list[dict[str, Any]]] = {}
    for role in results["roles"].values():
        policies = [*role["inline_policies"], *role["customer_managed_policies"], *role["aws_managed_policies"]]
        findings = [one for policy_id in policies for one in documents[policy_id]["PrivilegeEscalation"]["findings"]]
        if findings:
            found[role["name"]] = [one | {"id": (pages.get(one["type"]) or "").rpartition("/")[2]} for one in findings]
    return found


def main(snapshot: Path, answer: Path) -> None:
    from cloudsplaining.scan.authorization_details import AuthorizationDetails
    from cloudsplaining.shared.constants import PRIVILEGE_ESCALATION_PATHFINDING_PATHS as PAGES

    began, used = time.perf_counter(), time.process_time()
    results = AuthorizationDetails(json.loads(snapshot.read_text())).results
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.write_text(
        json.dumps({"seconds": seconds, "cpu": cpu, "mb": peak, "found": collect_escalations(results, PAGES)})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
