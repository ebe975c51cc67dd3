"""The programs on a box's PATH in place of its operating system's: small scripts that know they are in a sandbox."""

from __future__ import annotations

import sys
from pathlib import Path

# python3 on the box is the one that runs the sandbox; programs that are not listed here are the machine's.
PROGRAMS = {
    "python3": f"""exec "{sys.executable}" "$@"
""",
    "sudo": """# every user of a box counts as root
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
""",
    "shutdown": """# the instance is stopped or terminated, as its InstanceInitiatedShutdownBehavior says
exec python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], b"", timeout=30)' "$BOX_SWITCH"
""",
    "systemctl": """# is-system-running | daemon-reload | start NAME
while [ "${2#--}" != "$2" ]; do first=$1; shift 2; set -- "$first" "$@"; done
case "$1" in
is-system-running) echo running ;;
daemon-reload) ;;
start)
    line=$(sed -n 's/^ExecStart=//p' "$BOX_ROOT/etc/systemd/system/$2") || exit 5
    exec setsid -f sh -c "exec $line" > /dev/null 2>&1 < /dev/null ;;
*) echo "systemctl $1 is not part of the sandbox" >&2; exit 1 ;;
esac
""",
    "systemd-run": """# of its options only the environment counts; the command runs in a session of its own
case "$*" in *'$'*) echo "systemd would expand the dollar signs of this" >&2; exit 1 ;; esac
while [ "${1#--}" != "$1" ]; do
    case "$1" in --setenv=*) export "${1#--setenv=}" ;; esac
    shift
done
exec setsid -f "$@" > /dev/null 2>&1 < /dev/null
""",
    "df": """# df -Pk DIR: the box's own volume, of which its files are all that is used
size=$(cat "$BOX_ROOT/disk_kib")
used=$(du -sk "$BOX_ROOT/home" 2> /dev/null | cut -f1)
free=$((size - used)); [ "$free" -gt 0 ] || free=0
echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
echo "/dev/root $size $used $free $((used * 100 / size))% /"
""",
}


def install_programs(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in PROGRAMS.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(0o755)
