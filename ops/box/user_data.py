"""The user data of the box runs at every boot: it arms the watchdog that stops an idle box, and prints the host keys.

cloud-init calls it a boothook: it runs as soon as it is read, and again at each boot. So the watchdog runs
before the first login, and an interrupted launch leaves no box that runs for ever.
"""

from __future__ import annotations

from ops.core.paths import ROOT
from ops.core.settings import Settings

WATCHDOG = ROOT / "training" / "boxside" / "idle_watchdog.py"
STATE = "/var/lib/kennel/idle.json"  # where the watchdog writes how long the box has been idle; below $BOX_ROOT
MOST = 16_384  # bytes of user data; EC2's limit

HEAD = """#cloud-boothook
#!/bin/sh
# BOX_ROOT is empty on AWS.
set -e
root="${BOX_ROOT:-}"
mkdir -p "$root/var/lib/kennel" "$root/etc/systemd/system"
"""
SCRIPT = """
cat > "$root/var/lib/kennel/idle_watchdog.py" <<'PYTHON'
{program}PYTHON
cat > "$root/etc/systemd/system/kennel-idle.service" <<UNIT
[Unit]
Description=Stop this box after {minutes:g} minutes without use
[Service]
ExecStart=/usr/bin/env python3 $root/var/lib/kennel/idle_watchdog.py {minutes:g} $root/home
Restart=on-failure
UNIT
systemctl daemon-reload
systemctl start --no-block kennel-idle.service
"""

# cloud-init prints the host keys at the first boot only, and each boot starts an empty console: later boots print them here.
KEYS = """
if [ -e "$root/var/lib/kennel/booted" ]; then
    keys=$(cat "$root"/etc/ssh/ssh_host_*_key.pub)
    printf '%s\\n' "-----BEGIN SSH HOST KEY KEYS-----" "$keys" "-----END SSH HOST KEY KEYS-----" > "$root/dev/console"
fi
: > "$root/var/lib/kennel/booted"
"""


def build_user_data(settings: Settings) -> str:
    """Return the user data script, without the watchdog where ec2.idle_minutes is 0."""
    text = HEAD
    if settings.ec2.idle_minutes:
        text += SCRIPT.format(program=WATCHDOG.read_text(), minutes=settings.ec2.idle_minutes)
    text += KEYS
    assert len(text.encode()) <= MOST
    return text
