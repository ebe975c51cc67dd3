"""The box's status: its state, what it has cost, when it stops by itself, and whether SSH reaches it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ops.box import access, launch, remote_jobs, user_data
from ops.box.facts import Facts
from ops.core import pricing, ssh
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import format_table
from ops.core.ssh import Connection


@dataclass(frozen=True)
class BoxStatus:
    data: dict[str, Any]
    text: str
    problem: str


def read(account: Account, have: Facts) -> BoxStatus:
    """Read the status from EC2 and, when the box runs, from the box. A spot interruption or a failed SSH connection is a problem."""
    assert have.box is not None
    reason = have.box.get("StateReason", {}).get("Message", "")
    data: dict[str, Any] = {
        "box": have.instance_id,
        "type": have.box["InstanceType"],
        "market": "spot" if have.on_spot else "on demand",
        "state": have.state,
        "reason": reason if have.state != "running" else "",
        "address": have.box.get("PrivateIpAddress"),
        **compute_costs(account, have),
        "expires": next((t["Value"] for t in have.box.get("Tags", []) if t["Key"] == "kennel:expires"), None),
        "ssh": "-",
        "newest_job": None,
        "stops_in_s": None,
    }
    problem = f"AWS took back its spot capacity: {reason}" if have.interrupted else ""
    if have.state == "running":
        try:
            with access.open_box_connection(account, have, use=False) as link:
                data |= {
                    "ssh": "ok",
                    "newest_job": remote_jobs.find_newest_job(link, remote_jobs.locate_folders(account.settings)),
                    "stops_in_s": read_countdown(link),
                }
        except OpsError as error:
            data["ssh"] = problem = str(error)
    return BoxStatus(data, format_box_status(data, problem), problem)


def compute_costs(account: Account, have: Facts) -> dict[str, float | None]:
    """Return costs at list prices, None where unknown. `dollars_so_far` is since the last start, disk included; spot costs less."""
    assert have.box is not None
    if have.state not in ("pending", "running"):
        return {"dollars_per_hour": round(pricing.price_disk(account.settings.ec2.disk_gib), 4), "dollars_so_far": 0.0}
    rate = launch.compute_box_rate(have.box["InstanceType"], account.settings)
    hours = (datetime.now(UTC) - have.box["LaunchTime"]).total_seconds() / 3600
    return {"dollars_per_hour": pricing.round_price(rate, 4), "dollars_so_far": pricing.round_price(rate * hours, 4)}


def read_countdown(link: Connection) -> int | None:
    """Return the seconds until the box stops itself if it stays unused; None without a watchdog."""
    text = ssh.run(link, f'cat "$BOX_ROOT"{user_data.STATE} 2>/dev/null || true').strip()
    if not text:
        return None
    found: dict[str, float] = json.loads(text)
    return max(0, round(found["limit_s"] - found["idle_s"] - (datetime.now(UTC).timestamp() - found["time"])))


def format_cost(amount: float | None, places: int) -> str:
    return "?" if amount is None else f"{amount:.{places}f}"


def format_box_status(data: dict[str, Any], problem: str) -> str:
    stops_in_s = data["stops_in_s"]
    cells = (
        data["box"], data["type"], data["market"], data["state"], data["address"], format_cost(data["dollars_per_hour"], 3),
        format_cost(data["dollars_so_far"], 2), "ok" if data["ssh"] == "ok" else "-" if data["ssh"] == "-" else "no", data["newest_job"] or "-",
    )  # fmt: skip
    text = format_table(("box", "type", "market", "state", "address", "$/h", "$ so far", "ssh", "newest job"), [cells])
    expires = f"Expires {data['expires']}." if data["expires"] else ""
    if stops_in_s is not None:
        note = f"It stops by itself in {stops_in_s // 60} min {stops_in_s % 60} s if it stays unused."
    elif data["ssh"] == "ok":
        note = (
            "Nothing on it stops it when it is idle: ec2.idle_minutes was 0 at its launch, or its watchdog has ended."
        )
    elif data["state"] in ("stopping", "stopped") and not problem:
        note = f"{data['reason'] or 'Stopped'}: it costs its disk only. Next: invoke ec2.start"
    else:
        note = ""
    return "\n".join(filter(None, (text, " ".join(filter(None, (note, expires))), problem)))


def read_gpu_status(link: Connection) -> str:
    """Return what nvidia-smi says about each GPU, or ""."""
    query = "name,utilization.gpu,memory.used,memory.total,temperature.gpu"
    return ssh.read(link, f"nvidia-smi --query-gpu={query} --format=csv,noheader 2>/dev/null || true").decode().strip()
